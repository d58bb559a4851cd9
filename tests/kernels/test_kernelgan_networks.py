import pytest
import torch
import torch.nn.functional as F

from realsr.kernels.kernelgan_networks import BatchedDiscriminator, ComposedGenerator, CropRows

CPU = torch.device("cpu")


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def float64():
    """So that only a wrong formula makes a difference."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run_layers(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """G as its paper describes it: six convolutions, the last with stride 2; each colour channel passes alone."""
    x = x.unsqueeze(1)
    for weight in weights[:-1]:
        x = F.conv2d(x, weight)
    return F.conv2d(x, weights[-1], stride=2).squeeze(1)


def test_generator_is_its_layers_and_so_are_the_gradients(float64):
    generator = ComposedGenerator(generators(0, 1), CPU)
    assert [tuple(p.shape[3:]) for p in generator.parameters] == [
        (s, s) for s in (7, 5, 3, 1, 1, 1)
    ]
    crops, target = noise(2, 3, 64, 64), noise(2, 3, 26, 26, seed=1)
    rows, kernel = CropRows(crops), generator.kernel()
    fast = rows.shrink(kernel).detach()
    assert fast.shape == (2, 3, 26, 26)
    slope = rows.kernel_gradient(2 * (fast - target))
    fast_gradients = torch.autograd.grad((kernel * slope).sum(), generator.parameters)
    for i in range(2):
        weights = [p[i].detach().clone().requires_grad_() for p in generator.parameters]
        plain = run_layers(crops[i], weights)
        torch.testing.assert_close(fast[i], plain, rtol=1e-9, atol=1e-12)
        gradients = torch.autograd.grad((plain - target[i]).square().sum(), weights)
        for composed, gradient in zip(fast_gradients, gradients, strict=True):
            torch.testing.assert_close(composed[i], gradient, rtol=1e-8, atol=1e-12)


def test_kernel_is_the_layers_answer_to_an_impulse(float64):
    generator = ComposedGenerator(generators(3, 4), CPU)
    impulse = torch.zeros(1, 25, 25)
    impulse[0, 12, 12] = 1
    for i in range(2):
        x = impulse[None]
        for parameter in generator.parameters:  # at all places: no stride
            x = F.conv2d(x, parameter[i])
        torch.testing.assert_close(generator.kernel()[i], x[0, 0].flip(0, 1), rtol=1e-9, atol=1e-15)


def test_shrinking_is_a_strided_convolution():
    crops, kernel = noise(3, 3, 64, 64), noise(3, 13, 13, seed=1)
    for i, small in enumerate(CropRows(crops).shrink(kernel)):
        expected = F.conv2d(crops[i].unsqueeze(1), kernel[i][None, None], stride=2).squeeze(1)
        torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-4)


def test_weights_start_xavier_normal_with_gain_a_tenth():
    first, hidden, last, bias, scales, shifts = BatchedDiscriminator(
        generators(0, 1), CPU
    ).parameters
    layers = [
        (p.detach(), p.shape[1] + p.shape[2], p.shape[3])
        for p in ComposedGenerator(generators(0, 1), CPU).parameters[:-1]
    ]
    layers += [(first, 64 + 3, 7), *((weight, 128, 1) for weight in hidden.unbind(1))]
    for weight, channels, side in layers:
        std = 0.1 * (2 / (channels * side**2)) ** 0.5
        for item in weight:
            assert item.std() == pytest.approx(std, rel=4 / (2 * item.numel()) ** 0.5)
            assert abs(item.mean()) < 4 * std / item.numel() ** 0.5
    assert last.shape == (2, 1, 64)
    assert (bias == 0).all()
    assert (shifts == 0).all()
    assert scales.mean() == pytest.approx(1, abs=4 * 0.02 / scales.numel() ** 0.5)
    assert scales.std() == pytest.approx(0.02, rel=0.15)


def test_a_photos_weights_do_not_depend_on_its_place_in_the_batch():
    for net in (ComposedGenerator, BatchedDiscriminator):
        both, alone = net(generators(5, 6), CPU), net(generators(6), CPU)
        for parameter, single in zip(both.parameters, alone.parameters, strict=True):
            assert torch.equal(parameter[1], single[0])


def plain_normalised(weight: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """A weight (out, in) by its largest singular value, after one power iteration from `left`, as torch does it."""
    with torch.no_grad():
        right = F.normalize(weight.T @ left, dim=0)
        left = F.normalize(weight @ right, dim=0)
    return weight / (left.T @ weight @ right)


def plain_discriminator(
    x: torch.Tensor, parameters: list[torch.Tensor], lefts: list[torch.Tensor]
) -> torch.Tensor:
    """One photo's D as its paper describes it."""
    first, hidden, last, bias, scales, shifts = parameters
    x = F.conv2d(x, plain_normalised(first, lefts[0]).view(64, 3, 7, 7))
    for weight, left, scale, shift in zip(hidden, lefts[1], scales, shifts, strict=True):
        x = F.conv2d(x, plain_normalised(weight, left)[..., None, None])
        x = F.relu(F.batch_norm(x, None, None, scale, shift, training=True))
    return torch.sigmoid(F.conv2d(x, plain_normalised(last, lefts[2])[..., None, None]) + bias)


def test_discriminator_and_its_gradients_are_those_of_a_plain_one(float64):
    discriminator = BatchedDiscriminator(generators(0, 1), CPU)
    for i, parameter in enumerate(discriminator.parameters[3:]):  # so that bias and shifts count
        parameter += 0.1 * noise(*parameter.shape, seed=i)
    lefts = [norm._left.clone() for norm in discriminator._spectral]
    fake, real, noisy = (noise(2, 3, 26, 26, seed=i) for i in range(3))
    g_losses, d_losses, g_gradient, d_gradients = discriminator.discriminate(fake, real, noisy)
    for i in range(2):
        own = [p[i].clone().requires_grad_() for p in discriminator.parameters]
        crop = fake[i : i + 1].clone().requires_grad_()

        def judge(x: torch.Tensor, own=own, i=i) -> torch.Tensor:
            return plain_discriminator(x, own, [left[i] for left in lefts])

        g_loss = (1 - judge(crop)).abs().mean()
        d_loss = (
            (1 - judge(real[i : i + 1])).abs().mean() + judge(noisy[i : i + 1]).abs().mean()
        ) / 2
        assert g_losses[i].item() == pytest.approx(g_loss.item(), rel=1e-6)
        assert d_losses[i].item() == pytest.approx(d_loss.item(), rel=1e-6)
        expected = [torch.autograd.grad(g_loss, crop)[0][0], *torch.autograd.grad(d_loss, own)]
        ours = [g_gradient[i], *(gradient[i] for gradient in d_gradients)]
        for gradient, plain in zip(ours, expected, strict=True):
            torch.testing.assert_close(
                gradient, plain, rtol=1e-5, atol=1e-6 * float(plain.abs().max())
            )


def test_each_power_iteration_comes_nearer():
    discriminator = BatchedDiscriminator(generators(0, 1), CPU)
    weight, norm = discriminator.parameters[0], discriminator._spectral[0]
    sigma = torch.linalg.svdvals(weight)[:, 0]
    before = None
    for _ in range(20):
        estimate = (weight / norm(weight)).flatten(1).median(1).values
        error = (sigma - estimate).abs().max()
        assert before is None or error <= before * 1.001 + 1e-6
        before = error
