import math

import numpy as np
import pytest
import torch

from realsr.imaging import crop_to_multiple, resize, shrink_uint8
from realsr.imaging.resampling import symmetric_index


def test_matches_golden(golden):
    arrays = golden("bicubic.npz")
    image = torch.from_numpy(arrays["image_uint8_chw"]).double() / 255
    for name, source, factor in [
        ("bicubic_div2", image, 1 / 2),
        ("bicubic_div4", image, 1 / 4),
        ("bicubic_div3_of_first_147_rows", image[:, :147], 1 / 3),
    ]:
        expected = torch.from_numpy(arrays[name]).double()
        for dtype in (torch.float32, torch.float64):
            result = resize(source.to(dtype), factor=factor)
            assert result.dtype == dtype
            assert result.shape == expected.shape
            # The golden arrays were clipped to 0..1; `resize` leaves the cubic's overshoot, as MATLAB does
            # for floats. Where they differ, ours is outside 0..1, so clipping hides nothing else.
            assert (result.clamp(0, 1) - expected).abs().max() < 1e-5


def slow_imresize_1d(signal: list[float], factor: float) -> list[float]:
    """imresize's `contributions`, by its documentation, one number at a time."""

    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    n, stretch = len(signal), max(1.0, 1 / factor)
    out = []
    for i in range(1, math.ceil(n * factor) + 1):
        u = i / factor + 0.5 * (1 - 1 / factor)  # 1-based position in the source
        total = weight_sum = 0.0
        for j in range(math.floor(u - 2 * stretch) - 1, math.ceil(u + 2 * stretch) + 2):
            weight = cubic((u - j) / stretch)
            k = (j - 1) % (2 * n)
            total += weight * signal[k if k < n else 2 * n - 1 - k]
            weight_sum += weight
        out.append(total / weight_sum)
    return out


@pytest.mark.parametrize("factor", [1 / 4, 1 / 3, 1 / 2, 0.7, 1.5, 2, 3])
@pytest.mark.parametrize("length", [3, 11, 24])  # 3: the border is mirrored more than once
def test_matches_a_slow_loop_in_both_directions(factor, length):
    signal = torch.rand(length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor(slow_imresize_1d(signal.tolist(), factor), dtype=torch.float64)
    columns = resize(signal.expand(1, 5, length), factor=factor)
    rows = resize(signal[:, None].expand(length, 5), factor=factor)
    assert columns.shape == (1, math.ceil(5 * factor), len(expected))
    torch.testing.assert_close(columns[0, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows[:, -1], expected, rtol=0, atol=1e-12)


def test_known_weights_of_a_single_pixel():
    delta = torch.zeros(1, 12, dtype=torch.float64)
    delta[0, 6] = 1
    # Keys' cubic at 1/4, 3/4, 5/4 and 7/4 is 111, 29, -9 and -3 in 1/128. Output i of x2 lies at
    # (i + 1/2)/2 - 1/2, so pixel 6 is a quarter from outputs 12 and 13.
    up = resize(delta, size=(1, 24))[0] * 128
    assert up.tolist() == pytest.approx(
        [0] * 9 + [-3, -9, 29, 111, 111, 29, -9, -3] + [0] * 7, abs=1e-9
    )
    # Output i of /2 lies at 2 i + 1/2: pixel 6 is 1/2 from output 3, in a cubic twice as wide.
    down = resize(delta, size=(1, 6))[0] * 256
    assert down.tolist() == pytest.approx([0, -3, 29, 111, -9, 0], abs=1e-9)


@pytest.mark.parametrize("factor", [1 / 4, 1 / 3, 1 / 2, 0.37, 2, 2.5, 4])
def test_constants_stay(factor):
    result = resize(torch.full((2, 3, 13, 17), 0.3, dtype=torch.float64), factor=factor)
    torch.testing.assert_close(result, torch.full_like(result, 0.3), rtol=0, atol=1e-14)


def test_a_ramp_stays_a_ramp():
    ramp = torch.arange(20, dtype=torch.float64).expand(20, 20)
    up = resize(ramp, factor=2)
    positions = (torch.arange(40, dtype=torch.float64) + 0.5) / 2 - 0.5
    torch.testing.assert_close(up[4:-4, 4:-4], positions[4:-4].expand(32, 32), rtol=0, atol=1e-12)
    down = resize(ramp, factor=0.5)
    positions = (torch.arange(10, dtype=torch.float64) + 0.5) * 2 - 0.5
    torch.testing.assert_close(down[:, 2:-2], positions[2:-2].expand(10, 6), rtol=0, atol=1e-12)


def test_overshoot_is_not_clipped():
    edge = (torch.arange(16) >= 8).double().expand(16, 16)
    result = resize(edge, factor=2)
    assert result.min() < -0.01
    assert result.max() > 1.01


def test_shrinking_removes_what_the_small_grid_cannot_hold():
    stripes = (torch.arange(64) % 2).double().expand(64, 64)
    assert (resize(stripes, factor=1 / 4) - 0.5).abs()[:, 2:-2].max() < 0.02


def test_sizes():
    image = torch.rand(3, 49, 30)
    assert resize(image, factor=1 / 7).shape == (3, 7, 5)
    assert resize(torch.rand(1, 100), factor=0.07).shape == (
        1,
        7,
    )  # 100 * 0.07 > 7 in floating point
    assert resize(image, factor=0.1).shape == (3, 5, 3)
    assert resize(image, factor=1 / 100).shape == (3, 1, 1)
    assert resize(image, size=(20, 61)).shape == (3, 20, 61)
    assert torch.equal(resize(image, factor=1), image)


def test_gradients_flow():
    image = torch.rand(1, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, factor=0.5), image)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"factor": 2, "size": (4, 4)}, {"factor": 0}, {"factor": -1}, {"size": (0, 4)}],
)
def test_refuses_unusable_sizes(arguments):
    with pytest.raises(ValueError, match=r"size|factor"):
        resize(torch.rand(3, 8, 8), **arguments)


def test_refuses_integers():
    with pytest.raises(ValueError, match="uint8"):
        resize(torch.zeros(3, 8, 8, dtype=torch.uint8), factor=2)


def test_crop_keeps_the_top_left():
    image = torch.arange(7 * 9).view(1, 7, 9)
    assert torch.equal(crop_to_multiple(image, 4), image[:, :4, :8])
    assert torch.equal(crop_to_multiple(image, 1), image)
    with pytest.raises(ValueError, match="9x7"):
        crop_to_multiple(image, 8)


def test_symmetric_index_mirrors_as_numpy_pads():
    for length in (1, 2, 5):
        positions = torch.arange(-7, length + 7)
        expected = np.pad(np.arange(length), 7, mode="symmetric")
        assert symmetric_index(positions, length).tolist() == expected.tolist()


# Keys' cubic (a = -0.5) at odd quarters, eighths and sixteenths, in 1/256, 1/4096 and 1/65536: whole numbers, so all
# below is exact.
HALF_OF_8 = [
    -15, -117, -275, -441, -567, -605, -507, -225,
    317, 1263, 2505, 3899, 5301, 6567, 7553, 8115,
]  # fmt: skip
WEIGHTS = {
    2: (256, [-3, -9, 29, 111, 111, 29, -9, -3]),
    4: (4096, [-7, -45, -75, -49, 93, 399, 745, 987, 987, 745, 399, 93, -49, -75, -45, -7]),
    8: (65536, HALF_OF_8 + HALF_OF_8[::-1]),
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
        taps = [
            w * padded.take(range(t, t + length, factor), axis=axis) for t, w in enumerate(weights)
        ]
        image = np.sum(taps, axis=0)
    halves = 2 * image + unit**2  # 2 * unit^2 * (value + 1/2)
    rounded = halves // (2 * unit**2)
    rounded -= (halves % (2 * unit**2) == 0) & (rounded % 2 == 1)  # half to even
    return rounded.clip(0, 255)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(3, 5), (64, 80), (131, 77), (530, 33)])
@pytest.mark.parametrize("saturated", [False, True])
def test_shrinking_is_exactly_what_whole_numbers_give(factor, size, saturated):
    image = photo(*size, saturated)
    np.testing.assert_array_equal(
        shrink_uint8(image, factor), shrink_in_whole_numbers(image, factor)
    )


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (261, 50)])
def test_shrinking_is_resize(factor, size):
    image = photo(*size)
    expected = resize(torch.from_numpy(image).permute(2, 0, 1).double(), factor=1 / factor).clamp(
        0, 255
    )
    result = shrink_uint8(image, factor)
    assert result.dtype == np.uint8
    assert np.abs(result - expected.permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-9


def test_shrinking_a_part_of_a_larger_array_is_read_alone():
    image = photo(60, 60)
    np.testing.assert_array_equal(
        shrink_uint8(image[10:50, 10:50], 2), shrink_uint8(image[10:50, 10:50].copy(), 2)
    )


def test_shrinking_by_one_changes_nothing_and_less_is_refused():
    image = photo(5, 6)
    np.testing.assert_array_equal(shrink_uint8(image, 1), image)
    with pytest.raises(ValueError, match="got 0"):
        shrink_uint8(image, 0)
