"""Models side by side on the same images, in numbers."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from realsr.data.validation import ValidationImage
from realsr.errors import UserError
from realsr.evaluation.metrics import psnr, ssim
from realsr.imaging import resize, write_bytes

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """PSNR in dB and SSIM, over RGB and over luma (Y)."""

    psnr: float
    ssim: float
    psnr_y: float
    ssim_y: float


def bicubic_model(scale: int) -> Model:
    """Return bicubic interpolation as a model: LR (3, h, w) -> (3, s*h, s*w)."""
    return lambda lr: resize(lr, factor=float(scale)).clamp(0, 1)


def network_model(generator: nn.Module) -> Model:
    """Return a generator as a model: LR (3, h, w) -> (3, s*h, s*w) in 0..1, on the generator's device."""
    device = next(generator.parameters()).device

    @torch.no_grad()
    def model(lr: Tensor) -> Tensor:
        return generator(lr[None].to(device))[0].clamp(0, 1).cpu()

    return model


def evaluate_models(
    models: Mapping[str, Model],
    images: Iterable[ValidationImage],
    crop: int,
    seen: Callable[[ValidationImage, str], None] = lambda image, model: None,
) -> dict[str, dict[str, Scores]]:
    """Return model -> image -> scores; `crop` border pixels are left out. `seen` is called after each."""
    scores: dict[str, dict[str, Scores]] = {name: {} for name in models}
    for image in images:
        for name, model in models.items():
            sr = model(image.lr)
            try:
                scores[name][image.name] = Scores(
                    psnr=psnr(sr, image.hr, crop),
                    ssim=ssim(sr, image.hr, crop),
                    psnr_y=psnr(sr, image.hr, crop, luma=True),
                    ssim_y=ssim(sr, image.hr, crop, luma=True),
                )
            except ValueError as error:
                raise UserError(f"{image.name}: cannot be scored ({error})") from error
            seen(image, name)
    return scores


def mean_scores(scores: Mapping[str, Scores]) -> Scores:
    """Return the mean over images of each score."""
    rows = torch.tensor([list(asdict(score).values()) for score in scores.values()], dtype=torch.float64)
    return Scores(*rows.mean(dim=0).tolist())


def format_table(scores: Mapping[str, Mapping[str, Scores]], crop: int) -> str:
    """Return the means as a text table, with the settings that they hold for."""
    count = len(next(iter(scores.values())))
    width = max(len(name) for name in scores)
    lines = [f"{'':{width}}  PSNR dB    SSIM  PSNR-Y dB  SSIM-Y"]
    for name, by_image in scores.items():
        mean = mean_scores(by_image)
        lines.append(f"{name:{width}}  {mean.psnr:7.2f}  {mean.ssim:.4f}  {mean.psnr_y:9.2f}  {mean.ssim_y:.4f}")
    lines.append(f"means over {count} images, 8 bit, RGB and BT.601 luma, {crop} border pixels left out")
    return "\n".join(lines)


def write_scores(path: Path, scores: Mapping[str, Mapping[str, Scores]], crop: int) -> None:
    """Write means and scores per image as JSON, with the settings that they hold for, atomically."""
    models = {
        name: {"mean": asdict(mean_scores(by_image)), "images": {k: asdict(v) for k, v in by_image.items()}}
        for name, by_image in scores.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps({"crop": crop, "rounding": "8 bit", "models": models}, indent=1).encode())
