"""Parameter names of an RRDB in published files, and its size by the shapes of its tensors.

this package, later ESRGAN: conv_first, RRDB_trunk.0.RDB1.conv1, trunk_conv, upconv1, HRconv, conv_last
BasicSR: conv_first, body.0.rdb1.conv1, conv_body, conv_up1, conv_hr, conv_last
ESRGAN's first: model.0, model.1.sub.0.RDB1.conv1.0, model.1.sub.N, model.3, model.N, model.N
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from realsr.core.tensor_files import describe_tensors, is_counter
from realsr.networks import build_generator
from realsr.networks.rrdb import STAGES

logger = logging.getLogger("realsr")

# One convolution of each layout that only an RRDB has: this package, BasicSR, first ESRGAN code.
SIGNATURES = (
    "RRDB_trunk.0.RDB1.conv1.weight",
    "body.0.rdb1.conv1.weight",
    "model.1.sub.0.RDB1.conv1.0.weight",
)
MAX_BLOCKS = 500
BASICSR = {"conv_body": "trunk_conv", "conv_hr": "HRconv"} | {
    f"conv_up{stage}": f"upconv{stage}" for stage in (1, 2, 3)
}


def to_rrdb_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `select_rrdb` under this package's names.

    Tensors of an unknown layout keep their names.
    """
    state = select_rrdb(state)
    if SIGNATURES[2] in state:
        # The convolution after the blocks is numbered by their count.
        numbers = [re.fullmatch(r"model\.1\.sub\.(\d+)\.weight", name) for name in state]
        blocks = next((match[1] for match in numbers if match), "")
        stages = sum(bool(re.fullmatch(r"model\.\d+\.weight", name)) for name in state) - 3
        layers = {first: name for name, first in _first_layers(blocks, stages).items()}
        block = r"model\.1\.sub\.(\d+)\.RDB([123])\.(conv\d)\.0\.(weight|bias)"
    elif SIGNATURES[1] in state:
        layers, block = BASICSR, r"body\.(\d+)\.rdb([123])\.(conv\d)\.(weight|bias)"
    else:
        return state

    def rename(name: str) -> str:
        if match := re.fullmatch(block, name):
            return match.expand(r"RRDB_trunk.\1.RDB\2.\3.\4")
        layer, _, kind = name.rpartition(".")
        return f"{layers[layer]}.{kind}" if layer in layers else name

    return {rename(name): value for name, value in state.items()}


def select_rrdb(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the RRDB in a state dict, without a prefix such as `module.` or `net_g_ema.`.

    Averaged (EMA) weights take precedence. Without an RRDB, all tensors are returned.
    """
    options = prefixes(state) or [""]
    prefix = next((prefix for prefix in options if "ema" in prefix), options[0])
    if len(options) > 1:
        names = {option: option or "no prefix" for option in options}
        alternatives = ", ".join(names[option] for option in options if option != prefix)
        logger.info(
            "using the weights under %s (the file also has %s)", names[prefix], alternatives
        )
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def compare_tensors(reference: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the differences as `compare_shapes`; counters of batch norm may be unexpected."""
    shapes = {
        name: tuple(value.shape)
        for name, value in state.items()
        if name in reference or not is_counter(value)
    }
    return compare_shapes({name: value.shape for name, value in reference.items()}, shapes)


def compare_shapes(
    layout: Mapping[str, Sequence[int]], shapes: Mapping[str, object], other: str = "not expected"
) -> str:
    """Return the first missing, unexpected or differently shaped tensors; empty if there are none.

    other: the word for unexpected tensors.
    """
    kinds = {
        "missing": [name for name in layout if name not in shapes],
        other: [name for name in shapes if name not in layout],
        "of another shape": [
            f"{name} {shapes[name]} instead of {tuple(shape)}"
            for name, shape in layout.items()
            if name in shapes and shapes[name] != tuple(shape)
        ],
    }
    return "; ".join(f"{kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)


def describe_other(state: Mapping[str, Tensor]) -> str:
    """Return the likely kind of tensors not of an RRDB, as a sentence; empty if unknown."""
    kind = "" if prefixes(state) else describe_tensors(state)
    return f". {kind}" if kind else ""


def prefixes(state: Mapping[Any, object]) -> list[str]:
    """Return the name prefix of each RRDB in a state dict; "" for one without a prefix."""
    return sorted(
        {
            name.removesuffix(signature)
            for name in state
            for signature in SIGNATURES
            if isinstance(name, str) and f".{name}".endswith(f".{signature}")
        }
    )


def to_first_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an RRDB's tensors from this package's names to those of the first ESRGAN code.

    Raises ValueError if they are not of an RRDB.
    """
    config, scale = rrdb_size(state)
    layers = _first_layers(config["blocks"], len(STAGES[scale]))

    def rename(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{layers.get(layer) or layer.replace('RRDB_trunk', 'model.1.sub') + '.0'}.{kind}"

    return {rename(name): value for name, value in state.items()}


def _first_layers(blocks: int | str, stages: int) -> dict[str, str]:
    """Return the first ESRGAN code's names of the layers outside the blocks, by this package's.

    The numbers count layers without tensors too: three for each upsampling stage, two for HRconv.
    """
    return {
        "conv_first": "model.0",
        "trunk_conv": f"model.1.sub.{blocks}",
        **{f"upconv{k}": f"model.{3 * k}" for k in range(1, stages + 1)},
        "HRconv": f"model.{3 * stages + 2}",
        "conv_last": f"model.{3 * stages + 4}",
    }


def rrdb_size(
    state: Mapping[str, Tensor], recorded_scale: int | None = None
) -> tuple[dict[str, Any], int]:
    """Return the config and scale of an RRDB from its tensors under this package's names.

    The tensors of scales 2 and 3 have equal names and shapes: the scale is 3 only if
    `recorded_scale`, that of the file's metadata, is.

    Raises ValueError if they are not of an RRDB, or if a layer is missing, added or of another
    size.
    """
    config, scale = _guess_size(state)
    if (scale, recorded_scale) == (2, 3):
        scale = 3
    try:
        with torch.device("meta"):
            reference = build_generator(config, scale).state_dict()
    except RuntimeError as error:
        raise ValueError("no network has tensors of these shapes") from error
    if difference := compare_tensors(reference, state):
        raise ValueError(f"not the RRDB generator of this package ({difference})")
    return config, scale


def _guess_size(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    first, dense = state.get("conv_first.weight"), state.get("RRDB_trunk.0.RDB1.conv1.weight")
    if first is None or dense is None or first.ndim != 4 or dense.ndim != 4:
        raise ValueError(
            f"not an RRDB generator (first tensors: {', '.join(list(state)[:4]) or 'none'})"
        )
    if 0 in first.shape or 0 in dense.shape:
        raise ValueError(
            f"a convolution has no weights: {tuple(first.shape)}, {tuple(dense.shape)}"
        )
    blocks = len({name.split(".")[1] for name in state if name.startswith("RRDB_trunk.")})
    scale = 2 ** sum(f"upconv{stage}.weight" in state for stage in (1, 2, 3))
    return make_config(first.shape[0], blocks, dense.shape[0]), scale


def make_config(features: int, blocks: int, growth: int) -> dict[str, Any]:
    """Return the config of an RRDB. Raises ValueError for more than `MAX_BLOCKS`."""
    if blocks > MAX_BLOCKS:
        raise ValueError(
            f"{blocks} blocks; expected at most {MAX_BLOCKS} (the published RRDB has 23)"
        )
    return {"name": "rrdb", "features": features, "blocks": blocks, "growth": growth}
