"""The published generator on a real photo, whole and in tiles."""

import pytest
import torch

from official_models import Published
from realsr.inference.model import SRModel
from realsr.inference.tiling import OVERLAP, Tiles, place_tiles, smallest_size, upscale_image
from realsr.weights import load_generator


@pytest.mark.slow
def test_df2k_in_tiles_of_the_default_overlap_is_df2k_on_the_whole(published: Published) -> None:
    skimage_data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    generator, scale = load_generator(published("df2k"))
    model = SRModel(scale, torch.device("cpu"), generator)
    lr = (
        torch.from_numpy(skimage_data.astronaut()[:256, 100:356].copy()).permute(2, 0, 1).float()
        / 255
    )
    tiles = Tiles(smallest_size(OVERLAP))
    assert len(place_tiles(256, tiles)[0]) == 2
    with torch.inference_mode():
        whole = model.run(lr[None])[0]
    difference = (upscale_image(model, lr, tiles).clamp(0, 1) * 255).round() - (
        whole.clamp(0, 1) * 255
    ).round()
    assert difference.abs().max() <= 1
