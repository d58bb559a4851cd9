"""The variables of a .mat file that is not trusted: what it declares is limited before memory is taken for it."""

import io
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io as matlab

from realsr.core.file_kinds import AGAIN, STATE_DICT, identify_file
from realsr.core.memory import limited_memory

LARGEST = 256 * 2**20
"""Bytes that a file, its decompressed content, and each array that it declares may have."""
MOST_ARRAYS = 2000  # cells of a MATLAB 5 file: scipy takes stack for each array inside another
DEEPEST = 8  # cell arrays inside each other
COMPRESSED, MATRIX, HEADER = 15, 14, 128  # of MathWorks' "MAT-File Format"


class MatFileError(ValueError):
    """A .mat file that cannot be read, or without kernels that can be used, and why."""


def read_variables(path: Path) -> dict[str, Any]:
    """Return the variables of a .mat file of MATLAB 4 to 7.3 by name: numeric arrays, and cell arrays of such.

    Of anything else (text, structs, objects) the value is None, or what scipy makes of it.

    Raises MatFileError where the file is damaged, or holds or declares too much.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise MatFileError(
                f"not a file of kernels: it has {size} bytes, at most {LARGEST} are read"
            )
        content = path.read_bytes()
        with limited_memory(size):
            if (
                content[124:126] in (b"\x00\x02", b"\x02\x00")
                or b"\x89HDF\r\n\x1a\n" in content[: 4 * 512 + 8]
            ):
                return _read_hdf5(path)
            if content[126:128] in (b"IM", b"MI"):
                _check_sizes(content)
            variables = matlab.loadmat(io.BytesIO(content))
    except (MatFileError, ImportError):
        raise
    except Exception as error:  # scipy and h5py raise many kinds for a broken file
        if isinstance(error, OSError) and error.strerror:  # h5py's own have none
            raise MatFileError(f"not a readable .mat file ({error.strerror})") from error
        kind = identify_file(path)
        name, advice = (
            ("cut off or damaged", AGAIN) if kind.format == "mat" else (kind.name, kind.advice)
        )
        ending = f". {advice}" if advice not in ("", STATE_DICT) else ""
        raise MatFileError(f"not a readable .mat file: it is {name}{ending}") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def list_names(variables: Mapping[str, Any]) -> str:
    """Return the names of variables as a message lists them: the first ten, each cut to 63 characters as MATLAB's."""
    names = [name[:63] if name.isprintable() else "?" for name in list(variables)[:10]]
    return ", ".join([*names, "…"] if len(variables) > 10 else names) or "nothing"


def _check_sizes(content: bytes) -> None:
    """Raise MatFileError where a file of MATLAB 5 holds or declares more than is read."""
    order = "<" if content[126:128] == b"IM" else ">"
    position = HEADER
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        element = content[position + 8 : position + 8 + size]
        if kind == COMPRESSED:
            reader = zlib.decompressobj()
            element = reader.decompress(element, LARGEST)
            if not reader.eof:
                raise MatFileError(
                    f"not a readable .mat file (compressed data that are cut off, or of more than {LARGEST} bytes)"
                )
        if element.count(struct.pack(f"{order}I", MATRIX)) > MOST_ARRAYS:
            raise MatFileError(
                f"not a file of kernels: a variable holds more than {MOST_ARRAYS} arrays"
            )
        position += 8 + size
    declared = 0
    for _, shape, _ in matlab.whosmat(io.BytesIO(content)):
        _check_size(8 * math.prod(shape))
        declared += 8 * math.prod(shape)
        _check_size(declared)


def _check_size(declared: int) -> None:
    if not 0 <= declared <= LARGEST:
        raise MatFileError(
            f"not a file of kernels: its arrays declare {declared} bytes, at most {LARGEST} are read"
        )


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MatFileError(
            "a file of MATLAB 7.3 needs h5py: pip install 'realsr[mat73]'"
        ) from error

    declared = 0

    def read(node: Any, depth: int = 0) -> Any:
        """Return a dataset as MATLAB has it: HDF5 lists the sides in reverse, and a cell array is one of references."""
        if not isinstance(node, h5py.Dataset) or node.shape is None:  # a struct, or nothing
            return None
        if node.external or node.is_virtual:
            raise MatFileError(
                "not a readable .mat file (an array whose values are in another file)"
            )
        if depth > DEEPEST:
            raise MatFileError(
                f"not a file of kernels: its cells lie more than {DEEPEST} inside each other"
            )
        is_cell = h5py.check_ref_dtype(node.dtype) is h5py.Reference
        if not is_cell and (
            node.dtype.kind not in "biuf" or _is_text(node.attrs.get("MATLAB_class"))
        ):
            return None
        nonlocal declared
        declared += 8 * node.size
        _check_size(declared)
        values = np.asarray(node[()]).T
        if not is_cell:
            return values
        cells = np.empty(values.shape, dtype=object)
        for index, reference in np.ndenumerate(values):
            cells[index] = read(file[reference], depth + 1) if reference else None
        return cells

    with h5py.File(path) as file:
        names = [name for name in file if not name.startswith("#")]
        # Other kinds of links name another file, or another place that may be this one.
        hard = [name for name in names if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        return {name: read(file[name]) if name in hard else None for name in names}


def _is_text(matlab_class: object) -> bool:
    return isinstance(matlab_class, bytes) and bytes(matlab_class) == b"char"
