"""Colours under transparent pixels do not reach the visible ones, from file to file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_images import draw_disc

from realsr.imaging import ImageError, Metadata, Photo, read_photo, write_photo
from realsr.inference.model import SRModel, consistent, ensemble
from realsr.inference.tiling import Tiles
from stages import upscale_photo

Bicubic = Callable[[int], SRModel]


def upscale(samples: np.ndarray, model: SRModel, folder: Path, suffix: str = "png") -> np.ndarray:
    """The result's samples, of tiles much smaller than the photo."""
    write_photo(folder / "photo.png", Photo(samples, Metadata()))
    upscale_photo(
        folder / "photo.png", folder / f"result.{suffix}", model, lambda height, width: Tiles(24, 8)
    )
    return read_photo(folder / f"result.{suffix}").samples


def composite(samples: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Samples on a background of a colour, both in 8-bit levels."""
    values = samples / (np.iinfo(samples.dtype).max / 255)
    alpha = values[..., -1:] / 255
    return values[..., :-1] * alpha + np.array(colour) * (1 - alpha)


@pytest.mark.parametrize(
    "colour", [(255,), (0,), (255, 255, 255), (0, 0, 0), (255, 0, 0), (3, 200, 120)]
)
@pytest.mark.parametrize(
    ("dtype", "soft"), [(np.uint8, False), (np.uint8, True), (np.uint16, False)]
)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_object_on_its_own_colour_cannot_be_seen(
    bicubic_of: Bicubic,
    colour: tuple[int, ...],
    dtype: type,
    soft: bool,
    scale: int,
    tmp_path: Path,
) -> None:
    for under in (0, 255):
        result = upscale(draw_disc(colour, dtype, soft, under), bicubic_of(scale), tmp_path)
        assert np.abs(composite(result, colour) - colour).max() <= 2


@pytest.mark.parametrize("refine", [lambda model: model, ensemble, consistent])
def test_a_network_sees_the_colour_alone(
    generator_model: SRModel, refine: Callable[[SRModel], SRModel], tmp_path: Path
) -> None:
    model, samples = (
        refine(generator_model),
        draw_disc((250, 30, 200), np.uint8, soft=True, under=0),
    )
    result = upscale(samples, model, tmp_path)
    opaque = np.empty_like(samples[..., :3])
    opaque[:] = (250, 30, 200)
    np.testing.assert_array_equal(result[..., :3], upscale(opaque, model, tmp_path))


def test_a_photo_that_is_transparent_everywhere_keeps_its_colours(
    bicubic_of: Bicubic, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
    samples[..., 3] = 0
    result = upscale(samples, bicubic_of(2), tmp_path)
    np.testing.assert_array_equal(
        result[..., :3], upscale(samples[..., :3], bicubic_of(2), tmp_path)
    )
    assert not result[..., 3].any()


@pytest.mark.parametrize("channels", [2, 4])
def test_opaque_alpha_is_left_out_where_the_format_has_none(
    bicubic_of: Bicubic, channels: int, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, channels), np.uint8)
    samples[..., -1] = 255
    expected = upscale(samples[..., :-1], bicubic_of(2), tmp_path)
    np.testing.assert_array_equal(upscale(samples, bicubic_of(2), tmp_path, "bmp"), expected)
    assert upscale(samples, bicubic_of(2), tmp_path, "jpg").shape == expected.shape
    for suffix in ("png", "tif"):
        kept = upscale(samples, bicubic_of(2), tmp_path, suffix)
        np.testing.assert_array_equal(kept[..., :-1], expected)
        assert (kept[..., -1] == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "bmp"])
def test_other_alpha_is_refused_there_before_the_work(suffix: str, tmp_path: Path) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("work")

    samples = np.full((9, 12, 4), 255, np.uint8)
    samples[3, 4, 3] = 254
    with pytest.raises(ImageError, match="cannot hold the image's alpha channel"):
        upscale(samples, SRModel(2, torch.device("cpu"), run), tmp_path, suffix)
    assert not (tmp_path / f"result.{suffix}").exists()
