"""Models of ncnn: a `.param` (layers, as text) and a `.bin` (their weights in the same order).

Source: ncnn's documents "param and model file structure" and "operation param weight table". Only
the layers of an RRDB generator are read: 3x3 convolutions with bias, and layers without weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_kinds import NCNN, UNKNOWN, ZEROS, FileKind, identify_file
from realsr.core.tensor_files import tell_reason
from realsr.networks import build_generator
from realsr.weights.layouts import make_config

MAGIC = "7767517"
FLOAT32, FLOAT16 = 0, 0x01306B47
WITHOUT_WEIGHTS = {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "ReLU", "Noop"}
# ncnn's parameters of a convolution, by number: its defaults, and the values in an RRDB. 1 is the
# kernel's width, 11 its height (default: the width), 2 dilation, 3 stride, 4 padding, 5 bias, 8
# int8 scales.
DEFAULT = {"2": "1", "3": "1", "4": "0", "5": "0", "8": "0"}
RRDB_VALUES = {"1": "3", "11": "3", "2": "1", "3": "1", "4": "1", "5": "1", "8": "0"}


Convolution = tuple[str, int, int]
"""A convolution of a `.param`: its name, output channels and number of weights."""


def read_ncnn(path: Path) -> dict[str, Tensor]:
    """Return the RRDB generator of a `.param` and `.bin` as a state dict (float32).

    path: either file; the other one must be in the same folder.

    Raises UserError if a file is missing, damaged, or of another network.
    """
    param, binary = find_pair(path)
    for file, other in ((param, binary), (binary, param)):
        if not file.is_file():
            raise UserError(
                f"{file}: no such file; an ncnn model is a .param and a .bin of the same name in "
                "one folder"
            )
        kind = identify_file(file)
        if not is_ncnn(file, kind) and (file == param or kind.format or not kind.damaged):
            raise UserError(f"{file}: {kind.refuse(f'the other half of {other.name}')}")
    try:
        shapes = _match_rrdb(*_parse_param(param.read_bytes().decode("utf-8-sig", "replace")))
    # RuntimeError and OverflowError: torch, for impossible sizes.
    except (UserError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{param}: not an RRDB generator in ncnn's text form ({tell_reason(error)})"
        ) from error
    try:
        return _read_bin(binary.read_bytes(), shapes)
    except ValueError as error:
        raise UserError(
            f"{binary}: damaged, or not the weights of {param.name} ({tell_reason(error)})"
        ) from error


def is_ncnn(path: Path, kind: FileKind) -> bool:
    """Return whether a file is a `.param` or `.bin` of ncnn; a `.bin` is known by suffix only."""
    return kind is NCNN or (path.suffix.lower() == ".bin" and kind in (UNKNOWN, ZEROS))


def find_pair(path: Path) -> tuple[Path, Path]:
    """Return the paths of an ncnn model's `.param` and `.bin` from either; no file is read."""
    if path.suffix.lower() == ".bin":
        return _partner(path, ".param"), path
    return path, _partner(path, ".bin")


def _partner(path: Path, suffix: str) -> Path:
    upper = path.with_suffix(suffix.upper())
    return upper if upper.is_file() else path.with_suffix(suffix)


def _parse_param(text: str) -> tuple[list[Convolution], int]:
    """Return a network's convolutions in order, and its number of upsampling layers.

    Raises ValueError for layers that an RRDB does not have.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != [MAGIC]:
        raise ValueError(f"the first line is not {MAGIC}")
    count, layers = (lines[1][0] if len(lines) > 1 else "no"), lines[2:]
    if count != str(len(layers)):
        raise ValueError(f"the header states {count} layers, the file has {len(layers)}")
    convolutions = []
    for words in layers:
        kind, name = words[0], words[1] if len(words) > 1 else "?"
        if kind == "Convolution":
            convolutions.append(_parse_convolution(name, words))
        elif kind not in WITHOUT_WEIGHTS:
            raise ValueError(f"layer {name} is of type {kind}")
    return convolutions, sum(words[0] == "Interp" for words in layers)


def _parse_convolution(name: str, words: list[str]) -> Convolution:
    try:
        blobs = int(words[2]) + int(words[3])
        parameters = dict(word.split("=", 1) for word in words[4 + blobs :])
        values = DEFAULT | {"11": parameters["1"]} | parameters
        if any(values[key] != value for key, value in RRDB_VALUES.items()):
            raise ValueError(
                f"{name} is not a 3x3 convolution with bias, padding 1 and stride 1: "
                f"{' '.join(words[4:])}"
            )
        return name, int(values["0"]), int(values["6"])
    except (IndexError, KeyError) as error:
        raise ValueError(f"the line of {name} is incomplete") from error


def _match_rrdb(convolutions: list[Convolution], stages: int) -> dict[str, torch.Size]:
    """Return the parameters (name -> shape) of the RRDB with these convolutions.

    Raises ValueError if no RRDB has them.
    """
    # One first, 15 per block, one after the blocks, one per upsampling stage, two last.
    blocks, rest = divmod(len(convolutions) - 4 - stages, 15)
    if stages > 3 or rest or blocks < 1:
        raise ValueError(
            f"no RRDB has {len(convolutions)} convolutions and {stages} upsampling stages"
        )
    (_, features, _), (_, growth, _), *_ = convolutions
    with torch.device("meta"):
        network = build_generator(make_config(features, blocks, growth), scale=2**stages)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    weights = [shape for name, shape in shapes.items() if name.endswith(".weight")]
    for (name, outputs, size), shape in zip(convolutions, weights, strict=True):
        if (outputs, size) != (shape[0], shape.numel()):
            raise ValueError(
                f"{name} has {outputs} outputs and {size} weights; in an RRDB of {features} "
                f"features and growth {growth} it has {shape[0]} and {shape.numel()}"
            )
    return shapes


def _read_bin(content: bytes, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the tensors of a `.bin`: a type flag before each weight, each bias in plain float32.

    Raises ValueError if it is too short or too long, or if a type is not float16 or float32.
    """
    state, position = dict[str, Tensor](), 0
    for name, shape in shapes.items():
        dtype: np.dtype[Any] = np.dtype("<f4")
        if name.endswith(".weight"):
            flag = int.from_bytes(content[position : position + 4], "little")
            if flag not in (FLOAT32, FLOAT16):
                raise ValueError(
                    f"{name} is neither float32 nor float16: the network is quantised, or the file "
                    "is another one"
                )
            dtype = np.dtype("<f2") if flag == FLOAT16 else dtype
            position += 4
        size = shape.numel() * dtype.itemsize
        if position + size > len(content):
            raise ValueError(f"the file ends within {name}, after {len(content)} bytes")
        values = np.frombuffer(content, dtype, shape.numel(), position)
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
        position += size + -size % 4  # padded to 4 bytes
    if position != len(content):
        raise ValueError(
            f"{abs(len(content) - position)} bytes are missing, or left over after the last layer"
        )
    return state
