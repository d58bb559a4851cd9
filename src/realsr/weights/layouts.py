"""The names that published files give an RRDB's parameters, and the size that its tensors show.

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

from realsr.core.tensor_files import describe_tensors, is_counter
from realsr.networks.build import build_generator

logger = logging.getLogger("realsr")

# A convolution that each layout has, and nothing but an RRDB: ours, BasicSR's, the first.
MARKS = (
    "RRDB_trunk.0.RDB1.conv1.weight",
    "body.0.rdb1.conv1.weight",
    "model.1.sub.0.RDB1.conv1.0.weight",
)
MAX_BLOCKS = 500
BASICSR = {
    "conv_body": "trunk_conv",
    "conv_up1": "upconv1",
    "conv_up2": "upconv2",
    "conv_hr": "HRconv",
}


def to_rrdb_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `select_rrdb` under our names; where the layout is not known, under their own."""
    state = select_rrdb(state)
    if MARKS[2] in state:
        blocks = [
            name.split(".")[3]
            for name in state
            if re.fullmatch(r"model\.1\.sub\.\d+\.weight", name)
        ]
        stages = sum(bool(re.fullmatch(r"model\.\d+\.weight", name)) for name in state) - 3
        layers = {
            first: name
            for name, first in _first_layers(blocks[0] if blocks else "", stages).items()
        }
        return {_from_first_layout(name, layers): value for name, value in state.items()}
    if MARKS[1] in state:
        return {_from_basicsr(name): value for name, value in state.items()}
    return state


def select_rrdb(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the RRDB in a state dict, the tensors under `module.`, `generator.`, `net_g_ema.` and the like.

    Averaged weights go before others. Without an RRDB it is all tensors.
    """
    options = prefixes(state) or [""]
    prefix = next((prefix for prefix in options if "ema" in prefix), options[0])
    if len(options) > 1:
        logger.info(
            "the weights taken are those under %s (also there: %s)",
            prefix,
            ", ".join({*options} - {prefix}),
        )
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def compare_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the first tensors that are missing, not expected (counters aside) or of another shape; empty if none."""
    kinds = {
        "missing": [name for name in expected if name not in state],
        "not expected": [
            name for name, value in state.items() if name not in expected and not is_counter(value)
        ],
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
    return sorted(
        {
            name.removesuffix(mark)
            for name in state
            for mark in MARKS
            if f".{name}".endswith(f".{mark}")
        }
    )


def to_first_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an RRDB's tensors, under our names, under those of ESRGAN's first code.

    Raises ValueError where they are of something else.
    """
    config, scale = rrdb_size(state)
    layers = _first_layers(config["blocks"], round(math.log2(scale)))

    def rename(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{layers.get(layer) or layer.replace('RRDB_trunk', 'model.1.sub') + '.0'}.{kind}"

    return {rename(name): value for name, value in state.items()}


def _first_layers(blocks: int | str, stages: int) -> dict[str, str]:
    """Return by our names what ESRGAN's first code calls the layers around the blocks.

    They are numbered with those that have no tensors: each upsampling stage takes three numbers, HRconv two.
    """
    return {
        "conv_first": "model.0",
        "trunk_conv": f"model.1.sub.{blocks}",
        **{f"upconv{k}": f"model.{3 * k}" for k in range(1, stages + 1)},
        "HRconv": f"model.{3 * stages + 2}",
        "conv_last": f"model.{3 * stages + 4}",
    }


def _from_first_layout(name: str, layers: Mapping[str, str]) -> str:
    if block := re.fullmatch(r"model\.1\.sub\.(\d+\.RDB[123]\.conv\d)\.0\.(weight|bias)", name):
        return f"RRDB_trunk.{block[1]}.{block[2]}"
    layer, _, kind = name.rpartition(".")
    return f"{layers[layer]}.{kind}" if layer in layers else name


def _from_basicsr(name: str) -> str:
    if block := re.fullmatch(r"body\.(\d+)\.rdb([123])\.(.+)", name):
        return f"RRDB_trunk.{block[1]}.RDB{block[2]}.{block[3]}"
    layer, _, kind = name.partition(".")
    return f"{BASICSR[layer]}.{kind}" if layer in BASICSR else name


def rrdb_size(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """Return the config and the scale that the tensors of an RRDB, under our names, show.

    Raises ValueError where they are of something else, also for one layer more, fewer or of another size.
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
        raise ValueError(
            f"not an RRDB generator (its first tensors are {', '.join(list(state)[:4]) or 'none'})"
        )
    if 0 in first.shape or 0 in dense.shape:
        raise ValueError(
            f"a convolution without weights: {tuple(first.shape)}, {tuple(dense.shape)}"
        )
    blocks = {name.split(".")[1] for name in state if name.startswith("RRDB_trunk.")}
    if len(blocks) > MAX_BLOCKS:
        raise ValueError(f"{len(blocks)} blocks; an RRDB has 23, and {MAX_BLOCKS} at most are read")
    scale = 4 if "upconv2.weight" in state else 2
    config = {
        "name": "rrdb",
        "features": first.shape[0],
        "blocks": len(blocks),
        "growth": dense.shape[0],
    }
    return config, scale
