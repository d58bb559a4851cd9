from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from realsr.imaging import resize
from realsr.inference.model import SRModel, consistent
from realsr.inference.tiling import Tiles, upscale_bands, upscale_image

Bicubic = Callable[[int], SRModel]


def shifting(model: SRModel) -> SRModel:
    """A model that shifts colours, and adds detail that is not there."""
    gains = torch.tensor([0.8, 1.05, 0.9])[:, None, None]

    def run(lr: Tensor) -> Tensor:
        sr = model.run(lr) * gains + 0.04
        return sr + 0.03 * torch.randn(sr.shape, generator=torch.Generator().manual_seed(0))

    return replace(model, run=run)


def shrunk_difference(sr: np.ndarray, lr: np.ndarray, scale: int) -> np.ndarray:
    """Distances in levels between the 8-bit result, shrunk and rounded, and the photo."""
    values = torch.from_numpy(sr.astype(np.float64)).permute(2, 0, 1)
    return np.abs(resize(values, factor=1 / scale).round().permute(1, 2, 0).numpy() - lr)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [64, 200])
def test_the_result_shrunk_is_the_photo(
    bicubic_of: Bicubic, photo: Tensor, scale: int, size: int
) -> None:
    lr = ((photo * 0.6 + 0.2) * 255).round().byte().permute(1, 2, 0).numpy()
    model = shifting(bicubic_of(scale))
    (plain, mended) = (
        np.concatenate(list(upscale_bands(m, lr, Tiles(size, 24))))
        for m in (model, consistent(model))
    )
    assert shrunk_difference(plain, lr, scale).max() > 20
    # half a level is the tolerance; the rest is the result's rounding, and blending tiles of different noise
    assert shrunk_difference(mended, lr, scale).max() <= 1
    assert mended.std() > 20


def test_flat_areas_keep_their_colour(bicubic_of: Bicubic) -> None:
    flat = np.tile(np.array([200, 30, 90], np.uint8), (40, 40, 1))
    model = bicubic_of(4)
    dark = replace(model, run=lambda lr: model.run(lr) * 0.8)
    (plain,), (mended,) = (
        list(upscale_bands(m, flat, Tiles(64, 16))) for m in (dark, consistent(dark))
    )
    np.testing.assert_array_equal(plain, np.full_like(plain, 0) + np.array([160, 24, 72], np.uint8))
    np.testing.assert_array_equal(mended, np.tile(flat, (4, 4, 1)))


def test_what_black_and_white_do_not_allow_remains_small_and_in_range(
    bicubic_of: Bicubic, photo: Tensor
) -> None:
    """Edges between black and white: interpolated, they would overshoot."""
    extreme = (photo > 0.5).float()
    model = bicubic_of(4)
    mended = consistent(model).run(extreme[None])[0]
    assert (mended.min(), mended.max()) >= (0, 0)
    assert mended.max() <= 1
    plain = model.run(extreme[None])[0].clamp(0, 1)
    left = [float((resize(sr, factor=0.25) - extreme).abs().mean()) for sr in (plain, mended)]
    assert left[1] < 0.8 * left[0]


def test_it_adds_no_seam(generator_model: SRModel, photo: Tensor) -> None:
    model = consistent(generator_model)
    with torch.no_grad():
        expected = model.run(photo[None])[0]
    found = upscale_image(model, photo, Tiles(56, 24))
    assert (found - expected).abs().max() < 1 / 255


def test_a_photo_of_one_pixel(bicubic_of: Bicubic) -> None:
    model = shifting(bicubic_of(4))
    found = consistent(model).run(torch.full((1, 3, 1, 1), 0.5))
    assert found.shape == (1, 3, 4, 4)
    torch.testing.assert_close(
        resize(found, factor=0.25), torch.full((1, 3, 1, 1), 0.5), rtol=0, atol=0.5 / 255
    )
