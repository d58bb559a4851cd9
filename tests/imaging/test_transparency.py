"""Colours under transparent pixels come from the visible ones around them, and nothing else changes."""

import numpy as np
import pytest

from realsr.imaging import fill_transparent, is_opaque


def disc(
    colour: tuple[int, ...], dtype: type, soft: bool, side: int = 41, under: int = 0
) -> np.ndarray:
    """A disc of one colour (8-bit levels), transparent outside, where all colours are `under`."""
    levels = np.iinfo(dtype).max // 255
    y, x = np.mgrid[:side, :side] - side // 2
    radius = np.hypot(y, x)
    alpha = np.clip((side / 3 - radius) / (6 if soft else 0.001), 0, 1) * 255
    samples = np.full((side, side, len(colour) + 1), under * levels, dtype)
    samples[..., -1] = np.rint(alpha) * levels
    samples[alpha.round() > 0, :-1] = np.array(colour) * levels
    return samples


@pytest.mark.parametrize(
    "colour", [(255,), (0,), (97,), (255, 255, 255), (0, 0, 0), (255, 0, 0), (3, 200, 120)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("under", [0, 255])
def test_an_object_of_one_colour_fills_the_whole_picture(
    colour: tuple[int, ...], dtype: type, soft: bool, under: int
) -> None:
    samples = disc(colour, dtype, soft, under=under)
    alpha = samples[..., -1].copy()
    fill_transparent(samples)
    wanted = np.array(colour) * (np.iinfo(dtype).max // 255)
    np.testing.assert_array_equal(
        samples[..., :-1], np.broadcast_to(wanted, samples[..., :-1].shape)
    )
    np.testing.assert_array_equal(samples[..., -1], alpha)


def test_visible_pixels_stay_and_the_fill_lies_between_their_colours() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(60, 200, (37, 50, 4), np.uint8)
    samples[..., 3] = np.where(rng.random((37, 50)) < 0.1, rng.integers(16, 256, (37, 50)), 0)
    samples[samples[..., 3] == 0, :3] = 255
    before = samples.copy()
    fill_transparent(samples)
    visible = before[..., 3] > 0
    np.testing.assert_array_equal(samples[visible], before[visible])
    for channel in range(3):
        colours = before[visible][:, channel]
        assert colours.min() <= samples[..., channel].min()
        assert samples[..., channel].max() <= colours.max()


def test_the_fill_is_near_the_nearest_visible_colour() -> None:
    samples = np.zeros((40, 90, 4), np.uint8)
    samples[:, :20] = (200, 10, 10, 255)
    samples[:, 70:] = (10, 10, 200, 255)
    fill_transparent(samples)
    assert samples[:, 22, 0].min() > 180
    assert samples[:, 67, 2].min() > 180
    assert np.abs(np.diff(samples[20, :, 0].astype(int))).max() < 30, "no edge where the two meet"


def test_colours_that_premultiplied_files_round_are_mixed_with_their_surroundings() -> None:
    samples = disc((200, 100, 50), np.uint8, soft=True)
    alpha = samples[..., 3:].astype(float)
    premultiplied = np.rint(samples[..., :3] * alpha / 255)
    straight = np.rint(np.minimum(255, premultiplied * 255 / np.maximum(alpha, 1))).astype(np.uint8)
    samples[..., :3] = straight
    faint = (alpha[..., 0] > 0) & (alpha[..., 0] < 10)
    error = np.abs(straight[faint].astype(int) - (200, 100, 50)).max()
    fill_transparent(samples)
    assert error > 15
    assert np.abs(samples[faint][:, :3].astype(int) - (200, 100, 50)).max() < 0.7 * error


@pytest.mark.parametrize("alpha", [0, 16, 255])
def test_nothing_is_done_where_nothing_or_all_is_visible(alpha: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 8, 4), np.uint8)
    samples[..., 3] = alpha
    before = samples.copy()
    fill_transparent(samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("shape", [(1, 2), (1, 9), (9, 1), (31, 2), (37, 53), (64, 64)])
@pytest.mark.parametrize("channels", [2, 4])
def test_bands_change_nothing(
    shape: tuple[int, int], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 65536, (*shape, channels), np.uint16)
    samples[..., -1] *= rng.random(shape) < 0.3
    samples[0, 0, -1], samples[-1, -1, -1] = 65535, 0
    whole, cut = samples.copy(), samples.copy()
    fill_transparent(whole)
    monkeypatch.setattr("realsr.imaging.samples._BAND", 1)
    fill_transparent(cut)
    np.testing.assert_array_equal(cut, whole)
    assert (whole != samples).any()


def test_opaque() -> None:
    samples = np.full((3, 4, 4), 65535, np.uint16)
    assert is_opaque(samples)
    assert is_opaque(samples[..., :2])
    assert is_opaque(np.zeros((3, 4, 3), np.uint8))
    samples[1, 2, 3] = 65534
    assert not is_opaque(samples)
