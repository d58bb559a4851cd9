"""The variables of a .mat file that is not trusted: what it declares is checked before memory is taken for it.

MATLAB 5's form is written from MathWorks' "MAT-File Format"; MATLAB 7.3's is HDF5.
"""

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

LARGEST = 256 * 2**20
"""Bytes that a file, its decompressed content, and the arrays that it declares may have."""
DEEPEST = 8  # cell arrays inside each other
COMPRESSED, MATRIX, HEADER = 15, 14, 128
CELL, SPARSE, OPAQUE = 1, 5, 17


class MatFileError(ValueError):
    """A .mat file that cannot be read, or without kernels that can be used; says why."""


def read_variables(path: Path) -> dict[str, Any]:
    """Return the variables of a .mat file of MATLAB 4 to 7.3 by name: numeric arrays, and cell arrays of such.

    Of anything else (text, structs, objects) the value is None, or what scipy makes of it.

    Raises MatFileError where the file is damaged, or declares more than 256 MB.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise MatFileError(f"not a file of kernels: it has {size} bytes, at most {LARGEST} are read")
        content = path.read_bytes()
        if content[124:126] in (b"\x00\x02", b"\x02\x00") or b"\x89HDF\r\n\x1a\n" in content[: 4 * 512 + 8]:
            return _read_hdf5(path)
        if _is_version_5(content):
            content = _unpack(content)
        variables = matlab.loadmat(io.BytesIO(content))
    except (MatFileError, ImportError):
        raise
    except Exception as error:  # scipy and h5py raise many kinds for a broken file
        if isinstance(error, OSError) and error.strerror:  # h5py's own have none
            raise MatFileError(f"not a readable .mat file ({error.strerror})") from error
        kind = identify_file(path)
        name, advice = ("cut off or damaged", AGAIN) if kind.format == "mat" else (kind.name, kind.advice)
        ending = f". {advice}" if advice not in ("", STATE_DICT) else ""
        raise MatFileError(f"not a readable .mat file: it is {name}{ending}") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def list_names(variables: Mapping[str, Any]) -> str:
    """Return the names of variables as a message lists them: the first ten, each cut to 63 characters as MATLAB's."""
    names = [name[:63] if name.isprintable() else "?" for name in list(variables)[:10]]
    return ", ".join([*names, "…"] if len(variables) > 10 else names) or "nothing"


def _is_version_5(content: bytes) -> bool:
    return content[124:126] in (b"\x00\x01", b"\x01\x00") and content[126:128] in (b"IM", b"MI")


def _unpack(content: bytes) -> bytes:
    """Return a MATLAB 5 file without compression, once the sizes in it are known to fit."""
    order = "<" if content[126:128] == b"IM" else ">"
    parts, total, position = [content[:HEADER]], 0, HEADER
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        element = content[position : position + 8 + size]
        if kind == COMPRESSED:
            reader = zlib.decompressobj()
            element = reader.decompress(element[8:], max(1, LARGEST - total))
            if not reader.eof:
                raise MatFileError(
                    f"not a readable .mat file (compressed data that are cut off, or of more than {LARGEST} bytes)"
                )
        total += len(element)
        _check_element(memoryview(element), order)
        parts.append(element)
        position += 8 + size
    return b"".join(parts)


def _check_element(element: memoryview, order: str) -> None:
    budget = LARGEST
    for declared in _declared(element, order, 0):
        budget -= declared
        if budget < 0:
            raise MatFileError(f"not a file of kernels: its arrays declare more than {LARGEST} bytes")


def _declared(element: memoryview, order: str, depth: int) -> list[int]:
    """Return the bytes that the arrays of a matrix element declare, those of its cells and fields included."""
    kind, body, _ = _next_part(element, order)
    if kind != MATRIX or not len(body):
        return []
    if depth > DEEPEST:
        raise MatFileError(f"not a file of kernels: its cells lie more than {DEEPEST} inside each other")
    parts = list[tuple[int, memoryview, memoryview]]()
    while len(body) >= 8:
        part_kind, part, end = _next_part(body, order)
        parts.append((part_kind, part, body))
        body = end
    if len(parts) < 2 or len(parts[0][1]) < 8:
        raise MatFileError("not a readable .mat file (an array without its header)")
    kind_of_array = parts[0][1][0 if order == "<" else 3]
    children = [whole for part_kind, _, whole in parts if part_kind == MATRIX]
    declared = [size for child in children for size in _declared(child, order, depth + 1)]
    if kind_of_array in (SPARSE, OPAQUE):  # the one declares no memory, the other has no sides
        return declared
    sides = np.frombuffer(parts[1][1], f"{order}i4")
    count = math.prod(int(side) for side in sides)
    there = len(children) if kind_of_array == CELL else len(element)
    if min(sides, default=0) < 0 or count > there:
        raise MatFileError(f"not a readable .mat file (an array of {count} entries that are not there)")
    return [*declared, 8 * count]


def _next_part(content: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Return the first data element's type and content, and what follows it."""
    kind, size = struct.unpack_from(f"{order}II", content)
    if kind >> 16:  # the small form: size and type in one word, up to four bytes in the other
        size, kind = kind >> 16, kind & 0xFFFF
        return kind, content[4 : 4 + min(size, 4)], content[8:]
    end = 8 + size + (-size % 8)
    return kind, content[8 : 8 + size], content[end:]


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MatFileError("a file of MATLAB 7.3 needs h5py: pip install 'realsr[mat73]'") from error
    with h5py.File(path) as file:
        reader = _Hdf5(file, h5py)
        names = [name for name in file if not name.startswith("#")]
        # Other kinds of links name another file, or another place that may be this one.
        hard = [name for name in names if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        return {name: reader.read(file[name]) if name in hard else None for name in names}


class _Hdf5:
    """Arrays of one file, of `LARGEST` bytes together at most."""

    def __init__(self, file: Any, library: Any) -> None:
        self._file, self._library, self._budget = file, library, LARGEST

    def read(self, node: Any, depth: int = 0) -> Any:
        """Return a dataset as MATLAB has it: HDF5 lists the sides in reverse, and a cell array is one of references."""
        if not isinstance(node, self._library.Dataset) or node.shape is None:  # a struct, or nothing
            return None
        if node.external or node.is_virtual:  # its values are in other files
            raise MatFileError("not a readable .mat file (an array whose values are in another file)")
        if depth > DEEPEST:
            raise MatFileError(f"not a file of kernels: its cells lie more than {DEEPEST} inside each other")
        is_cell = self._library.check_ref_dtype(node.dtype) is self._library.Reference
        if not is_cell and (node.dtype.kind not in "biuf" or self._class(node) == b"char"):
            return None
        self._budget -= 8 * max(1, math.prod(node.shape)) if is_cell else node.nbytes
        if self._budget < 0:
            raise MatFileError(f"not a file of kernels: its arrays declare more than {LARGEST} bytes")
        values = np.asarray(node[()]).T
        if not is_cell:
            return values
        cells = np.empty(values.shape, dtype=object)
        for index, reference in np.ndenumerate(values):
            cells[index] = self.read(self._file[reference], depth + 1) if reference else None
        return cells

    def _class(self, node: Any) -> bytes:
        """The kind of array that MATLAB notes; empty where that is not text."""
        told = node.attrs.get("MATLAB_class", b"")
        return bytes(told) if isinstance(told, bytes) else b""
