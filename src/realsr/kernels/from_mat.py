"""The estimator that takes the kernels of a folder of .mat files over."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from realsr.core.errors import UserError
from realsr.core.files import check_name
from realsr.core.listing import list_files
from realsr.imaging.kernel_shapes import align, normalise
from realsr.kernels.estimator import Advance, Batch, KernelEstimate, NoKernelError, Observation, SourcePhoto
from realsr.kernels.mat_files import MatFileError, read_mat_kernels


class FromMat:
    """Takes kernels over, normalised and, if asked for, aligned; they belong to `scale`.

    folder: of .mat files, found in subfolders too; those whose name ends in another scale (`_x2.mat` at scale 4) are
    left out. key: the variable to read, None for all that hold kernels.
    """

    inputs: ClassVar = "mat"
    joint: ClassVar = False
    numbers: ClassVar = ()
    runtime_only: ClassVar = frozenset({"folder"})
    steps: ClassVar = 1
    unit: ClassVar = "taken over"

    def __init__(self, folder: Path | None, key: str | None, align: bool, scale: int) -> None:
        if folder is None or not folder.is_dir():
            raise UserError(
                f"folder={folder}: no such folder; it is to hold .mat files with kernels: set pool.estimator.folder=DIR"
            )
        self._folder, self._key, self._align, self._scale = folder, key, align, scale
        self.scales = (scale,)

    def list_items(self, pool: Path) -> dict[str, Path | None]:
        """Return the files by the names of their kernels. Raises UserError where there are none."""
        folder, kernels = self._folder, (pool / "kernels").resolve()
        if folder.resolve() == kernels or folder.resolve() in kernels.parents:
            raise UserError(f"folder={folder}: the pool's own kernels would be written below it; choose another one")
        files: dict[str, Path | None] = {}
        others = 0
        for path in list_files(folder, {".mat"}, recursive=True):
            stated = re.search(r"_x(\d+)$", path.stem)
            if stated and int(stated[1]) != self._scale:
                others += 1
                continue
            name = "_".join(path.relative_to(folder).with_suffix("").parts)
            name = re.sub(r"(_kernel)?_x\d+$", "", name)
            if name in files:
                raise UserError(f"{files[name]} and {path} would both be called {name}; rename one")
            files[name] = path
        if not files:
            raise UserError(
                f"folder={folder}: no .mat files for scale {self._scale} ({others} whose name ends in another)"
            )
        return files

    def observe(self, photos: Sequence[SourcePhoto], seed: int, advance: Advance) -> Iterator[Batch]:
        """Yield the kernels of one file after the other, each by the variable and its place there."""
        for file in photos:
            advance(1)
            try:
                found = read_mat_kernels(file.path, self._key)
                kernels = {f"{key}[{i}]": kernel for key, stack in found.items() for i, kernel in enumerate(stack)}
                if self._align:
                    kernels = {key: normalise(align(kernel, self._scale)) for key, kernel in kernels.items()}
                check_name(f"{file.name}_{len(kernels):03d}_kernel_x{self._scale}.mat")
                yield {file.name: Observation(kernels)}
            except (MatFileError, ValueError) as error:
                yield {file.name: error}

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return the files' kernels as they are."""
        return {
            name: KernelEstimate({self._scale: list(found.values.values())}, facts={"kernels": list(found.values)})
            for name, found in observations.items()
        }
