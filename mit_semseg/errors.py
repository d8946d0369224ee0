"""The one error type that a user sees without a traceback."""


class UserError(Exception):
    """A mistake in the config, a file or the command line.

    The message says what is wrong, where it stands and what to do. The command line prints it on stderr and
    ends with exit code 2; code that imports the package may catch it.
    """
