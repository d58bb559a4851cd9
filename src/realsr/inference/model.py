"""A model of any source as one function on tensors, and what is put around it for better results."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.devices import HALVES, Precision, choose_precision
from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.fast_rrdb import FastRRDB
from realsr.inference.foreign import fit_precision, load_foreign
from realsr.inference.onnx_files import load_onnx
from realsr.networks.rrdb import RRDB
from realsr.networks.spandrel_network import SpandrelNetwork
from realsr.weights.generators import is_generator, make_generator
from realsr.weights.sources import find_weights
from realsr.weights.state_files import identify_weights, read_weights

logger = logging.getLogger("realsr")

Run = Callable[[Tensor], Tensor]
BICUBIC = "bicubic"

# Half a level is the aim. But tiles that stop at half a level after more or fewer passes than their neighbours differ
# by over one from the whole; at a tenth, by 0.2 at most on crops of twelve real photos.
TOLERANCE = 0.1 / 255
ITERATIONS = 20


@dataclass(frozen=True)
class SRModel:
    """`run`: (N, 3, h, w), float32, 0..1, on `device` -> (N, 3, scale*h, scale*w), float32, there, not clamped.

    The results of a model that `load_model` returns are finite; `run` raises UserError where they cannot be.
    bytes_per_pixel: the memory that it takes for an LR pixel, where that cannot be seen from outside.
    """

    scale: int
    device: torch.device
    run: Run
    bytes_per_pixel: float | None = None


def load_model(
    source: str | Path,
    device: torch.device,
    precision: str = "auto",
    allow_custom_code: bool = False,
    scale: int | None = None,
) -> SRModel:
    """Return a model, ready to run on a device.

    Args:
        source: `bicubic`; all that `load_generator` takes; a file of another author's network that spandrel knows; or
            an `.onnx` that `realsr.export` has written.
        device: where it runs; an `.onnx` runs on a GPU only where onnxruntime has a build for it.
        precision: auto, bf16, fp16 or fp32, see `choose_precision`. Bicubic is always float32, an `.onnx` what it is.
        allow_custom_code: whether a file may name a network of the user's own, whose code is then imported.
        scale: bicubic's; of another model what it must have, None for any.

    Raises:
        UserError: where the source cannot be loaded, its scale is another, or the device lacks the precision.
    """
    numbers = choose_precision(precision, device)
    if source == BICUBIC:
        if scale is None:
            raise UserError("bicubic: has no scale of its own: set scale, for instance scale=4")
        factor = float(scale)
        return SRModel(scale, device, lambda x: resize(x, factor=factor))
    path, exact, bytes_per_pixel = find_weights(source), None, None
    kind = identify_weights(path)
    if kind.format == "onnx" or (not kind.format and path.suffix.lower() == ".onnx"):
        run, facts, device = load_onnx(path, device)
        own_scale, computed, bytes_per_pixel = (
            facts.scale,
            f"{facts.precision}, by onnxruntime",
            facts.bytes_per_pixel,
        )
        if precision in HALVES:
            raise UserError(
                f"precision={precision}: {path} computes in {facts.precision}: leave precision out"
            )
    else:
        file = read_weights(path)
        if is_generator(file):
            generator, own_scale = make_generator(file, allow_custom_code)
            network: Run = generator.to(device)
            if isinstance(generator, SpandrelNetwork):
                name = type(generator.network).__name__
                numbers = fit_precision(generator, f"{path}: {name}", numbers, precision == "auto")
        else:
            network, own_scale, numbers = load_foreign(file, numbers, automatic=precision == "auto")
        run, computed = (
            _in_precision(network, numbers),
            str(numbers.half or torch.float32).removeprefix("torch."),
        )
        if numbers.half is not None:
            exact = partial(_in_precision, network, replace(numbers, half=None))
    if scale not in (None, own_scale):
        raise UserError(f"{source}: trained for scale {own_scale}, but scale={scale} was set")
    logger.info("%s: scale %d, on %s in %s", source, own_scale, device, computed)
    return SRModel(own_scale, device, only_finite(run, str(source), exact), bytes_per_pixel)


def only_finite(run: Run, source: str, exact: Callable[[], Run] | None = None) -> Run:
    """Return a model's function that never returns NaN or infinity: where the result has them it raises UserError.

    source: the model's file, for messages. exact: makes the function in float32 where `run` computes in less; it takes
    the place of `run`, with a warning, at the first result that is not finite.
    """

    def run_checked(x: Tensor) -> Tensor:
        nonlocal run, exact
        y = run(x)
        if not torch.isfinite(y).all() and exact is not None:
            logger.warning(
                "%s: its half precision overflows (values that are not finite): this tile and all that follow are "
                "computed in float32",
                source,
            )
            run, exact = exact(), None
            y = run(x)
        if not torch.isfinite(y).all():
            raise UserError(
                f"{source}: the network gives values that are not finite (NaN or infinity) on this photo, so that no "
                "result is written: use other weights"
            )
        return y

    return run_checked


def _in_precision(network: Run, precision: Precision) -> Run:
    if not isinstance(network, RRDB):
        return precision.wrap(network)
    fast = FastRRDB(network, precision.half)

    def run(x: Tensor) -> Tensor:
        with precision.computing():
            return fast(x)

    return run


def ensemble(model: SRModel) -> SRModel:
    """Return the mean of a model over the eight flips and rotations of its input, each undone.

    Geometric self-ensemble (Timofte et al., Seven ways to improve example-based SR, CVPR 2016; "+" in EDSR's tables).
    One after the other: eight times the time, and the memory of one more result.
    """

    def run(lr: Tensor) -> Tensor:
        total = torch.zeros(())
        for number in range(8):
            flip, turns = divmod(number, 4)
            turned = torch.rot90(lr.flip(-1) if flip else lr, turns, (-2, -1)).contiguous()
            back = torch.rot90(model.run(turned), -turns, (-2, -1))
            back = back.flip(-1) if flip else back
            total = total.add_(back) if number else back.clone()
        return total.div_(8)

    return replace(model, run=run)


def consistent(model: SRModel) -> SRModel:
    """Return a model whose results, shrunk by bicubic, are its input: colours do not shift.

    Back-projection (Irani and Peleg, 1991).
    x <- clamp(x + up(lr - down(x))) until |lr - down(x)| is within the tolerance everywhere, `ITERATIONS` times at
    most; up and down are `resize`. Each pass leaves about two thirds of the difference: 8 to 12 reach half a level.
    Contrasts beside black or white that no image in 0..1 has after shrinking, as in sharpened photos, fade slowly, and
    some remains: on those photos 0 to 0.8 % of the samples are off by more than a level after 20.

    Noise of the photo is part of the input, and comes back, too.
    """

    def run(lr: Tensor) -> Tensor:
        x = model.run(lr).clamp(0, 1)
        for _ in range(ITERATIONS):
            missing = lr - resize(x, factor=1 / model.scale)
            if float(missing.abs().max()) <= TOLERANCE:
                break
            x = (x + resize(missing, factor=float(model.scale))).clamp_(0, 1)
        return x

    return replace(model, run=run)


def refine(model: SRModel, with_ensemble: bool, with_consistency: bool) -> SRModel:
    """Put around a model what is chosen; its need of memory stays about the same."""
    if with_ensemble:
        model = ensemble(model)
    return consistent(model) if with_consistency else model
