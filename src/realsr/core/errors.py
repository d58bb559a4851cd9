"""The errors that a user can fix; commands print their message in one line, without a traceback, and exit with 1."""


class UserError(Exception):
    """Wrong input or configuration; the message states the value, what was expected and what to do."""


class ImageError(Exception):
    """An image file that cannot be read or written: which file, what was wrong, what to do."""


class WeightsError(Exception):
    """Weights of a network are missing, damaged or of another network; the message says what to do."""


class Interrupted(Exception):
    """The work was asked to stop and has saved itself.

    The commands print the message, if there is one, and exit with the code.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
