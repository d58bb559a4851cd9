"""The errors that stand for what a user can mend; commands print them in one line."""


class UserError(Exception):
    """Wrong input or configuration; the message says what was given, what was expected and what to do.

    The commands print the message without a traceback and exit with code 1.
    """


class ImageError(Exception):
    """An image file that cannot be read or written: which file, what was wrong, what to do."""


class WeightsError(Exception):
    """Weights of a network trained elsewhere are missing, damaged or of another one; the message says what to do."""


class Interrupted(Exception):
    """The work was asked to stop and has saved itself.

    The commands print the message, if there is one, and exit with the code.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
