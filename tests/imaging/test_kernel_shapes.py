import importlib.util

import numpy as np
import pytest
import torch
from scipy import io as matlab
from scipy import ndimage, signal

from realsr.core.errors import UserError
from realsr.imaging import apply_kernel, resize
from realsr.imaging.kernel_shapes import (
    align,
    aligned_centre,
    compose_x4,
    compose_x8,
    filter_small,
    kernel_psnr,
    load_kernel,
    moments,
    normalise,
    postprocess,
    rescale,
    save_kernel,
)
from realsr.simulation.camera_model import anisotropic_kernel, load_photograph


def some_kernel(size: int = 13, seed: int = 0) -> np.ndarray:
    """A blob off the centre with noise, some of it negative, as KernelGAN leaves it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size / 2 + rng.uniform(-1, 1))
    return np.exp(-(x**2 + 2 * y**2 + x * y) / 8) / 20 + rng.normal(0, 1e-3, (size, size))


def test_postprocessing_matches_golden(golden):
    arrays = golden("kernel_postprocess.npz")
    filtered = filter_small(arrays["raw_x2"])
    np.testing.assert_allclose(filtered, arrays["filtered_x2"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(align(filtered), arrays["final_x2"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(
        compose_x4(arrays["final_x2"]), arrays["analytic_x4"], atol=1e-6, rtol=0
    )
    np.testing.assert_allclose(
        postprocess(arrays["raw_x2"]), arrays["final_x2"] / arrays["final_x2"].sum(), atol=1e-6
    )


def test_filter_small_by_hand():
    kernel = some_kernel()
    threshold = 0.75 * sorted(kernel.ravel().tolist(), reverse=True)[40]
    expected = np.array([[max(value - threshold, 0) for value in row] for row in kernel.tolist()])
    np.testing.assert_allclose(filter_small(kernel), expected / expected.sum(), atol=1e-15)
    assert filter_small(kernel).sum() == pytest.approx(1, abs=1e-14)
    assert filter_small(kernel).min() == 0


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_align_moves_the_centre_of_mass_where_the_scale_wants_it(seed, scale):
    kernel = filter_small(some_kernel(seed=seed))
    aligned = align(kernel, scale)
    assert aligned.shape[0] == aligned.shape[1]
    assert aligned.shape[0] % 2 == 1
    centre = np.array(ndimage.center_of_mass(aligned))
    np.testing.assert_allclose(centre, aligned.shape[0] // 2 + (scale - 1) / 2, atol=2e-3)
    assert aligned.sum() == pytest.approx(1, abs=1e-3)
    # The padding is just enough for the shift, on all sides.
    shift = np.array(ndimage.center_of_mass(kernel)) - aligned_centre(13, scale)
    assert (aligned.shape[0] - 13) / 2 == np.ceil(np.abs(shift).max()) + 1


def test_an_aligned_kernel_does_not_move_the_picture():
    # A ramp blurred by any kernel is a ramp; an aligned x2 kernel keeps its samples at the pixels' common centres.
    kernel = postprocess(some_kernel())
    ramp = torch.arange(80.0, dtype=torch.float64).expand(1, 80, 80)
    small = apply_kernel(ramp, kernel, 2)[0, 12:-12, 12:-12]
    expected = torch.arange(40.0, dtype=torch.float64)[12:-12] * 2 + 0.5
    assert (small - expected).abs().max() < 5e-3


def test_postprocess_is_filter_align_normalise():
    raw = some_kernel()
    aligned = align(filter_small(raw))
    np.testing.assert_array_equal(postprocess(raw), aligned / aligned.sum())
    assert postprocess(raw.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("size", [3, 5, 8])
def test_compose_x4_uncropped_is_blurring_and_halving_twice(size):
    """With nothing at the border, cropping takes nothing away: then the composition is exact."""
    inner = np.random.default_rng(0).random((size, size))
    border = size // 2 + 2
    kernel = normalise(np.pad(inner, border))
    image = torch.from_numpy(np.random.default_rng(1).random((3, 160, 168)))
    twice = apply_kernel(apply_kernel(image, kernel, 2), kernel, 2)
    x4 = compose_x4(kernel)
    # Index k//2 of k lies on a sample; of the composed kernel this is 3 (k//2), and the crop takes k//2 from it.
    middle = 3 * (kernel.shape[0] // 2) - kernel.shape[0] // 2
    once = apply_kernel(image, np.roll(x4, x4.shape[0] // 2 - middle, axis=(0, 1)), 4)
    np.testing.assert_allclose(once[:, 10:-10, 10:-10], twice[:, 10:-10, 10:-10], atol=1e-12)
    if size % 2:
        assert middle == x4.shape[0] // 2


@pytest.mark.parametrize("shape", [(13, 13), (17, 17), (4, 4), (3, 5)])
def test_compose_x4_written_plainly(shape):
    kernel = normalise(np.random.default_rng(0).random(shape))
    spread = np.kron(kernel, [[1, 0], [0, 0]])[:-1, :-1]
    rows, columns = shape[0] // 2, shape[1] // 2
    full = signal.convolve2d(kernel, spread)
    expected = full[rows:-rows, columns:-columns]
    np.testing.assert_allclose(compose_x4(kernel), expected / expected.sum(), atol=1e-15)


def test_the_x4_kernel_of_an_aligned_kernel_is_aligned():
    x4 = compose_x4(anisotropic_kernel(13, (1.2, 0.9), 30, scale=2))
    assert x4.shape == (25, 25)
    np.testing.assert_allclose(ndimage.center_of_mass(x4), 25 // 2 + 1.5, atol=1e-3)


def test_compose_x8_is_the_rule_of_x4_twice():
    kernel = normalise(np.random.default_rng(0).random((5, 5)))
    x4 = compose_x4(kernel)
    spread = np.zeros((17, 17))
    spread[::4, ::4] = kernel
    full = signal.convolve2d(x4, spread)
    expected = full[4:-4, 4:-4]  # half the x4 kernel, as x4 loses half the x2 kernel
    np.testing.assert_allclose(compose_x8(kernel), expected / expected.sum(), atol=1e-15)
    image = torch.from_numpy(np.random.default_rng(1).random((3, 160, 168)))
    thrice = image
    for _ in range(3):
        thrice = apply_kernel(thrice, kernel, 2)
    once = apply_kernel(image, compose_x8(kernel, crop=False), 8)
    np.testing.assert_allclose(once[:, 5:-5, 5:-5], thrice[:, 5:-5, 5:-5], atol=1e-12)


@pytest.mark.parametrize("scale", [1, 3, 8])
@pytest.mark.parametrize("sigmas", [(2.2, 1.4), (1.5, 1.5)])
def test_a_rescaled_kernel_is_as_wide_in_lr_pixels(sigmas, scale):
    kernel = anisotropic_kernel(17, sigmas, 30, scale=2)
    result = rescale(kernel, scale)
    centre, covariance = moments(result)
    assert result.shape[0] % 2 == 1
    assert result.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(centre, aligned_centre(result.shape[0], scale), atol=2e-3)
    expected = (scale / 2) ** 2 * moments(kernel)[1]
    np.testing.assert_allclose(covariance, expected, atol=0.03 * expected.max())


def test_rescale_aligns_any_kernel():
    for seed in range(20):
        kernel = postprocess(np.random.default_rng(seed).normal(size=(13, 13)))
        for scale in (1, 3):
            result = rescale(kernel, scale)
            expected = aligned_centre(result.shape[0], scale)
            np.testing.assert_allclose(moments(result)[0], expected, atol=0.01)


def test_the_x1_kernel_gives_the_photo_of_the_camera_from_a_sharp_photo_of_its_size():
    """Neither the x2 kernel itself, whose pixels are half as large, nor no blur does."""
    pytest.importorskip("skimage", reason="scikit-image's photographs are not installed")
    scene = torch.from_numpy(load_photograph("coffee", "this test", "demo")[:300, :400] / 255.0)
    scene = scene.permute(2, 0, 1).contiguous()
    kernel = anisotropic_kernel(17, (2.2, 1.1), 30, scale=2)
    photo, sharp = apply_kernel(scene, kernel, 2), resize(scene, factor=0.5)

    def psnr(blur: np.ndarray) -> float:
        difference = (apply_kernel(sharp, blur) - photo)[:, 10:-10, 10:-10]
        return -10 * float(difference.square().mean().log10())

    assert psnr(rescale(kernel, 1)) > 50
    for other in (align(kernel, 1), np.ones((1, 1))):
        assert psnr(other) < 40


def test_mat_round_trip(tmp_path):
    kernel = np.random.default_rng(0).random((13, 17))
    save_kernel(tmp_path / "a.mat", kernel)
    loaded = load_kernel(tmp_path / "a.mat")
    np.testing.assert_allclose(loaded, kernel / kernel.sum(), rtol=1e-15)
    assert loaded.dtype == np.float64
    stored = matlab.loadmat(tmp_path / "a.mat")["Kernel"]
    assert stored.dtype == np.float64
    assert stored.sum() == pytest.approx(1, abs=1e-14)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mat"]


def test_equal_kernels_are_equal_files_whenever_they_are_saved(tmp_path, monkeypatch):
    kernel = np.random.default_rng(0).random((5, 5))
    save_kernel(tmp_path / "a.mat", kernel)
    monkeypatch.setattr("time.asctime", lambda *args: "Thu Jan  1 00:00:00 1970")
    save_kernel(tmp_path / "b.mat", kernel)
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()


def test_loads_kernels_made_elsewhere(tmp_path):
    matlab.savemat(tmp_path / "a.mat", {"Kernel": np.ones((5, 5), np.float32)})
    matlab.savemat(tmp_path / "b.mat", {"Kernel": np.ones((5, 5), np.uint8), "other": 1})
    for name in ("a.mat", "b.mat"):
        np.testing.assert_allclose(
            load_kernel(tmp_path / name), np.full((5, 5), 1 / 25), rtol=1e-15
        )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"k": np.ones((3, 3)), "z": 1}, "it holds k, z"),
        ({}, "it holds nothing"),
        ({"Kernel": np.ones((3, 3, 3))}, r"shape \(3, 3, 3\)"),
        ({"Kernel": np.zeros((3, 3))}, "sum 0"),
        ({"Kernel": -np.ones((3, 3))}, "sum -9"),
        ({"Kernel": np.full((3, 3), np.nan)}, "nan"),
        ({"Kernel": np.full((3, 3), np.inf)}, "inf"),
        ({"Kernel": "a text"}, "expected a 2-D array"),
        ({"Kernel": np.empty((0, 0))}, "cannot be normalised"),
        ({"Kernel": np.array([[np.ones((3, 3)), 0]], dtype=object)}, "expected a 2-D array"),
    ],
)
def test_what_is_no_kernel_is_refused_by_name(tmp_path, content, told):
    matlab.savemat(tmp_path / "bad.mat", content)
    with pytest.raises(UserError, match=told) as caught:
        load_kernel(tmp_path / "bad.mat")
    assert str(tmp_path / "bad.mat") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a mat file at all", None])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "bad.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mat: not a readable"):
        load_kernel(tmp_path / "bad.mat")


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 3)), -np.ones((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)]
)
def test_normalise_refuses_what_has_no_positive_sum(bad):
    with pytest.raises(ValueError, match="positive, finite sum"):
        normalise(bad)


def plain_psnr(true: np.ndarray, estimate: np.ndarray) -> float:
    """Kernel PSNR with bilinear interpolation spelt out, on a canvas that needs no border."""

    def centred(kernel):
        kernel = kernel / kernel.sum()
        rows, columns = np.arange(kernel.shape[0]), np.arange(kernel.shape[1])
        middle = (kernel.sum(1) @ rows, kernel.sum(0) @ columns)
        canvas = np.zeros((31, 31))
        for y in range(31):
            for x in range(31):
                source = (y - 15 + middle[0], x - 15 + middle[1])
                for row in (int(np.floor(source[0])), int(np.floor(source[0])) + 1):
                    for column in (int(np.floor(source[1])), int(np.floor(source[1])) + 1):
                        weight = (1 - abs(source[0] - row)) * (1 - abs(source[1] - column))
                        if 0 <= row < kernel.shape[0] and 0 <= column < kernel.shape[1]:
                            canvas[y, x] += weight * kernel[row, column]
        return canvas

    a, b = centred(true), centred(estimate)
    return 10 * np.log10(a.max() ** 2 / np.square(a - b).mean())


@pytest.fixture
def kernel_pairs():
    return [
        (anisotropic_kernel(11, (2.0, 1.0), 30, 2), anisotropic_kernel(13, (1.8, 1.1), 40, 2)),
        (anisotropic_kernel(11, (3.0, 1.0), 100, 2), postprocess(some_kernel())),
        (normalise(np.random.default_rng(0).random((8, 8))), np.ones((5, 7))),
    ]


def test_kernel_psnr_written_plainly(kernel_pairs):
    for true, estimate in kernel_pairs:
        assert kernel_psnr(true, estimate) == pytest.approx(plain_psnr(true, estimate), abs=1e-6)


def test_kernel_psnr_agrees_with_the_shared_tool(kernel_pairs, shared):
    spec = importlib.util.spec_from_file_location("kernel_score", shared("tools/kernel_score.py"))
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for true, estimate in kernel_pairs:
        assert kernel_psnr(true, estimate) == pytest.approx(
            tool.kernel_psnr(true, estimate), abs=1e-9
        )


def test_kernel_psnr_forgives_shift_and_sum_only():
    true = anisotropic_kernel(11, (2.0, 1.0), 30, 2)
    shifted = 3 * np.pad(true, ((4, 0), (0, 2)))
    assert kernel_psnr(true, shifted) > 150
    assert kernel_psnr(true, true.T) < 40
    # An error's PSNR by hand: true has peak p, and two pixels move by d in a 31x31 canvas.
    centred = anisotropic_kernel(11, (2.0, 1.0), 30, 1)
    d = 0.1 * centred.max()
    wrong = centred.copy()
    wrong[5, 2] += d / 2
    wrong[5, 8] += d / 2
    wrong[5, 5] -= d
    assert kernel_psnr(centred, wrong) == pytest.approx(
        10 * np.log10(961 / (0.1**2 * 1.5)), abs=1e-6
    )
