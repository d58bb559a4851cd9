"""Compares models on a folder of images: python -m realsr.evaluate weights=[bicubic,RUN] data.hr=DIR."""

import logging

from realsr.config import EvaluateConfig, run_command
from realsr.data.validation import read_folders
from realsr.devices import choose_device
from realsr.errors import UserError
from realsr.evaluation.evaluate import (
    Model,
    bicubic_model,
    evaluate_models,
    format_table,
    network_model,
    write_scores,
)
from realsr.imaging import list_images
from realsr.progress import Progress
from realsr.weights import load_generator

logger = logging.getLogger("realsr")


def main(config: EvaluateConfig) -> None:
    """Evaluate the models that a config names, print the table, and write metrics.json if asked to."""
    models = {name: load_model(name, config.scale, config.device, config.own_code) for name in config.weights}
    if not models:
        raise UserError("weights=[]: name at least one model, e.g. weights=[bicubic,work/dped/runs/default]")
    if config.data.lr is None:
        logger.info("LR: HR shrunk by bicubic; for a camera's own LR say data.lr=DIR")
    images = read_folders(config.data.hr, config.data.lr, config.scale)
    with Progress("evaluation", total=len(list_images(config.data.hr)) * len(models)) as progress:
        scores = evaluate_models(models, images, config.crop, lambda image, model: progress.advance())
    logger.info("%s", format_table(scores, config.crop))
    if config.output is not None:
        write_scores(config.output / "metrics.json", scores, config.crop)


def load_model(name: str, scale: int, device: str, own_code: bool = False) -> Model:
    """Return `bicubic`, or the generator of a run, a file or a published name (see `load_generator`).

    Raises UserError where its scale is another, or it cannot be loaded.
    """
    if name == "bicubic":
        return bicubic_model(scale)
    generator, trained_scale = load_generator(name, own_code)
    if trained_scale != scale:
        raise UserError(f"{name}: trained for scale {trained_scale}, but scale={scale} was asked for")
    return network_model(generator.to(choose_device(device)))


if __name__ == "__main__":
    run_command(main, "evaluate")
