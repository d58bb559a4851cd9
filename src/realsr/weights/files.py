"""Tensors out of files that are not trusted: nothing in them is ever run."""

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from realsr.errors import UserError
from realsr.weights.layouts import prefixes
from realsr.weights.ncnn import read_ncnn

logger = logging.getLogger("realsr")

# Under which keys files hold a network's tensors, the first of those that are there is taken: BasicSR's averaged
# and raw weights, the generator of a checkpoint of ours, and what is usual elsewhere. Without these, any key that has
# an RRDB's tensors will do.
CONTAINERS = ("params_ema", "params", "generator", "state_dict", "model")


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors`, `.pth`, `.pt`, `.param` or `.bin` by name.

    Raises UserError where the file is damaged, holds more than tensors (which is refused), or no network.
    """
    if path.suffix in (".param", ".bin"):
        return read_ncnn(path)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
    if path.suffix == ".onnx":
        raise UserError(f"{path}: an ONNX file enlarges photos and is evaluated; here give the weights it was made of")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); copy or download it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"[Uu]nsupported (?:\w+: )?(?:GLOBAL )?([\w.]+\w)", str(error))
        what = f"Python objects ({found[1]})" if found else "something"
        raise UserError(
            f"{path}: holds {what} beside tensors, or is damaged; reading that could run code, so it is refused. "
            "Expected a state dict, tensor by name, saved by torch.save"
        ) from error
    except Exception as error:  # torch raises many kinds for a broken file
        raise UserError(f"{path}: damaged, or no file of weights ({_reason(error)})") from error
    return _find_state(content, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a `.safetensors` tells about itself; of another file, nothing. Raises UserError as `read_state`."""
    if path.suffix != ".safetensors":
        return {}
    with _open_safetensors(path) as content:
        return content.metadata() or {}


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as content:
            yield content
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, or no file of weights ({_reason(error)})") from error


def _find_state(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        keys = [key for key in CONTAINERS if key in content] or [key for key in content if _is_rrdb(content[key])]
        if not keys:
            break
        also = f" (also there: {', '.join(keys[1:])})" if keys[1:] else ""
        logger.info("%s: the weights taken are those under %s%s", path, keys[0], also)
        content = content[keys[0]]
    found = f"keys {', '.join(map(str, list(content)[:6]))}" if isinstance(content, Mapping) else type(content).__name__
    training = isinstance(content, Mapping) and "optimizers" in content
    hint = "; this is BasicSR's state of a training, whose weights lie in models/net_g_*.pth" if training else ""
    raise UserError(
        f"{path}: no network's weights in it (found {found}); expected a state dict, tensor by name, or one under "
        f"{', '.join(CONTAINERS)}{hint}"
    )


def _is_rrdb(value: object) -> bool:
    return isinstance(value, Mapping) and bool(prefixes({str(name): None for name in value}))


def _reason(error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else ""
    return said if " " in said else repr(error)  # a KeyError says its key alone
