import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from realsr.degradation.kernelgan import (
    BatchedDiscriminator,
    ComposedGenerator,
    KernelGANConfig,
    KernelLoss,
    prepare_photo,
    shrink,
    train_kernelgans,
)
from realsr.imaging import to_uint8


def train(images, config, seeds, *progress) -> np.ndarray:
    """The raw kernels of images (3, H, W) in 0..1."""
    photos = [prepare_photo(to_uint8(image), config, seed) for image, seed in zip(images, seeds, strict=True)]
    return train_kernelgans(photos, config, seeds, *progress).kernels


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def in_double(net):
    """Its parameters in float64, so that only a wrong formula makes a difference."""
    for name, values in vars(net).items():
        if isinstance(values, list):
            tensors = [value.detach().double().requires_grad_(value.requires_grad) for value in values]
            setattr(net, name, tensors)
    return net


def run_layers(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """G as its paper describes it: six convolutions, the last with stride 2; each colour channel passes alone."""
    x = x.unsqueeze(1)
    for weight in weights[:-1]:
        x = F.conv2d(x, weight)
    return F.conv2d(x, weights[-1], stride=2).squeeze(1)


def test_generator_is_its_layers_and_so_are_the_gradients():
    generator = in_double(ComposedGenerator(generators(0, 1)))
    assert [tuple(p.shape[3:]) for p in generator.parameters] == [(s, s) for s in (7, 5, 3, 1, 1, 1)]
    crops, target = noise(2, 3, 64, 64).double(), noise(2, 3, 26, 26, seed=1).double()
    fast = shrink(crops, generator.kernel())
    assert fast.shape == (2, 3, 26, 26)
    fast_gradients = torch.autograd.grad((fast - target).square().sum(), generator.parameters)
    for i in range(2):
        weights = [p[i].detach().clone().requires_grad_() for p in generator.parameters]
        plain = run_layers(crops[i], weights)
        torch.testing.assert_close(fast[i], plain, rtol=1e-9, atol=1e-12)
        gradients = torch.autograd.grad((plain - target[i]).square().sum(), weights)
        for composed, gradient in zip(fast_gradients, gradients, strict=True):
            torch.testing.assert_close(composed[i], gradient, rtol=1e-8, atol=1e-12)


def test_kernel_is_the_layers_answer_to_an_impulse():
    generator = in_double(ComposedGenerator(generators(3, 4)))
    impulse = torch.zeros(1, 25, 25, dtype=torch.float64)
    impulse[0, 12, 12] = 1
    for i in range(2):
        x = impulse[None]
        for parameter in generator.parameters:  # at all places: no stride
            x = F.conv2d(x, parameter[i])
        torch.testing.assert_close(generator.kernel()[i], x[0, 0].flip(0, 1), rtol=1e-9, atol=1e-15)


def test_shrink_is_a_strided_convolution():
    crops, kernel = noise(3, 3, 64, 64), noise(3, 13, 13, seed=1)
    for i, small in enumerate(shrink(crops, kernel)):
        expected = F.conv2d(crops[i].unsqueeze(1), kernel[i][None, None], stride=2).squeeze(1)
        torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-4)


def test_weights_start_xavier_normal_with_gain_a_tenth():
    generator, discriminator = ComposedGenerator(generators(0, 1)), BatchedDiscriminator(generators(0, 1))
    for weight in [*generator.parameters[:-1], *discriminator.weights[:-1]]:
        fan = (weight.shape[1] + weight.shape[2]) * weight.shape[3] * weight.shape[4]
        for item in weight.detach():
            assert item.std() == pytest.approx(0.1 * (2 / fan) ** 0.5, rel=4 / (2 * item.numel()) ** 0.5)
            assert abs(item.mean()) < 4 * 0.1 * (2 / fan) ** 0.5 / item.numel() ** 0.5
    assert all((bias == 0).all() for bias in [*discriminator.biases, *discriminator.shifts])
    scales = torch.stack(discriminator.scales).detach()
    assert scales.mean() == pytest.approx(1, abs=4 * 0.02 / scales.numel() ** 0.5)
    assert scales.std() == pytest.approx(0.02, rel=0.15)


def test_a_photos_weights_do_not_depend_on_its_place_in_the_batch():
    for net in (ComposedGenerator, BatchedDiscriminator):
        both, alone = net(generators(5, 6)), net(generators(6))
        for parameter, single in zip(both.parameters, alone.parameters, strict=True):
            assert torch.equal(parameter[1], single[0])


def plain_discriminator(discriminator: BatchedDiscriminator, item: int) -> nn.Sequential:
    """One photo's D as a list of modules, its weights divided by their exact largest singular values."""
    layers: list[nn.Module] = []
    for index, weight in enumerate(discriminator.weights):
        _, out_channels, in_channels, size, _ = weight.shape
        convolution = nn.Conv2d(in_channels, out_channels, size)
        sigma = torch.linalg.svdvals(weight[item].detach().flatten(1))[0]
        convolution.weight.data = weight[item].detach() / sigma
        convolution.bias.data = discriminator.biases[index][item].detach().flatten().clone()
        layers.append(convolution)
        if 0 < index < 6:
            norm = nn.BatchNorm2d(64)
            norm.weight.data = discriminator.scales[index - 1][item].detach().clone()
            norm.bias.data = discriminator.shifts[index - 1][item].detach().clone()
            layers += [norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Sigmoid()).double().train()


def test_discriminator_is_a_plain_one_for_each_photo():
    discriminator = in_double(BatchedDiscriminator(generators(0, 1)))
    with torch.no_grad():  # so that biases and shifts count
        for i, parameter in enumerate([*discriminator.biases, *discriminator.shifts]):
            parameter += 0.1 * noise(*parameter.shape, seed=i)
    for _ in range(3000):  # until the power iteration has converged
        weights = discriminator.normalised_weights()
    crops = noise(2, 3, 26, 26).double()
    verdicts = discriminator(crops, weights)
    assert verdicts.shape == (2, 1, 400)
    for i in range(2):
        expected = plain_discriminator(discriminator, i)(crops[i : i + 1]).flatten(2)[0]
        torch.testing.assert_close(verdicts[i], expected, rtol=1e-5, atol=1e-6)
        assert expected.std() > 1e-3


def test_gradients_of_spectral_norm_are_those_of_torch():
    discriminator = in_double(BatchedDiscriminator(generators(0)))
    for _ in range(3000):
        (normalised, *_) = discriminator.normalised_weights()
    direction = noise(*normalised.shape).double()
    (gradient,) = torch.autograd.grad((normalised * direction).sum(), discriminator.weights[0])
    weight = discriminator.weights[0].detach()[0].flatten(1).requires_grad_()
    plain = weight / torch.linalg.matrix_norm(weight, 2)
    (expected,) = torch.autograd.grad((plain * direction[0]).sum(), weight)
    # The largest singular values lie close together, so that their vectors have not quite converged.
    torch.testing.assert_close(gradient[0].flatten(1), expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 1


def test_each_power_iteration_comes_nearer():
    discriminator = BatchedDiscriminator(generators(0, 1))
    sigma = torch.linalg.svdvals(discriminator.first.detach().flatten(2))[:, 0]
    before = None
    for _ in range(20):
        estimate = (discriminator.first / discriminator.normalised_weights()[0].view_as(discriminator.first)).detach()
        error = (sigma - estimate.flatten(1).median(1).values).abs().max()
        assert before is None or error <= before * 1.001 + 1e-6
        before = error


def plain_terms(k: np.ndarray) -> dict[str, float]:
    terms = {"sum": abs(1 - k.sum()), "boundary": 0.0, "sparsity": (np.abs(k) ** 0.2).mean()}
    rows = columns = 0.0
    for r in range(13):
        for c in range(13):
            mask = 30 * (1 - np.exp(-((r - 6) ** 2 + (c - 6) ** 2) / (2 * 13**2)))
            if 2 <= r <= 10 and 2 <= c <= 10:
                mask = 0
            terms["boundary"] += abs(k[r, c] * mask) / 169
            rows, columns = rows + r * k[r, c] / k.sum(), columns + c * k[r, c] / k.sum()
    terms["centre"] = ((rows - 6.5) ** 2 + (columns - 6.5) ** 2) / 2
    return terms


def some_kernels(batch: int = 3) -> torch.Tensor:
    return 0.02 * (noise(batch, 13, 13) + 1)


def test_boundary_mask():
    corner, edge, loss = torch.zeros(1, 13, 13), torch.zeros(1, 13, 13), KernelLoss(1)
    corner[0, 0, 12], edge[0, 6, 0] = 1, 1
    boundary = [float(loss(kernel, torch.zeros(1))) * 2 * 169 for kernel in (corner, edge)]  # all of sum 1
    assert boundary[0] == pytest.approx(5.8, abs=0.05)
    assert boundary[1] == pytest.approx(3, abs=0.1)
    for row in range(13):
        for column in range(13):
            kernel = torch.zeros(1, 13, 13)
            kernel[0, row, column] = 1
            central = 2 <= row <= 10 and 2 <= column <= 10
            assert (float(loss(kernel, torch.zeros(1))) == 0) == central


def test_early_terms_written_plainly():
    kernels, bicubic = some_kernels(), torch.tensor([0.1, 0.2, 3.0])
    losses = KernelLoss(3)(kernels, bicubic)
    for kernel, b, loss in zip(kernels.double().numpy(), bicubic.tolist(), losses.tolist(), strict=True):
        terms = plain_terms(kernel)
        assert loss == pytest.approx(0.5 * terms["sum"] + 0.5 * terms["boundary"] + 5 * b, rel=1e-5)


def test_late_terms_written_plainly():
    loss = KernelLoss(3)
    for iteration in range(1, 401):
        loss.advance(iteration, torch.zeros(3))
    kernels, bicubic = some_kernels(), torch.tensor([0.1, 0.2, 3.0])
    losses = loss(kernels, bicubic)
    for kernel, b, value in zip(kernels.double().numpy(), bicubic.tolist(), losses.tolist(), strict=True):
        t = plain_terms(kernel)
        early = 0.5 * t["sum"] + 0.5 * t["boundary"] + 5e-4 * b
        assert value == pytest.approx(early + t["centre"] + 5 * t["sparsity"], rel=1e-5)


def test_the_slope_of_sparsity_stays_finite_at_zero():
    loss = KernelLoss(1)
    for iteration in range(1, 401):
        loss.advance(iteration, torch.zeros(1))
    kernel = torch.zeros(1, 13, 13)
    kernel[0, 6, 6] = 1
    kernel.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(kernel, torch.zeros(1)).sum(), kernel)
    assert gradient.isfinite().all()


def has_late_terms(loss: KernelLoss) -> list[bool]:
    """Whether each photo's loss has a price on being off centre and on many values."""
    batch = loss.bicubic_weight.shape[0]
    flat = torch.zeros(batch, 13, 13)
    flat[:, 2:11, 2:11] = 1 / 81  # of sum 1 and within the boundary, so that the early terms are 0
    return (loss(flat, torch.zeros(batch)) > 1e-3).tolist()


def test_schedule_of_a_photo():
    loss, weights, late = KernelLoss(1), {}, {}
    for iteration in range(1, 1401):
        loss.advance(iteration, torch.tensor([0.3999]))
        weights[iteration], late[iteration] = loss.bicubic_weight.item(), has_late_terms(loss)[0]
    for iteration, weight in weights.items():
        expected = max(5 / 100 ** (iteration // 200), 5e-6)
        assert weight == pytest.approx(expected, rel=1e-5)
        assert late[iteration] == (iteration >= 400)  # 5e-2 from 200 on, 5e-4 < 5e-3 from 400 on


@pytest.mark.parametrize(
    ("losses", "decays"),
    [
        ([0.3, 0.3, 0.3], True),
        ([0.3, 0.3, 0.5, 0.3, 0.3], False),
        ([0.4, 0.4, 0.4], False),
        ([0.3, 0.3, 0.3, 9.0, 9.0], True),  # once begun it goes on
    ],
)
def test_decay_begins_after_three_in_a_row_below(losses, decays):
    loss = KernelLoss(1)
    for iteration in range(1, 201):
        loss.advance(iteration, torch.tensor([losses[iteration - 1] if iteration <= len(losses) else 1.0]))
        assert iteration == 200 or loss.bicubic_weight.item() == 5
    assert loss.bicubic_weight.item() == pytest.approx(0.05 if decays else 5)


def test_each_photo_has_its_own_pace():
    loss = KernelLoss(3)
    for iteration in range(1, 801):
        loss.advance(iteration, torch.tensor([0.1, 0.1 if iteration > 450 else 1.0, 1.0]))
        if iteration == 500:
            assert has_late_terms(loss) == [True, False, False]
    torch.testing.assert_close(loss.bicubic_weight, torch.tensor([5e-6, 5e-2 / 100, 5.0]))
    assert has_late_terms(loss) == [True, True, False]


def photo(height: int, width: int, seed: int) -> torch.Tensor:
    blocks = torch.rand(3, height // 4 + 1, width // 4 + 1, generator=torch.Generator().manual_seed(seed))
    return blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]


@pytest.fixture
def in_float64():
    """Adam's first steps are the signs of gradients near 0, so that float32's rounding soon shows."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_photos_kernel_does_not_depend_on_the_photos_beside_it(in_float64):
    photos, seeds = [photo(90, 101, 0), photo(120, 80, 1), photo(66, 66, 2)], [7, 8, 9]
    config = KernelGANConfig(iterations=8)
    together = train(photos, config, seeds)
    other_order = train(photos[::-1], config, seeds[::-1])
    for i in range(3):
        alone = train([photos[i]], config, [seeds[i]])[0]
        scale = np.abs(alone).max()
        np.testing.assert_allclose(together[i], alone, atol=1e-5 * scale, rtol=0)
        np.testing.assert_allclose(other_order[2 - i], alone, atol=1e-5 * scale, rtol=0)


def test_training_is_repeatable_and_the_seed_counts():
    photos, config = [photo(90, 101, 0), photo(66, 66, 2)], KernelGANConfig(iterations=5)
    raw = train(photos, config, [7, 8])
    assert raw.shape == (2, 13, 13)
    assert raw.dtype == np.float64
    assert np.isfinite(raw).all()
    torch.rand(3)  # what others draw makes no difference
    np.testing.assert_array_equal(train(photos, config, [7, 8]), raw)
    other = train(photos, config, [9, 8])
    assert np.abs(other[0] - raw[0]).max() > 0.01 * np.abs(raw[0]).max()


def test_iterations_are_counted():
    counted: list[int] = []
    train([photo(66, 66, 0)] * 2, KernelGANConfig(iterations=3), [0, 1], counted.append)
    assert counted == [2, 2, 2]


@pytest.mark.parametrize(("frame", "needed"), [(0, 66), (10, 86), (3, 72)])
def test_a_photo_that_is_too_small_is_told_what_is_needed(frame, needed):
    config = KernelGANConfig(iterations=20, frame=frame)
    with pytest.raises(ValueError, match=rf"200x{needed - 1} pixels.* needs {needed} on each side"):
        train([torch.rand(3, needed - 1, 200)], config, [0])
    prepare_photo(to_uint8(torch.rand(3, needed, needed)), config, 0)  # has room


@pytest.mark.parametrize("shape", [(101, 130), (88, 87)])
def test_crops_of_a_photo_and_their_halves(shape):
    image = to_uint8(photo(*shape, seed=0))
    prepared = prepare_photo(image, KernelGANConfig(iterations=200, frame=10), 0)
    even = [size // 2 * 2 for size in shape]
    assert np.array_equal(prepared.pixels.numpy(), image[: even[0], : even[1]])
    for crops, size in ((prepared.g_crops, 64), (prepared.d_crops, 26)):
        assert crops.shape == (200, 2)
        assert (crops % 2 == 0).all()
        assert crops.min() >= 10
        assert (crops + size <= np.array(even) - 10).all()


def test_training_first_finds_an_aligned_kernel():
    """The bicubic loss leads there within its first 200 iterations, at a larger step than the paper's."""
    (raw,) = train([photo(200, 200, 0)], KernelGANConfig(iterations=199, learning_rate=1e-3), [0])
    assert 0.5 < raw.sum() < 1.5
    rows, columns = raw.sum(1) / raw.sum() @ np.arange(13), raw.sum(0) / raw.sum() @ np.arange(13)
    assert rows == pytest.approx(6.5, abs=0.5)
    assert columns == pytest.approx(6.5, abs=0.5)
