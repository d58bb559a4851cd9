"""How good a generator is on validation images, in numbers and in pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realsr.data.validation import ValidationImage
from realsr.evaluation.metrics import psnr, ssim
from realsr.imaging import resize


@dataclass(frozen=True)
class Validation:
    """Means over the images (RGB, cropped by the scale), and one strip (3, h, w) an image."""

    psnr: float
    ssim: float
    strips: list[Tensor]


@torch.no_grad()
def validate(generator: nn.Module, images: Sequence[ValidationImage], scale: int, strips: int = 4) -> Validation:
    """Super-resolve the images and compare them with HR; keep strips of the first ones."""
    device = next(generator.parameters()).device
    generator.eval()
    scores, pictures = [], list[Tensor]()
    for image in images:
        sr = generator(image.lr[None].to(device))[0].clamp(0, 1).cpu()
        scores.append((psnr(sr, image.hr, crop=scale), ssim(sr, image.hr, crop=scale)))
        if len(pictures) < strips:
            pictures.append(make_strip(image, sr, scale))
    generator.train()
    means = torch.tensor(scores, dtype=torch.float64).mean(dim=0)
    return Validation(float(means[0]), float(means[1]), pictures)


def make_strip(image: ValidationImage, sr: Tensor, scale: int) -> Tensor:
    """Set LR (nearest), bicubic, SR and HR side by side: (3, H, 4 W)."""
    nearest = image.lr.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    bicubic = resize(image.lr, factor=float(scale)).clamp(0, 1)
    return torch.cat([nearest, bicubic, sr, image.hr], dim=2)
