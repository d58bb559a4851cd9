"""Cases of the study: photographs degraded by known kernels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from skimage import data

from realsr.core.seeding import numpy_generator
from realsr.imaging import apply_kernel, crop_to_multiple, to_float, to_uint8
from realsr.imaging.kernel_shapes import Kernel, compose_x4
from realsr.kernels.gaussian import draw_div2krk

# Nothing is tuned on `report`. scikit-image's `cat` is the same as `chelsea`.
SETS = {
    "tune": ("camera", "chelsea", "coffee", "coins", "grass", "gravel"),
    "report": (
        "astronaut",
        "brick",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "motorcycle",
        "retina",
        "rocket",
    ),
}
SCALES = (2, 4)
NOISES = (0.0, 3.0)
BORDER = 10  # pixels that the estimators leave out at the border, as what lies outside the photo was made up
SMALLEST = 86  # side of an LR photo with room for KernelGAN's crops inside the border


@dataclass(frozen=True)
class Case:
    """One degraded photo. kernel: index; noise: standard deviation in 8-bit levels."""

    photo: str
    kernel: int
    scale: int
    noise: float


def list_cases(
    photos: Sequence[str],
    kernels: int,
    scales: Sequence[int] = SCALES,
    noises: Sequence[float] = NOISES,
) -> Iterator[Case]:
    """List the cases whose LR photo is large enough, grouped by kernel, scale and noise."""
    for kernel in range(kernels):
        for scale in scales:
            for noise in noises:
                for photo in photos:
                    if min(load_hr(photo).shape[:2]) // scale >= SMALLEST:
                        yield Case(photo, kernel, scale, noise)


@cache
def load_hr(photo: str) -> np.ndarray:
    """Return a photograph of scikit-image, (H, W, 3) uint8; of retina the central 800x800."""
    image = data.stereo_motorcycle()[0] if photo == "motorcycle" else getattr(data, photo)()
    if photo == "retina":
        top, left = ((side - 800) // 2 for side in image.shape[:2])
        image = image[top : top + 800, left : left + 800]
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def true_root(case: Case) -> Kernel:
    """Return the case's x2 kernel (11, 11)."""
    rng = numpy_generator(0, "kernel_recovery", "kernel", case.photo, case.kernel)
    return draw_div2krk(rng, isotropic=False, eigenvalues=(0.6, 5.0), noise=0.25)


def at_scale(root: Kernel, scale: int) -> Kernel:
    """Compose an x2 kernel (k, k) to a scale; x4: (3k - 2, 3k - 2)."""
    return root if scale == 2 else compose_x4(root, crop=False)


def degrade_photo(case: Case) -> np.ndarray:
    """Return LR (h, w, 3) uint8: HR blurred, sampled at every scale-th pixel, with noise."""
    hr = crop_to_multiple(to_float(load_hr(case.photo)), case.scale)
    lr = apply_kernel(hr, at_scale(true_root(case), case.scale), case.scale)
    rng = numpy_generator(0, "kernel_recovery", "noise", case.photo, case.kernel, case.scale)
    noise = torch.from_numpy(rng.standard_normal(tuple(lr.shape), dtype=np.float32))
    return to_uint8(lr + noise * (case.noise / 255))
