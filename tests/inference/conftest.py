from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from realsr.imaging import resize
from realsr.inference.model import SRModel
from realsr.networks.rrdb import RRDB


@pytest.fixture
def generator_model(one_thread: None) -> SRModel:
    """A small generator with weights so large that it is far from bicubic, and sees far."""
    torch.manual_seed(0)
    generator = RRDB(scale=4, features=8, blocks=2, growth=4).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(9.0)
        generator.conv_last.weight.div_(20.0)  # values of about a picture's range
    return SRModel(4, torch.device("cpu"), generator)


@pytest.fixture
def bicubic_of() -> Callable[[int], SRModel]:
    """Bicubic enlarging as a model, whose result on a whole image is known."""

    def make(scale: int) -> SRModel:
        return SRModel(scale, torch.device("cpu"), lambda lr: resize(lr, factor=float(scale)))

    return make


@pytest.fixture
def photo() -> Tensor:
    """(3, 72, 90), 0..1: part of a photo."""
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()[60:132, 180:270].copy()).permute(2, 0, 1).float() / 255
