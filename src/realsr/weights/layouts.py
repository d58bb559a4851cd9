"""The names that published files give an RRDB's parameters, and the size that the tensors tell.

ours, ESRGAN's later      conv_first  RRDB_trunk.0.RDB1.conv1     trunk_conv    upconv1   HRconv   conv_last
BasicSR                   conv_first  body.0.rdb1.conv1           conv_body     conv_up1  conv_hr  conv_last
ESRGAN's first            model.0     model.1.sub.0.RDB1.conv1.0  model.1.sub.N model.3   model.N  model.N
"""

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from realsr.core.tensor_kinds import describe_tensors, is_counter
from realsr.networks.build import build_generator

logger = logging.getLogger("realsr")

# A convolution that each layout has, and nothing but an RRDB: ours, BasicSR's, the first.
MARKS = ("RRDB_trunk.0.RDB1.conv1.weight", "body.0.rdb1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight")
MAX_BLOCKS = 500
BASICSR = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}


def to_rrdb_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; where a layout is not known, under their own.

    Of the state of a whole it is the part that `select_rrdb` returns.
    """
    state = select_rrdb(state)
    if MARKS[2] in state:
        ends = _first_layout_ends(state)
        return {_from_first_layout(name, ends): value for name, value in state.items()}
    if MARKS[1] in state:
        return {_from_basicsr(name): value for name, value in state.items()}
    return state


def select_rrdb(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the RRDB of the state of a whole, as several toolkits save it, averaged weights before others.

    These are the tensors under `module.`, `generator.`, `net_g_ema.` and the like; without an RRDB it is all.
    """
    whole = prefixes(state) or [""]
    prefix = next((prefix for prefix in whole if "ema" in prefix), whole[0])
    if len(whole) > 1:
        logger.info("the weights taken are those under %s (also there: %s)", prefix, ", ".join({*whole} - {prefix}))
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def compare_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return how tensors differ from those of a network: the first that are missing, not expected, of another shape.

    It is empty where they are the same. Counters that the network has not are no difference.
    """
    kinds = {
        "missing": [name for name in expected if name not in state],
        "not expected": [name for name, value in state.items() if name not in expected and not is_counter(value)],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in state and state[name].shape != value.shape
        ],
    }
    return "; ".join(f"{kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)


def describe_other(state: Mapping[str, Tensor]) -> str:
    """Return what tensors that are of no RRDB look like, as the next sentence of a message; empty where unknown."""
    looks = "" if prefixes(state) else describe_tensors(state)
    return f". {looks}" if looks else ""


def prefixes(state: Mapping[str, object]) -> list[str]:
    """Return what stands before the names of each RRDB in a state dict; "" for an RRDB of its own."""
    return sorted({name.removesuffix(mark) for name in state for mark in MARKS if f".{name}".endswith(f".{mark}")})


def to_first_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an RRDB's tensors, under our names, under those of ESRGAN's first code.

    Raises ValueError where they are of something else.
    """
    config, scale = rrdb_size(state)
    stages = round(math.log2(scale))
    # The layers are numbered with those that have no tensors: each enlargement takes three numbers, HRconv two.
    ends = {"conv_first": "model.0", "trunk_conv": f"model.1.sub.{config['blocks']}"}
    ends |= {f"upconv{k}": f"model.{3 * k}" for k in range(1, stages + 1)}
    ends |= {"HRconv": f"model.{3 * stages + 2}", "conv_last": f"model.{3 * stages + 4}"}

    def rename(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{ends.get(layer) or layer.replace('RRDB_trunk', 'model.1.sub') + '.0'}.{kind}"

    return {rename(name): value for name, value in state.items()}


def _from_basicsr(name: str) -> str:
    if block := re.fullmatch(r"body\.(\d+)\.rdb([123])\.(.+)", name):
        return f"RRDB_trunk.{block[1]}.RDB{block[2]}.{block[3]}"
    layer, _, kind = name.partition(".")
    return f"{BASICSR[layer]}.{kind}" if layer in BASICSR else name


def _from_first_layout(name: str, ends: Mapping[str, str]) -> str:
    if block := re.fullmatch(r"model\.1\.sub\.(\d+\.RDB[123]\.conv\d)\.0\.(weight|bias)", name):
        return f"RRDB_trunk.{block[1]}.{block[2]}"
    if after := re.fullmatch(r"model\.1\.sub\.\d+\.(weight|bias)", name):
        return f"trunk_conv.{after[1]}"
    layer, _, kind = name.rpartition(".")
    return f"{ends[layer]}.{kind}" if layer in ends else name


def _first_layout_ends(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our names of the layers around the blocks, which are numbered with activations and enlargements between them."""
    numbers = sorted({int(found[1]) for name in state if (found := re.fullmatch(r"model\.(\d+)\.weight", name))})
    stages = [f"upconv{k}" for k in range(1, len(numbers) - 2)]
    names = ["conv_first", *stages, "HRconv", "conv_last"]
    return {f"model.{number}": name for number, name in zip(numbers, names, strict=False)}


def rrdb_values(features: int, blocks: int, growth: int) -> dict[str, Any]:
    """Return an RRDB's values as `build_generator` takes them."""
    return {"name": "rrdb", "features": features, "blocks": blocks, "growth": growth}


def rrdb_size(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """Return the config and the scale that the tensors of an RRDB, under our names, tell.

    Raises ValueError where they are of something else: a network with one layer more, fewer or of another size is none.
    """
    config, scale = _guess_size(state)
    try:
        with torch.device("meta"):
            expected = build_generator(config, scale).state_dict()
    except RuntimeError as error:
        raise ValueError("its sizes are those of no network") from error
    if difference := compare_tensors(expected, state):
        raise ValueError(f"not the RRDB generator of this package ({difference})")
    return config, scale


def _guess_size(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    first, dense = state.get("conv_first.weight"), state.get("RRDB_trunk.0.RDB1.conv1.weight")
    if first is None or dense is None or first.ndim != 4 or dense.ndim != 4:
        raise ValueError(f"not an RRDB generator (its tensors begin with {', '.join(list(state)[:4]) or 'none'})")
    if 0 in first.shape or 0 in dense.shape:
        raise ValueError(f"a convolution without weights: {tuple(first.shape)}, {tuple(dense.shape)}")
    blocks = {name.split(".")[1] for name in state if name.startswith("RRDB_trunk.")}
    if len(blocks) > MAX_BLOCKS:
        raise ValueError(f"{len(blocks)} blocks; an RRDB has 23, and {MAX_BLOCKS} at most are read")
    scale = 4 if "upconv2.weight" in state else 2
    return rrdb_values(first.shape[0], len(blocks), dense.shape[0]), scale
