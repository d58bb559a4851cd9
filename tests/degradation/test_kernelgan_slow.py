"""Whether KernelGAN finds kernels that are known. Minutes of training, so all are slow."""

import numpy as np
import pytest
import torch
from skimage import data

from realsr.degradation.camera import Camera, anisotropic_kernel
from realsr.degradation.kernelgan import KernelGANConfig, prepare_photo, train_kernelgans
from realsr.degradation.kernels import kernel_psnr, load_kernel, postprocess
from realsr.imaging import read_uint8, resize, to_float, to_uint8

pytestmark = pytest.mark.slow


def train(images, config, seeds, *progress) -> np.ndarray:
    """The raw kernels of images (3, H, W) in 0..1."""
    photos = [prepare_photo(to_uint8(image), config, seed) for image, seed in zip(images, seeds, strict=True)]
    return train_kernelgans(photos, config, seeds, *progress).kernels


def bicubic_kernel() -> np.ndarray:
    """Bicubic /2 as a kernel: its answer to an impulse at each place, read off one output sample."""
    impulses = torch.eye(32, dtype=torch.float64)[None]
    row = resize(impulses, size=(32, 16))[0, :, 8].numpy()
    used = row[row.nonzero()[0].min() : row.nonzero()[0].max() + 1]
    return np.outer(used, used)


def test_finds_the_kernel_of_a_blurred_photo():
    true = anisotropic_kernel(11, (2.0, 1.0), 30, scale=2)
    camera = Camera(true, scale=2, noise_levels=(0, 0))
    photo = to_float(to_uint8(camera(to_float(data.astronaut()), np.random.default_rng(0))))
    (raw,) = train([photo], KernelGANConfig(iterations=1500, frame=10), [0])
    assert kernel_psnr(true, bicubic_kernel()) < 24
    assert kernel_psnr(true, postprocess(raw)) > 28


def test_finds_the_golden_kernels(shared):
    folder = shared("golden/known_kernels")
    photos = [to_float(read_uint8(folder / f"im{i}.png")) for i in range(3)]
    raw = train(photos, KernelGANConfig(frame=10), seeds=[0, 1, 2])
    scores = [kernel_psnr(load_kernel(folder / f"im{i}_true_x2.mat"), postprocess(raw[i])) for i in range(3)]
    assert np.mean(scores) >= 30, scores
