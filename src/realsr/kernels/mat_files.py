"""Read kernels from published .mat files: any key, stacks, cell arrays, MATLAB up to 7.3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.mat_variables import MAX_DEPTH, MatFileError, list_names, read_variables
from realsr.imaging.kernel_shapes import Kernel, normalise

__all__ = ["MatFileError", "read_mat_kernels"]


def read_mat_kernels(path: Path, key: str | None = None) -> dict[str, list[Kernel]]:
    """Return the kernels (float64, sum 1) of each variable of a file, or only of `key`.

    A variable is a kernel (h, w), a stack of kernels (h, w, …), or a cell array of these. A stack
    is (…, h, w) if its last two sides are equal and its first two are not. Other variables
    (numbers, vectors, text) are ignored. Raises MatFileError if the file has no kernel, if it does
    not have `key`, and if a kernel has no positive sum.
    """
    variables = read_variables(path)
    listing = list_names(variables)
    if key is not None and key not in variables:
        raise MatFileError(
            f"no variable {key}; the file holds {listing}. Set pool.estimator.key to one of them"
        )
    kernels: dict[str, list[Kernel]] = {}
    for name, value in variables.items():
        if key in (None, name) and (arrays := list(_kernels(value))):
            try:
                kernels[name] = [normalise(array) for array in arrays]
            except ValueError as error:
                raise MatFileError(
                    f"variable {name}: {error}; set pool.estimator.key to another variable"
                ) from error
    if not kernels:
        raise MatFileError(
            f"no kernel; the file holds {listing}. "
            "A kernel is a numeric array of at least 2 dimensions"
        )
    return kernels


def _kernels(value: Any, depth: int = 0) -> Iterator[np.ndarray]:
    if not isinstance(value, np.ndarray) or depth > MAX_DEPTH:
        return
    if value.dtype == object:
        for cell in value.ravel(order="F"):
            yield from _kernels(cell, depth + 1)
    elif value.dtype.kind in "biuf" and value.ndim >= 2 and value.size:
        shape = value.shape
        if len(shape) > 2 and shape[0] != shape[1] and shape[-1] == shape[-2]:
            stack = value.reshape(-1, *shape[-2:])
        else:
            stack = np.moveaxis(value.reshape(*shape[:2], -1, order="F"), -1, 0)
        if min(stack.shape[1:]) > 1:
            yield from stack
