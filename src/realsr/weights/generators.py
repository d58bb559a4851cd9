"""Loading of generators from weights of any source, and saving."""

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes
from realsr.core.machine import limited_memory
from realsr.core.tensor_files import (
    MAX_NAME,
    TensorFileError,
    check_finite,
    is_counter,
    strip_prefixes,
    tell_reason,
)
from realsr.networks import build_generator
from realsr.weights.layouts import (
    compare_tensors,
    describe_other,
    prefixes,
    rrdb_size,
    to_rrdb_names,
)
from realsr.weights.sources import find_weights
from realsr.weights.state_files import WeightsFile, read_weights

logger = logging.getLogger("realsr")

NOTES = "realsr"  # metadata key of the files that this package writes
SIZES = ("features", "blocks", "growth")
MAX_SCALE = 64


def save_generator(
    path: Path,
    generator: nn.Module | Mapping[str, Tensor],
    config: Mapping[str, Any],
    scale: int,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a generator's weights atomically as safetensors, with its config and scale as metadata.

    generator: the network or its state dict. facts: further metadata.

    Raises UserError if weights are not finite.
    """
    state = generator.state_dict() if isinstance(generator, nn.Module) else generator
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        check_finite(state)
    except TensorFileError as error:
        raise UserError(f"{path} is not written: {error}") from error
    # One key, since safetensors writes several in any order, and equal weights must give equal
    # files.
    metadata = {"generator": dict(config), "scale": scale, **(facts or {})}
    write_bytes(path, save(state, {NOTES: json.dumps(metadata)}))


def describe_generator(file: WeightsFile) -> tuple[Mapping[str, Tensor], dict[str, Any], int]:
    """Return a generator's tensors under this package's names, its config and its scale.

    The code of a custom network is not run. Raises UserError as `load_generator` does.
    """
    facts = read_facts(file)
    if facts is not None and "." in facts[0]["name"]:
        return file.state, *facts
    generator, config, scale = _make_generator(file, facts, allow_custom_code=False)
    return generator.state_dict(), config, scale


def load_generator(source: str | Path, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return a generator, in eval mode and float32, and its scale.

    Args:
        source: a run's folder, a file, or (only as `str`) a published model's name; see
            `find_weights`.
        allow_custom_code: whether to import the code of a custom network (`module.Class`) that the
            file names.

    Raises:
        UserError: if the file is missing, damaged or of an unknown network, or if it names custom
            code that is not allowed.
    """
    return make_generator(read_weights(find_weights(source)), allow_custom_code)


def make_generator(file: WeightsFile, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return the generator of a file's content and its scale, as `load_generator` does."""
    generator, _, scale = _make_generator(file, read_facts(file), allow_custom_code)
    return generator, scale


def _make_generator(
    file: WeightsFile, facts: tuple[dict[str, Any], int] | None, allow_custom_code: bool
) -> tuple[nn.Module, dict[str, Any], int]:
    """Return the generator of a file with the metadata `facts`, its config and scale."""
    if facts is None or facts[0]["name"] == "rrdb":
        try:
            return _make_rrdb(file, facts)
        except (ValueError, RuntimeError) as error:  # RuntimeError: torch, for impossible sizes
            reason = f"{tell_reason(error)}{describe_other(file.state)}"
            if facts is None:
                reason += ". Only realsr.upscale and realsr.evaluate run networks of other authors"
            raise UserError(f"{file.path}: cannot build a generator from it: {reason}") from error
    config, scale = facts
    is_custom = "." in config["name"]
    if is_custom and not allow_custom_code:
        raise UserError(
            f"{file.path}: holds the custom network {config['name']}, and loading it runs that "
            "network's code: set allow_custom_code=true if you trust the file and the code"
        )
    try:
        with nullcontext() if is_custom else limited_memory(file.path.stat().st_size):
            generator = build_generator(config, scale)
    except UserError as error:
        reason = f"{error}{describe_other(file.state)}"
        raise UserError(f"{file.path}: cannot build a generator from it: {reason}") from error
    _fill(generator, file.state, file.path)
    return generator.eval(), config, scale


def _make_rrdb(
    file: WeightsFile, facts: tuple[dict[str, Any], int] | None
) -> tuple[nn.Module, dict[str, Any], int]:
    state = to_rrdb_names(file.state)
    config, scale = rrdb_size(state, facts[1] if facts else None)
    if facts is not None and facts != (config, scale):
        raise ValueError(
            f"its tensors show {config} at scale {scale}, its metadata {facts[0]} at scale "
            f"{facts[1]}"
        )
    # On the meta device: no memory before the tensors are checked, no time for initial values.
    with torch.device("meta"):
        generator = build_generator(config, scale)
    floats = {name: value.float() for name, value in state.items() if not is_counter(value)}
    _fill(generator, floats, file.path, assign=True)
    return generator.eval(), config, scale


def load_generator_state(generator: nn.Module, source: str | Path) -> None:
    """Load the weights of a source (see `load_generator`) into a generator.

    Raises UserError as `load_generator` does, and if the weights are of another network or size.
    """
    path = find_weights(source)
    _fill(generator, read_weights(path).state, path)
    logger.info("initial weights: %s", path)


def _fill(
    generator: nn.Module, state: Mapping[str, Tensor], path: Path, assign: bool = False
) -> None:
    reference = generator.state_dict()
    state = _match_names(reference, state)
    if difference := compare_tensors(reference, state):
        raise UserError(
            f"{path}: weights of another generator ({difference}){_hint(reference, state)}"
        )
    generator.load_state_dict({name: state[name] for name in reference}, assign=assign)


def _match_names(
    reference: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return a state dict under the network's names: without prefix, in the network's layout."""
    if not state.keys() >= reference.keys() and prefixes(state):
        return to_rrdb_names(state)
    variants = (names for names in strip_prefixes(state) if names.keys() >= reference.keys())
    return next(variants, state)


def _hint(reference: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the settings that fit an RRDB's weights; for other weights, their likely kind."""
    network, settings = _settings(reference), _settings(state)
    if not settings:
        return describe_other(state)
    settings = settings if network else {"generator": "rrdb"} | settings
    texts = [f"{key}={value}" for key, value in settings.items() if network.get(key) != value]
    return f": they fit {' '.join(texts)}" if texts else ""


def _settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        config, scale = rrdb_size(state)
    except ValueError:
        return {}
    return {f"generator.{key}": config[key] for key in SIZES} | {"scale": scale}


def is_generator(file: WeightsFile) -> bool:
    """Return whether a file was written by this package or holds an RRDB of its exact structure."""
    return NOTES in file.metadata or bool(_settings(to_rrdb_names(file.state)))


def read_facts(file: WeightsFile) -> tuple[dict[str, Any], int] | None:
    """Return the config and scale in the metadata of a file of this package; None for other files.

    Raises UserError if the metadata are invalid.
    """
    notes = read_notes(file)
    if notes is None:
        return None
    config, scale = notes.get("generator"), notes.get("scale")
    if not isinstance(config, dict) or not isinstance(config.get("arguments", {}), dict):
        raise _no_facts(file.path)
    name = config.get("name")
    if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME:
        raise _no_facts(file.path)
    if type(scale) is not int or not 1 <= scale <= MAX_SCALE:
        raise _no_facts(file.path)
    # The format of earlier versions.
    if "arguments" in config and config.keys() <= {"name", "arguments", *SIZES}:
        sizes = {} if "." in name else {key: config[key] for key in SIZES if key in config}
        config = config["arguments"] | sizes | {"name": name}
    return config, scale


def read_notes(file: WeightsFile) -> dict[str, Any] | None:
    """Return the metadata of a file of this package, None for others. Raises as `read_facts`."""
    if (text := file.metadata.get(NOTES)) is None:
        return None
    with suppress(ValueError):
        if isinstance(notes := parse_json(text), dict):
            return notes
    raise _no_facts(file.path)


def _no_facts(path: Path) -> UserError:
    return UserError(
        f"{path}: its metadata do not describe a generator: expected a table with generator (a "
        f"table with a name) and scale (an integer in 1..{MAX_SCALE})"
    )
