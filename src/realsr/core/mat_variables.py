"""Reading of untrusted .mat files; the sizes that a file declares are checked before allocation."""

import io
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its packages are imported when their attribute is first used, since they take long

from realsr.core.file_kinds import COPY_AGAIN, STATE_DICT, identify_file
from realsr.core.machine import limited_memory

MAX_BYTES = 256 * 2**20
"""Limit of the bytes of a file, of its decompressed content, and of the arrays that it declares."""
MAX_ARRAYS = 2000  # cells of a MATLAB 5 file: scipy needs stack for each nested array
MAX_DEPTH = 8  # nested cell arrays
COMPRESSED, MATRIX, HEADER = 15, 14, 128  # see MathWorks, "MAT-File Format"


class MatFileError(ValueError):
    """A .mat file that cannot be read or has no usable kernels; the message gives the reason."""


def read_variables(path: Path) -> dict[str, Any]:
    """Return the variables of a .mat file of MATLAB 4 to 7.3 by name.

    The values are numeric arrays and cell arrays of them. The value of any other variable (text,
    struct, object) is None or scipy's representation.

    Raises MatFileError if the file is damaged, or if its actual or declared size is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise MatFileError(
                f"not a file of kernels: it has {size} bytes, at most {MAX_BYTES} are read"
            )
        content = path.read_bytes()
        with limited_memory(size):
            is_version_7_3 = content[124:126] in (b"\x00\x02", b"\x02\x00")
            if is_version_7_3 or b"\x89HDF\r\n\x1a\n" in content[: 4 * 512 + 8]:
                return _read_hdf5(path)
            if content[126:128] in (b"IM", b"MI"):
                _check_sizes(content)
            variables = scipy.io.loadmat(io.BytesIO(content))
    except (MatFileError, ImportError):
        raise
    except Exception as error:  # scipy and h5py raise many types of errors for a damaged file
        if isinstance(error, OSError) and error.strerror:  # errors of h5py have no strerror
            raise MatFileError(f"not a readable .mat file ({error.strerror})") from error
        kind = identify_file(path)
        name, advice = kind.name, kind.advice
        if kind.format == "mat":
            name, advice = "truncated or damaged", COPY_AGAIN
        ending = f". {advice}" if advice not in ("", STATE_DICT) else ""
        raise MatFileError(f"not a readable .mat file: it is {name}{ending}") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def list_names(variables: Mapping[str, Any]) -> str:
    """Return the first ten names of variables for a message, cut to MATLAB's 63 characters."""
    names = [name[:63] if name.isprintable() else "?" for name in list(variables)[:10]]
    return ", ".join([*names, "…"] if len(variables) > 10 else names) or "nothing"


def _check_sizes(content: bytes) -> None:
    """Raise MatFileError if the actual or declared size of a MATLAB 5 file is too large."""
    order = "<" if content[126:128] == b"IM" else ">"
    position = HEADER
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        element = content[position + 8 : position + 8 + size]
        if kind == COMPRESSED:
            reader = zlib.decompressobj()
            element = reader.decompress(element, MAX_BYTES)
            if not reader.eof:
                raise MatFileError(
                    "not a readable .mat file (compressed data are truncated or exceed "
                    f"{MAX_BYTES} bytes)"
                )
        if element.count(struct.pack(f"{order}I", MATRIX)) > MAX_ARRAYS:
            raise MatFileError(
                f"not a file of kernels: a variable holds more than {MAX_ARRAYS} arrays"
            )
        position += 8 + size
    sizes = [8 * math.prod(shape) for _, shape, _ in scipy.io.whosmat(io.BytesIO(content))]
    for declared_bytes in (*sizes, sum(sizes)):
        _check_size(declared_bytes)


def _check_size(declared_bytes: int) -> None:
    if not 0 <= declared_bytes <= MAX_BYTES:
        raise MatFileError(
            f"not a file of kernels: its arrays declare {declared_bytes} bytes, "
            f"at most {MAX_BYTES} are read"
        )


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MatFileError(
            "a file of MATLAB 7.3 needs h5py: pip install 'realsr[mat73]'"
        ) from error

    declared_bytes = 0

    def read(node: Any, depth: int = 0) -> Any:
        """Return a dataset in MATLAB's layout.

        HDF5 has the axes in reverse order, and stores a cell array as an array of references.
        """
        if not isinstance(node, h5py.Dataset) or node.shape is None:  # a struct or empty
            return None
        if node.external or node.is_virtual:
            raise MatFileError(
                "not a readable .mat file (an array whose values are in another file)"
            )
        if depth > MAX_DEPTH:
            raise MatFileError(
                f"not a file of kernels: its cell arrays are nested more than {MAX_DEPTH} deep"
            )
        is_cell = h5py.check_ref_dtype(node.dtype) is h5py.Reference
        if not is_cell and (
            node.dtype.kind not in "biuf" or _is_text(node.attrs.get("MATLAB_class"))
        ):
            return None
        nonlocal declared_bytes
        declared_bytes += 8 * node.size
        _check_size(declared_bytes)
        values = np.asarray(node[()]).T
        if not is_cell:
            return values
        cells = np.empty(values.shape, dtype=object)
        for index, reference in np.ndenumerate(values):
            cells[index] = read(file[reference], depth + 1) if reference else None
        return cells

    with h5py.File(path) as file:
        names = [name for name in file if not name.startswith("#")]
        # Soft and external links may lead to another file or form a cycle.
        hard = [name for name in names if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        return {name: read(file[name]) if name in hard else None for name in names}


def _is_text(matlab_class: object) -> bool:
    return isinstance(matlab_class, bytes) and bytes(matlab_class) == b"char"
