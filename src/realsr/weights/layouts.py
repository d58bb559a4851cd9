"""The names that published files give an RRDB's parameters, and the size that the tensors tell.

ours, ESRGAN's later      conv_first  RRDB_trunk.0.RDB1.conv1     trunk_conv    upconv1   HRconv   conv_last
BasicSR                   conv_first  body.0.rdb1.conv1           conv_body     conv_up1  conv_hr  conv_last
ESRGAN's first            model.0     model.1.sub.0.RDB1.conv1.0  model.1.sub.N model.3   model.N  model.N
"""

import logging
import math
import re
from collections.abc import Mapping

from torch import Tensor

from realsr.networks import GeneratorConfig

logger = logging.getLogger("realsr")

# A convolution that each layout has, and nothing but an RRDB: ours, BasicSR's, the first.
MARKS = ("RRDB_trunk.0.RDB1.conv1.weight", "body.0.rdb1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight")
MAX_BLOCKS = 500
BASICSR = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}


def to_rrdb_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; where a layout is not known, under their own.

    Of the state of a whole, as several toolkits save it, it is the generator's part, averaged weights before others:
    tensors under `module.`, `generator.`, `net_g_ema.` and the like.
    """
    whole = prefixes(state) or ["module."]  # as DistributedDataParallel saves networks of one's own, too
    prefix = next((prefix for prefix in whole if "ema" in prefix), whole[0])
    if len(whole) > 1:
        logger.info("the weights taken are those under %s (also there: %s)", prefix, ", ".join({*whole} - {prefix}))
    if any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    state = dict(state)
    if MARKS[2] in state:
        ends = _first_layout_ends(state)
        return {_from_first_layout(name, ends): value for name, value in state.items()}
    if MARKS[1] in state:
        return {_from_basicsr(name): value for name, value in state.items()}
    return state


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
    ends = {"conv_first": "model.0", "trunk_conv": f"model.1.sub.{config.blocks}"}
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


def rrdb_size(state: Mapping[str, Tensor]) -> tuple[GeneratorConfig, int]:
    """Return the config and the scale that the tensors of an RRDB, under our names, tell.

    Raises ValueError where they are of something else.
    """
    first, dense = state.get("conv_first.weight"), state.get("RRDB_trunk.0.RDB1.conv1.weight")
    if first is None or dense is None or first.ndim != 4 or dense.ndim != 4:
        raise ValueError(f"tensors of no known RRDB generator: {', '.join(list(state)[:4]) or 'none at all'}, …")
    if first.shape[1] != 3:
        raise ValueError(
            f"its first convolution takes {first.shape[1]} channels instead of 3: BasicSR's RRDB for x2 (12) "
            "and x1 (48) begins with pixel-unshuffle, which is another network"
        )
    if 0 in first.shape or 0 in dense.shape:
        raise ValueError(f"a convolution without weights: {tuple(first.shape)}, {tuple(dense.shape)}")
    blocks = {name.split(".")[1] for name in state if name.startswith("RRDB_trunk.")}
    if len(blocks) > MAX_BLOCKS:
        raise ValueError(f"{len(blocks)} blocks; an RRDB has 23, and {MAX_BLOCKS} at most are read")
    if "upconv3.weight" in state:
        raise ValueError("an RRDB of scale 8; scales 2 and 4 are known")
    scale = 4 if "upconv2.weight" in state else 2
    return GeneratorConfig(features=first.shape[0], blocks=len(blocks), growth=dense.shape[0]), scale
