"""Whether KernelGAN finds kernels that are known. Minutes of training, so all are slow."""

import numpy as np
import pytest
from skimage import data

from config_files import config_of
from realsr.imaging import read_uint8, to_float, to_uint8
from realsr.imaging.kernel_shapes import kernel_psnr, load_kernel, postprocess
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_training import KernelGANConfig, bicubic_rows, train_kernelgans
from realsr.simulation.camera_model import Camera, anisotropic_kernel

pytestmark = pytest.mark.slow


def test_finds_the_kernel_of_a_blurred_photo():
    true = anisotropic_kernel(11, (2.0, 1.0), 30, scale=2)
    camera = Camera(true, scale=2, noise_levels=(0, 0))
    photo = to_uint8(camera(to_float(data.astronaut()), np.random.default_rng(0)))
    config = config_of(KernelGANConfig, 1500, 2e-4, border=10)
    (raw,) = train_kernelgans(prepare_photo(photo, config, [0]), config, [0]).kernels
    taps = bicubic_rows()[10].numpy()[20:36]
    assert kernel_psnr(true, np.outer(taps, taps)) < 24
    assert kernel_psnr(true, postprocess(raw)) > 28


def test_finds_the_golden_kernels(shared):
    folder = shared("golden/known_kernels")
    config = config_of(KernelGANConfig, 3000, 2e-4, border=10)
    photos = [prepare_photo(read_uint8(folder / f"im{i}.png"), config, [i])[0] for i in range(3)]
    raw = train_kernelgans(photos, config, seeds=[0, 1, 2]).kernels
    scores = [
        kernel_psnr(load_kernel(folder / f"im{i}_true_x2.mat"), postprocess(raw[i]))
        for i in range(3)
    ]
    assert np.mean(scores) >= 30, scores
