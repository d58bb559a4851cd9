"""Comparison of models on a folder of images, with a named protocol, and evaluation of a run."""

import dataclasses
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsr.config.composition import load_metric_values, load_protocol, takes_keys
from realsr.config.options import list_options
from realsr.config.pipeline import TrainConfig
from realsr.config.schema import EvaluateConfig
from realsr.core.devices import choose_device, choose_precision
from realsr.core.errors import UserError
from realsr.core.file_names import resolve_unnamed
from realsr.core.files import check_folder_place, looks_lost, write_bytes
from realsr.data.alignment import Alignment, describe_alignment, measure_alignment
from realsr.data.validation_images import EvaluationImage, ValidationImage
from realsr.evaluation.metric import ImageMetric, Metric, image_metrics, load_metrics
from realsr.evaluation.protocol import Protocol, list_changes, resolve
from realsr.evaluation.report import Report, Setting, describe_weights, write_csv, write_json
from realsr.evaluation.scoring import (
    ImageReaders,
    Model,
    as_readers,
    bicubic_model,
    evaluate_models,
    list_failures,
    match_images,
)
from realsr.evaluation.tables import (
    check_names,
    format_markdown,
    format_report,
    name_strength,
    shorten_names,
)
from realsr.imaging import to_uint8, write_uint8
from realsr.inference.model import BICUBIC, load_model, make_model, refine
from realsr.inference.tiling import as_function
from realsr.reporting.figures import Figures, parse_figures
from realsr.training.distributed import local_rank
from realsr.weights.generators import read_facts, read_notes
from realsr.weights.origin import RUN_FILES
from realsr.weights.sources import PUBLISHED_MODELS, find_weights
from realsr.weights.state_files import read_weights

logger = logging.getLogger("realsr")


@takes_keys("evaluate")
def evaluate(config: EvaluateConfig) -> Report:
    """Evaluate models, log the tables, write the report if `output` is set, and return the report.

    Raises UserError before any work for invalid input, and at the end if some images failed.
    """
    _check_request(config)
    data = config.data
    protocol = resolve(config.protocol, config.scale)
    images = match_images(data.hr, data.lr, protocol, config.scale, config.damaged, data.lr_name)
    alignments = dict[str, Alignment]()
    if data.hr is not None and data.lr is not None:
        images = measure_alignments(images, config.scale, alignments)
    windows = parse_figures(config.figures, images)
    device = choose_device(config.device)
    metrics, original = _load_metrics(config, protocol, device)
    protocol = dataclasses.replace(protocol, metrics=list(metrics))
    models, facts = make_models(config, device)

    names, output = shorten_names(list(models)), config.output or Path()
    per_image = image_metrics(metrics)
    figures = Figures(output / "figures", windows, names, per_image, config.scale)

    def write(image: EvaluationImage, model: str, sr: Tensor, scores: Mapping[str, float]) -> None:
        """Write the SR image of a model if requested, and add it to the figures."""
        if config.save_images:
            path = output / "images" / names[model].replace("/", "_") / f"{image.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_uint8(path, to_uint8(sr))
        figures.add(image, model, sr, scores)

    results = evaluate_models(models, images, metrics, protocol.crop or 0, write)
    results.failures |= figures.failures
    has_onnx = any(name.endswith(".onnx") for name in config.weights)
    setting = Setting(
        protocol,
        list_changes(protocol, original),
        config.scale,
        config.precision + " (ONNX files: their own)" * has_onnx,
        device.type,
        lr=None if data.lr is None else str(resolve_unnamed(data.lr)),
        hr=data.hr is not None,
    )
    report = Report(setting, metrics, results, facts, alignments)
    _publish(report, config)
    return report


def _check_request(config: EvaluateConfig) -> None:
    """Raise UserError for invalid or contradictory keys, and for results that are in the way."""
    if not config.weights:
        raise UserError(
            "weights=[]: name at least one model, e.g. weights=[bicubic,work/dped/runs/default]"
        )
    if len(set(config.strengths)) < max(1, len(config.strengths)):
        text = ",".join(f"{strength:g}" for strength in config.strengths)
        raise UserError(f"strengths=[{text}]: expected one or more numbers, each once")
    if config.output is None and (config.figures or config.save_images):
        raise UserError("figures and save_images write files: set output=DIR")
    if config.output is not None:
        folders = ["images"] * config.save_images + ["figures"] * bool(config.figures)
        check_folder_place("output", config.output, folders)
        metrics = config.output / "metrics.json"
        if metrics.exists() and not looks_lost(metrics) and not config.overwrite:
            raise UserError(
                f"{config.output}: already has an evaluation: set overwrite=true or another output"
            )
    check_names(config.weights, [*PUBLISHED_MODELS, BICUBIC])
    for name in config.weights:
        if name != BICUBIC:
            find_weights(name)
    if config.scale == 1 and config.data.hr is not None and config.data.lr is None:
        raise UserError("scale=1 without data.lr: LR would be equal to HR: set data.lr=DIR")


def _load_metrics(
    config: EvaluateConfig, protocol: Protocol, device: torch.device
) -> tuple[dict[str, Metric], Protocol]:
    """Return the metrics of the protocol by name, and the protocol of this name in conf/.

    Raises UserError if a metric needs HR and there is none.
    """
    is_named = protocol.name in list_options("protocol")
    original = resolve(load_protocol(protocol.name), config.scale) if is_named else protocol
    metrics = load_metrics(
        protocol.metrics,
        load_metric_values(config.option_dirs),
        config.metric_files,
        device,
        optional=is_named and protocol.metrics == original.metrics,
    )
    hr_metrics = [
        name
        for name, metric in metrics.items()
        if not isinstance(metric, ImageMetric) or metric.needs_hr
    ]
    if config.data.hr is None and hr_metrics:
        raise UserError(
            f"data.hr must be given, since {', '.join(hr_metrics)} need HR: set data.hr=DIR"
        )
    return metrics, original


def _publish(report: Report, config: EvaluateConfig) -> None:
    """Log the report, and write it to `output`. Raises UserError if some images failed."""
    logger.info("\n%s", format_report(report))
    if not all(alignment.is_good for alignment in report.alignments.values()):
        logger.warning("\n%s", describe_alignment(report.alignments))
    if config.output is None:
        logger.info("\nnothing is written: set output=DIR to write the results")
    else:
        write_json(config.output / "metrics.json", report)
        write_csv(config.output / "scores.csv", report)
        write_bytes(config.output / "table.md", format_markdown(report).encode())
        more = ", images/" * config.save_images + ", figures/" * bool(config.figures)
        logger.info("\nwritten  %s: metrics.json, scores.csv, table.md%s", config.output, more)
    if failures := report.results.failures:
        raise UserError(f"{len(failures)} could not be processed:{list_failures(failures)}")


def measure_alignments(
    images: ImageReaders, scale: int, alignments: dict[str, Alignment]
) -> ImageReaders:
    """Return readers that also put the alignment of LR and HR into `alignments`, by name."""

    def read(name: str) -> EvaluationImage:
        """Return an image, and measure its alignment."""
        image = images[name]()
        if image.hr is not None and image.hr.shape[1:] == tuple(
            scale * s for s in image.lr.shape[1:]
        ):
            lr, hr = to_uint8(image.lr), to_uint8(image.hr)
            alignments[name] = measure_alignment(lr, hr, scale)
        return image

    return {name: partial(read, name) for name in images}


def make_models(
    config: EvaluateConfig, device: torch.device
) -> tuple[dict[str, Model], dict[str, dict[str, Any]]]:
    """Return the models of all weights and strengths by name, and facts about their weights.

    Raises UserError if a model has another scale or cannot be loaded.
    """
    models, facts = dict[str, Model](), dict[str, dict[str, Any]]()
    for name in config.weights:
        model = load_model(name, device, config.precision, config.allow_custom_code, config.scale)
        weights = {} if name == BICUBIC else describe_weights(find_weights(name))
        for strength in [1.0] if name == BICUBIC else config.strengths:
            label = name_strength(name, strength)
            models[label] = as_function(refine(model, False, False, strength), config.tile)
            setting = {} if strength == 1 else {"strength": strength}
            facts[label] = {"source": name} | weights | setting
    return models, facts


def evaluate_run(config: TrainConfig, validation: Sequence[ValidationImage], metrics: Path) -> None:
    """Compare the run's generators with bicubic on the validation images; write and log the scores.

    Raises UserError if a weights file of the run belongs to a custom network other than the
    config's, and at the end if some images could not be evaluated.
    """
    scale = config.scale
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    protocol = resolve(load_protocol("realsr_release"), scale)
    precision = choose_precision("fp32", device)
    models, weights = {"bicubic": bicubic_model(scale)}, dict[str, dict[str, Any]]()
    notes = dict[str, dict[str, Any] | None]()  # metadata of the files
    facts = json.loads(json.dumps(config.generator)), scale  # as in a weights file: without tuples
    for file in [config.run / name for name in RUN_FILES if (config.run / name).exists()]:
        content = read_weights(file)
        # Custom code is trusted only if it is the code that this config names.
        model = make_model(
            content, str(file), precision, allow_custom_code=read_facts(content) == facts
        )
        models[file.stem], weights[file.stem] = as_function(model), describe_weights(file)
        notes[file.stem] = read_notes(content)
    metric_set = load_metrics(protocol.metrics, load_metric_values(), {}, device)
    results = evaluate_models(models, as_readers(validation), metric_set, scale)
    lr = "centre crops of the validation images"
    setting = Setting(protocol, [], scale, "fp32", device.type, lr=lr)
    report = Report(setting, metric_set, results, weights)
    write_json(metrics, report)
    logger.info("\n%s\n", format_report(report))
    if best := notes.get("best"):
        kind = "averaged" if best.get("averaged") else "raw"
        step, score, images = (best.get(key) for key in ("step", "by", "set"))
        logger.info("best: step %s, %s weights, by %s on %s", step, kind, score, images)
    warn_below_bicubic(report)
    logger.info("weights: %s\nmetrics: %s", config.run / "generator.safetensors", metrics)
    logs = shlex.quote(str(config.run / "tensorboard"))
    logger.info("images and curves: tensorboard --logdir %s", logs)
    if results.failures:
        failures = list_failures(results.failures)
        raise UserError(f"{metrics}: {len(results.failures)} could not be evaluated:{failures}")


def warn_below_bicubic(report: Report) -> None:
    """Log a warning if no model of a run has the PSNR of bicubic interpolation."""
    bicubic, *values = (report.means[model]["psnr"].mean for model in report.models)
    if values and max(values) < bicubic - 1:
        baseline = "its input" if report.setting.scale == 1 else "bicubic interpolation"
        logger.warning(
            "the best generator is %.1f dB below %s: train longer, or start from trained weights by init=",
            bicubic - max(values),
            baseline,
        )
