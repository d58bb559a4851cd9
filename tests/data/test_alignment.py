"""Shift and brightness of pairs, against shifts that are known."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from realsr.data.alignment import describe_alignment, measure_alignment
from realsr.imaging import shrink_uint8


def make_lr(hr: np.ndarray, down: float, right: float, scale: int, hard: bool) -> np.ndarray:
    """Return LR whose content is shifted by so many LR pixels; `hard` adds blur, noise, gain 1.05 and 3 levels."""
    moved = ndimage.shift(hr.astype(float), (down * scale, right * scale, 0), mode="nearest")
    if hard:
        moved = cv2.GaussianBlur(moved, (0, 0), 0.7 * scale)
    lr = shrink_uint8(moved.clip(0, 255).round().astype(np.uint8), scale) if scale > 1 else moved
    noise = np.random.default_rng(0).normal(0, 6, lr.shape)
    lr = 1.05 * lr + 3 + noise if hard else lr
    return lr.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shift", [(0, 0), (0.25, -0.5), (1, 0), (-2.5, 1.5)])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_a_known_shift_is_measured(name: str, shift: tuple[float, float], scale: int, hard: bool):
    side = 84 * scale + 100
    hr = getattr(data, name)()[: side // scale * scale, : side // scale * scale]
    lr = make_lr(hr, *shift, scale, hard)
    alignment = measure_alignment(lr, hr, scale)
    np.testing.assert_allclose([alignment.down, alignment.right], shift, atol=0.05)
    reference = shrink_uint8(hr, scale) if scale > 1 else hr
    expected = lr.mean((0, 1)) - reference.mean((0, 1))
    np.testing.assert_allclose(alignment.brightness, expected)
    assert alignment.is_good == (shift == (0, 0) and not hard)
    assert alignment.spread < 0.1


def test_a_turned_image_has_tiles_of_different_shifts():
    hr = data.astronaut()
    turned = ndimage.rotate(hr, 0.5, reshape=False, mode="nearest")
    assert measure_alignment(turned, hr, 1).spread > 1


def test_flat_images_have_no_shift_but_a_brightness():
    alignment = measure_alignment(
        np.full((64, 64, 3), 90, np.uint8), np.full((128, 128, 3), 100, np.uint8), 2
    )
    assert (alignment.down, alignment.right) == (None, None)
    assert alignment.brightness == (-10, -10, -10)
    assert not alignment.is_good


def test_the_sentence_names_the_worst_pair():
    hr = data.astronaut()
    pairs = {
        name: measure_alignment(make_lr(hr, shift, 0, 4, False), hr, 4)
        for name, shift in [("good", 0), ("half", 0.5), ("one", 1)]
    }
    assert describe_alignment({"good": pairs["good"]}) == (
        "LR and HR of 1 pairs are aligned and equally bright"
    )
    text = describe_alignment(pairs)
    assert text.startswith("2 of 3 pairs are misaligned")
    assert "one: its LR lies +1.00 pixels down" in text
