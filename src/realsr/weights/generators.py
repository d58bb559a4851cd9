"""Generators to safetensors, and in from every file and name that weights come by."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.core.tensor_files import LONGEST_NAME, TensorFileError, check_finite, tell_reason
from realsr.core.tensor_kinds import is_counter, strip_prefixes
from realsr.networks.build import build_generator
from realsr.weights.layouts import compare_tensors, describe_other, prefixes, rrdb_size, to_rrdb_names
from realsr.weights.sources import find_weights
from realsr.weights.state_files import WeightsFile, read_metadata, read_weights

logger = logging.getLogger("realsr")

NOTES = "realsr"  # the key of a safetensors file's metadata under which a file saved here tells of its weights
SIZES = ("features", "blocks", "growth")
MAX_SCALE, MAX_SIZE = 64, 10**6  # beyond which a file's scale, or its number of features or blocks, is no network's


def save_generator(
    path: Path, generator: nn.Module, config: Mapping[str, Any], scale: int, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a generator's weights as safetensors, with its config, scale and further facts as metadata, atomically.

    Raises UserError where weights are not finite.
    """
    save_state(path, generator.state_dict(), config, scale, facts)


def save_state(
    path: Path,
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    scale: int,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a state dict as `save_generator` does."""
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        check_finite(state)
    except TensorFileError as error:
        raise UserError(f"{path} is not written: {error}") from error
    # One key: safetensors writes several in any order, and equal weights shall be equal files.
    metadata = {"generator": dict(config), "scale": scale, **(facts or {})}
    write_bytes(path, save(state, {NOTES: json.dumps(metadata)}))


def load_generator(source: str | Path, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return a generator, in eval mode and float32, and its scale.

    Args:
        source: what `find_weights` takes: a run's folder, a file, or (as a str) a published model's name. Of an
            RRDB's file the tensors tell the size; a file saved here tells its config.
        allow_custom_code: whether a file may name a network of the user's own (`module.Class`),
            whose code is then imported.

    Raises:
        UserError: where there is no such file, or it is damaged, of no known network, or names code.
    """
    return make_generator(read_weights(find_weights(source)), allow_custom_code)


def make_generator(file: WeightsFile, allow_custom_code: bool = False) -> tuple[nn.Module, int]:
    """Return the generator of a file that has been read, as `load_generator` does."""
    path, state, facts = file.path, file.state, read_facts(file.path, file.metadata)
    if facts is None or facts[0]["name"] == "rrdb":
        try:
            return _make_rrdb(path, to_rrdb_names(state), facts)
        except (ValueError, RuntimeError) as error:  # RuntimeError: torch, of sizes that it cannot have
            others = "" if facts else ". Networks of other authors run in realsr.upscale and realsr.evaluate alone"
            reason = f"{tell_reason(error)}{describe_other(state)}{others}"
            raise UserError(f"{path}: no generator can be made of it: {reason}") from error
    config, scale = facts
    if "." in config["name"] and not allow_custom_code:
        raise UserError(
            f"{path}: is of a network with code of its own, {config['name']}, which loading would run: say "
            "allow_custom_code=true if you trust the file and that code"
        )
    try:
        generator = build_generator(config, scale)
    except UserError as error:
        raise UserError(f"{path}: no generator can be made of it: {error}{describe_other(state)}") from error
    _fill(generator, state, path)
    return generator.eval(), scale


def _make_rrdb(
    path: Path, state: Mapping[str, Tensor], facts: tuple[dict[str, Any], int] | None
) -> tuple[nn.Module, int]:
    config, scale = rrdb_size(state)
    if facts is not None and facts != (config, scale):
        raise ValueError(f"it tells of {facts[0]} at scale {facts[1]}, its tensors of {config} at scale {scale}")
    # No memory before the tensors are known to fit, and no time for drawing values that are replaced at once.
    with torch.device("meta"):
        generator = build_generator(config, scale)
    _fill(generator, {name: value.float() for name, value in state.items() if not is_counter(value)}, path, assign=True)
    return generator.eval(), scale


def load_generator_state(generator: nn.Module, source: str | Path) -> None:
    """Fill a generator with the weights of a source, as `load_generator` takes it.

    Raises UserError as `load_generator` does, and where the weights are of another network or size: it names the
    tensors that differ and, of an RRDB's file, the settings that it would fit.
    """
    path = find_weights(source)
    _fill(generator, read_weights(path).state, path)
    logger.info("weights to start from: %s", path)


def _fill(generator: nn.Module, state: Mapping[str, Tensor], path: Path, assign: bool = False) -> None:
    expected = generator.state_dict()
    state = _match_names(expected, state)
    if difference := compare_tensors(expected, state):
        raise UserError(f"{path}: weights of another generator ({difference}){_hint(expected, state)}")
    generator.load_state_dict({name: state[name] for name in expected}, assign=assign)


def _match_names(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state dict under the names of the network's, where it holds them under a prefix or in another layout."""
    if not state.keys() >= expected.keys() and prefixes(state):
        return to_rrdb_names(state)
    return next((stripped for stripped in strip_prefixes(state) if stripped.keys() >= expected.keys()), state)


def _hint(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What settings the weights would fit, where that can be told, else what they look like."""
    try:
        wanted = _settings(expected)
    except ValueError:
        wanted = {}
    try:
        found = _settings(state)
    except ValueError:
        return describe_other(state)
    if not wanted:
        found = {"generator": "rrdb"} | found
    fitting = " ".join(f"{key}={value}" for key, value in found.items() if wanted.get(key) != value)
    return f": they fit {fitting}" if fitting else ""


def _settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    config, scale = rrdb_size(state)
    return {f"generator.{key}": config[key] for key in SIZES} | {"scale": scale}


def is_generator(file: WeightsFile) -> bool:
    """Tell whether a file is one saved here, or of exactly our RRDB; variants of it are other authors' networks."""
    if NOTES in file.metadata:
        return True
    try:
        rrdb_size(to_rrdb_names(file.state))
    except ValueError:
        return False
    return True


def read_facts(path: Path, metadata: Mapping[str, str] | None = None) -> tuple[dict[str, Any], int] | None:
    """Return the config and scale that a file saved here tells; None for a file from elsewhere. Raises UserError.

    metadata: the file's, where it has been read already.
    """
    notes = read_notes(path, metadata)
    if notes is None:
        return None
    try:
        config, scale = notes["generator"], notes["scale"]
        name = config["name"]
    except (KeyError, TypeError) as error:
        raise _no_facts(path, "its table has not the keys generator and scale, with the generator's own") from error
    try:
        _check_number("scale", scale, MAX_SCALE)
        if not isinstance(config, dict) or not isinstance(name, str):
            raise TypeError("its generator is not a table, or the name in it not text")
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(f"its name is not plain text of at most {LONGEST_NAME} characters")
        config = _flatten_arguments(config)
        if name == "rrdb":
            for key in SIZES:
                _check_number(key, config.get(key), MAX_SIZE)
            if unknown := config.keys() - {"name", *SIZES}:
                raise ValueError(f"an RRDB has no {', '.join(sorted(unknown))}")
    except (TypeError, ValueError) as error:
        raise _no_facts(path, tell_reason(error)) from error
    return config, scale


def _flatten_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return a generator's values from the form of earlier versions: an RRDB's sizes beside a network's own arguments.

    Raises TypeError where the arguments are not a table.
    """
    if "arguments" not in config or not {"name", "arguments", *SIZES} >= config.keys():
        return config
    if not isinstance(config["arguments"], dict):
        raise TypeError("its arguments are not a table")
    sizes = {} if "." in config["name"] else {key: config[key] for key in SIZES if key in config}
    return config["arguments"] | sizes | {"name": config["name"]}


def read_notes(path: Path, metadata: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Return all that a file saved here tells about its weights, as `read_facts`; None for a file from elsewhere."""
    text = (read_metadata(path) if metadata is None else metadata).get(NOTES)
    if text is None:
        return None
    try:
        notes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_facts(path, "its table is damaged") from error
    if not isinstance(notes, dict):
        raise _no_facts(path, "it has no table")
    return notes


def _check_number(key: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        number = value if type(value) in (int, float) else "no number"
        raise ValueError(f"{key}={number}, expected a whole number in 1..{most}")


def _no_facts(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: does not tell which generator it is of, as files saved here do ({reason})")
