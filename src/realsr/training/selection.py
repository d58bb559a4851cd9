"""Validation of the raw and the averaged weights while training, and the best of them so far."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from realsr.core.errors import UserError
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metrics.lpips import SMALLEST, Distance, load_lpips
from realsr.training.records import Records
from realsr.training.settings import TrainerConfig, TrainingConfig
from realsr.training.state import TrainState
from realsr.training.validation import Validation, validate
from realsr.weights import save_generator

logger = logging.getLogger("realsr")

LOWER_IS_BETTER = {"psnr": False, "ssim": False, "lpips": True}


@dataclass(frozen=True)
class ValidationSet:
    """Images to validate on, under a name."""

    name: str
    images: Sequence[ValidationImage]


class Selection:
    """Scores the generator, and keeps the weights that scored best as `run/best.safetensors`."""

    def __init__(self, validation: ValidationSet, run: Path, config: TrainingConfig, device: torch.device):
        self._set, self._run, self._config = validation, run, config
        self._best: dict[str, Any] = {}
        self._lpips = _lpips_for(validation.images, config.trainer.lpips_weights, device)
        if validation.images and self._lpips is None and config.trainer.best_by == "lpips":
            _refuse_lpips()

    def __call__(self, step: int, state: TrainState, records: Records) -> bool:
        """Score raw and averaged weights, record it, and return whether one of them is the best so far."""
        candidates = {"": state.generator} | ({} if state.ema is None else {"ema_": state.ema})
        results = {prefix: self._score(net) for prefix, net in candidates.items()}
        scores = {f"{prefix}{name}": value for prefix, r in results.items() for name, value in r.scores().items()}
        records.scores(step, self._set.name, scores)
        shown = results[""].strips
        records.strips(step, [image.name for image in self._set.images[: len(shown)]], shown)
        told = "; ".join(
            f"{'averaged weights ' if prefix else ''}{result.describe()}" for prefix, result in results.items()
        )
        logger.info("step %d: %s: %s", step, self._set.name, told)
        return self._keep_best(step, candidates, scores)

    def state_dict(self) -> dict[str, Any]:
        """Return which step was the best and how good it was."""
        return self._best

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was the best. Raises KeyError or TypeError where the state is of another form."""
        if state and not isinstance(state["score"], float):
            raise TypeError("the best score is not a number")
        self._best = dict(state)

    def _score(self, net: nn.Module) -> Validation:
        return validate(net, self._set.images, self._config.scale, self._lpips)

    def _keep_best(self, step: int, candidates: dict[str, nn.Module], scores: dict[str, float]) -> bool:
        by = self._config.trainer.best_by
        sign = -1 if LOWER_IS_BETTER[by] else 1
        prefix = max(candidates, key=lambda prefix: sign * scores[f"{prefix}{by}"])
        score = scores[f"{prefix}{by}"]
        # Another measure or another set begins a competition of its own.
        known = (self._best.get("by"), self._best.get("set")) == (by, self._set.name)
        if known and sign * score <= sign * self._best["score"]:
            return False
        self._best = {"by": by, "set": self._set.name, "score": score, "step": step, "averaged": bool(prefix)}
        save_generator(
            self._run / "best.safetensors", candidates[prefix], self._config.generator, self._config.scale, self._best
        )
        return True


def _lpips_for(images: Sequence[ValidationImage], weights: Path | None, device: torch.device) -> Distance | None:
    small = [image.name for image in images if min(image.hr.shape[1:]) < SMALLEST]
    if small:
        logger.info("LPIPS is left out: it needs %d pixels a side, and %s has fewer", SMALLEST, small[0])
    return load_lpips(weights, device) if images and not small else None


def check_lpips(trainer: TrainerConfig) -> None:
    """Raise UserError where LPIPS is to say what is best, and its weights are missing."""
    if trainer.best_by == "lpips" and load_lpips(trainer.lpips_weights, torch.device("cpu")) is None:
        _refuse_lpips()


def _refuse_lpips() -> None:
    raise UserError(
        "trainer.best_by=lpips: LPIPS cannot be computed here, for the reason above; give trainer.lpips_weights=FILE, "
        "or say trainer.best_by=psnr"
    )
