"""The estimator that imports kernels of .mat files: any key, stacks, cell arrays, MATLAB to 7.3."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_names import list_files
from realsr.core.files import check_name
from realsr.core.mat_variables import MAX_DEPTH, MatFileError, list_names, read_variables
from realsr.imaging.kernel_shapes import Kernel, align, normalise
from realsr.kernels.estimator import KernelEstimate, KernelEstimator, Observation, SourcePhoto


class FromMat(KernelEstimator):
    """Import kernels of `scale`, normalised and, if `align` is set, aligned.

    folder: folder of .mat files, searched recursively. Files whose name ends in another scale
    (`_x2.mat` at scale 4) are ignored.
    key: the variable to read; None for all variables that hold kernels.
    """

    inputs = "mat"
    runtime_only = frozenset({"folder"})
    unit = "imported"

    def __init__(self, folder: Path | None, key: str | None, align: bool, scale: int) -> None:
        if folder is None or not folder.is_dir():
            raise UserError(
                f"folder={folder}: no such folder; "
                "set pool.estimator.folder to a folder of .mat files"
            )
        self._folder, self._key, self._align, self._scale = folder, key, align, scale
        self.scales = (scale,)

    def list_items(self, pool: Path) -> dict[str, Path | None]:
        """Return the .mat files by kernel name. Raises UserError if there are none."""
        folder, kernels = self._folder, (pool / "kernels").resolve()
        if folder.resolve() == kernels or folder.resolve() in kernels.parents:
            raise UserError(
                f"folder={folder}: the pool's kernels are written below it; set another folder"
            )
        files: dict[str, Path | None] = {}
        other_scales = 0
        for path in list_files(folder, {".mat"}, recursive=True):
            ending = re.search(r"_x(\d+)$", path.stem)
            if ending and int(ending[1]) != self._scale:
                other_scales += 1
                continue
            stem = "_".join(path.relative_to(folder).with_suffix("").parts)
            name = re.sub(r"(_kernel)?_x\d+$", "", stem)
            if name in files:
                raise UserError(f"{files[name]} and {path} both get the name {name}; rename one")
            files[name] = path
        if not files:
            raise UserError(
                f"folder={folder}: no .mat files for scale {self._scale} "
                f"({other_scales} files are for another scale)"
            )
        return files

    def observe_photo(self, photo: SourcePhoto) -> Observation:
        """Return the kernels of a file, named by variable and index."""
        kernels = {
            f"{key}[{i}]": normalise(align(kernel, self._scale)) if self._align else kernel
            for key, stack in read_mat_kernels(photo.path, self._key).items()
            for i, kernel in enumerate(stack)
        }
        check_name(f"{photo.name}_{len(kernels):03d}_kernel_x{self._scale}.mat")
        return Observation(kernels)

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate]:
        """Return the kernels unchanged."""
        return {
            name: KernelEstimate(
                {self._scale: list(file.values.values())}, facts={"kernels": list(file.values)}
            )
            for name, file in observations.items()
        }


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
