"""Functions that read, write and upscale images as arrays, and upscale photo files."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]

from realsr.config.composition import load_config
from realsr.config.options import conf_dir
from realsr.config.schema import Share, UpscaleConfig
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.ranges import check_value
from realsr.imaging import read_uint8, to_float, to_uint8, write_uint8
from realsr.inference import model as models
from realsr.inference.model import SRModel, refine
from realsr.inference.tiling import as_function, choose_tiles
from realsr.inference.upscaling import plan_results, skip_finished, upscale_photos


def read_image(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 RGB. Raises ImageError if it cannot be read."""
    return read_uint8(Path(path))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an RGB image (H, W, 3), uint8 or float32 in 0..1, in the format of the file's suffix.

    Float values are clamped and rounded half to even.
    """
    levels = image if image.dtype == np.uint8 else np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    write_uint8(Path(path), levels)


@cache
def _read_defaults() -> dict[str, Any]:
    return yaml.safe_load((conf_dir() / "upscale.yaml").read_text(encoding="utf-8"))


def load_model(
    weights: str | Path | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    scale: int | None = None,
    allow_custom_code: bool = False,
    weights_b: str | Path | None = None,
    interpolate: float | None = None,
) -> SRModel:
    """Return a model for `upscale`, from a published name, a run's folder or a weights file.

    The arguments are the keys of `realsr.upscale`; None: the default of the key. Raises UserError
    if the model cannot be loaded.
    """
    check_value("interpolate", interpolate, Share | None)
    defaults = _read_defaults()
    return models.load_model(
        defaults["weights"] if weights is None else weights,
        choose_device(defaults["device"] if device is None else device),
        defaults["precision"] if precision is None else precision,
        allow_custom_code,
        scale,
        weights_b,
        interpolate,
    )


def upscale(
    photos: UpscaleConfig | np.ndarray | str | Path | Sequence[str | Path],
    weights: str | Path | SRModel | None = None,
    output: str | Path | None = None,
    **keys: Any,
) -> Any:
    """Upscale an array or photos.

    Args:
        photos: an array (H, W, 3), float32 in 0..1 or uint8; paths of photos and folders; or a
            loaded configuration.
        weights: weights as for `load_model`, or, for arrays only, a model that it returned; None:
            the default of `realsr.upscale`.
        output: for photos: a file, or a folder for several photos.
        keys: other keys of `realsr.upscale`, e.g. `strength=0.75`, `ensemble=True`, `tile=256`.

    Returns:
        For an array, the result (sH, sW, 3) in the same type; for photos, the paths of the results.

    Raises:
        UserError, ImageError: if a file cannot be read, loaded or written.
    """
    if isinstance(photos, UpscaleConfig):
        return _upscale_files(photos)
    if isinstance(photos, np.ndarray):
        return _upscale_array(photos, weights, output, keys)
    if isinstance(weights, SRModel) or output is None:
        raise UserError(
            "upscale: photos need weights by name or path, and output=FILE or output=FOLDER"
        )
    keys |= {"input": [photos] if isinstance(photos, str | Path) else list(photos)}
    keys |= {} if weights is None else {"weights": weights}
    return _upscale_files(load_config("upscale", output=output, **keys))


def _upscale_array(
    image: np.ndarray, weights: str | Path | SRModel | None, output: object, keys: dict[str, Any]
) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32):
        raise UserError(
            f"upscale: an array of shape {image.shape} and type {image.dtype}: "
            "expected (H, W, 3), uint8 or float32"
        )
    if output is not None:
        raise UserError(
            "upscale: the result of an array is returned: remove output and use write_image"
        )
    ensemble, consistency, tile, strength = (
        keys.pop(key, _read_defaults()[key])
        for key in ("ensemble", "consistency", "tile", "strength")
    )
    check_value("strength", strength, Share)
    model = weights if isinstance(weights, SRModel) else load_model(weights, **keys)
    x = to_float(image) if image.dtype == np.uint8 else torch.from_numpy(image).permute(2, 0, 1)
    sr = as_function(refine(model, ensemble, consistency, strength), tile)(x)
    return to_uint8(sr) if image.dtype == np.uint8 else sr.clamp(0, 1).permute(1, 2, 0).numpy()


def _upscale_files(config: UpscaleConfig) -> list[Path]:
    """Upscale the photos that have no result yet; return the paths of all results."""
    results = plan_results(config.input, config.output, config.format)
    rest = results if config.overwrite else skip_finished(results)
    if rest:
        device = choose_device(config.device)
        model = models.load_model(
            config.weights,
            device,
            config.precision,
            config.allow_custom_code,
            config.scale,
            config.weights_b,
            config.interpolate,
        )
        tiles_for = choose_tiles(model, config.tile, config.overlap)
        model = refine(model, config.ensemble, config.consistency, config.strength)
        upscale_photos(rest, model, tiles_for, config.damaged)
    return list(results.values())
