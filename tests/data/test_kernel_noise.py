"""HR degraded by a random kernel of the pool for each crop."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from realsr.data.cache import DecodedImages
from realsr.data.degradations.degradation import build_degradation, to_batch
from realsr.imaging import apply_kernel, resize, to_float
from realsr.imaging.kernel_shapes import load_kernel, save_kernel
from realsr.simulation.camera_model import anisotropic_kernel

VALUES = {"name": "kernel_noise", "match": "random"}
HR = np.random.default_rng(0).integers(60, 190, (160, 128, 3), dtype=np.uint8)


def crop_hr(margin: int) -> np.ndarray:
    """Rows 64 to 96 and columns 48 to 80, with a margin."""
    return HR[64 - margin : 96 + margin, 48 - margin : 80 + margin]


@pytest.mark.parametrize("size", [11, 14])
def test_lr_is_hr_at_every_fourth_pixel_of_a_kernel_that_the_generator_draws(
    size: int, tmp_path: Path
) -> None:
    files = [tmp_path / f"{angle}_kernel_x4.mat" for angle in (0, 60, 120)]
    for number, path in enumerate(files):
        # Kernels of different sizes, also even ones; their index k//2 lies on the sample.
        save_kernel(path, anisotropic_kernel(size + 4 * number, (2.5, 1.2), 60 * number, 4))
    degradation = build_degradation(VALUES, 4, files)
    whole = [apply_kernel(to_float(HR), load_kernel(path), 4) for path in files]
    expected = [image[:, 16:24, 12:20].clamp(0, 1) for image in whole]
    crop, counts = crop_hr(degradation.margin), Counter[int]()
    for seed in range(60):
        arrays = degradation.prepare(crop, degradation.margin, 4, np.random.default_rng(seed))
        lr = degradation.apply(to_batch(arrays, crop_hr(0)))[0]
        errors = [float((lr - image).abs().max()) for image in expected]
        assert min(errors) < 1e-5
        counts[int(np.argmin(errors))] += 1
    assert min(counts[number] for number in range(3)) >= 10


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_lr_is_bicubic_without_kernels(scale: int) -> None:
    degradation = build_degradation(VALUES, scale)
    crop = crop_hr(degradation.margin)
    arrays = degradation.prepare(crop, degradation.margin, scale, np.random.default_rng(0))
    lr = degradation.apply(to_batch(arrays, crop_hr(0)))[0]
    whole = resize(to_float(HR), factor=1 / scale).clamp(0, 1)
    rows, columns = slice(64 // scale, 96 // scale), slice(48 // scale, 80 // scale)
    torch.testing.assert_close(lr, whole[:, rows, columns])


def test_noise_is_added_to_the_blurred_crop(tmp_path: Path) -> None:
    patch = np.random.default_rng(1).integers(110, 140, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(patch).save(tmp_path / "patch.png")
    save_kernel(tmp_path / "a_kernel_x4.mat", anisotropic_kernel(11, (2.0, 1.0), 30, 4))
    kernel = [tmp_path / "a_kernel_x4.mat"]
    patches = DecodedImages([tmp_path / "patch.png"])
    clean, noisy = (build_degradation(VALUES, 4, kernel, images) for images in (None, patches))
    crop = crop_hr(clean.margin)
    lr = [
        degradation.apply(
            to_batch(
                degradation.prepare(crop, degradation.margin, 4, np.random.default_rng(0)),
                crop_hr(0),
            )
        )[0]
        for degradation in (clean, noisy)
    ]
    noise = to_float(patch) - to_float(patch).mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(lr[1], (lr[0] + noise).clamp(0, 1))
