"""The composed, batched KernelGAN does what the plain one does, and the benchmark of the two runs."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor

from config_files import config_of
from realsr.imaging import write_uint8
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_training import KernelGANConfig, _GANs

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks"
PHOTOS = [data.astronaut()[:200, :220].copy(), data.coffee()[:180, 100:300].copy()]


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks' folder."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in ("common", "kernelgan", "plain_kernelgan"):
        sys.modules.pop(name, None)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def start_both(load):
    """Two photos' GANs of ours, and the second photo's in the plain form, with equal weights."""
    config = config_of(KernelGANConfig, 5, 2e-4, border=0)
    photos = [prepare_photo(photo, config, [0])[0] for photo in PHOTOS]
    ours = _GANs(photos, config, [0, 1], torch.device("cpu"))
    ours._bicubic = ours._bicubic.to(torch.get_default_dtype())
    plain = load("plain_kernelgan").PlainKernelGAN(photos[1], config, seed=0)
    for parameter, value in zip(plain_parameters(plain), ours_parameters(ours), strict=True):
        parameter.data.copy_(value.reshape(parameter.shape))
    return ours, plain


def ours_parameters(gans: _GANs, gradients: bool = False) -> list[Tensor]:
    """Those of the second photo."""
    networks = (gans.generator, gans.discriminator)
    tensors = [(p.grad if gradients else p.detach())[1] for net in networks for p in net.parameters]
    *generator, first, hidden, last, bias, scale, shift = tensors
    return [*generator, first, *hidden, last, bias, *scale, *shift]


def plain_parameters(gan, gradients: bool = False) -> list[Tensor]:
    """In the order of ours; without the biases that a batch norm takes out again."""
    first, *hidden, last = normed_layers(gan)
    norms = [layer for layer in gan.discriminator if isinstance(layer, torch.nn.BatchNorm2d)]
    tensors = [layer.weight for layer in gan.generator]
    tensors += [layer.parametrizations.weight.original for layer in (first, *hidden, last)]
    tensors += [last.bias, *(norm.weight for norm in norms), *(norm.bias for norm in norms)]
    return [tensor.grad if gradients else tensor.detach() for tensor in tensors]


def normed_layers(gan) -> list[torch.nn.Module]:
    return [layer for layer in gan.discriminator if hasattr(layer, "parametrizations")]


def settle_spectral_norms(ours: _GANs, plain) -> None:
    """Put all power iterations where they end, as the two forms take them in another order and number."""
    for norm, weight in zip(
        ours.discriminator._spectral, ours.discriminator.parameters[:3], strict=True
    ):
        norm._left.copy_(torch.linalg.svd(weight)[0][..., :1])
    for layer in normed_layers(plain):
        norm = layer.parametrizations.weight[0]
        left, _, right = torch.linalg.svd(
            layer.parametrizations.weight.original.detach().flatten(1)
        )
        norm._u.copy_(left[:, 0])
        norm._v.copy_(right[0])


def assert_near(ours: list[Tensor], plain: list[Tensor], tolerance: float) -> None:
    for number, (a, b) in enumerate(zip(ours, plain, strict=True)):
        error = float((a.flatten() - b.flatten()).norm() / b.norm())
        assert error < tolerance, (number, tuple(b.shape), error)


def step_both(ours: _GANs, plain, iterations: int, tolerance: float) -> None:
    """Step both on the same crops with the same noise, and compare all gradients each time."""
    generator = torch.Generator().manual_seed(0)
    for g_crops, d_crops, _ in zip(*ours.draw(0, iterations), strict=True):
        noise = torch.randn(2, 2, 3, 26, 26, generator=generator)
        settle_spectral_norms(ours, plain)
        ours.step(g_crops, d_crops, noise)
        plain.step(g_crops[1] / 127.5 - 1, d_crops[1] / 127.5 - 1, noise[1])
        assert_near(ours_parameters(ours, True), plain_parameters(plain, True), tolerance)


def test_gradients_and_weights_are_those_of_the_plain_form(load, float64):
    ours, plain = start_both(load)
    before = ours_parameters(ours)[0].clone()
    step_both(ours, plain, iterations=4, tolerance=1e-8)
    assert not torch.allclose(ours_parameters(ours)[0], before, rtol=1e-3)
    assert_near(ours_parameters(ours), plain_parameters(plain), 1e-8)
    assert_near([ours.generator.kernel()[1].detach()], [plain.kernel().detach()], 1e-8)


def test_gradients_are_those_of_the_plain_form_late_in_the_schedule(load, float64):
    """With the centre and sparsity terms."""
    ours, plain = start_both(load)
    ours._kernel_loss.bicubic_weight.fill_(5e-4)
    ours._kernel_loss._late.fill_(1)
    plain._bicubic_weight = 5e-4
    step_both(ours, plain, iterations=2, tolerance=1e-8)


def test_first_gradients_in_float32(load):
    """Where rounding puts a unit on the other side of a ReLU, in either form, the gradient moves by 0.3%."""
    step_both(*start_both(load), iterations=1, tolerance=0.02)


def test_benchmark_tells_ratio_and_kernels(load, monkeypatch, tmp_path, capsys):
    benchmark = load("kernelgan")
    for number, photo in enumerate(PHOTOS):
        write_uint8(tmp_path / f"{number}.png", photo)
    options = (
        f"--batch 2 --iterations 2 --rounds 1 --threads 1 --json {tmp_path / 'x.json'}".split()
    )
    monkeypatch.setattr(sys, "argv", ["kernelgan.py", *map(str, tmp_path.glob("*.png")), *options])
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    facts = json.loads((tmp_path / "x.json").read_text())
    assert capsys.readouterr().out.splitlines()[-1] == f"ratio {facts['results']['ratio']}"
    assert facts["results"]["ratio"] > 0
    assert facts["results"]["plain_end_to_end_seconds"] > facts["results"]["plain_loop_seconds"]
    assert facts["machine"]["cores"] >= 1

    monkeypatch.setattr(data, "astronaut", lambda: PHOTOS[0])
    kernels = benchmark.compare_kernels("cpu", iterations=2)
    assert set(kernels) >= {"plain_kernel_psnr", "ours_kernel_psnr"}
