"""ncnn's models: a `.param` (text, the layers) and a `.bin` (their weights, one after another).

Written from ncnn's "param and model file structure" and "operation param weight table". Only what an RRDB generator is
made of is read: 3x3 convolutions with bias, and layers without weights.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_kinds import NCNN, UNKNOWN, ZEROS, FileKind, identify_file
from realsr.core.tensor_files import tell_reason
from realsr.networks.build import build_generator
from realsr.weights.layouts import MAX_BLOCKS, rrdb_values

MAGIC = "7767517"
FLOAT32, FLOAT16 = 0, 0x01306B47
WITHOUT_WEIGHTS = {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "ReLU", "Noop"}
# A convolution's parameters as ncnn numbers them: those that an RRDB's all share, with what ncnn takes where one is not
# given. 1 is the kernel's width, 11 its height (the width's), 2 dilation, 3 stride, 4 padding, 5 bias, 8 int8 scales.
DEFAULT = {"2": "1", "3": "1", "4": "0", "5": "0", "8": "0"}
SHARED = {"1": "3", "11": "3", "2": "1", "3": "1", "4": "1", "5": "1", "8": "0"}


@dataclass(frozen=True)
class Convolution:
    """A convolution of a `.param`: its name, output channels and number of weights."""

    name: str
    outputs: int
    size: int


def read_ncnn(path: Path) -> dict[str, Tensor]:
    """Return the RRDB generator of a `.param` or `.bin`, whose partner lies beside it, as a state dict (float32).

    Raises UserError where a file is missing, damaged, or of another network.
    """
    param, binary = find_pair(path)
    for file, other in ((param, binary), (binary, param)):
        if not file.is_file():
            raise UserError(f"{file}: no such file; an ncnn model is a .param and a .bin of one name in one folder")
        kind = identify_file(file)
        if kind is not NCNN if file == param else kind.format or not kind.damaged:
            raise UserError(f"{file}: {kind.refuse(f'the other half of {other.name}')}")
    try:
        convolutions, enlargements = parse_param(param.read_bytes().decode("utf-8-sig", "replace"))
        shapes = match_rrdb(convolutions, enlargements)
    except (
        UserError,
        ValueError,
        RuntimeError,
        OverflowError,
    ) as error:  # the last two: torch, of sizes that it cannot have
        raise UserError(f"{param}: not an RRDB generator in ncnn's text form ({tell_reason(error)})") from error
    try:
        return read_weights(binary.read_bytes(), shapes)
    except ValueError as error:
        raise UserError(f"{binary}: damaged, or not the weights of {param.name} ({tell_reason(error)})") from error


def is_ncnn(path: Path, kind: FileKind) -> bool:
    """Tell whether a file of a kind is one of ncnn's two: the text, or the numbers, which only `.bin` tells."""
    return kind is NCNN or (path.suffix.lower() == ".bin" and kind in (UNKNOWN, ZEROS))


def find_pair(path: Path) -> tuple[Path, Path]:
    """Return the `.param` and the `.bin` of an ncnn model by either; the other has its name, there or not."""
    if path.suffix.lower() == ".bin":
        return _partner(path, ".param"), path
    return path, _partner(path, ".bin")


def _partner(path: Path, suffix: str) -> Path:
    upper = path.with_suffix(suffix.upper())
    return upper if upper.is_file() else path.with_suffix(suffix)


def parse_param(text: str) -> tuple[list[Convolution], int]:
    """Return a network's convolutions in order, and how many layers enlarge. Raises ValueError for other layers."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != [MAGIC]:
        raise ValueError(f"it does not begin with {MAGIC}")
    told, found = (lines[1][0] if len(lines) > 1 else "no"), max(len(lines) - 2, 0)
    if told != str(found):
        raise ValueError(f"it tells of {told} layers and has {found}")
    convolutions = []
    for words in lines[2:]:
        kind, name = words[0], words[1] if len(words) > 1 else "?"
        if kind == "Convolution":
            convolutions.append(_parse_convolution(name, words))
        elif kind not in WITHOUT_WEIGHTS:
            raise ValueError(f"its layer {name} is of the kind {kind}")
    return convolutions, sum(words[0] == "Interp" for words in lines)


def _parse_convolution(name: str, words: list[str]) -> Convolution:
    try:
        blobs = int(words[2]) + int(words[3])
        given = dict(word.split("=", 1) for word in words[4 + blobs :])
        values = DEFAULT | {"11": given["1"]} | given
        if any(values[key] != value for key, value in SHARED.items()):
            raise ValueError(f"{name} is no 3x3 convolution with bias, padding 1 and stride 1: {' '.join(words[4:])}")
        return Convolution(name, int(given["0"]), int(given["6"]))
    except (IndexError, KeyError) as error:
        raise ValueError(f"the line of {name} is not whole") from error


def match_rrdb(convolutions: list[Convolution], enlargements: int) -> dict[str, torch.Size]:
    """Return the parameters (name -> shape) of the RRDB that has these convolutions. Raises ValueError for none."""
    # One first, 15 a block, one after the blocks, one an enlargement, two at the end.
    blocks, rest = divmod(len(convolutions) - 4 - enlargements, 15)
    if enlargements not in (1, 2) or rest or blocks < 1:
        raise ValueError(f"{len(convolutions)} convolutions and {enlargements} enlargements, which no RRDB has")
    if blocks > MAX_BLOCKS:
        raise ValueError(f"{blocks} blocks; an RRDB has 23, and {MAX_BLOCKS} at most are read")
    size = rrdb_values(convolutions[0].outputs, blocks, convolutions[1].outputs)
    with torch.device("meta"):
        network = build_generator(size, scale=2**enlargements)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    weights = [shape for name, shape in shapes.items() if name.endswith(".weight")]
    for convolution, shape in zip(convolutions, weights, strict=True):
        if (convolution.outputs, convolution.size) != (shape[0], shape.numel()):
            raise ValueError(
                f"{convolution.name} has {convolution.outputs} outputs and {convolution.size} weights where an RRDB "
                f"of {size['features']} features and growth {size['growth']} has {shape[0]} and {shape.numel()}"
            )
    return shapes


def read_weights(content: bytes, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return the tensors of a `.bin`: each weight after a flag that tells its type, each bias as plain float32.

    Raises ValueError where it is too short or too long, or the type is another than float16 and float32.
    """
    state, position = dict[str, Tensor](), 0

    def take(size: int, name: str) -> bytes:
        nonlocal position
        position += size
        if position > len(content):
            raise ValueError(f"it ends within {name}, after {len(content)} bytes")
        return content[position - size : position]

    for name, shape in shapes.items():
        kind, count = "<f4", shape.numel()
        if name.endswith(".weight"):
            (flag,) = struct.unpack("<I", take(4, name))
            if flag not in (FLOAT32, FLOAT16):
                raise ValueError(f"{name} is neither float32 nor float16: a quantised network, or another file")
            kind = "<f2" if flag == FLOAT16 else kind
        size = count * np.dtype(kind).itemsize
        values = np.frombuffer(take(size + -size % 4, name), dtype=kind, count=count)  # each block fills whole words
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    if position != len(content):
        raise ValueError(f"{len(content) - position} bytes are left over after the last layer")
    return state
