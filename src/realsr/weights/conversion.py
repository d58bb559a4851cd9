"""Weights of any layout to a file for this package or for others."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.weights.generators import make_generator, read_facts, read_notes, save_state
from realsr.weights.layouts import rrdb_size, to_first_layout
from realsr.weights.sources import find_weights
from realsr.weights.state_files import read_weights

FORMATS = (".safetensors", ".pth")


def convert_weights(source: str | Path, output: Path, overwrite: bool = False) -> tuple[dict[str, Any], int]:
    """Write the generator of a source, as `load_generator` takes it, to a file; return its config and scale.

    No code of a network of the user's own is needed or run. Values are float32 and stay the same bit for bit.

    Args:
        source: a run's folder, a file of weights, or (as a str) a published model's name.
        output: `.safetensors`, under our names, with the config and what the source's own file told (for example the
            training's step) as metadata; or `.pth`, a state dict in the layout of ESRGAN's first code, which
            spandrel and the programs around it read.
        overwrite: whether a file may be replaced.

    Raises:
        UserError: as `load_generator`, for another suffix, a file that is there, and an own network to `.pth`.
    """
    if (suffix := output.suffix.lower()) not in FORMATS:
        raise UserError(f"output={output}: expected a file whose name ends in {' or '.join(FORMATS)}")
    if output.exists() and not overwrite:
        raise UserError(f"output={output}: is there already; say overwrite=true to replace it")
    file = read_weights(find_weights(source))
    facts = read_facts(file.path, file.metadata)
    if facts is not None and "." in facts[0]["name"]:
        state, (config, scale) = file.state, facts
        if suffix == ".pth":
            raise UserError(
                f"{file.path}: is of a network of its own, {config['name']}, and a .pth is for RRDB generators alone: "
                "give output=FILE.safetensors"
            )
    else:
        generator, scale = make_generator(file)
        state = generator.state_dict()
        config, _ = rrdb_size(state)
    output.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".pth":
        _save_first_layout(output, state)
    else:
        save_state(output, state, config, scale, read_notes(file.path, file.metadata))
    return config, scale


def _save_first_layout(path: Path, state: Mapping[str, Tensor]) -> None:
    content = io.BytesIO()
    torch.save(to_first_layout(state), content)
    write_bytes(path, content.getvalue())
