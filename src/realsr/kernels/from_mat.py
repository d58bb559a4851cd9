"""The estimator that imports the kernels of a folder of .mat files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.file_names import list_files
from realsr.core.files import check_name
from realsr.imaging.kernel_shapes import align, normalise
from realsr.kernels.estimator import (
    Advance,
    Batch,
    KernelEstimate,
    KernelEstimator,
    Observation,
    SourcePhoto,
)
from realsr.kernels.mat_files import MatFileError, read_mat_kernels


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

    def observe(
        self, photos: Sequence[SourcePhoto], seed: int, advance: Advance
    ) -> Iterator[Batch]:
        """Yield the kernels of each file, named by variable and index."""
        for file in photos:
            advance(1)
            try:
                stacks = read_mat_kernels(file.path, self._key)
                kernels = {
                    f"{key}[{i}]": kernel
                    for key, stack in stacks.items()
                    for i, kernel in enumerate(stack)
                }
                if self._align:
                    kernels = {
                        key: normalise(align(kernel, self._scale))
                        for key, kernel in kernels.items()
                    }
                check_name(f"{file.name}_{len(kernels):03d}_kernel_x{self._scale}.mat")
                yield {file.name: Observation(kernels)}
            except (MatFileError, ValueError) as error:
                yield {file.name: error}

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
