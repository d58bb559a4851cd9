"""The one exception that stands for a mistake a user can mend."""


class UserError(Exception):
    """Wrong input or configuration; the message says what was given, what was expected and what to do.

    The commands print the message without a traceback and exit with code 1.
    """
