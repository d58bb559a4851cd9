from collections.abc import Callable

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from official_models import Published
from realsr.config.options import conf_dir
from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.model import SRModel
from realsr.inference.tiling import (
    SEAMLESS_OVERLAP,
    Tiles,
    blend_weights,
    place_tiles,
    smallest_size,
    upscale_bands,
    upscale_image,
)
from realsr.weights import load_generator

CPU = torch.device("cpu")
Bicubic = Callable[[int], SRModel]


def whole(model: SRModel, image: Tensor) -> Tensor:
    with torch.no_grad():
        return model.run(image[None])[0]


def plain(samples: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic of all channels of a whole photo, rounded half to even."""
    peak = np.iinfo(samples.dtype).max
    image = torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1) / peak
    values = resize(image, factor=float(scale)).clamp(0, 1) * peak
    return values.round().permute(1, 2, 0).numpy().astype(samples.dtype)


@pytest.mark.parametrize(
    ("size", "seamless"), [((40, 16), True), ((64, 16), True), ((40, 0), False), ((40, 2), False)]
)
def test_tiles_leave_no_seam_given_enough_overlap(
    generator_model: SRModel, photo: Tensor, size: tuple[int, int], seamless: bool
) -> None:
    expected = whole(generator_model, photo).clamp(0, 1)
    assert expected.std() > 0.1
    found = upscale_image(generator_model, photo, Tiles(*size)).clamp(0, 1)
    assert (float((found - expected).abs().max()) < 1 / 255) == seamless


def test_one_tile_is_exactly_the_whole(generator_model: SRModel, photo: Tensor) -> None:
    assert torch.equal(
        upscale_image(generator_model, photo, Tiles(96, 16)), whole(generator_model, photo)
    )


def test_the_photo_s_border_is_treated_as_the_whole_s(
    generator_model: SRModel, photo: Tensor
) -> None:
    expected = whole(generator_model, photo)
    found = upscale_image(generator_model, photo, Tiles(56, 24))
    for border in (np.s_[:, :8], np.s_[:, -8:], np.s_[:, :, :8], np.s_[:, :, -8:]):
        torch.testing.assert_close(found[border], expected[border], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (1, 2000), (700, 2), (33, 47), (40, 40), (90, 41)]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_any_size_and_channels_give_the_whole_photo_s_samples(
    bicubic_of: Bicubic, shape: tuple[int, int], channels: int, scale: int
) -> None:
    rng = np.random.default_rng(0)
    dtype = np.uint16 if channels % 2 else np.uint8
    samples = rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype, endpoint=True)
    told: list[int] = []
    bands = list(upscale_bands(bicubic_of(scale), samples, Tiles(40, 16), told.append))
    expected = plain(samples, scale)
    found = np.concatenate(bands)
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    # blending adds 32-bit sums of weights that are 1 but for their last bit, so that a half may round elsewhere
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert (found != expected).mean() < (1e-3 if dtype == np.uint8 else 0.1)
    if channels in (2, 4):
        np.testing.assert_array_equal(found[..., -1], expected[..., -1])
    assert all(pixels > 0 for pixels in told)
    assert sum(told) == shape[0] * shape[1]


def test_gray_is_the_mean_of_the_channels_made_of_it() -> None:
    gains = torch.tensor([0.5, 0.25, 0.0])[:, None, None]
    model = SRModel(2, CPU, lambda lr: resize(lr, factor=2.0) * gains)
    gray = np.full((5, 6, 1), 200, np.uint8)
    (band,) = upscale_bands(model, gray, Tiles(64, 16))
    np.testing.assert_array_equal(band, np.full((10, 12, 1), 50))


def test_values_outside_are_clamped_and_halves_round_to_even() -> None:
    values = torch.tensor([-1.0, 0.5, 1.5, 2.5, 254.5, 255.5, 900.0, 3.0]) / 255
    model = SRModel(2, CPU, lambda lr: values.double().float().expand(1, 3, 2, 8))
    (band,) = upscale_bands(model, np.zeros((1, 4, 3), np.uint8), Tiles(64, 16))
    assert band[0, :, 0].tolist() == [0, 0, 2, 2, 254, 255, 255, 3]


def test_bands_come_one_row_of_tiles_after_the_other(bicubic_of: Bicubic) -> None:
    model, runs = bicubic_of(2), list[tuple[int, ...]]()

    def run(lr: Tensor) -> Tensor:
        runs.append(tuple(lr.shape))
        return model.run(lr)

    samples = np.zeros((200, 90, 3), np.uint8)
    bands = upscale_bands(SRModel(2, CPU, run), samples, Tiles(64, 16))
    heights = [next(bands).shape[0]]
    assert len(runs) == 2
    heights += [band.shape[0] for band in bands]
    assert (sum(heights), len(heights), len(set(runs))) == (400, 4, 1)
    assert max(heights) <= 2 * 64


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("fails_from", [0, 5])
def test_tiles_are_halved_until_memory_suffices(
    bicubic_of: Bicubic, error: Exception, fails_from: int, caplog: pytest.LogCaptureFixture
) -> None:
    model, runs = bicubic_of(4), 0

    def run(lr: Tensor) -> Tensor:
        nonlocal runs
        runs += 1
        if runs > fails_from and lr.shape[-2] * lr.shape[-1] > 50 * 50:
            raise error
        return model.run(lr)

    samples = np.random.default_rng(0).integers(0, 256, (300, 130, 3), np.uint8)
    tiles, told = Tiles(100, 16), list[int]()
    found = np.concatenate(list(upscale_bands(SRModel(4, CPU, run), samples, tiles, told.append)))
    assert np.abs(found.astype(int) - plain(samples, 4).astype(int)).max() <= 1
    assert sum(told) == 300 * 130
    assert [record.message for record in caplog.records] == [
        "memory does not suffice for tiles of 87 pixels: continuing with 43"
    ]
    list(upscale_bands(SRModel(4, CPU, run), samples, tiles))
    assert len(caplog.records) == 1, "the next photo begins with what has fitted"


def test_too_little_memory_for_the_smallest_tile_is_told(
    generator_model: SRModel, photo: Tensor
) -> None:
    def run(lr: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(
        UserError,
        match=r"tiles of 35 pixels per side \(out of memory\).*needs at least 40: close other",
    ):
        upscale_image(SRModel(4, CPU, run), photo, Tiles(64, 16))


def test_other_errors_are_passed_on(photo: Tensor) -> None:
    def run(lr: Tensor) -> Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        upscale_image(SRModel(4, CPU, run), photo, Tiles(64, 16))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [(72, 32), (24, 8), (20, 5), (10, 1), (8, 0)])
@pytest.mark.parametrize("length", [7, 25, 72, 100, 500])
def test_weights_of_all_tiles_add_up_to_one(scale: int, cut: tuple[int, int], length: int) -> None:
    starts, size = place_tiles(length, Tiles(*cut))
    total = torch.zeros(scale * length)
    for number, start in enumerate(starts):
        before = starts[number - 1] + size - start if number else 0
        after = start + size - starts[number + 1] if number + 1 < len(starts) else 0
        weights = blend_weights(size, before, after, scale)
        assert weights.min() >= 0
        total[scale * start : scale * (start + size)] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_what_saw_too_little_is_cut_off_and_the_rest_rises_smoothly() -> None:
    weights = blend_weights(64, 32, 0, 4)
    assert torch.equal(weights[: 4 * 12], torch.zeros(48))
    assert torch.equal(weights[4 * 20 :], torch.ones(4 * 44))
    steps = weights[4 * 12 - 1 : 4 * 20 + 1].diff()
    assert (steps > 0).all()
    assert steps.max() < 0.05
    assert torch.equal(blend_weights(64, 0, 0, 4), torch.ones(256))


@pytest.mark.parametrize("command", ["upscale", "app"])
def test_photos_are_upscaled_without_seams_by_default(command: str) -> None:
    values = yaml.safe_load((conf_dir() / f"{command}.yaml").read_text(encoding="utf-8"))
    assert values["overlap"] == SEAMLESS_OVERLAP


@pytest.mark.slow
def test_df2k_in_tiles_of_the_seamless_overlap_is_df2k_on_the_whole(published: Published) -> None:
    skimage_data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    generator, scale = load_generator(published("df2k"))
    model = SRModel(scale, torch.device("cpu"), generator)
    lr = (
        torch.from_numpy(skimage_data.astronaut()[:256, 100:356].copy()).permute(2, 0, 1).float()
        / 255
    )
    tiles = Tiles(smallest_size(SEAMLESS_OVERLAP), SEAMLESS_OVERLAP)
    assert len(place_tiles(256, tiles)[0]) == 2
    with torch.inference_mode():
        whole = model.run(lr[None])[0]
    difference = (upscale_image(model, lr, tiles).clamp(0, 1) * 255).round() - (
        whole.clamp(0, 1) * 255
    ).round()
    assert difference.abs().max() <= 1
