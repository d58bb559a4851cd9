"""Comparison of models on a folder of images, with a named protocol."""

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsr.config.composition import load_metric_values, load_protocol, takes_keys
from realsr.config.options import list_options
from realsr.config.schema import EvaluateConfig
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.file_names import resolve_unnamed
from realsr.core.files import check_folder_place, looks_lost, write_bytes
from realsr.data.alignment import Alignment, describe_alignment, measure_alignment
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.metric import ImageMetric, Metric, image_metrics, load_metrics
from realsr.evaluation.protocol import list_changes, resolve
from realsr.evaluation.report import Report, Setting, describe_weights, write_csv, write_json
from realsr.evaluation.scoring import (
    ImageReaders,
    Model,
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
from realsr.inference.model import BICUBIC, SRModel, load_model, refine
from realsr.inference.tiling import as_function
from realsr.reporting.figures import Figures, Window, parse_figures
from realsr.weights.sources import PUBLISHED_MODELS, find_weights

logger = logging.getLogger("realsr")


@takes_keys("evaluate")
def evaluate(config: EvaluateConfig) -> Report:
    """Evaluate models, log the tables, write the report if `output` is set, and return the report.

    Raises UserError before any work for invalid input, and at the end if some images failed.
    """
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
    metrics_file = None if config.output is None else config.output / "metrics.json"
    has_result = metrics_file is not None and metrics_file.exists() and not looks_lost(metrics_file)
    if has_result and not config.overwrite:
        raise UserError(
            f"{config.output}: already has an evaluation: set overwrite=true or another output"
        )
    check_names(config.weights, [*PUBLISHED_MODELS, BICUBIC])
    for name in config.weights:
        if name != BICUBIC:
            find_weights(name)
    protocol = resolve(config.protocol, config.scale)
    data = config.data
    if config.scale == 1 and data.hr is not None and data.lr is None:
        raise UserError("scale=1 without data.lr: LR would be equal to HR: set data.lr=DIR")
    images = match_images(data.hr, data.lr, protocol, config.scale, config.damaged, data.lr_name)
    alignments = dict[str, Alignment]()
    if data.hr is not None and data.lr is not None:
        images = measure_alignments(images, config.scale, alignments)
    figures = parse_figures(config.figures, images)
    device = choose_device(config.device)
    is_named = protocol.name in list_options("protocol")
    original = resolve(load_protocol(protocol.name), config.scale) if is_named else protocol
    metrics = load_metrics(
        protocol.metrics,
        load_metric_values(),
        config.metric_files,
        device,
        optional=is_named and protocol.metrics == original.metrics,
    )
    protocol = dataclasses.replace(protocol, metrics=list(metrics))
    if config.data.hr is None and (needing := list_needing_hr(metrics)):
        raise UserError(
            f"data.hr must be given, since {', '.join(needing)} need HR: set data.hr=DIR"
        )
    models, facts = dict[str, Model](), dict[str, dict[str, Any]]()
    for name in config.weights:
        model, model_facts = make_model(name, config, device)
        for strength in [1.0] if name == BICUBIC else config.strengths:
            label = name_strength(name, strength)
            models[label] = as_function(refine(model, False, False, strength), config.tile)
            facts[label] = model_facts | ({} if strength == 1 else {"strength": strength})

    names = shorten_names(list(models))
    writer = Writer(config, figures, names, metrics)
    results = evaluate_models(models, images, metrics, protocol.crop or 0, writer.add)
    results.failures |= writer.figures.failures
    has_onnx = any(name.endswith(".onnx") for name in config.weights)
    setting = Setting(
        protocol,
        list_changes(protocol, original),
        config.scale,
        config.precision + " (ONNX files: their own)" * has_onnx,
        device.type,
        lr=None if config.data.lr is None else str(resolve_unnamed(config.data.lr)),
        hr=config.data.hr is not None,
    )
    report = Report(setting, metrics, results, facts, alignments)
    logger.info("\n%s", format_report(report))
    if not all(alignment.is_good for alignment in alignments.values()):
        logger.warning("\n%s", describe_alignment(alignments))
    if config.output is None:
        logger.info("\nnothing is written: set output=DIR to write the results")
    else:
        write_report(config.output, report)
        more = ", images/" * config.save_images + ", figures/" * bool(figures)
        logger.info("\nwritten  %s: metrics.json, scores.csv, table.md%s", config.output, more)
    if results.failures:
        raise UserError(
            f"{len(results.failures)} could not be processed:{list_failures(results.failures)}"
        )
    return report


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


def make_model(
    name: str, config: EvaluateConfig, device: torch.device
) -> tuple[SRModel, dict[str, Any]]:
    """Return the model of any source that `load_model` accepts, and facts about its weights.

    Raises UserError if the model has another scale or cannot be loaded.
    """
    model = load_model(name, device, config.precision, config.allow_custom_code, config.scale)
    facts = {} if name == BICUBIC else describe_weights(find_weights(name))
    return model, {"source": name} | facts


def list_needing_hr(metrics: Mapping[str, Metric]) -> list[str]:
    """Return the names of the metrics that compare with HR."""
    return [
        name
        for name, metric in metrics.items()
        if not isinstance(metric, ImageMetric) or metric.needs_hr
    ]


def write_report(folder: Path, report: Report) -> None:
    """Write metrics.json, scores.csv and table.md, each atomically."""
    write_json(folder / "metrics.json", report)
    write_csv(folder / "scores.csv", report)
    write_bytes(folder / "table.md", format_markdown(report).encode())


class Writer:
    """Writes the images and figures that the config requests, one result at a time."""

    def __init__(
        self,
        config: EvaluateConfig,
        figures: Mapping[str, Window | None],
        names: Mapping[str, str],
        metrics: Mapping[str, Metric],
    ) -> None:
        output = config.output or Path()
        self.figures = Figures(
            output / "figures", figures, names, image_metrics(metrics), config.scale
        )
        self._images = output / "images" if config.save_images else None
        self._folders = {model: name.replace("/", "_") for model, name in names.items()}

    def add(
        self, image: EvaluationImage, model: str, sr: Tensor, scores: Mapping[str, float]
    ) -> None:
        """Write the SR image of a model if requested, and add it to the figures."""
        if self._images is not None:
            folder = self._images / self._folders[model]
            folder.mkdir(parents=True, exist_ok=True)
            write_uint8(folder / f"{image.name}.png", to_uint8(sr))
        self.figures.add(image, model, sr, scores)
