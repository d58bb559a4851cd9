import numpy as np
import pytest
import torch

from realsr.imaging import resize, shrink_uint8

# Keys' cubic (a = -0.5) at odd eighths and quarters, in 1/4096 and 1/256: whole numbers, so all below is exact.
WEIGHTS = {
    2: (256, [-3, -9, 29, 111, 111, 29, -9, -3]),
    4: (4096, [-7, -45, -75, -49, 93, 399, 745, 987, 987, 745, 399, 93, -49, -75, -45, -7]),
}


def photo(height: int, width: int, saturated: bool = False) -> np.ndarray:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(image > 127, 255, 0).astype(np.uint8) if saturated else image


def shrink_in_whole_numbers(image: np.ndarray, factor: int) -> np.ndarray:
    unit, weights = WEIGHTS[factor]
    before = (len(weights) - factor) // 2
    for axis in (0, 1):
        length = image.shape[axis]
        padding = [(0, 0)] * 3
        padding[axis] = (before, 3 * factor + before)
        padded = np.pad(image.astype(np.int64), padding, mode="symmetric")
        taps = [w * padded.take(range(t, t + length, factor), axis=axis) for t, w in enumerate(weights)]
        image = np.sum(taps, axis=0)
    halves = 2 * image + unit**2  # 2 * unit^2 * (value + 1/2)
    rounded = halves // (2 * unit**2)
    rounded -= (halves % (2 * unit**2) == 0) & (rounded % 2 == 1)  # half to even
    return rounded.clip(0, 255)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("size", [(3, 5), (64, 80), (131, 77), (530, 33)])
@pytest.mark.parametrize("saturated", [False, True])
def test_exactly_what_whole_numbers_give(factor, size, saturated):
    image = photo(*size, saturated)
    np.testing.assert_array_equal(shrink_uint8(image, factor), shrink_in_whole_numbers(image, factor))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (261, 50)])
def test_is_resize(factor, size):
    image = photo(*size)
    expected = resize(torch.from_numpy(image).permute(2, 0, 1).double(), factor=1 / factor).clamp(0, 255)
    result = shrink_uint8(image, factor)
    assert result.dtype == np.uint8
    assert np.abs(result - expected.permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-9


def test_a_part_of_a_larger_array_is_read_alone():
    image = photo(60, 60)
    np.testing.assert_array_equal(shrink_uint8(image[10:50, 10:50], 2), shrink_uint8(image[10:50, 10:50].copy(), 2))


def test_one_changes_nothing_and_less_is_refused():
    image = photo(5, 6)
    np.testing.assert_array_equal(shrink_uint8(image, 1), image)
    with pytest.raises(ValueError, match="got 0"):
        shrink_uint8(image, 0)
