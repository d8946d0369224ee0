"""Errors that the command line reports without a traceback."""


class UserError(Exception):
    """A mistake in the config, a file or the command line.

    The message says what is wrong, where it is and what to do. The command line prints it on stderr and exits
    with code 2; code that imports the package may catch it.
    """


class ContentError(UserError):
    """A file or a part of one without content to decode.

    Args:
        kind: "missing", "truncated" or "unreadable".
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)  # these are pickled
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text


class ProcessError(Exception):
    """A process of a run failed; the message is the error of that process. Exit code 1."""


class DivergenceError(FloatingPointError):
    """A training has numbers that are not finite. Nothing was overwritten with them. Exit code 1."""


class InputError(Exception):
    """Some images or videos could not be used; the others are done. Exit code 1."""
