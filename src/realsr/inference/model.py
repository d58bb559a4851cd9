"""Models of all sources as functions on tensors, with optional ensemble and consistency."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.devices import HALVES, Precision, choose_precision
from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.fast_rrdb import FastRRDB, Form, choose_form
from realsr.inference.foreign import fit_precision, load_foreign
from realsr.inference.onnx_files import load_onnx
from realsr.networks.rrdb import RRDB
from realsr.networks.spandrel_network import SpandrelNetwork
from realsr.weights.conversion import check_interpolation, interpolate_weights
from realsr.weights.generators import is_generator, make_generator
from realsr.weights.origin import log_origin
from realsr.weights.sources import find_weights
from realsr.weights.state_files import WeightsFile, identify_weights, read_weights

logger = logging.getLogger("realsr")

Run = Callable[[Tensor], Tensor]
BICUBIC = "bicubic"

# The aim is half a level. With that tolerance, however, tiles stop after different numbers of
# passes and differ from an untiled result by more than one level; with a tenth, by at most 0.2
# (crops of twelve real photos).
TOLERANCE = 0.1 / 255
ITERATIONS = 20


@dataclass(frozen=True)
class SRModel:
    """A super-resolution model as a function on tensors.

    run: (N, 3, h, w), 0..1 -> (N, 3, scale*h, scale*w), not clamped, both float32 on `device`. If
        `load_model` returned the model, the result is finite, or `run` raises UserError.
    bytes_per_pixel: the memory for one LR pixel, if it cannot be measured by torch.
    """

    scale: int
    device: torch.device
    run: Run = field(repr=False)
    bytes_per_pixel: float | None = None


def load_model(
    source: str | Path,
    device: torch.device,
    precision: str = "auto",
    allow_custom_code: bool = False,
    scale: int | None = None,
    weights_b: str | Path | None = None,
    interpolate: float | None = None,
) -> SRModel:
    """Return a model that is ready to run on a device.

    Args:
        source: `bicubic`; a source of `load_generator`; a file of another author's network that
            spandrel recognises; or an `.onnx` file of `realsr.export`.
        device: where it runs; an `.onnx` file runs on a GPU only if onnxruntime has a build for it.
        precision: auto, bf16, fp16 or fp32, see `choose_precision`. Bicubic always uses float32, an
            `.onnx` file its own precision.
        allow_custom_code: whether a file may name the user's own network, whose code is then
            imported.
        scale: the scale of bicubic; the required scale of another model, or None for any.
        weights_b, interpolate: see `interpolate_weights`; None for the source's own weights.

    Raises:
        UserError: if the source cannot be loaded or has another scale, or the device lacks the
            precision.
    """
    numbers = choose_precision(precision, device)
    check_interpolation(weights_b, interpolate)
    if source == BICUBIC:
        return _make_bicubic(device, scale, weights_b)
    path, name = find_weights(source), str(source)
    kind = identify_weights(path)
    is_onnx = kind.format == "onnx" or (not kind.format and path.suffix.lower() == ".onnx")
    if is_onnx and weights_b is None:
        model = _make_onnx_model(path, name, device, precision)
    else:
        file = read_weights(path)
        if weights_b is not None and interpolate is not None:
            log_origin(file)
            file = interpolate_weights(file, read_weights(find_weights(weights_b)), interpolate)
            name = f"{source}, interpolated with {interpolate:g} of {weights_b}"
        model = make_model(file, name, numbers, precision == "auto", allow_custom_code)
    if scale not in (None, model.scale):
        raise UserError(f"{source}: trained for scale {model.scale}, but scale={scale} was set")
    return model


def make_model(
    file: WeightsFile,
    name: str,
    precision: Precision,
    automatic: bool = False,
    allow_custom_code: bool = False,
) -> SRModel:
    """Return the model of a file's content, as `load_model` does.

    name: of the model, for messages. automatic: whether the number format may differ from
    `precision` where that is faster, or is what the network supports.
    """
    log_origin(file)
    network, scale, precision = _make_network(file, precision, automatic, allow_custom_code)
    if isinstance(network, SpandrelNetwork):
        name = type(network.network).__name__
    run, number_format, half = _in_precision(network, precision, automatic)
    exact = None if half is None else partial(_in_float32, network, precision)
    _log_model(name, scale, precision.device, number_format)
    return SRModel(scale, precision.device, only_finite(run, name, exact))


def _make_onnx_model(path: Path, name: str, device: torch.device, precision: str) -> SRModel:
    run, facts, device = load_onnx(path, device)
    if precision in HALVES:
        raise UserError(
            f"precision={precision}: {path} has precision {facts.precision}: omit precision"
        )
    _log_model(name, facts.scale, device, f"{facts.precision}, by onnxruntime")
    return SRModel(facts.scale, device, only_finite(run, name), facts.bytes_per_pixel)


def _log_model(name: str, scale: int, device: torch.device, number_format: str) -> None:
    logger.info("loaded %s: scale %d, on %s in %s", name, scale, device, number_format)


def _make_bicubic(device: torch.device, scale: int | None, weights_b: str | Path | None) -> SRModel:
    if weights_b is not None:
        raise UserError("bicubic has no weights to interpolate: omit weights_b, set strength")
    if scale is None:
        raise UserError("bicubic has no scale of its own: set scale, for instance scale=4")
    factor = float(scale)
    return SRModel(scale, device, lambda x: resize(x, factor=factor))


def _make_network(
    file: WeightsFile, precision: Precision, automatic: bool, allow_custom_code: bool
) -> tuple[Run, int, Precision]:
    """Return a file's network on the device of a precision, its scale, and its precision."""
    if not is_generator(file):
        return load_foreign(file, precision, automatic)
    generator, scale = make_generator(file, allow_custom_code)
    if isinstance(generator, SpandrelNetwork):
        subject = f"{file.path}: {type(generator.network).__name__}"
        precision = fit_precision(generator, subject, precision, automatic)
    return generator.to(precision.device), scale, precision


def only_finite(run: Run, source: str, exact: Callable[[], Run] | None = None) -> Run:
    """Return a model's function that raises UserError instead of returning NaN or infinity.

    source: the model's file, for messages. exact: makes the float32 function if `run` uses less
    precision; it replaces `run`, with a warning, at the first result that is not finite.
    """

    def checked_run(x: Tensor) -> Tensor:
        nonlocal run, exact
        y = run(x)
        if not torch.isfinite(y).all() and exact is not None:
            logger.warning(
                "%s: half precision overflows (values that are not finite): this tile and all "
                "later ones are computed in float32",
                source,
            )
            run, exact = exact(), None
            y = run(x)
        if not torch.isfinite(y).all():
            raise UserError(
                f"{source}: the network returns values that are not finite (NaN or infinity) for "
                "this photo, so no result is written: use other weights"
            )
        return y

    return checked_run


def _in_precision(
    network: Run, precision: Precision, automatic: bool
) -> tuple[Run, str, torch.dtype | None]:
    """Return the function, its number format for messages, and its half precision."""
    if not isinstance(network, RRDB):
        return precision.wrap(network), str(Form(precision.half, False)), precision.half
    form = choose_form(network, precision, automatic)
    fast = FastRRDB(network, *form)

    def run(x: Tensor) -> Tensor:
        with precision.computing():
            return fast(x)

    return run, str(form), form.half


def _in_float32(network: Run, precision: Precision) -> Run:
    return _in_precision(network, replace(precision, half=None), automatic=False)[0]


def ensemble(model: SRModel) -> SRModel:
    """Return the mean of a model over the eight flips and rotations of its input, each undone.

    Geometric self-ensemble (Timofte et al., Seven ways to improve example-based SR, CVPR 2016; "+"
    in EDSR's tables). The eight inputs are upscaled in turn, which takes eight times the time and
    the memory of one more result.
    """

    def run(lr: Tensor) -> Tensor:
        total = torch.zeros(())
        for number in range(8):
            flip, turns = divmod(number, 4)
            view = torch.rot90(lr.flip(-1) if flip else lr, turns, (-2, -1)).contiguous()
            sr = torch.rot90(model.run(view), -turns, (-2, -1))
            sr = sr.flip(-1) if flip else sr
            total = total.add_(sr) if number else sr.clone()
        return total.div_(8)

    return replace(model, run=run)


def consistent(model: SRModel) -> SRModel:
    """Return a model whose results, downscaled by bicubic, equal its input.

    Back-projection (Irani and Peleg, 1991): x <- clamp(x + up(lr - down(x))), at most `ITERATIONS`
    times, until |lr - down(x)| is within `TOLERANCE` everywhere; up and down are `resize`. Each
    pass leaves about two thirds of the difference, so 8 to 12 passes reach half a level. Contrasts
    next to black or white that no downscaled image in 0..1 can have, as in sharpened photos,
    converge slowly and not completely: on such photos, 0 to 0.8 % of the samples differ by more
    than a level after 20 passes.

    Colours do not shift. The photo's noise is part of the input, so the result contains it, too.
    """

    def run(lr: Tensor) -> Tensor:
        x = model.run(lr).clamp(0, 1)
        for _ in range(ITERATIONS):
            difference = lr - resize(x, factor=1 / model.scale)
            if float(difference.abs().max()) <= TOLERANCE:
                break
            x = (x + resize(difference, factor=float(model.scale))).clamp_(0, 1)
        return x

    return replace(model, run=run)


def blend(model: SRModel, strength: float) -> SRModel:
    """Return a model with result strength * SR + (1 - strength) * bicubic(LR), not clamped.

    strength: 0..1. bicubic: `resize` to the size of SR; at scale 1 the input itself. It reads two
    LR pixels beyond a pixel, so with an overlap of 6 or more tiles equal the whole image.
    """

    def run(lr: Tensor) -> Tensor:
        return torch.lerp(resize(lr, factor=float(model.scale)), model.run(lr), strength)

    return replace(model, run=run)


def refine(model: SRModel, with_ensemble: bool, with_consistency: bool, strength: float) -> SRModel:
    """Return a model with ensemble, `blend` and consistency as requested.

    They need little more memory. Raises UserError for consistency at scale 1.
    """
    if with_consistency and model.scale == 1:
        raise UserError(
            "consistency=true: at scale 1 the result would be the input: set consistency=false"
        )
    if with_ensemble:
        model = ensemble(model)
    if strength != 1:
        model = blend(model, strength)
    return consistent(model) if with_consistency else model
