"""The generator's loss: the weighted sum of the terms that a configuration names."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from realsr.core.components import Values, build_component, convert, find_component
from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.training.loss_terms.term import StepTensors

ROOM = "realsr.training.loss_terms"
LOGITS = {"real_logits", "fake_logits"}
LossValues = Mapping[str, Values]
"""What YAML says of a loss: by a term's key, which is its name in the logs, `name`, `weight` and its arguments."""


class GeneratorLoss(nn.Module):
    """Weighted terms, in the order of the configuration; weight 0 leaves a term out.

    Attributes:
        terms: the terms by their keys.
        needs: what the terms need of a step.

    Raises:
        UserError: for a term that cannot be made; WeightsError where VGG19's weights are missing.
    """

    def __init__(self, loss: LossValues) -> None:
        super().__init__()
        self.weights = {key: values["weight"] for key, values in active_terms(loss).items()}
        self.terms = nn.ModuleDict({key: _build_term(key, values) for key, values in active_terms(loss).items()})
        self.needs = loss_needs(loss)

    def forward(self, x: StepTensors) -> dict[str, Tensor]:
        """Return the terms, unweighted and detached, and their weighted sum `generator`; all float32."""
        terms = {key: term(x) for key, term in self.terms.items()}
        total = torch.stack([self.weights[key] * term for key, term in terms.items()]).sum()
        return {key: term.detach() for key, term in terms.items()} | {"generator": total}


def active_terms(loss: LossValues) -> dict[str, dict[str, Any]]:
    """Return the terms whose weight is not 0. Raises UserError for a weight that is none, and where no term is left."""
    terms = {}
    for key, values in loss.items():
        if not isinstance(values, Mapping) or "weight" not in values:
            raise UserError(f"loss.{key}={values}: a term has a name and a weight: set loss.{key}.weight=…")
        weight = convert(f"loss.{key}.weight", values["weight"], Annotated[float, Range(0)])
        if weight > 0:
            terms[key] = {**values, "weight": weight}
    if not terms:
        raise UserError("loss: no term has a weight above 0: set loss.pixel.weight=1, or choose another loss=…")
    return terms


def loss_needs(loss: LossValues) -> frozenset[str]:
    """Return what the terms of a loss need of a step, without building them."""
    return frozenset().union(*(needs for _, needs, _ in _read_classes(loss)))


def needs_discriminator(loss: LossValues) -> bool:
    """Tell whether a term of a loss reads a discriminator's logits."""
    return bool(loss_needs(loss) & LOGITS)


def check_loss(loss: LossValues, crop: int, ema: float | None) -> None:
    """Raise UserError for a term that is not there, or that crops or averaging do not suit."""
    for key, needs, min_crop in _read_classes(loss):
        if crop < min_crop:
            raise UserError(f"trainer.crop={crop}: loss.{key} needs {min_crop} or more")
        if "sr_ema" in needs and ema is None:
            raise UserError(f"trainer.ema=null: loss.{key} needs the averaged generator: set trainer.ema=0.999")
        if unknown := needs - LOGITS - {"sr_ema"}:
            raise UserError(
                f"loss.{key} needs {', '.join(sorted(unknown))}: a step has sr_ema, {', '.join(sorted(LOGITS))}"
            )


def _read_classes(loss: LossValues) -> list[tuple[str, frozenset[str], int]]:
    classes = {key: find_component(ROOM, f"loss.{key}", values) for key, values in active_terms(loss).items()}
    return [
        (key, frozenset(getattr(term, "needs", ())), int(getattr(term, "min_crop", 1))) for key, term in classes.items()
    ]


def _build_term(key: str, values: Values) -> nn.Module:
    arguments = {name: value for name, value in values.items() if name != "weight"}
    term = build_component(ROOM, f"loss.{key}", arguments)
    if not isinstance(term, nn.Module):
        raise UserError(f"loss.{key}.name={values['name']}: it gave a {type(term).__name__}; expected a LossTerm")
    return term
