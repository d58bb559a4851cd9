"""Conversion of weights between formats, and interpolation of two, with their origin."""

import io
import json
import logging
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.weights.generators import NOTES, describe_generator, read_notes, save_generator
from realsr.weights.layouts import compare_tensors, to_first_layout
from realsr.weights.origin import Origin, describe_texts, find_origin, mix_origins
from realsr.weights.sources import find_weights
from realsr.weights.state_files import ORIGIN, WeightsFile, read_weights

logger = logging.getLogger("realsr")

FORMATS = (".safetensors", ".pth")


def convert_weights(
    source: str | Path,
    output: Path,
    overwrite: bool = False,
    weights_b: str | Path | None = None,
    interpolate: float | None = None,
    licence: str | None = None,
) -> tuple[dict[str, Any], int]:
    """Write the generator of a source to a file; return its config and scale.

    A custom network's code is neither needed nor run. The float32 values are copied bit for bit.

    Args:
        source: see `load_generator`.
        output: `.safetensors` under this package's names, with the source's metadata (for example
            the step); or `.pth`, a state dict that spandrel reads (of an RRDB: in the layout of the
            first ESRGAN code). Both hold the `Origin`, the `.pth` in the state dict's `_metadata`,
            where torch stores the versions of modules.
        overwrite: whether to replace an existing file.
        weights_b, interpolate: see `interpolate_weights`; None for the source's own weights.
        licence: the licence to store; None for the known one.

    Raises:
        UserError: as `load_generator` and `interpolate_weights`; for another suffix, an existing
            file, and a custom network or an RRDB of scale 3 to `.pth`.
    """
    if (suffix := output.suffix.lower()) not in FORMATS:
        raise UserError(
            f"output={output}: expected a file name that ends in {' or '.join(FORMATS)}"
        )
    if output.exists() and not overwrite:
        raise UserError(f"output={output}: already exists; set overwrite=true to replace it")
    file, origin = read_with_origin(source, weights_b, interpolate, licence)
    if suffix == ".safetensors":
        return write_safetensors(file, origin, output)
    state, config, scale = describe_generator(file)
    if "." in config["name"]:
        raise UserError(
            f"{file.path}: holds the custom network {config['name']}, and only RRDB generators can "
            "be written as .pth: set output=FILE.safetensors"
        )
    if config["name"] == "rrdb" and scale == 3:
        raise UserError(
            f"{file.path}: a .pth does not hold the scale, and an RRDB of scale 3 would be read as of "
            "scale 2: set output=FILE.safetensors"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    tensors: Any = OrderedDict(to_first_layout(state) if config["name"] == "rrdb" else state)
    tensors._metadata = OrderedDict({ORIGIN: {"json": json.dumps(asdict(origin))}})
    content = io.BytesIO()
    torch.save(tensors, content)
    write_bytes(output, content.getvalue())
    return config, scale


def write_safetensors(
    file: WeightsFile, origin: Origin, output: Path
) -> tuple[dict[str, Any], int]:
    """Write the generator of a file as safetensors with its origin; return its config and scale."""
    state, config, scale = describe_generator(file)
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = (read_notes(file) or {}) | {"origin": asdict(origin)}
    save_generator(output, state, config, scale, facts)
    return config, scale


def read_with_origin(
    source: str | Path,
    weights_b: str | Path | None,
    interpolate: float | None,
    licence: str | None,
) -> tuple[WeightsFile, Origin]:
    """Return the weights of a source, interpolated if requested, with their origin, and log it.

    Raises UserError as `load_generator` and `interpolate_weights` do.
    """
    check_interpolation(weights_b, interpolate)
    file = read_weights(find_weights(source))
    origin = find_origin(source, file)
    if weights_b is not None and interpolate is not None:
        other = read_weights(find_weights(weights_b))
        file = interpolate_weights(file, other, interpolate)
        origin = mix_origins(origin, find_origin(weights_b, other), interpolate)
    if licence is not None:
        origin = replace(origin, licence=licence)
    logger.info("%s: %s", source, describe_texts(origin.as_texts()))
    if origin.licence is None:
        logger.info("the licence is unknown: set licence=TEXT to store it")
    return file, origin


def check_interpolation(weights_b: str | Path | None, interpolate: float | None) -> None:
    """Raise UserError unless both keys are set, or none."""
    if (weights_b is None) != (interpolate is None):
        raise UserError(
            f"weights_b={weights_b or 'null'} interpolate="
            f"{'null' if interpolate is None else interpolate}: set both for interpolation, as in "
            "weights_b=FILE interpolate=0.8, or none"
        )


def interpolate_weights(file: WeightsFile, other: WeightsFile, alpha: float) -> WeightsFile:
    """Return the weights (1 - alpha) * file + alpha * other in float32, alpha in 0..1.

    Network interpolation (Wang et al., ESRGAN, ECCVW 2018, section 3.4), there of a PSNR-trained
    network and the GAN's. The result has the counters and the paths of `file`.

    Raises UserError if a file is not a generator of this package, and if the generators differ in
    configuration, scale, names or shapes of tensors.
    """
    state, config, scale = describe_generator(file)
    other_state, other_config, other_scale = describe_generator(other)
    difference = compare_tensors(state, other_state)
    if scale != other_scale:
        difference = f"scale {scale} and {other_scale}"
    elif config != other_config:
        difference = f"{config} and {other_config}"
    if difference:
        raise UserError(
            f"{file.path} and {other.path} cannot be interpolated, since their networks differ "
            f"({difference}): give weights of equal networks"
        )
    mean = {
        name: torch.lerp(value.float(), other_state[name].float(), alpha)
        if value.is_floating_point()
        else value
        for name, value in state.items()
    }
    notes = json.dumps({"generator": config, "scale": scale})
    return WeightsFile(file.path, file.values, mean, {NOTES: notes})
