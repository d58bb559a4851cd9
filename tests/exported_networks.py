"""Small networks and what they become in ONNX, made once for all tests: torch's exporter takes seconds."""

import copy
from functools import cache

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from realsr.deployment.onnx_graph import to_onnx
from realsr.inference.onnx_files import INPUT
from realsr.networks.rrdb import RRDB


@cache
def rrdb(scale: int) -> RRDB:
    """An RRDB whose every parameter shows in its output, which is mostly in 0..1. Not to be changed."""
    torch.manual_seed(0)
    network = RRDB(scale, features=8, blocks=1, growth=4).eval().requires_grad_(False)
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(spread * torch.randn(parameter.shape))
    out = network(photo_part("coffee", 150, 250, 40, 48))
    network.conv_last.weight.mul_(0.2 / out.std((0, 2, 3))[:, None, None, None])
    network.conv_last.bias.add_(
        0.5 - network(photo_part("coffee", 150, 250, 40, 48)).mean((0, 2, 3))
    )
    return network


@cache
def _exported(scale: int) -> onnx.ModelProto:
    return to_onnx(rrdb(scale))


def exported_rrdb(scale: int) -> onnx.ModelProto:
    """A copy of what `rrdb` becomes."""
    return copy.deepcopy(_exported(scale))


def photo_part(name: str, top: int, left: int, height: int, width: int) -> Tensor:
    """(1, 3, height, width), 0..1: part of one of scikit-image's photos."""
    from skimage import data

    part = getattr(data, name)()[top : top + height, left : left + width]
    return torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float() / 255


def run_model(model: onnx.ModelProto, lr: Tensor | np.ndarray) -> np.ndarray:
    """What onnxruntime makes of a picture, asked directly."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {INPUT: np.asarray(lr)})[0]


def run_torch(network: nn.Module, lr: Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(lr).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a.astype(np.float64) - b).mean()))
