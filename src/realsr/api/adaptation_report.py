"""The report of an adaptation: scores, verdict with reasons, and a figure of the photos."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from realsr.config.composition import load_metric_values
from realsr.config.pipeline import TrainConfig
from realsr.config.schema import AdaptConfig
from realsr.core.devices import choose_device, choose_precision
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metric import Metric, load_metrics
from realsr.evaluation.metrics.lpips import ALEXNET
from realsr.evaluation.report import Scores, mean_scores
from realsr.evaluation.scoring import Model, as_readers, bicubic_model, evaluate_models
from realsr.evaluation.tables import Table
from realsr.imaging import crop_to_multiple, read_uint8, resize, to_float
from realsr.imaging.kernel_shapes import load_kernel
from realsr.inference.model import load_model, make_model
from realsr.inference.tiling import as_function
from realsr.pools.contents import list_kernels
from realsr.reporting.figures import choose_window, write_comparison
from realsr.weights import convert_weights
from realsr.weights.origin import find_origin
from realsr.weights.sources import FETCH_COMMAND, find_weights
from realsr.weights.state_files import read_weights

LPIPS = "lpips_alex"
METRICS = ("psnr", "ssim", LPIPS)
SHARP = 1.0  # standard deviation of a kernel at scale 2, in pixels, close to bicubic's
SOFT = 2.0  # the same, of a photo without detail at its own size
FEW_PHOTOS, FEW_STEPS = 3, 100
DETAIL, LARGEST = 64, 1024  # of the figure: side of a detail, part of a photo


@dataclass(frozen=True)
class Adaptation:
    """The folder of an adapted model."""

    folder: Path

    @property
    def model(self) -> Path:
        """The adapted generator, for `weights=` of other commands."""
        return self.folder / "model.safetensors"

    @property
    def report(self) -> Path:
        """The scores of the adapted model, and whether it is better than the published one."""
        return self.folder / "report.md"

    @property
    def figure(self) -> Path:
        """Details of the photos, upscaled by bicubic, the published and the adapted model."""
        return self.folder / "before_after.png"


@dataclass(frozen=True)
class Evidence:
    """What the photos yielded, and the training.

    spreads: of each sound kernel, its longer standard deviation. clean_up: factor from the photos to
    HR. steps_are_set: whether the user set the number of steps. loss: names of the loss terms.
    """

    photos: int
    spreads: Sequence[float]
    noise_patches: int
    clean_up: int
    steps: int
    steps_are_set: bool
    loss: Collection[str]


def describe_request(
    config: AdaptConfig, photos: int, cameras: set[str], device: torch.device
) -> str:
    """Return what the command will do, and how long it takes."""
    camera = f" of {next(iter(cameras))}" if len(cameras) == 1 else ""
    length = f"{config.steps} steps"
    if config.steps is None:
        length = f"at most about {config.minutes:g} minutes in all"
    return (
        f"{photos} photos{camera}: estimate kernels and noise, make pairs, train {config.weights} "
        f"on {device}, evaluate; {length}. Results: {config.output}"
    )


def write_results(
    result: Adaptation,
    config: AdaptConfig,
    training: TrainConfig,
    images: Sequence[ValidationImage],
    photos: Mapping[str, Path],
    evidence: Evidence,
) -> str:
    """Write the model, the report and the figure; return table and verdict.

    images: the held-out regions. photos: of the figure.
    """
    source = read_weights(find_weights(config.weights))
    licence = find_origin(config.weights, source).licence
    average = training.run / "generator_ema.safetensors"
    convert_weights(average, result.model, overwrite=True, licence=licence)
    device = choose_device(config.device)
    models: dict[str, Model] = {
        "bicubic": bicubic_model(training.scale),
        "published": as_function(
            make_model(source, config.weights, choose_precision("fp32", device))
        ),
        "adapted": as_function(load_model(result.model, device, "fp32")),
    }
    text = write_report(result.report, config, models, images, training.scale, evidence)
    draw_photos(result.figure, photos, models, training)
    return text


def write_report(
    path: Path,
    config: AdaptConfig,
    models: Mapping[str, Model],
    images: Sequence[ValidationImage],
    scale: int,
    evidence: Evidence,
) -> str:
    """Score the models on the held-out regions, write the report, and return table and verdict."""
    means: dict[str, Scores] = {}
    tables, notes = [], []
    if images:
        cpu, files = torch.device("cpu"), {"alexnet": config.lpips_weights}
        # The message of the metric would name a key of `evaluate`; the note below names ours.
        has_alexnet = ALEXNET.locate(config.lpips_weights) is not None
        choice = [name for name in METRICS if name != LPIPS or has_alexnet]
        metrics = load_metrics(choice, load_metric_values(), files, cpu, optional=True)
        results = evaluate_models(models, as_readers(images), metrics, scale)
        means = {name: mean_scores(by_image) for name, by_image in results.scores.items()}
        if LPIPS not in metrics:
            notes.append(f"No LPIPS: run {FETCH_COMMAND} what=[alexnet] or set lpips_weights=FILE.")
        names = ", ".join(image.name for image in images)
        tables.append(make_table(f"Means over the held-out regions of {names}", means, metrics))
    verdict = judge(means, evidence)
    if evidence.spreads and float(np.mean(evidence.spreads)) > SOFT:
        notes.append(
            "Warning: the photos are soft at their own size. The model sharpens strongly and may draw "
            "beads and lines; the scores do not show this. Downscale the photos by 2, here and "
            "before upscaling."
        )
    blur = "no sound kernel: bicubic downscaling"
    if evidence.spreads:
        blur = f"kernels of {len(evidence.spreads)} photos, standard deviation {min(evidence.spreads):.2f}"
        blur += f" to {max(evidence.spreads):.2f} pixels at scale 2 (longer axis)"
    lines = [
        f"# {printable(config.weights)}, adapted to {printable(config.source.name)}",
        verdict,
        *(table.as_markdown() for table in tables),
        *notes,
        f"- photos: {evidence.photos}\n- HR: the photos downscaled by {evidence.clean_up}\n"
        f"- blur: {blur}\n- noise patches: {evidence.noise_patches}\n"
        f"- training: {evidence.steps} steps, loss {' + '.join(evidence.loss)}, on "
        f"{choose_device(config.device)}\n- seed: {config.seed}",
        _describe_regions(images),
        "![Details of the photos](before_after.png)",
    ]
    write_bytes(path, ("\n\n".join(filter(None, lines)) + "\n").encode())
    return "\n".join([*(table.as_text() for table in tables), *notes, verdict])


def _describe_regions(images: Sequence[ValidationImage]) -> str:
    """Describe the held-out regions and what their scores depend on; empty without any."""
    if not images:
        return ""
    sizes = sorted({f"{image.hr.shape[2]}x{image.hr.shape[1]}" for image in images})
    return (
        f"Held out of training: {len(images)} regions of {', '.join(sizes)} pixels of HR, at least a "
        "fifth of a photo each. Their LR is HR degraded by the estimated kernels and noise, as in "
        "training. The scores depend on these estimates; only the figure shows the real photos."
    )


def make_table(title: str, means: Mapping[str, Scores], metrics: Mapping[str, Metric]) -> Table:
    """Return the mean scores of each model as a table."""
    rows = [
        [model, *(f"{value:.{metrics[name].digits}f}" for name, value in scores.items())]
        for model, scores in means.items()
    ]
    return Table(title, ["", *next(iter(means.values()))], rows)


def judge(means: Mapping[str, Scores], evidence: Evidence) -> str:
    """Return a sentence: whether the adapted model is better than the published one; if not, why.

    It is better if its PSNR is higher and its LPIPS is lower; without LPIPS, its SSIM higher. If only
    one of them has improved, the result is mixed.
    """
    if not means:
        return (
            "The adapted model was not evaluated, since the photos are too small to hold out a "
            "region: use larger photos."
        )
    published, adapted = means["published"], means["adapted"]
    psnr = adapted["psnr"] - published["psnr"]
    other, sign = (LPIPS, -1) if LPIPS in adapted else ("ssim", 1)
    change = adapted[other] - published[other]
    is_better = psnr > 0 and sign * change > 0
    title = {LPIPS: "LPIPS", "ssim": "SSIM"}[other]
    percent = 100 * change / published[other] if published[other] else 0.0
    numbers = f"PSNR {psnr:+.2f} dB, {title} {percent:+.1f} %"
    if is_better:
        return f"The adapted model is better than the published one: {numbers}."
    reasons = []
    if evidence.spreads and float(np.mean(evidence.spreads)) < SHARP:
        reasons.append("the photos are already sharp (kernels as narrow as bicubic's)")
    if not evidence.spreads:
        reasons.append("no kernel is sound")
    if not evidence.noise_patches:
        reasons.append("the photos have no measurable noise")
    if evidence.photos < FEW_PHOTOS:
        reasons.append(f"only {evidence.photos} photos")
    if evidence.steps < FEW_STEPS:
        advice = "larger steps=N" if evidence.steps_are_set else "more minutes=N"
        reasons.append(f"only {evidence.steps} steps (set {advice} and overwrite=true)")
    cause = f" Likely reasons: {'; '.join(reasons)}." if reasons else ""
    if psnr > 0 or sign * change > 0:
        rule = f"better needs a higher PSNR and a {'lower LPIPS' if sign < 0 else 'higher SSIM'}"
        return f"The adapted model is not better in both: {numbers}; {rule}.{cause}"
    return f"The adapted model is not better than the published one: {numbers}.{cause}"


def draw_photos(
    path: Path, photos: Mapping[str, Path], models: Mapping[str, Model], config: TrainConfig
) -> None:
    """Draw the most detailed square of each photo, upscaled by each model; kernels below."""
    rows: list[tuple[str, dict[str, torch.Tensor], dict[str, str]]] = []
    for name, file in photos.items():
        photo = crop_to_multiple(to_float(read_uint8(file)), 2)
        top, left = (max(0, side - LARGEST) // 2 for side in photo.shape[1:])
        photo = photo[:, top : top + LARGEST, left : left + LARGEST]
        smooth = resize(resize(photo, factor=0.5), factor=2.0)
        detail = choose_window([photo, smooth], DETAIL).cut(photo).contiguous()
        crops = {model: run(detail).clamp(0, 1) for model, run in models.items()}
        rows.append((name, {"photo": detail, **crops}, {}))
    kernels = {}
    if config.pool.kernels == "estimated":
        files = list_kernels(config.pool_dir, config.scale)
        step = -(-len(files) // (len(models) + 1))
        kernels = {
            f"kernel of\n{file.stem.split('_kernel')[0]}": load_kernel(file)
            for file in files[::step]
        }
    write_comparison(path, rows, kernels)
