"""The one exception that stands for a mistake a user can mend."""


class UserError(Exception):
    """Wrong input or configuration; the message says what was given, what was expected and what to do.

    The commands print the message without a traceback and exit with code 1.
    """


class Interrupted(Exception):
    """The work was asked to stop and has saved itself.

    The commands print the message, if there is one, and exit with the code.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
