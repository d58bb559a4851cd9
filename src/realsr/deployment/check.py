"""Whether an exported file computes what the network does, before it is called done."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from realsr.core.errors import UserError
from realsr.deployment.runtimes import Run

ADVICE = ": try more or other int8.photos, int8.methods=[minmax], or more layers in int8.keep"
SIZES = ((1, 7), (33, 20))  # of random inputs: none that the graph was made with
LEAST = {"fp32": (80.0, 80.0), "fp16": (35.0, 45.0), "int8": (0.0, 20.0)}
"""PSNR to the network's own result, in dB, on random inputs and on photos, below which a file is not handed out.

Of noise a generator makes texture that any rounding changes: DF2K in 8 bits is 10 dB from float32 there, and 40 on
photos. So 8 bits are only asked for finite numbers there.
"""

WARNED = 30.0
"""PSNR in dB of INT8 to float32 on the images that files are judged by, below which a warning is given."""


def judge_similarity(name: str, precision: str, value: float) -> str:
    """Return a warning about a file's PSNR to float32 on photos that it was not calibrated on; empty where it is usual.

    Raises UserError where it is below `LEAST`.
    """
    least = LEAST[precision][1]
    if not value >= least:  # nan is not, either
        raise UserError(
            f"{name}: on the images that files are judged by its PSNR to float32 is {value:.1f} dB; expected {least:g} "
            f"or more, so it is not written{ADVICE if precision == 'int8' else ''}"
        )
    if precision != "int8" or value >= WARNED:
        return ""
    usual = f"usual are 35 to 42, below {WARNED:g} losses can be seen"
    return f"{name}: its PSNR to float32 is {value:.1f} dB; {usual}{ADVICE}"


def check_result(name: str, run: Run, network: nn.Module, photos: Sequence[np.ndarray], precision: str) -> float:
    """Return the least PSNR of a file's results to those of the network on photos (1, 3, h, w).

    Raises UserError where they differ by more than `LEAST` allows, on these or on random inputs, in size, or are not
    finite.
    """
    random = [np.random.default_rng(seed).random((1, 3, *size), np.float32) for seed, size in enumerate(SIZES)]
    found = [[_compare(name, run, network, lr) for lr in inputs] for inputs in (random, photos)]
    for values, least, what in zip(found, LEAST[precision], ("random inputs", "photos"), strict=True):
        if not all(value >= least for value in values):  # nan is not, either
            raise UserError(
                f"{name}: its results are not the generator's (PSNR to them on {what} {min(values):.1f} dB; expected "
                f"{least:g} or more), so it is not written"
            )
    return min(found[1])


def _compare(name: str, run: Run, network: nn.Module, lr: np.ndarray) -> float:
    with torch.no_grad():
        wanted = network(torch.from_numpy(lr)).numpy()
    given = run(lr)
    if given.shape != wanted.shape:
        raise UserError(f"{name}: gives {given.shape} for {lr.shape}, but the generator {wanted.shape}")
    check_finite(name, wanted, "the generator's results")
    check_finite(name, given)
    return similarity(given, wanted)


def check_finite(name: str, result: np.ndarray, what: str = "its results") -> None:
    """Raise UserError where a file's result holds NaN or infinity."""
    if not np.isfinite(result).all():
        raise UserError(f"{name}: {what} are not finite (NaN or infinity), so it is not written")


def similarity(given: np.ndarray, wanted: np.ndarray) -> float:
    """Return the PSNR in dB of a picture to another, 0..1, clamped and not rounded; nan where one is not finite."""
    if not (np.isfinite(given).all() and np.isfinite(wanted).all()):
        return math.nan
    difference = np.clip(given, 0, 1).astype(np.float64) - np.clip(wanted, 0, 1)
    error = float(np.square(difference).mean())
    return -10 * math.log10(error) if error > 0 else math.inf
