from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.model import SRModel
from realsr.inference.tiling import Tiles, upscale_bands, upscale_image

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
