"""The stage that estimates the kernels of a folder of source photos."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from realsr.degradation.kernelgan import KernelGANConfig, check_size, train_kernelgans
from realsr.degradation.kernels import compose_x4, postprocess, save_kernel
from realsr.degradation.photos import list_photos
from realsr.imaging import ImageError, read_uint8, to_float
from realsr.manifest import StageRecord, name_inputs, open_stage, refuse_foreign
from realsr.progress import Progress
from realsr.seeding import derive_seed

STAGE = "kernels"


def estimate_kernels(
    source: Path | None, pool: Path, config: KernelGANConfig, seed: int = 0, overwrite: bool = False
) -> None:
    """Estimate each source photo's kernel into `pool/kernels/<photo>_kernel_x2.mat` and `_x4.mat`.

    Photos that are done already are left as they are. Raises UserError at the end if a photo cannot be read or is
    too small (all others are done then), or if the pool has kernels of another config or of other photos.
    """
    photos = list_photos(source, "source", pool)
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    # How many photos are trained side by side is no part of what is asked for.
    facts = {key: value for key, value in asdict(config).items() if key != "batch"}
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(pool, STAGE, config=facts, seed=seed, inputs=inputs, overwrite=overwrite) as record:
        missing = [name for name in photos if not record.is_done(name)]
        steps = config.iterations
        with Progress(
            "kernels, iterations", total=len(photos) * steps, done=(len(photos) - len(missing)) * steps
        ) as progress:
            for start in range(0, len(missing), config.batch):
                names = missing[start : start + config.batch]
                images = _read([photos[name] for name in names], names, config, record)
                if not images:
                    continue
                seeds = [derive_seed(seed, STAGE, name) for name in images]
                raw = train_kernelgans(
                    list(images.values()),
                    config,
                    seeds,
                    progress.advance,
                )
                for name, kernel in zip(images, raw, strict=True):
                    _save(name, kernel, photos[name], pool, record)
        record.finish()


def _read(
    paths: Sequence[Path], names: Sequence[str], config: KernelGANConfig, record: StageRecord
) -> dict[str, torch.Tensor]:
    images = {}
    for name, path in zip(names, paths, strict=True):
        try:
            image = to_float(read_uint8(path))
            check_size(image, config)
            images[name] = image
        except (ImageError, ValueError) as error:
            record.fail(name, f"source/{path.name}", path, error)
    return images


def _save(name: str, raw: np.ndarray, photo: Path, pool: Path, record: StageRecord) -> None:
    folder = pool / "kernels"
    folder.mkdir(exist_ok=True)
    kernel = postprocess(raw)
    files = {folder / f"{name}_kernel_x2.mat": kernel, folder / f"{name}_kernel_x4.mat": compose_x4(kernel)}
    for path, values in files.items():
        save_kernel(path, values)
    record.add(name, files, source=photo.name, raw_sum=float(raw.sum()))
