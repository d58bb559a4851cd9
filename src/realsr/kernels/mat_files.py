"""Kernels out of .mat files as they are published: any key, stacks, cell arrays, MATLAB up to 7.3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.mat_variables import MAX_DEPTH, MatFileError, list_names, read_variables
from realsr.imaging.kernel_shapes import Kernel, normalise

__all__ = ["MatFileError", "read_mat_kernels"]


def read_mat_kernels(path: Path, key: str | None = None) -> dict[str, list[Kernel]]:
    """Return the kernels (float64, each sums to 1) of each variable of a file, or of the one named `key`.

    A variable is a kernel (h, w), a stack (h, w, …) or, if only its last two sides are equal, (…, h, w), or a cell
    array of such. Variables that hold nothing of the kind (numbers, vectors, text) are passed over.
    Raises MatFileError where nothing is left, where `key` is not there, and where a kernel has no positive sum.
    """
    variables = read_variables(path)
    listing = list_names(variables)
    if key is not None and key not in variables:
        raise MatFileError(
            f"no variable {key} in it, it holds {listing}: name another by pool.estimator.key"
        )
    kernels: dict[str, list[Kernel]] = {}
    for name, value in variables.items():
        if key in (None, name) and (arrays := list(_kernels(value))):
            try:
                kernels[name] = [normalise(array) for array in arrays]
            except ValueError as error:
                raise MatFileError(
                    f"variable {name}: {error}; name another by pool.estimator.key"
                ) from error
    if not kernels:
        raise MatFileError(
            f"no kernel in it, it holds {listing}: a kernel is a numeric array of two sides or more"
        )
    return kernels


def _kernels(value: Any, depth: int = 0) -> Iterator[np.ndarray]:
    if not isinstance(value, np.ndarray) or depth > MAX_DEPTH:
        return
    if value.dtype == object:
        for cell in value.ravel(order="F"):
            yield from _kernels(cell, depth + 1)
    elif value.dtype.kind in "biuf" and value.ndim >= 2 and value.size:
        last = (
            value.ndim > 2
            and value.shape[0] != value.shape[1]
            and value.shape[-1] == value.shape[-2]
        )
        flat = value.reshape(*value.shape[:2], -1, order="F")
        stack = value.reshape(-1, *value.shape[-2:]) if last else np.moveaxis(flat, -1, 0)
        if min(stack.shape[1:]) > 1:
            yield from stack
