import numpy as np
import pytest
import torch
from skimage import data

from config_files import config_of
from realsr.imaging import resize
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_networks import CropRows
from realsr.kernels.kernelgan_training import (
    KernelGANConfig,
    _GANs,
    bicubic_rows,
    cut_crops,
    train_kernelgans,
)


def image(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(blocks.repeat(4, 0).repeat(4, 1)[:height, :width])


def train(images, config, seeds, *rest):
    photos = [
        prepare_photo(image, config, [seed])[0] for image, seed in zip(images, seeds, strict=True)
    ]
    return train_kernelgans(photos, config, seeds, *rest)


def test_a_photos_kernel_does_not_depend_on_the_photos_beside_it():
    images, seeds = [image(90, 101, 0), image(120, 80, 1), image(66, 66, 2)], [7, 8, 9]
    config = config_of(KernelGANConfig, 12, 2e-4, border=0)
    together = train(images, config, seeds)
    other_order = train(images[::-1], config, seeds[::-1])
    pair = train(images[1:], config, seeds[1:])
    for i in range(3):
        alone = train(images[i : i + 1], config, seeds[i : i + 1])
        np.testing.assert_array_equal(together.kernels[i], alone.kernels[0])
        np.testing.assert_array_equal(together.kernels[i], other_order.kernels[2 - i])
        assert {name: losses[i] for name, losses in together.losses.items()} == {
            name: losses[0] for name, losses in alone.losses.items()
        }
    np.testing.assert_array_equal(together.kernels[1:], pair.kernels)


def test_training_is_repeatable_and_the_seed_counts():
    images, config = (
        [image(90, 101, 0), image(66, 66, 2)],
        config_of(KernelGANConfig, 5, 2e-4, border=0),
    )
    raw = train(images, config, [7, 8]).kernels
    assert raw.shape == (2, 13, 13)
    assert raw.dtype == np.float64
    assert np.isfinite(raw).all()
    torch.rand(3)  # what others draw makes no difference
    np.testing.assert_array_equal(train(images, config, [7, 8]).kernels, raw)
    other = train(images, config, [9, 8]).kernels
    assert np.abs(other[0] - raw[0]).max() > 0.01 * np.abs(raw[0]).max()


def test_iterations_are_counted():
    counted: list[int] = []
    config = config_of(KernelGANConfig, 53, 2e-4, border=0)
    train([image(66, 66, 0)] * 2, config, [0, 1], counted.append)
    assert sum(counted) == 106
    counted.clear()
    train([image(66, 66, 0)], config, [0], counted.append)
    assert sum(counted) == 53


def test_losses_at_the_end():
    losses = train(
        [image(80, 80, 0)] * 2, config_of(KernelGANConfig, 3, 2e-4, border=0), [0, 1]
    ).losses
    assert losses.keys() == {"generator", "discriminator", "bicubic"}
    assert all(values.shape == (2,) for values in losses.values())
    assert all((values > 0).all() for values in losses.values())
    assert (losses["bicubic"] > 0.01).all()  # nothing is learnt in three iterations
    np.testing.assert_allclose(
        losses["discriminator"], 0.5, atol=0.05
    )  # and D cannot tell real from fake


@pytest.mark.parametrize(("border", "needed"), [(0, 66), (10, 86), (3, 72)])
def test_a_photo_that_is_too_small_is_told_what_is_needed(border, needed):
    config = config_of(KernelGANConfig, 20, 2e-4, border)
    with pytest.raises(ValueError, match=rf"200x{needed - 1} pixels.* at least {needed}x{needed}"):
        prepare_photo(image(needed - 1, 200, 0), config, [0])
    prepare_photo(image(needed, needed, 0), config, [0])  # has room


@pytest.mark.parametrize("shape", [(101, 130), (88, 87)])
def test_crops_of_a_photo(shape):
    pixels = image(*shape, seed=0)
    (prepared,) = prepare_photo(pixels, config_of(KernelGANConfig, 200, 2e-4, border=10), [0])
    even = [size // 2 * 2 for size in shape]
    np.testing.assert_array_equal(prepared.pixels.permute(1, 2, 0), pixels[: even[0], : even[1]])
    for crops, size in ((prepared.g_crops, 64), (prepared.d_crops, 26)):
        assert crops.shape == (200, 2)
        assert (crops % 2 == 0).all()
        assert crops.min() >= 10
        assert (crops + size <= np.array(even) - 10).all()


def test_crops_are_cut_out_of_photos_of_any_size():
    rng = np.random.default_rng(0)
    for shape in ((3, 40, 50), (3, 31, 44)):
        pixels = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        corners = torch.from_numpy(rng.integers(0, 20, (7, 2)))
        crops = cut_crops(pixels, corners, 10)
        assert crops.shape == (7, 3, 10, 10)
        assert crops.dtype == torch.uint8
        for crop, (top, left) in zip(crops, corners, strict=True):
            assert torch.equal(crop, pixels[:, top : top + 10, left : left + 10])


def test_bicubic_rows_are_resize():
    crop = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    rows = bicubic_rows()
    expected = resize(crop, factor=0.5)[:, 3:-3, 3:-3]
    torch.testing.assert_close(rows @ crop @ rows.T, expected, rtol=0, atol=1e-5)


def test_bicubic_is_aligned_with_g():
    """Bicubic of a ramp is the ramp, and so is an aligned kernel of it."""
    ramp = torch.arange(64.0).expand(1, 3, 64, 64)
    kernel = torch.zeros(1, 13, 13)
    kernel[0, 6:8, 6:8] = 0.25
    rows = bicubic_rows()
    torch.testing.assert_close(
        CropRows(ramp).shrink(kernel), rows @ ramp @ rows.T, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads):
    images, config = (
        [image(80, 80, seed) for seed in range(3)],
        config_of(KernelGANConfig, 6, 2e-4, border=0),
    )
    expected = train(images, config, [0, 1, 2]).kernels
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        np.testing.assert_array_equal(train(images, config, [0, 1, 2]).kernels, expected)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_training_first_finds_an_aligned_kernel():
    """The bicubic loss leads there within its first 200 iterations, at a larger step than the paper's."""
    (raw,) = train(
        [image(200, 200, 0)], config_of(KernelGANConfig, 199, 1e-3, border=0), [0]
    ).kernels
    assert 0.5 < raw.sum() < 1.5
    rows, columns = raw.sum(1) / raw.sum() @ np.arange(13), raw.sum(0) / raw.sum() @ np.arange(13)
    assert rows == pytest.approx(6.5, abs=0.5)
    assert columns == pytest.approx(6.5, abs=0.5)


def test_the_mean_of_the_kernels_after_an_iteration():
    config = config_of(KernelGANConfig, 12, 2e-4, 0, average_from=8, gan_after_start=False)
    photos = [prepare_photo(image(80, 80, seed), config, [seed])[0] for seed in range(2)]
    gans, kernels = _GANs(photos, config, [0, 1], torch.device("cpu")), []
    for iteration, inputs in enumerate(zip(*gans.draw(0, 12), strict=True), start=1):
        kernels.append(gans.generator.kernel().detach().double().numpy())
        gans.step(*inputs)
        gans.advance(iteration)
    raw = train_kernelgans(photos, config, [0, 1]).kernels
    np.testing.assert_allclose(raw, np.mean(kernels[8:], axis=0), atol=1e-9)


def test_without_the_gan_loss_a_kernel_leaves_0_at_once():
    """Near the kernel 0, D's batch norm makes the gradient of the GAN loss large and random."""
    pixels, sums = data.astronaut()[:200, :220].copy(), []
    for gan_after_start in (False, True):
        config = config_of(KernelGANConfig, 40, 2e-4, 0, None, gan_after_start)
        photos = prepare_photo(pixels, config, range(3))
        sums.append(train_kernelgans(photos, config, [0, 1, 2]).kernels.sum((1, 2)))
    assert sums[0].min() < 0.2
    np.testing.assert_allclose(sums[1], 1, atol=0.3)
