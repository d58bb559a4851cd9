"""The composed, batched KernelGAN does what the plain one does, and the benchmark of the two runs."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from realsr.degradation.kernelgan import _GANs, KernelGANConfig, prepare_photo
from realsr.imaging import write_uint8

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks"
PHOTOS = [data.astronaut()[:200, :220], data.coffee()[:180, 100:300]]


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks' folder."""
    monkeypatch.syspath_prepend(FOLDER)
    names = ("common", "kernelgan", "plain_kernelgan")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def start_both(load, iterations: int):
    """Two photos' GANs in both forms, with equal weights."""
    config = KernelGANConfig(iterations=iterations)
    photos = [prepare_photo(photo, config, seed=0) for photo in PHOTOS]
    ours = _GANs(photos, config, [0, 1], torch.device("cpu"))
    ours._bicubic = ours._bicubic.to(torch.get_default_dtype())
    plain = [load("plain_kernelgan").PlainKernelGAN(photo, config, seed=0) for photo in photos]
    for number, gan in enumerate(plain):
        pairs = zip(plain_parameters(gan), ours_parameters(ours, number), strict=True)
        for parameter, value in pairs:
            parameter.data.copy_(value.reshape(parameter.shape))
    return ours, plain


def ours_parameters(gans: _GANs, number: int, gradients: bool = False) -> list[Tensor]:
    networks = (gans.generator, gans.discriminator)
    tensors = [(p.grad if gradients else p.detach())[number] for net in networks for p in net.parameters]
    *generator, first, hidden, last, bias, scale, shift = tensors
    return [*generator, first, *hidden, last, bias, *scale, *shift]


def plain_parameters(gan, gradients: bool = False) -> list[Tensor]:
    """In the order of ours; without the biases that a batch norm takes out again."""
    d = gan.discriminator
    first, *hidden, last = [layer for layer in d if hasattr(layer, "parametrizations")]
    norms = [layer for layer in d if isinstance(layer, torch.nn.BatchNorm2d)]
    tensors = [layer.weight for layer in gan.generator]
    tensors += [layer.parametrizations.weight.original for layer in (first, *hidden, last)]
    tensors += [last.bias, *(norm.weight for norm in norms), *(norm.bias for norm in norms)]
    return [tensor.grad for tensor in tensors] if gradients else tensors


def settle_spectral_norms(ours: _GANs, plain) -> None:
    """Put all power iterations where they end, as the two forms take them in another order and number."""
    for norm, weight in zip(ours.discriminator._spectral, ours.discriminator.parameters[:3], strict=True):
        norm._left.copy_(torch.linalg.svd(weight)[0][..., :1])
    for gan in plain:
        for layer in gan.discriminator:
            if hasattr(layer, "parametrizations"):
                norm = layer.parametrizations.weight[0]
                left, _, right = torch.linalg.svd(layer.parametrizations.weight.original.detach().flatten(1))
                norm._u.copy_(left[:, 0])
                norm._v.copy_(right[0])


def assert_near(ours: list[Tensor], plain: list[Tensor], tolerance: float) -> None:
    for number, (a, b) in enumerate(zip(ours, plain, strict=True)):
        error = float((a.flatten() - b.flatten()).norm() / b.norm())
        assert error < tolerance, (number, tuple(b.shape), error)


def step_both(ours: _GANs, plain, iterations: int, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for g_crops, d_crops, _ in zip(*ours.draw(0, iterations), strict=True):
        noise = torch.randn(2, 2, 3, 26, 26, generator=generator)
        settle_spectral_norms(ours, plain)
        ours.step(g_crops, d_crops, noise)
        for number, gan in enumerate(plain):
            gan.step(g_crops[number] / 127.5 - 1, d_crops[number] / 127.5 - 1, noise[number])
            assert_near(ours_parameters(ours, number, True), plain_parameters(gan, True), tolerance)


def test_gradients_and_weights_are_those_of_the_plain_form(load, float64):
    ours, plain = start_both(load, iterations=5)
    before = ours_parameters(ours, 0)[0].clone()
    step_both(ours, plain, iterations=5, tolerance=1e-5)
    assert not torch.allclose(ours_parameters(ours, 0)[0], before, rtol=1e-3)
    for number, gan in enumerate(plain):
        assert_near(ours_parameters(ours, number), plain_parameters(gan), 1e-5)
        assert_near([ours.generator.kernel()[number]], [gan.kernel()], 1e-5)


def test_gradients_are_those_of_the_plain_form_late_in_the_schedule(load, float64):
    """With the centre and sparsity terms, on kernels that sum to about 1."""
    ours, plain = start_both(load, iterations=3)
    for parameter in [*ours.generator.parameters, *(p for gan in plain for p in gan.generator.parameters())]:
        parameter.data *= 3
    ours._kernel_loss.bicubic_weight.fill_(5e-4)
    ours._kernel_loss._late.fill_(1)
    for gan in plain:
        gan._bicubic_weight = 5e-4
    step_both(ours, plain, iterations=3, tolerance=1e-5)


def test_first_gradients_in_float32(load):
    step_both(*start_both(load, iterations=1), iterations=1, tolerance=1e-4)


def test_benchmark_tells_ratio_and_kernels(load, monkeypatch, tmp_path, capsys):
    benchmark = load("kernelgan")
    for number, photo in enumerate(PHOTOS):
        write_uint8(tmp_path / f"{number}.png", photo)
    options = ["--batch", "2", "--iterations", "2", "--rounds", "1", "--threads", "1", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["kernelgan.py", *map(str, tmp_path.glob("*.png")), *options])
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    facts = json.loads((tmp_path / "x.json").read_text())
    assert capsys.readouterr().out.splitlines()[-1] == f"ratio {facts['results']['ratio']}"
    assert facts["results"]["ratio"] > 0
    assert facts["results"]["plain_end_to_end_seconds"] > facts["results"]["plain_loop_seconds"]
    assert facts["machine"]["cores"] >= 1

    monkeypatch.setattr(data, "astronaut", lambda: np.ascontiguousarray(PHOTOS[0]))
    kernels = benchmark.compare_kernels("cpu", iterations=2)
    assert set(kernels) >= {"plain_kernel_psnr", "ours_kernel_psnr"}
