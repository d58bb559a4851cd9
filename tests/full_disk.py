"""A disk that is full, or that says no for another reason, from some write on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from realsr.core.files import open_locked


class _FullFile:
    """A file that takes half of what is written to it, as on a disk that fills up."""

    def __init__(self, file: Any, error: OSError):
        self._file, self._error = file, error

    def write(self, data: bytes) -> int:
        self._file.write(bytes(data)[: len(data) // 2])
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def full_disk(code: int, writes: int = 0) -> Iterator[None]:
    """Let some files be written, and fail the others with an error code."""
    count = 0

    @contextmanager
    def open_full(path: Path) -> Iterator[Any]:
        nonlocal count
        count += 1
        with open_locked(path) as file:
            yield (
                _FullFile(file, OSError(code, "the disk says no", str(path)))
                if count > writes
                else file
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realsr.core.files.open_locked", open_full)
        yield
