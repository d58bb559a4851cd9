from pathlib import Path

import pytest
import torch

from config_files import loss_values
from realsr.inference.model import load_model
from realsr.inference.tiling import Tiles, upscale_image
from realsr.networks import build_generator
from realsr.training.settings import TrainingConfig
from realsr.weights.generators import load_generator
from small_spandrel import SMALL, small_values

pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")


@pytest.mark.parametrize("option", SMALL)
def test_a_run_of_each_network_trains_and_upscales(option: str, trained, make_config) -> None:
    """Crops of 8 and tiles of 24 pixels: neither is a size that each network takes."""
    values = small_values(option)
    config: TrainingConfig = make_config(
        generator=values, loss=loss_values(pixel=1.0), max_steps=2, crop=20
    )
    file: Path = trained(config=config)
    network, scale = load_generator(file)
    assert scale == 2
    start = build_generator(values, 2)
    moved = {
        name
        for name, value in network.named_parameters()
        if not torch.equal(value, dict(start.named_parameters())[name])
    }
    assert moved
    model = load_model(file, torch.device("cpu"), precision="fp32")
    photo = torch.rand(3, 21, 37, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            upscale_image(model, photo, Tiles(64, 8)), network(photo[None])[0]
        )
    assert upscale_image(model, photo, Tiles(26, 8)).shape == (3, 42, 74)
