import numpy as np
import pytest
import torch
from scipy import ndimage

from realsr.imaging import apply_kernel, apply_kernel_uint8


def example(height: int, width: int, rows: int, columns: int) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((3, height, width))), rng.random((rows, columns))


@pytest.mark.parametrize(
    ("names", "scale"), [(("kernel", "lr_float"), 4), (("kernel_x2", "lr_x2_float"), 2)]
)
def test_matches_golden(golden, names, scale):
    arrays = golden("kernel_downsample.npz")
    image = torch.from_numpy(arrays["image_uint8_hwc"]).permute(2, 0, 1).double() / 255
    kernel, expected = (arrays[name] for name in names)
    expected = torch.from_numpy(expected).permute(2, 0, 1) / 255
    for dtype in (torch.float32, torch.float64):
        result = apply_kernel(image.to(dtype), kernel, scale)
        assert result.dtype == dtype
        assert (result - expected).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 2), (1, 1)])
def test_matches_a_plain_loop(shape):
    image, kernel = example(7, 9, *shape)
    padded = np.pad(image.numpy(), ((0, 0), (6, 6), (6, 6)), mode="symmetric")
    for scale in (1, 2, 3):
        result = apply_kernel(image, kernel, scale)
        assert result.shape == (3, -(-7 // scale), -(-9 // scale))
        for y in range(result.shape[1]):
            for x in range(result.shape[2]):
                top, left = 6 + y * scale - shape[0] // 2, 6 + x * scale - shape[1] // 2
                window = padded[:, top : top + shape[0], left : left + shape[1]]
                expected = (window * kernel).sum((1, 2))
                assert result[:, y, x].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(13, 13), (8, 8), (25, 11)])
def test_matches_scipy(shape):
    image, kernel = example(27, 31, *shape)
    # scipy's `reflect` is our symmetric border, and its centre is index k//2 too.
    expected = np.stack([ndimage.correlate(c, kernel, mode="reflect") for c in image.numpy()])
    np.testing.assert_allclose(apply_kernel(image, kernel).numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("shape", [(13, 13), (8, 8), (25, 11)])
def test_images_smaller_than_the_kernel_are_mirrored_repeatedly(shape):
    # Against numpy's padding: scipy's `reflect` reads outside its buffer when the kernel is much larger.
    image, kernel = example(3, 2, *shape)
    padded = np.pad(image.numpy(), ((0, 0), (30, 30), (30, 30)), mode="symmetric")
    expected = np.stack([ndimage.correlate(c, kernel)[30:-30, 30:-30] for c in padded])
    np.testing.assert_allclose(apply_kernel(image, kernel).numpy(), expected, atol=1e-11)


def test_strided_is_the_full_result_subsampled():
    image, kernel = example(21, 30, 11, 11)
    for scale in (2, 3, 4):
        strided = apply_kernel(image, torch.from_numpy(kernel), scale)
        torch.testing.assert_close(strided, apply_kernel(image, kernel)[:, ::scale, ::scale])


def test_does_not_flip():
    image, kernel = torch.zeros(1, 5, 5), np.zeros((3, 3))
    image[0, 2, 2], kernel[0, 2] = 1, 1
    assert apply_kernel(image, kernel)[0].nonzero().tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("image", "kernel", "scale"),
    [
        (torch.rand(1, 3, 8, 8), np.ones((3, 3)), 1),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), np.ones((3, 3)), 1),
        (torch.rand(3, 8, 8), np.ones((1, 3, 3)), 1),
        (torch.rand(3, 8, 8), np.ones((3, 3)), 0),
    ],
)
def test_refuses_other_shapes(image, kernel, scale):
    with pytest.raises(ValueError, match=r"expected|scale"):
        apply_kernel(image, kernel, scale)


@pytest.mark.parametrize(("taps", "scale"), [(33, 4), (17, 2), (8, 3)])
def test_8_bit_is_exact_whatever_the_order_of_sums(taps, scale):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
    kernel = rng.normal(0.3, 1, (taps, taps))
    kernel /= kernel.sum()
    # In whole numbers of 2^-43, by a plain loop.
    weights = np.rint(kernel * 2.0**43).astype(np.int64)
    padded = np.pad(image.astype(np.int64), ((taps, taps), (taps, taps), (0, 0)), mode="symmetric")
    expected = np.zeros((-(-61 // scale), -(-83 // scale), 3), np.int64)
    for (i, j), weight in np.ndenumerate(weights):
        top, left = taps + i - taps // 2, taps + j - taps // 2
        expected += weight * padded[top : top + 61 : scale, left : left + 83 : scale]
    levels = np.clip(np.rint(expected / 2.0**43), 0, 255)
    threads = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        try:
            np.testing.assert_array_equal(apply_kernel_uint8(image, kernel, scale), levels)
        finally:
            torch.set_num_threads(threads)
