"""Interpolation of the weights of two generators (Wang et al., ESRGAN, ECCVW 2018, section 3.4)."""

import json
from pathlib import Path

import torch

from realsr.core.errors import UserError
from realsr.weights.generators import NOTES, describe_generator
from realsr.weights.layouts import compare_tensors
from realsr.weights.state_files import WeightsFile


def check_interpolation(weights_b: str | Path | None, interpolate: float | None) -> None:
    """Raise UserError unless both keys are set, or none."""
    if (weights_b is None) != (interpolate is None):
        raise UserError(
            f"weights_b={weights_b or 'null'} interpolate="
            f"{'null' if interpolate is None else interpolate}: set both for interpolation, as in "
            "weights_b=FILE interpolate=0.8, or none"
        )


def interpolate_weights(file: WeightsFile, other: WeightsFile, alpha: float) -> WeightsFile:
    """Return the weights (1 - alpha) * file + alpha * other in float32, alpha in 0..1.

    ESRGAN's first network is PSNR-trained and its second the GAN's. Counters are those of `file`,
    as are the paths of the result.

    Raises UserError if a file is not a generator of this package, and if the generators differ in
    configuration, scale, names or shapes of tensors.
    """
    state, config, scale = describe_generator(file)
    other_state, other_config, other_scale = describe_generator(other)
    difference = compare_tensors(state, other_state)
    if scale != other_scale:
        difference = f"scale {scale} and {other_scale}"
    elif config != other_config:
        difference = f"{config} and {other_config}"
    if difference:
        raise UserError(
            f"{file.path} and {other.path} cannot be interpolated, since their networks differ "
            f"({difference}): give weights of equal networks"
        )
    mean = {
        name: torch.lerp(value.float(), other_state[name].float(), alpha)
        if value.is_floating_point()
        else value
        for name, value in state.items()
    }
    notes = json.dumps({"generator": config, "scale": scale})
    return WeightsFile(file.path, file.values, mean, {NOTES: notes})
