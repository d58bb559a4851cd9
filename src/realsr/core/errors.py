"""Errors that a user can fix. Commands print the message without a traceback and exit with 1."""

import importlib
from typing import Any


class UserError(Exception):
    """Invalid input or configuration; the message states the value, the expectation and the fix."""


class ImageError(Exception):
    """An image file that cannot be read or written; the message names the file and the reason."""


class WeightsError(Exception):
    """Weights that are missing, damaged or of another network; the message says what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, for exceptions of libraries."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def import_extra(name: str, purpose: str, extra: str) -> Any:
    """Return a library of an extra of this package.

    Raises UserError if it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library = error.name or name
        raise UserError(f"{purpose} needs {library}: pip install 'realsr[{extra}]'") from error
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {name}, which cannot be imported ({first_line(error)}): install it "
            f"again: pip install --force-reinstall {name.partition('.')[0]}"
        ) from error


class Interrupted(Exception):
    """A stop request interrupted the work, whose state is saved.

    Commands print the message, unless it is empty, and exit with the code.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
