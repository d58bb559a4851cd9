"""Generators from every file and name that weights come by, and to files for this package and others."""

import io
import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes
from realsr.core.memory import limited_memory
from realsr.core.tensor_files import (
    LONGEST_NAME,
    TensorFileError,
    check_finite,
    is_counter,
    strip_prefixes,
    tell_reason,
)
from realsr.networks.build import build_generator
from realsr.weights.layouts import (
    compare_tensors,
    describe_other,
    prefixes,
    rrdb_size,
    to_first_layout,
    to_rrdb_names,
)
from realsr.weights.sources import find_weights
from realsr.weights.state_files import WeightsFile, read_weights

logger = logging.getLogger("realsr")

FORMATS = (".safetensors", ".pth")
NOTES = "realsr"  # the key of the metadata that files saved here have
SIZES = ("features", "blocks", "growth")
MAX_SCALE = 64


def save_generator(
    path: Path,
    generator: nn.Module | Mapping[str, Tensor],
    config: Mapping[str, Any],
    scale: int,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a generator's weights as safetensors, with its config, scale and further facts as metadata, atomically.

    generator: the network or its state dict. Raises UserError where weights are not finite.
    """
    state = generator.state_dict() if isinstance(generator, nn.Module) else generator
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        check_finite(state)
    except TensorFileError as error:
        raise UserError(f"{path} is not written: {error}") from error
    # One key: safetensors writes several in any order, and equal weights shall be equal files.
    metadata = {"generator": dict(config), "scale": scale, **(facts or {})}
    write_bytes(path, save(state, {NOTES: json.dumps(metadata)}))


def convert_weights(
    source: str | Path, output: Path, overwrite: bool = False
) -> tuple[dict[str, Any], int]:
    """Write the generator of a source, as `load_generator` takes it, to a file; return its config and scale.

    No code of a custom network is needed or run. Values are float32 and stay the same bit for bit.

    Args:
        source: see `load_generator`.
        output: `.safetensors`, under our names, with the metadata of the source's file (for example the training's
            step); or `.pth`, a state dict that spandrel reads: of an RRDB in the layout of ESRGAN's first code.
        overwrite: whether a file may be replaced.

    Raises:
        UserError: as `load_generator`, for another suffix, a file that exists, and a custom network to `.pth`.
    """
    if (suffix := output.suffix.lower()) not in FORMATS:
        raise UserError(
            f"output={output}: expected a file whose name ends in {' or '.join(FORMATS)}"
        )
    if output.exists() and not overwrite:
        raise UserError(f"output={output}: exists already; set overwrite=true to replace it")
    file = read_weights(find_weights(source))
    facts = read_facts(file)
    rrdb = facts is None or facts[0]["name"] == "rrdb"
    if facts is not None and "." in facts[0]["name"]:
        state, (config, scale) = file.state, facts
        if suffix == ".pth":
            raise UserError(
                f"{file.path}: is of a custom network, {config['name']}, and a .pth is for RRDB generators alone: set "
                "output=FILE.safetensors"
            )
    else:
        generator, scale = make_generator(file)
        state = generator.state_dict()
        config = rrdb_size(state)[0] if rrdb else facts[0]  # type: ignore[index]
    output.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".pth":
        content = io.BytesIO()
        torch.save(to_first_layout(state) if rrdb else state, content)
        write_bytes(output, content.getvalue())
    else:
        save_generator(output, state, config, scale, read_notes(file))
    return config, scale


def load_generator(source: str | Path, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return a generator, in eval mode and float32, and its scale.

    Args:
        source: a run's folder, a file, or (as a str) a published model's name, see `find_weights`.
        allow_custom_code: whether a file may name a custom network (`module.Class`), whose code is then imported.

    Raises:
        UserError: where there is no such file, or it is damaged, of no known network, or names code.
    """
    return make_generator(read_weights(find_weights(source)), allow_custom_code)


def make_generator(file: WeightsFile, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return the generator of a file that has been read, as `load_generator` does."""
    path, state, facts = file.path, file.state, read_facts(file)
    if facts is None or facts[0]["name"] == "rrdb":
        try:
            return _make_rrdb(path, to_rrdb_names(state), facts)
        except (
            ValueError,
            RuntimeError,
        ) as error:  # RuntimeError: torch, of sizes that it cannot have
            others = (
                ""
                if facts
                else ". Networks of other authors run in realsr.upscale and realsr.evaluate alone"
            )
            reason = f"{tell_reason(error)}{describe_other(state)}{others}"
            raise UserError(f"{path}: no generator can be made of it: {reason}") from error
    config, scale = facts
    if "." in config["name"] and not allow_custom_code:
        raise UserError(
            f"{path}: is of a custom network, {config['name']}, whose code loading would run: set "
            "allow_custom_code=true if you trust the file and that code"
        )
    try:
        with nullcontext() if "." in config["name"] else limited_memory(path.stat().st_size):
            generator = build_generator(config, scale)
    except UserError as error:
        raise UserError(
            f"{path}: no generator can be made of it: {error}{describe_other(state)}"
        ) from error
    _fill(generator, state, path)
    return generator.eval(), scale


def _make_rrdb(
    path: Path, state: Mapping[str, Tensor], facts: tuple[dict[str, Any], int] | None
) -> tuple[nn.Module, int]:
    config, scale = rrdb_size(state)
    if facts is not None and facts != (config, scale):
        raise ValueError(
            f"its tensors are of {config} at scale {scale}, its metadata of {facts[0]} at scale {facts[1]}"
        )
    # No memory before the tensors are known to fit, and no time for drawing values that are replaced at once.
    with torch.device("meta"):
        generator = build_generator(config, scale)
    _fill(
        generator,
        {name: value.float() for name, value in state.items() if not is_counter(value)},
        path,
        assign=True,
    )
    return generator.eval(), scale


def load_generator_state(generator: nn.Module, source: str | Path) -> None:
    """Fill a generator with the weights of a source, as `load_generator` takes it.

    Raises UserError as `load_generator` does, and where the weights are of another network or size.
    """
    path = find_weights(source)
    _fill(generator, read_weights(path).state, path)
    logger.info("weights to start from: %s", path)


def _fill(
    generator: nn.Module, state: Mapping[str, Tensor], path: Path, assign: bool = False
) -> None:
    expected = generator.state_dict()
    state = _match_names(expected, state)
    if difference := compare_tensors(expected, state):
        raise UserError(
            f"{path}: weights of another generator ({difference}){_hint(expected, state)}"
        )
    generator.load_state_dict({name: state[name] for name in expected}, assign=assign)


def _match_names(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return a state dict under the network's names, where it has them under a prefix or in another layout."""
    if not state.keys() >= expected.keys() and prefixes(state):
        return to_rrdb_names(state)
    return next(
        (stripped for stripped in strip_prefixes(state) if stripped.keys() >= expected.keys()),
        state,
    )


def _hint(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the settings that an RRDB's weights would fit; of other weights, what they look like."""
    network, settings = _settings(expected), _settings(state)
    if not settings:
        return describe_other(state)
    if not network:
        settings = {"generator": "rrdb"} | settings
    fitting = " ".join(
        f"{key}={value}" for key, value in settings.items() if network.get(key) != value
    )
    return f": they fit {fitting}" if fitting else ""


def _settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        config, scale = rrdb_size(state)
    except ValueError:
        return {}
    return {f"generator.{key}": config[key] for key in SIZES} | {"scale": scale}


def is_generator(file: WeightsFile) -> bool:
    """Return whether a file was saved here or is of exactly our RRDB; its variants are other authors' networks."""
    return NOTES in file.metadata or bool(_settings(to_rrdb_names(file.state)))


def read_facts(file: WeightsFile) -> tuple[dict[str, Any], int] | None:
    """Return the config and scale in the metadata of a file saved here; None for other files. Raises UserError."""
    notes = read_notes(file)
    if notes is None:
        return None
    config, scale = notes.get("generator"), notes.get("scale")
    if not isinstance(config, dict) or not isinstance(config.get("arguments", {}), dict):
        raise _no_facts(file.path)
    name = config.get("name")
    if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
        raise _no_facts(file.path)
    if type(scale) is not int or not 1 <= scale <= MAX_SCALE:
        raise _no_facts(file.path)
    if "arguments" in config and config.keys() <= {
        "name",
        "arguments",
        *SIZES,
    }:  # the form of earlier versions
        sizes = {} if "." in name else {key: config[key] for key in SIZES if key in config}
        config = config["arguments"] | sizes | {"name": name}
    return config, scale


def read_notes(file: WeightsFile) -> dict[str, Any] | None:
    """Return the metadata of a file saved here, as `read_facts`; None for other files."""
    if (text := file.metadata.get(NOTES)) is None:
        return None
    try:
        notes = parse_json(text)
    except ValueError as error:
        raise _no_facts(file.path) from error
    if not isinstance(notes, dict):
        raise _no_facts(file.path)
    return notes


def _no_facts(path: Path) -> UserError:
    return UserError(
        f"{path}: its metadata do not state its generator as files saved here do: expected a table with generator (a "
        f"table with a name) and scale (a whole number in 1..{MAX_SCALE})"
    )
