"""The errors whose message is all that the command line shows."""


class UserError(Exception):
    """A mistake in the config, a file or the command line.

    The message says what is wrong, where it stands and what to do. The command line prints it on stderr and
    ends with exit code 2; code that imports the package may catch it.
    """


class ProcessError(Exception):
    """One of the processes of a run has failed; the message is its own error. Exit code 1."""


class InputError(Exception):
    """Some of the images or videos could not be used, and the others are done. Exit code 1."""
