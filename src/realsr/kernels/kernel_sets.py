"""The stage that makes kernels which are not estimated: drawn Gaussians, or those of a folder of .mat files."""

import re
from collections.abc import Iterator
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name
from realsr.core.listing import list_files
from realsr.core.progress import Progress
from realsr.core.seeding import numpy_generator
from realsr.imaging.kernel_shapes import Kernel, align, compose_x4, normalise, save_kernel
from realsr.kernels.estimation import STAGE
from realsr.kernels.gaussian import draw_div2krk
from realsr.kernels.mat_files import MatFileError, read_mat_kernels
from realsr.pools.contents import PoolConfig
from realsr.provenance.manifest import StageRecord, open_stage, refuse_foreign


def draw_kernels(pool: Path, config: PoolConfig, seed: int = 0, overwrite: bool = False) -> None:
    """Draw `config.count` Gaussian kernels into `pool/kernels/gaussian_0000_kernel_x2.mat` and `_x4.mat` and on.

    Kernel n depends on the seed and on n alone; the x4 kernel is the x2 kernel's, whole (11x11 gives 31x31).
    """
    check_folder_place("pool_dir", pool, [STAGE])
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    keys = ("kernels", "count", "isotropic", "eigenvalues", "multiplicative_noise")
    facts = {key: getattr(config, key) for key in keys}
    with open_stage(pool, STAGE, config=facts, seed=seed, inputs={}, overwrite=overwrite) as record:
        names = [f"gaussian_{index:04d}" for index in range(config.count)]
        missing = [name for name in names if not record.is_done(name)]
        with Progress("kernels, drawn", total=len(names), done=len(names) - len(missing)) as progress:
            for name in missing:
                kernel = draw_div2krk(
                    numpy_generator(seed, STAGE, name),
                    config.isotropic,
                    eigenvalues=(config.eigenvalues[0], config.eigenvalues[1]),
                    noise=config.multiplicative_noise,
                )
                _save({f"{name}_kernel_x2": kernel, f"{name}_kernel_x4": compose_x4(kernel, crop=False)}, pool)
                record.add(name, [_file(pool, f"{name}_kernel_x{scale}") for scale in (2, 4)])
                progress.advance()
        record.finish()


def import_kernels(pool: Path, config: PoolConfig, scale: int, overwrite: bool = False) -> None:
    """Take the kernels of `config.folder`'s .mat files over, as `pool/kernels/<file>_<index>_kernel_x<scale>.mat`.

    Each is normalised and, if asked for, aligned. Files are found in subfolders too; those whose name ends in another
    scale (`_x2.mat` at scale 4) are left out. Raises UserError where there are none, and at the end if a file holds
    no kernels or cannot be read (all others are done then).
    """
    files = _list_files(config.folder, pool, scale)
    check_folder_place("pool_dir", pool, [STAGE])
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    facts = {"kernels": "mat", "key": config.key, "align": config.align, "scale": scale}
    inputs = {f"mat/{name}.mat": path for name, path in files.items()}
    with open_stage(pool, STAGE, config=facts, seed=None, inputs=inputs, overwrite=overwrite) as record:
        missing = [name for name in files if not record.is_done(name)]
        with Progress("kernels, taken over", total=len(files), done=len(files) - len(missing)) as progress:
            for name in missing:
                _import_file(name, files[name], pool, config, scale, record)
                progress.advance()
        record.finish()


def _list_files(folder: Path | None, pool: Path, scale: int) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        raise UserError(f"pool.folder={folder}: no such folder; it is to hold .mat files with kernels")
    kernels = (pool / "kernels").resolve()
    if folder.resolve() == kernels or folder.resolve() in kernels.parents:
        raise UserError(f"pool.folder={folder}: the pool's own kernels would be written below it; choose another one")
    files: dict[str, Path] = {}
    others = 0
    for path in list_files(folder, {".mat"}, recursive=True):
        stated = re.search(r"_x(\d+)$", path.stem)
        if stated and int(stated[1]) != scale:
            others += 1
            continue
        name = "_".join(path.relative_to(folder).with_suffix("").parts)
        name = re.sub(r"(_kernel)?_x\d+$", "", name)
        if name in files:
            raise UserError(f"{files[name]} and {path} would both be called {name}; rename one")
        files[name] = path
    if not files:
        raise UserError(f"pool.folder={folder}: no .mat files for scale {scale} ({others} whose name ends in another)")
    return files


def _import_file(name: str, path: Path, pool: Path, config: PoolConfig, scale: int, record: StageRecord) -> None:
    try:
        found = read_mat_kernels(path, config.key)
        kernels = {f"{name}_{index:03d}_kernel_x{scale}": kernel for index, (_, kernel) in enumerate(_numbered(found))}
        if config.align:
            kernels = {file: normalise(align(kernel, scale)) for file, kernel in kernels.items()}
        for file in kernels:
            check_name(_file(pool, file).name)
    except (MatFileError, ValueError) as error:
        record.fail(name, f"mat/{name}.mat", path, error)
        return
    _save(kernels, pool)
    origins = [origin for origin, _ in _numbered(found)]
    record.add(name, [_file(pool, file) for file in kernels], source=path.name, kernels=origins)


def _numbered(found: dict[str, list[Kernel]]) -> Iterator[tuple[str, Kernel]]:
    for key, kernels in found.items():
        for index, kernel in enumerate(kernels):
            yield f"{key}[{index}]", kernel


def _save(kernels: dict[str, Kernel], pool: Path) -> None:
    (pool / "kernels").mkdir(exist_ok=True)
    for name, kernel in kernels.items():
        save_kernel(_file(pool, name), kernel, sync=False)


def _file(pool: Path, name: str) -> Path:
    return pool / "kernels" / f"{name}.mat"
