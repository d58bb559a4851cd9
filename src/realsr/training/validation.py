"""Validation of raw and averaged weights during training, and selection of the best."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realsr.core.errors import UserError, WeightsError
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metrics.lpips import ALEXNET, BACKBONES, LPIPS
from realsr.evaluation.metrics.psnr import psnr
from realsr.evaluation.metrics.ssim import ssim
from realsr.imaging import resize
from realsr.training.records import Records
from realsr.training.settings import TrainerConfig, TrainingConfig
from realsr.training.state import TrainState
from realsr.weights import save_generator
from realsr.weights.sources import FETCH_COMMAND

logger = logging.getLogger("realsr")

LOWER_IS_BETTER = {"psnr": False, "ssim": False, "lpips": True}
MAX_STRIPS = 4  # images that are shown


@dataclass(frozen=True)
class ValidationSet:
    """A set of validation images with its name."""

    name: str
    images: Sequence[ValidationImage]


@torch.no_grad()
def validate(
    generator: nn.Module,
    images: Sequence[ValidationImage],
    scale: int,
    lpips: Callable[[Tensor, Tensor], float] | None = None,
) -> tuple[dict[str, float], list[Tensor]]:
    """Return the mean scores by name, and strips (3, H, 4 W) of the first images.

    Images are super-resolved in float32. PSNR and SSIM are computed on RGB without a border of
    `scale` pixels, LPIPS (if available) on whole images. Raises UserError if SR is not finite.
    """
    device = next(generator.parameters()).device
    training = generator.training
    generator.eval()
    scores, strips = [], list[Tensor]()
    for image in images:
        sr = generator(image.lr[None].to(device))[0]
        if not torch.isfinite(sr).all():
            raise UserError(
                f"validation image {image.name}: the generator's output is not finite. Earlier "
                "checkpoints are kept; a lower optimiser.learning_rate (with "
                "trainer.allow_changes=true) may help"
            )
        sr = sr.clamp(0, 1)
        distance = math.nan if lpips is None else lpips(sr, image.hr)
        sr = sr.cpu()
        scores.append((psnr(sr, image.hr, crop=scale), ssim(sr, image.hr, crop=scale), distance))
        if len(strips) < MAX_STRIPS:
            strips.append(make_strip(image, sr, scale))
    generator.train(training)
    averages = torch.tensor(scores, dtype=torch.float64).mean(dim=0).tolist()
    means = dict(zip(LOWER_IS_BETTER, averages, strict=True))
    if lpips is None:
        del means["lpips"]
    return means, strips


def make_strip(image: ValidationImage, sr: Tensor, scale: int) -> Tensor:
    """Return LR (nearest), bicubic, SR and HR side by side, (3, H, 4 W)."""
    nearest = image.lr.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    bicubic = resize(image.lr, factor=float(scale)).clamp(0, 1)
    return torch.cat([nearest, bicubic, sr, image.hr], dim=2)


class Selection:
    """Scores the generator and writes the best weights so far to `run/best.safetensors`."""

    def __init__(
        self, validation: ValidationSet, run: Path, config: TrainingConfig, device: torch.device
    ):
        self._set, self._run, self._config = validation, run, config
        self._best: dict[str, Any] = {}
        self._lpips = (
            make_lpips(config.trainer, validation.images, device) if validation.images else None
        )

    def __call__(self, step: int, state: TrainState, records: Records) -> bool:
        """Score raw and averaged weights, record the scores, and return whether one is the best."""
        candidates = {"": state.generator} | ({} if state.ema is None else {"ema_": state.ema})
        scores = dict[str, float]()
        summaries = []
        for prefix, net in candidates.items():
            means, strips = validate(net, self._set.images, self._config.scale, self._lpips)
            scores |= {f"{prefix}{name}": value for name, value in means.items()}
            summaries.append(f"{'averaged weights ' if prefix else ''}{describe(means)}")
            if not prefix:
                names = [image.name for image in self._set.images[: len(strips)]]
                records.strips(step, names, strips)
        records.scores(step, self._set.name, scores)
        logger.info("step %d: %s: %s", step, self._set.name, "; ".join(summaries))
        return self._keep_best(step, candidates, scores)

    def state_dict(self) -> dict[str, Any]:
        """Return the best step and its score."""
        return self._best

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best step and score. Raises KeyError or TypeError for an invalid state."""
        if state and not isinstance(state["score"], float):
            raise TypeError("the best score is not a number")
        self._best = dict(state)

    def _keep_best(
        self, step: int, candidates: dict[str, nn.Module], scores: dict[str, float]
    ) -> bool:
        by = self._config.trainer.best_by
        sign = -1 if LOWER_IS_BETTER[by] else 1
        prefix = max(candidates, key=lambda prefix: sign * scores[f"{prefix}{by}"])
        score = scores[f"{prefix}{by}"]
        # Scores of different metrics or sets are not comparable.
        comparable = (self._best.get("by"), self._best.get("set")) == (by, self._set.name)
        if comparable and sign * score <= sign * self._best["score"]:
            return False
        facts = {"by": by, "set": self._set.name, "score": score, "step": step}
        self._best = facts | {"averaged": bool(prefix)}
        file, config = self._run / "best.safetensors", self._config
        save_generator(file, candidates[prefix], config.generator, config.scale, self._best)
        return True


def describe(scores: dict[str, float]) -> str:
    """Return mean scores as text for the log."""
    lpips = f", LPIPS {scores['lpips']:.4f}" if "lpips" in scores else ""
    return f"PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.4f}{lpips}"


def make_lpips(
    trainer: TrainerConfig, images: Sequence[ValidationImage], device: torch.device
) -> Callable[[Tensor, Tensor], float] | None:
    """Return LPIPS by AlexNet, or None with a reason in the log if it cannot be computed.

    Its weights are `trainer.lpips_weights`, or torchvision's cached copy. Raises UserError instead of
    returning None if trainer.best_by=lpips, and WeightsError if the file is missing, damaged or of
    another network.
    """
    weights, smallest = trainer.lpips_weights, BACKBONES["alex"][2]
    small = [image.name for image in images if min(image.hr.shape[1:]) < smallest]
    if small:
        logger.info(
            "LPIPS is not computed: it needs %d pixels a side, and %s has fewer", smallest, small[0]
        )
    elif weights is not None and not weights.is_file():
        raise WeightsError(f"{weights}: there is no such file (trainer.lpips_weights)")
    elif ALEXNET.locate(weights) is None:
        logger.info(
            "validation without LPIPS: %s are missing: run %s what=[%s], or set "
            "trainer.lpips_weights=FILE",
            ALEXNET.content,
            FETCH_COMMAND,
            ALEXNET.key,
        )
    else:
        return LPIPS("alex", device, {ALEXNET.key: weights}).compute
    if trainer.best_by == "lpips":
        raise UserError(
            "trainer.best_by=lpips: LPIPS cannot be computed (see above): set "
            "trainer.lpips_weights=FILE or trainer.best_by=psnr"
        )
    return None
