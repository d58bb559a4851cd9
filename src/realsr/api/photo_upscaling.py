"""Functions that read, write and upscale images as arrays, and upscale photo files."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]

from realsr.api.array_checks import check_image
from realsr.config.composition import load_config
from realsr.config.options import conf_dir
from realsr.config.schema import UpscaleConfig
from realsr.core.components import convert
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.imaging import read_uint8, to_float, to_uint8, write_uint8
from realsr.inference import model as models
from realsr.inference.model import SRModel, refine
from realsr.inference.tiling import as_function, choose_tiles
from realsr.inference.upscaling import plan_results, skip_finished, upscale_photos

ARRAY_KEYS = ("ensemble", "consistency", "tile", "overlap", "strength")
MODEL_KEYS = ("device", "precision", "scale", "allow_custom_code", "weights_b", "interpolate")


def read_image(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 RGB. Raises ImageError if it cannot be read."""
    return read_uint8(Path(path))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an RGB image (H, W, 3), uint8 or float32 in 0..1, in the format of the file's suffix.

    Float values are clamped and rounded half to even. Raises UserError for another shape, type or
    range, ImageError if the file cannot be written.
    """
    check_image("write_image", image, ("uint8", "float16", "float32", "float64"))
    levels = image if image.dtype == np.uint8 else np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    write_uint8(Path(path), levels)


@cache
def _read_defaults() -> dict[str, Any]:
    return yaml.safe_load((conf_dir() / "upscale.yaml").read_text(encoding="utf-8"))


@cache
def _read_types() -> dict[str, Any]:
    return get_type_hints(UpscaleConfig, include_extras=True)


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
    if the model cannot be loaded, or if a key has another type or range.
    """
    scale = _convert_key("scale", scale)
    interpolate = _convert_key("interpolate", interpolate)
    allow_custom_code = _convert_key("allow_custom_code", allow_custom_code)
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
            For an array these, `consistency`, and the keys of `load_model`.

    Returns:
        For an array, the result (sH, sW, 3) in the same type; for photos, the paths of the results.

    Raises:
        UserError, ImageError: if a file cannot be read, loaded or written.
        UserError: for an array of another shape, type or range, and for an unknown key. With a
            loaded model, keys of `load_model` are refused.
    """
    if isinstance(photos, UpscaleConfig):
        return _upscale_files(photos)
    if isinstance(photos, np.ndarray):
        return _upscale_array(photos, weights, output, keys)
    paths = (
        list(photos) if isinstance(photos, Iterable) and not isinstance(photos, str) else [photos]
    )
    if not all(isinstance(path, str | Path) for path in paths):
        raise UserError(
            f"upscale: photos of type {type(photos).__name__}: expected a NumPy array (H, W, 3), or "
            "paths of photos"
        )
    if isinstance(weights, SRModel) or output is None:
        raise UserError(
            "upscale: photos need weights by name or path, and output=FILE or output=FOLDER"
        )
    keys |= {"input": paths}
    keys |= {} if weights is None else {"weights": weights}
    return _upscale_files(load_config("upscale", output=output, **keys))


def _upscale_array(
    image: np.ndarray, weights: str | Path | SRModel | None, output: object, keys: dict[str, Any]
) -> np.ndarray:
    check_image("upscale", image)
    if output is not None:
        raise UserError(
            "upscale: the result of an array is returned: remove output and use write_image"
        )
    _check_names(keys, isinstance(weights, SRModel))
    ensemble, consistency, tile, overlap, strength = (
        _convert_key(key, keys.pop(key, _read_defaults()[key])) for key in ARRAY_KEYS
    )
    model = weights if isinstance(weights, SRModel) else load_model(weights, **keys)
    image = np.ascontiguousarray(image)  # torch takes no reversed view, such as of BGR
    x = to_float(image) if image.dtype == np.uint8 else torch.from_numpy(image).permute(2, 0, 1)
    sr = as_function(refine(model, ensemble, consistency, strength), tile, overlap)(x)
    return to_uint8(sr) if image.dtype == np.uint8 else sr.clamp(0, 1).permute(1, 2, 0).numpy()


def _check_names(keys: Mapping[str, Any], is_loaded: bool) -> None:
    """Raise UserError for keys that the upscaling of an array does not have."""
    model_keys = [key for key in keys if key in MODEL_KEYS]
    if is_loaded and model_keys:
        raise UserError(
            f"upscale: {', '.join(model_keys)}: the model is already loaded: pass "
            f"{', '.join(MODEL_KEYS)} to load_model"
        )
    unknown = [key for key in keys if key not in ARRAY_KEYS + MODEL_KEYS]
    if unknown:
        names = ARRAY_KEYS if is_loaded else ARRAY_KEYS + MODEL_KEYS
        raise UserError(
            f"upscale: {', '.join(unknown)}: no key for an array: expected {', '.join(names)}"
        )


def _convert_key(key: str, value: Any) -> Any:
    """Return the value of a key of `realsr.upscale`. Raises UserError for another type or range."""
    if isinstance(value, np.generic):
        value = value.item()
    return convert(key, value, _read_types()[key])


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
