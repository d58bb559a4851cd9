"""Kernels out of .mat files as they are published: any key, stacks, cell arrays, MATLAB up to 7.3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io as matlab

from realsr.degradation.kernels import Kernel, normalise


class MatFileError(ValueError):
    """A .mat file without kernels that can be used; says why."""


def read_mat_kernels(path: Path, key: str | None = None) -> dict[str, list[Kernel]]:
    """Return the kernels (float64, each sums to 1) of each variable of a file, or of the one named `key`.

    A variable is a kernel (h, w), a stack (h, w, …) or, if only its last two sides are equal, (…, h, w), or a cell
    array of such. Variables that hold nothing of the kind (numbers, vectors, text) are passed over.
    Raises MatFileError where nothing is left, where `key` is not there, and where a kernel has no positive sum.
    """
    variables = _read_variables(path)
    listing = ", ".join(variables) or "nothing"
    if key is not None and key not in variables:
        raise MatFileError(f"no variable {key} in it, it holds {listing}: name another by pool.key")
    found: dict[str, list[Kernel]] = {}
    for name, value in variables.items():
        if key in (None, name) and (arrays := list(_kernels(value))):
            try:
                found[name] = [normalise(array) for array in arrays]
            except ValueError as error:
                raise MatFileError(f"variable {name}: {error}; leave it out by naming another with pool.key") from error
    if not found:
        raise MatFileError(f"no kernel in it, it holds {listing}: a kernel is a numeric array of two sides or more")
    return found


def _kernels(value: Any) -> Iterator[np.ndarray]:
    if not isinstance(value, np.ndarray):
        return
    if value.dtype == object:
        for cell in value.ravel(order="F"):
            yield from _kernels(cell)
    elif value.dtype.kind in "biuf" and value.ndim >= 2:
        last = value.ndim > 2 and value.shape[0] != value.shape[1] and value.shape[-1] == value.shape[-2]
        stack = value.reshape(-1, *value.shape[-2:]) if last else np.moveaxis(_flatten_tail(value), -1, 0)
        if min(stack.shape[1:]) > 1:
            yield from stack


def _flatten_tail(value: np.ndarray) -> np.ndarray:
    return value.reshape(*value.shape[:2], -1, order="F")


def _read_variables(path: Path) -> dict[str, Any]:
    try:
        content = matlab.loadmat(path)
    except NotImplementedError:  # what scipy says of MATLAB 7.3, which is HDF5
        return _read_hdf5(path)
    except Exception as error:  # scipy raises many kinds for a broken file
        raise MatFileError(f"not a readable .mat file ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise MatFileError("a file of MATLAB 7.3 needs h5py: pip install 'realsr[mat73]'") from error
    try:
        with h5py.File(path) as file:
            return {name: _from_hdf5(node, file) for name, node in file.items() if not name.startswith("#")}
    except OSError as error:
        raise MatFileError(f"not a readable .mat file ({error})") from error


def _from_hdf5(node: Any, file: Any) -> Any:
    """Return a dataset as MATLAB has it: HDF5 lists the sides in reverse, and a cell array is one of references."""
    kind = node.attrs.get("MATLAB_class", b"double")
    if not hasattr(node, "shape") or kind == b"char":  # a struct, or text
        return None
    values = node[()]
    if kind != b"cell":
        return np.asarray(values).T
    cells = np.empty(values.T.shape, dtype=object)
    for index, reference in np.ndenumerate(values.T):
        cells[index] = _from_hdf5(file[reference], file)
    return cells
