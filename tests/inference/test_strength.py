from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from exported_networks import exported_rrdb
from realsr.api import load_model, upscale
from realsr.core.errors import UserError
from realsr.imaging import Metadata, Photo, read_photo, resize, write_photo
from realsr.inference.model import SRModel, blend, refine
from realsr.inference.onnx_files import OnnxFacts
from realsr.inference.tiling import Tiles, upscale_image
from stages import upscale_photo

Bicubic = Callable[[int], SRModel]


def negative(scale: int) -> SRModel:
    """A network without context: tiles of it equal the whole image."""

    def run(lr: Tensor) -> Tensor:
        return 1 - lr.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    return SRModel(scale, torch.device("cpu"), run)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.75])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("tiles", [Tiles(512, 96), Tiles(24, 8), Tiles(20, 6)])
def test_tiles_equal_the_blend_of_whole_images(
    photo: Tensor, scale: int, strength: float, tiles: Tiles
) -> None:
    model = negative(scale)
    bicubic = photo if scale == 1 else resize(photo, factor=float(scale))
    expected = strength * model.run(photo[None])[0] + (1 - strength) * bicubic
    sr = upscale_image(refine(model, False, False, strength), photo, tiles)
    torch.testing.assert_close(sr, expected, rtol=0, atol=1e-6)


def test_full_strength_is_the_model_itself(generator_model: SRModel) -> None:
    assert refine(generator_model, False, False, 1.0) is generator_model


def test_consistency_applies_to_the_blend(photo: Tensor) -> None:
    lr = photo * 0.6 + 0.2
    sr = refine(negative(4), False, True, 0.5).run(lr[None])
    torch.testing.assert_close(resize(sr, factor=0.25)[0], lr, rtol=0, atol=0.5 / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_photos_keep_their_depth_and_alpha(
    bicubic_of: Bicubic, dtype: type, channels: int, tmp_path: Path
) -> None:
    peak, random = np.iinfo(dtype).max, np.random.default_rng(0)
    samples = random.integers(peak // 2, peak, (30, 40, channels), dtype)
    write_photo(tmp_path / "photo.png", Photo(samples, Metadata()))

    def result(model: SRModel) -> np.ndarray:
        path = tmp_path / "sr.png"
        upscale_photo(tmp_path / "photo.png", path, model, lambda height, width: Tiles(24, 8))
        sr = read_photo(path).samples
        assert sr.dtype == dtype
        return sr.astype(np.float64)

    bicubic, sr = result(bicubic_of(2)), result(negative(2))
    mean = result(blend(negative(2), 0.25))
    colours = slice(0, channels - (channels in (2, 4)))
    inside = (bicubic > 0) & (bicubic < peak)
    difference = np.abs(mean - (0.25 * sr + 0.75 * bicubic))[..., colours]
    assert difference[inside[..., colours]].max() <= 1
    np.testing.assert_array_equal(mean[..., colours.stop :], sr[..., colours.stop :])


def test_an_exported_network_and_an_array(photo: Tensor, tmp_path: Path) -> None:
    model = exported_rrdb(2)
    onnx.helper.set_model_props(model, OnnxFacts(2, "fp32", 1e3, "ab", "realsr 0").as_metadata())
    onnx.save(model, tmp_path / "x.onnx")
    image = photo.permute(1, 2, 0).contiguous().numpy()
    network = load_model(tmp_path / "x.onnx", device="cpu")
    sr = upscale(image, network, strength=0.75)
    bicubic = resize(photo, factor=2.0).permute(1, 2, 0)
    with torch.no_grad():
        exact = network.run(photo[None])[0].permute(1, 2, 0)
    expected = (0.75 * exact + 0.25 * bicubic).clamp(0, 1).numpy()
    np.testing.assert_allclose(sr, expected, rtol=0, atol=1e-5)
    assert np.abs(upscale(image, network) - sr).max() > 0.01


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_out_of_range(photo: Tensor, strength: float) -> None:
    with pytest.raises(UserError, match="strength="):
        upscale(photo.permute(1, 2, 0).contiguous().numpy(), negative(2), strength=strength)
