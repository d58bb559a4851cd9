"""Conversion of weights between formats, with their origin."""

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
from realsr.weights.generators import describe_generator, read_notes, save_generator
from realsr.weights.interpolation import check_interpolation, interpolate_weights
from realsr.weights.layouts import to_first_layout
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
