"""How good a generator is on validation images, in numbers and in pictures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metrics.psnr import psnr
from realsr.evaluation.metrics.ssim import ssim
from realsr.imaging import resize


@dataclass(frozen=True)
class Validation:
    """Means over the images, and one strip (3, h, w) for each of the first ones.

    PSNR and SSIM are over RGB, without a border as wide as the scale; LPIPS is of whole images, None where it is
    not computed.
    """

    psnr: float
    ssim: float
    lpips: float | None
    strips: list[Tensor]

    def scores(self) -> dict[str, float]:
        """Return the scores that there are, by name."""
        scores = {"psnr": self.psnr, "ssim": self.ssim}
        return scores if self.lpips is None else scores | {"lpips": self.lpips}

    def describe(self) -> str:
        """Return the scores as words."""
        lpips = "" if self.lpips is None else f", LPIPS {self.lpips:.4f}"
        return f"PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}{lpips}"


@torch.no_grad()
def validate(
    generator: nn.Module,
    images: Sequence[ValidationImage],
    scale: int,
    lpips: Callable[[Tensor, Tensor], float] | None = None,
    strips: int = 4,
) -> Validation:
    """Super-resolve the images, in float32, and compare them with HR; keep strips of the first ones."""
    device = next(generator.parameters()).device
    training = generator.training
    generator.eval()
    scores, pictures = [], list[Tensor]()
    for image in images:
        sr = generator(image.lr[None].to(device))[0]
        if not torch.isfinite(sr).all():
            raise UserError(
                f"validation image {image.name}: the generator's result has values that are not finite. The earlier "
                "checkpoints are kept: a lower optimiser.learning_rate (with trainer.allow_changes=true) may help"
            )
        sr = sr.clamp(0, 1)
        distance = math.nan if lpips is None else lpips(sr, image.hr)
        sr = sr.cpu()
        scores.append((psnr(sr, image.hr, crop=scale), ssim(sr, image.hr, crop=scale), distance))
        if len(pictures) < strips:
            pictures.append(make_strip(image, sr, scale))
    generator.train(training)
    means = torch.tensor(scores, dtype=torch.float64).mean(dim=0).tolist()
    return Validation(means[0], means[1], None if lpips is None else means[2], pictures)


def make_strip(image: ValidationImage, sr: Tensor, scale: int) -> Tensor:
    """Set LR (nearest), bicubic, SR and HR side by side: (3, H, 4 W)."""
    nearest = image.lr.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    bicubic = resize(image.lr, factor=float(scale)).clamp(0, 1)
    return torch.cat([nearest, bicubic, sr, image.hr], dim=2)
