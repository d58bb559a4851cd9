"""From photos to an evaluated model: missing stages, training and evaluation."""

import json
import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from realsr.api import degradation_stages as stages
from realsr.config.composition import load_metric_values, load_protocol, takes_keys, to_yaml
from realsr.config.pipeline import (
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    TrainConfig,
)
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.file_names import printable, resolve_unnamed
from realsr.core.files import check_folder_place, looks_lost
from realsr.core.machine import count_idle_cores
from realsr.data.degradations.degradation import (
    build_degradation,
    pool_inputs,
    try_degradation,
)
from realsr.data.folders import list_photos
from realsr.data.pairs import Pair, hold_out, list_pairs
from realsr.data.pool_files import JPEG_TABLES, NOISE_MODEL
from realsr.data.validation_images import ValidationImage, load_validation, load_validation_folder
from realsr.evaluation.metric import load_metrics
from realsr.evaluation.protocol import resolve
from realsr.evaluation.report import Report, Setting, describe_weights, write_json
from realsr.evaluation.scoring import as_readers, bicubic_model, evaluate_models, list_failures
from realsr.evaluation.tables import format_report
from realsr.inference.model import load_model
from realsr.inference.tiling import as_function
from realsr.kernels.estimator import make_estimator
from realsr.networks import build_generator
from realsr.pools.contents import list_degradation_files
from realsr.provenance.manifest import is_foreign, lock_stage
from realsr.training.checkpoints import list_checkpoints
from realsr.training.distributed import local_rank, start_processes
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.run import STAGE, recorded_threads, train_run, use_threads
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings
from realsr.training.trackers.tracker import check_tracker
from realsr.training.validation import ValidationSet, make_lpips
from realsr.weights import load_generator_state
from realsr.weights.generators import read_facts, read_notes
from realsr.weights.state_files import read_weights

P = TypeVar("P")
logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class TrainResult:
    """The folder of a run, with its weights and metrics."""

    folder: Path

    @property
    def weights(self) -> dict[str, Path]:
        """The existing weight files by name.

        `generator` holds the weights of the last step, `generator_ema` their moving average, and
        `best` the best weights by validation.
        """
        names = ("generator", "generator_ema", "best")
        return {
            name: file for name in names if (file := self.folder / f"{name}.safetensors").is_file()
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json, or an empty dict if the run has not been evaluated."""
        file = self.folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@takes_keys("train")
def train(config: TrainConfig) -> TrainResult:
    """Run the missing stages, train, and evaluate on the validation images.

    A run of `from_run` uses the number of threads of the run that it repeats.
    """
    with use_threads(_choose_threads(config)):
        return _train(config)


def _choose_threads(config: TrainConfig) -> int | None:
    """Return the number of threads of a training, None for torch's.

    It is that of the run that `from_run` repeats. A new training on the CPU takes as many threads
    as cores are idle: threads of small operations wait for each other, and a thread without a core
    delays all (experiments/benchmarks/busy.py). A resumed training takes its recorded number.
    """
    if config.from_run is not None:
        return recorded_threads(config.from_run)
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    if (config.run / "generator.safetensors").exists() or list_checkpoints(
        config.run / "checkpoints"
    ):
        return None
    idle = count_idle_cores()
    if idle is None:
        return None
    count = max(1, min(threads, round(idle)))
    if count < threads:
        logger.info(
            "other programs use the CPU: training with %d of %d threads; set OMP_NUM_THREADS to "
            "choose the number",
            count, threads,
        )  # fmt: skip
    return count


def _train(config: TrainConfig) -> TrainResult:
    training = training_config(config)
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    with start_processes(device) as processes:
        if not processes.is_main:
            logger.setLevel(logging.ERROR)  # the first process logs for all
        processes.run_on_main(lambda: prepare(config, training, processes.world_size))
        files = list_inputs(config)
        pairs, validation = split_pairs(config, files)
        check_validation(validation.images, config.scale)
        is_new = train_run(
            config.run,
            pairs,
            files,
            config.online_degradation,
            validation,
            training,
            to_yaml(config),
            config.cache_dir,
            config.overwrite,
            processes,
        )
    if processes.is_main:
        conclude(config, validation.images, is_new)
    return TrainResult(config.run)


def list_inputs(config: TrainConfig) -> list[Path]:
    """Return the files of the pools that the online degradation reads."""
    return list_degradation_files(
        config.noise_pool_dir,
        config.pool.noise,
        config.online_degradation,
        config.scale,
        None if config.pool.kernels == "bicubic" else config.pool_dir,
    )


def training_config(config: TrainConfig) -> TrainingConfig:
    """Return the settings of the training, without its data."""
    return stage_config(config, TrainingConfig)


def prepare(config: TrainConfig, training: TrainingConfig, processes: int) -> None:
    """Check the config before any work, then run the stages that the training needs."""
    for key in ("pool_dir", "noise_pool_dir", "pairs_dir", "run"):
        check_folder_place(key, getattr(config, key))
    if config.run.is_dir():
        with lock_stage(config.run, STAGE, wait=False):
            pass  # report another process that trains this run now, not after the stages
    check_settings(training, processes)
    check_tracker(training.tracker)
    if config.trainer.best_by == "lpips":
        make_lpips(config.trainer, [], choose_device("cpu"))
    without_noise = build_degradation(config.online_degradation, config.scale)
    try_degradation(without_noise, config.trainer.crop, config.scale)
    if config.init is not None and not list_checkpoints(config.run / "checkpoints"):
        load_generator_state(build_generator(config.generator, config.scale), config.init)
    prepare_data(config)


def conclude(config: TrainConfig, validation: Sequence[ValidationImage], is_new: bool) -> None:
    """Evaluate the run if it has new weights or no metrics, and if there are validation images."""
    metrics = config.run / "metrics.json"
    if not is_new and metrics.is_file() and not looks_lost(metrics):
        logger.info("%s: already trained and evaluated, nothing to do", config.run)
    elif validation:
        evaluate_run(config, validation, metrics)
    else:
        logger.warning("no evaluation: no pair is held out and data.validation is not given")


def prepare_data(config: TrainConfig) -> None:
    """Run the stages that the config needs, except those whose results were made elsewhere."""
    foreign_pairs = is_foreign(config.pairs_dir, "pairs", "HR/*")
    # Fast checks come first, since kernels can take hours.
    for role in [] if foreign_pairs else config.pairs.hr:
        list_photos(getattr(config.data, role), role, config.pairs_dir)
    needs_kernels = config.pool.kernels != "bicubic" and not foreign_pairs
    if needs_kernels and not is_foreign(config.pool_dir, "kernels", "kernels/**/*.mat"):
        estimator, key = stages.choose_estimator(config), config.pool.estimator_key
        make_estimator(estimator, key, config.scale, config.workers, None)
    if not (config.run / "generator.safetensors").exists():
        GeneratorLoss(config.loss)  # raises an error if the weights of VGG19 are missing
    inputs = pool_inputs(config.online_degradation)
    if config.pool.noise and "camera_noise" in inputs:
        _run_stage("noise_model", NOISE_MODEL, config)
    elif config.pool.noise:
        _run_stage("noise", "noise/**/*.png", config)
    if "jpeg_tables" in inputs:
        _run_stage("jpeg_tables", JPEG_TABLES, config)
    if foreign_pairs:
        logger.info("%s: pairs made elsewhere, used as they are", config.pairs_dir)
    else:
        if needs_kernels:
            _run_stage("kernels", "kernels/**/*.mat", config)
        stages.make_pairs(stage_config(config, MakePairsConfig, compare=False))


def _run_stage(stage: str, pattern: str, config: TrainConfig) -> None:
    folder = config.pool_dir if stage == "kernels" else config.noise_pool_dir
    if is_foreign(folder, stage, pattern):
        logger.info("%s: %s made elsewhere, used as they are", folder, stage)
    elif stage == "kernels":
        stages.estimate_kernels(
            stage_config(config, EstimateKernelsConfig, shard=None, shards=None)
        )
    else:
        collect = {
            "noise": stages.collect_patches,
            "noise_model": stages.fit_noise_model,
            "jpeg_tables": stages.collect_jpeg_tables,
        }[stage]
        collect(stage_config(config, CollectNoiseConfig))


def split_pairs(config: TrainConfig, files: list[Path]) -> tuple[list[Pair], ValidationSet]:
    """Return the training pairs and the validation images: `data.validation` or held-out pairs.

    files: those of `list_inputs`.
    """
    degradation = build_degradation(config.online_degradation, config.scale, files)
    lr_name, is_foreign_folder = config.data.lr_name, is_foreign(config.pairs_dir, "pairs", "HR/*")
    pairs = list_pairs(config.pairs_dir, config.scale, lr_name if is_foreign_folder else None)
    trainer = config.trainer
    if config.data.validation is not None:
        images = load_validation_folder(
            config.data.validation,
            config.scale,
            degradation,
            config.seed,
            trainer.validation_crop,
            trainer.validation_images,
            config.damaged,
            lr_name,
        )
        folder = resolve_unnamed(config.data.validation)
        return pairs, ValidationSet(printable(folder.name or "/"), images)
    pairs, held_out = hold_out(pairs, config.data.held_out, config.seed)
    if held_out:
        logger.info("held out for validation: %s", ", ".join(pair.name for pair in held_out))
    images = load_validation(
        held_out,
        config.scale,
        degradation,
        config.seed,
        trainer.validation_crop,
        trainer.validation_images,
    )
    return pairs, ValidationSet("held_out", images)


def check_validation(images: Sequence[ValidationImage], scale: int) -> None:
    """Raise UserError for an image too small for the SSIM window (11) inside the cropped border."""
    min_side = 11 + 2 * scale
    for image in images:
        height, width = image.hr.shape[1:]
        if min(height, width) < min_side:
            raise UserError(
                f"validation image {image.name}: its HR is {width}x{height}, but SSIM needs at "
                f"least {min_side} on each side: remove the image, or increase "
                "trainer.validation_crop if it cropped the image"
            )


def evaluate_run(config: TrainConfig, validation: Sequence[ValidationImage], metrics: Path) -> None:
    """Compare the run's generators with bicubic on the validation images; write and log the scores.

    Raises UserError if a weights file of the run belongs to a custom network other than the
    config's, and at the end if some images could not be evaluated.
    """
    scale = config.scale
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    protocol = resolve(load_protocol("realsr_release"), scale)
    models, weights = {"bicubic": bicubic_model(scale)}, dict[str, dict[str, Any]]()
    for name in ("generator", "generator_ema", "best"):
        if (file := config.run / f"{name}.safetensors").exists():
            # Custom code is trusted only if it is the code that this config names.
            allow_custom_code = read_facts(read_weights(file)) == _to_facts(config)
            models[name] = as_function(load_model(file, device, "fp32", allow_custom_code))
            weights[name] = describe_weights(file)
    metric_set = load_metrics(protocol.metrics, load_metric_values(), {}, device)
    results = evaluate_models(models, as_readers(validation), metric_set, scale)
    lr = "centre crops of the validation images"
    setting = Setting(protocol, [], scale, "fp32", device.type, lr=lr)
    report = Report(setting, metric_set, results, weights)
    write_json(metrics, report)
    logger.info("\n%s\n", format_report(report))
    notes = read_notes(read_weights(config.run / "best.safetensors")) if "best" in models else None
    if notes is not None:
        kind = "averaged" if notes.get("averaged") else "raw"
        facts = [notes.get(key) for key in ("step", "by", "set")]
        logger.info("best: step %s, %s weights, by %s on %s", facts[0], kind, *facts[1:])
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


def _to_facts(config: TrainConfig) -> tuple[dict[str, Any], int]:
    """Return the config's generator and scale as stored in a weights file (JSON, no tuples)."""
    return json.loads(json.dumps(config.generator)), config.scale


def stage_config(config: TrainConfig, kind: type[P], **values: Any) -> P:
    """Return the configuration of a stage, a part of the training's configuration."""
    names = {field.name for field in fields(kind)} - set(values)  # type: ignore[arg-type]
    return kind(**{name: getattr(config, name) for name in names}, **values)
