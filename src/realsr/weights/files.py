"""Tensors out of files that are not trusted: nothing in them is ever run."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from realsr.errors import UserError
from realsr.tensor_files import (
    TensorFileError,
    check_finite,
    check_tensors,
    read_pickle,
    read_safetensors,
    read_safetensors_metadata,
)
from realsr.weights.layouts import prefixes
from realsr.weights.ncnn import read_ncnn

logger = logging.getLogger("realsr")

# Under which keys files hold a network's tensors, the first of those that are there is taken: BasicSR's averaged
# and raw weights, the generator of a checkpoint of ours, and what is usual elsewhere. Without these, any key that has
# an RRDB's tensors will do.
CONTAINERS = ("params_ema", "params", "generator", "state_dict", "model")
DEPTH = 5  # dictionaries inside each other around a state dict


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors`, `.pth`, `.pt`, `.param` or `.bin` by name, all of them finite.

    Raises UserError where the file is damaged, holds more than tensors (which is refused), no network, or values that
    are not finite.
    """
    if path.suffix == ".onnx":
        raise UserError(f"{path}: an ONNX file enlarges photos and is evaluated; here give the weights it was made of")
    try:
        if path.suffix in (".param", ".bin"):
            state = read_ncnn(path)
            check_finite(state)
            return state
        if path.suffix == ".safetensors":
            return check_tensors(read_safetensors(path), path.stat().st_size)
        return check_tensors(_find_state(read_pickle(path), path), path.stat().st_size)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a `.safetensors` tells about itself; of another file, nothing. Raises UserError as `read_state`."""
    if path.suffix != ".safetensors":
        return {}
    try:
        return read_safetensors_metadata(path)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def _find_state(content: object, path: Path) -> Mapping[object, object]:
    place = list[str]()
    for _ in range(DEPTH):
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            if place:
                logger.info("%s: the weights taken are those under %s", path, place[-1])
            return content
        keys = [key for key in CONTAINERS if key in content] or [key for key in content if _is_rrdb(content[key])]
        if not keys:
            break
        also = f" (also there: {', '.join(map(_tell_key, keys[1:4]))})" if keys[1:] else ""
        place.append(f"{_tell_key(keys[0])}{also}")
        content = content[keys[0]]
    kind = type(content).__name__
    found = f"keys {', '.join(map(_tell_key, list(content)[:6]))}" if isinstance(content, Mapping) else kind
    training = isinstance(content, Mapping) and "optimizers" in content
    hint = "; this is BasicSR's state of a training, whose weights lie in models/net_g_*.pth" if training else ""
    raise UserError(
        f"{path}: no network's weights in it (found {found}); expected a state dict, tensor by name, or one under "
        f"{', '.join(CONTAINERS)}{hint}"
    )


def _is_rrdb(value: object) -> bool:
    return isinstance(value, Mapping) and bool(prefixes({name: None for name in value if isinstance(name, str)}))


def _tell_key(key: object) -> str:
    """A key as text for a message; of what is not a short text, its type."""
    return key if isinstance(key, str) and len(key) <= 100 and key.isprintable() else f"a {type(key).__name__}"
