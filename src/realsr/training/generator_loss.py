"""The generator's loss: the weighted sum of the terms of a configuration."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from realsr.core.components import Values, build_component, convert, find_component
from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.training.loss_terms.ragan import discriminator_ragan_loss
from realsr.training.loss_terms.term import StepTensors

ROOM = "realsr.training.loss_terms"
LOGITS = {"real_logits", "fake_logits"}
DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]
LossValues = Mapping[str, Values]
"""YAML of a loss: `name`, `weight` and arguments of each term, by its key, its name in the logs."""


class GeneratorLoss(nn.Module):
    """Weighted terms in the order of the configuration; terms of weight 0 are omitted.

    Attributes:
        terms: the terms by their keys.
        needs: the optional inputs of `StepTensors` that the terms read.
        discriminator_loss: (real logits, fake logits) -> the discriminator's loss, by the first
            term that defines one.

    Raises:
        UserError: for a term that cannot be built. WeightsError: if VGG19's weights are missing.
    """

    def __init__(self, loss: LossValues) -> None:
        super().__init__()
        self.weights, self.terms, self.needs = dict[str, float](), nn.ModuleDict(), loss_needs(loss)
        for key, values in active_terms(loss).items():
            self.weights[key] = values.pop("weight")
            term = build_component(ROOM, f"loss.{key}", values, ("weight",))
            if not isinstance(term, nn.Module):
                raise UserError(
                    f"loss.{key}.name={values['name']}: built a {type(term).__name__}; expected a "
                    "LossTerm"
                )
            self.terms[key] = term
        losses = (getattr(term, "discriminator_loss", None) for term in self.terms.values())
        self.discriminator_loss: DiscriminatorLoss = next(
            filter(None, losses), discriminator_ragan_loss
        )

    def forward(self, x: StepTensors) -> dict[str, Tensor]:
        """Return the terms, unweighted and detached, and the weighted sum `generator`; float32."""
        terms = {key: term(x) for key, term in self.terms.items()}
        total = torch.stack([self.weights[key] * term for key, term in terms.items()]).sum()
        return {key: term.detach() for key, term in terms.items()} | {"generator": total}


def active_terms(loss: LossValues) -> dict[str, dict[str, Any]]:
    """Return the terms whose weight is not 0.

    Raises UserError for an invalid weight, and if no term remains.
    """
    terms = {}
    for key, values in loss.items():
        if not isinstance(values, Mapping) or "weight" not in values:
            raise UserError(
                f"loss.{key}={values}: a term has a name and a weight: set loss.{key}.weight=…"
            )
        weight = convert(f"loss.{key}.weight", values["weight"], Annotated[float, Range(0)])
        if weight > 0:
            terms[key] = {**values, "weight": weight}
    if not terms:
        raise UserError(
            "loss: no term has a weight above 0: set loss.pixel.weight=1 or another loss=…"
        )
    return terms


def loss_needs(loss: LossValues) -> frozenset[str]:
    """Return the optional inputs that the terms of a loss need, without building the terms."""
    return frozenset().union(*(_needs(term) for term in _find_classes(loss).values()))


def needs_discriminator(loss: LossValues) -> bool:
    """Return whether a term of a loss reads a discriminator's logits."""
    return bool(loss_needs(loss) & LOGITS)


def is_perceptual(loss: LossValues) -> bool:
    """Return whether a term needs a discriminator or compares the features of a classifier."""
    compares_features = (
        getattr(term, "compares_features", False) for term in _find_classes(loss).values()
    )
    return needs_discriminator(loss) or any(compares_features)


def check_loss(loss: LossValues, crop: int, ema: float | None) -> None:
    """Raise UserError for an unknown term, or one that does not fit `crop` or `ema`."""
    for key, term in _find_classes(loss).items():
        needs, min_crop = _needs(term), int(getattr(term, "min_crop", 1))
        if crop < min_crop:
            raise UserError(f"trainer.crop={crop}: loss.{key} needs {min_crop} or more")
        if "sr_ema" in needs and not ema:
            raise UserError(
                f"trainer.ema={ema or 'null'}: loss.{key} needs the averaged generator: set trainer.ema=0.999"
            )
        if unknown := needs - LOGITS - {"sr_ema"}:
            raise UserError(
                f"loss.{key} needs {', '.join(sorted(unknown))}: a step has sr_ema, "
                f"{', '.join(sorted(LOGITS))}"
            )


def _find_classes(loss: LossValues) -> dict[str, Callable[..., Any]]:
    return {
        key: find_component(ROOM, f"loss.{key}", values)
        for key, values in active_terms(loss).items()
    }


def _needs(term: Callable[..., Any]) -> frozenset[str]:
    return frozenset(getattr(term, "needs", ()))  # a user's term may be a function
