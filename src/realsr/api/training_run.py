"""From photos to an evaluated model: the stages that are missing, a training, its evaluation."""

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from realsr.api import degradation_stages as stages
from realsr.config.composition import load_metric_values, load_protocol, takes_keys, to_yaml
from realsr.config.schema import (
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    TrainConfig,
)
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.file_names import printable, resolve_unnamed
from realsr.core.files import check_folder_place, looks_lost
from realsr.data.cache import DecodedImages
from realsr.data.degradations.degradation import build_degradation, try_degradation
from realsr.data.folders import list_photos
from realsr.data.pairs import Pair, hold_out, list_pairs
from realsr.data.validation_images import ValidationImage, load_validation, load_validation_folder
from realsr.evaluation.metric import load_metrics
from realsr.evaluation.protocol import resolve
from realsr.evaluation.report import Report, Setting, describe_weights, write_json
from realsr.evaluation.scoring import as_readers, bicubic_model, evaluate_models, list_failures
from realsr.evaluation.tables import format_report
from realsr.inference.model import load_model
from realsr.inference.tiling import as_function
from realsr.kernels.estimation import make_estimator
from realsr.networks.build import build_generator
from realsr.pools.contents import list_noise
from realsr.provenance.manifest import is_foreign, lock_stage
from realsr.training.checkpoints import list_checkpoints
from realsr.training.distributed import local_rank, start_processes
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.run import STAGE, train_run
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings
from realsr.training.validation import ValidationSet, make_lpips
from realsr.weights import load_generator_state
from realsr.weights.generators import read_facts, read_notes
from realsr.weights.state_files import read_weights

P = TypeVar("P")
logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class TrainResult:
    """A run's folder. It has the weights of the last step (`generator`), their average, and the best by validation."""

    folder: Path

    @property
    def weights(self) -> dict[str, Path]:
        """The files of weights that there are, by name: generator, generator_ema, best."""
        names = ("generator", "generator_ema", "best")
        return {
            name: file for name in names if (file := self.folder / f"{name}.safetensors").is_file()
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json; empty where nothing was evaluated."""
        file = self.folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@takes_keys("train")
def train(config: TrainConfig) -> TrainResult:
    """Run the stages that are missing, then train, then evaluate on the validation images."""
    training = TrainingConfig(
        generator=config.generator,
        discriminator=config.discriminator,
        loss=config.loss,
        optimiser=config.optimiser,
        trainer=config.trainer,
        scale=config.scale,
        seed=config.seed,
        init=config.init,
    )
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    with start_processes(device) as processes:
        if not processes.is_main:
            logger.setLevel(logging.ERROR)  # the first process logs for all
        processes.run_on_main(lambda: prepare(config, training, processes.world_size))
        noise = list_noise(config.noise_pool_dir) if config.pool.noise else []
        pairs, validation = split_pairs(config, noise)
        check_validation(validation.images, config.scale)
        trained = train_run(
            config.run,
            pairs,
            noise,
            config.online_degradation,
            validation,
            training,
            to_yaml(config),
            config.cache_dir,
            config.overwrite,
            processes,
        )
    if processes.is_main:
        conclude(config, validation.images, trained)
    return TrainResult(config.run)


def prepare(config: TrainConfig, training: TrainingConfig, processes: int) -> None:
    """Check what can be checked before any work, then make what the training needs."""
    for key in ("pool_dir", "noise_pool_dir", "pairs_dir", "run"):
        check_folder_place(key, getattr(config, key))
    if config.run.is_dir():
        with lock_stage(config.run, STAGE, wait=False):
            pass  # another process that trains this run is named now rather than after the stages
    check_settings(training, processes)
    if config.trainer.best_by == "lpips":
        make_lpips(config.trainer, [], choose_device("cpu"))
    without_noise = build_degradation(config.online_degradation, config.scale, DecodedImages([]))
    try_degradation(without_noise, config.trainer.crop, config.scale)
    if config.init is not None and not list_checkpoints(config.run / "checkpoints"):
        load_generator_state(build_generator(config.generator, config.scale), config.init)
    prepare_data(config)


def conclude(config: TrainConfig, validation: Sequence[ValidationImage], trained: bool) -> None:
    """Evaluate the run, if there is anything new and anything to evaluate on."""
    metrics = config.run / "metrics.json"
    if not trained and metrics.is_file() and not looks_lost(metrics):
        logger.info("%s: trained and evaluated already, nothing to do", config.run)
    elif validation:
        evaluate_run(config, validation, metrics)
    else:
        logger.warning("no evaluation: no pair is held out and data.validation is not given")


def prepare_data(config: TrainConfig) -> None:
    """Run the stages before the training that the config needs and that were not made elsewhere."""
    foreign_pairs = is_foreign(config.pairs_dir, "pairs", "HR/*")
    # First what takes seconds and may fail: kernels can take hours.
    for role in [] if foreign_pairs else config.pairs.hr:
        list_photos(getattr(config.data, role), role, config.pairs_dir)
    kernels_needed = config.pool.kernels != "bicubic" and not foreign_pairs
    if kernels_needed and not is_foreign(config.pool_dir, "kernels", "kernels/**/*.mat"):
        make_estimator(stages.choose_estimator(config), config.pool.estimator_key, config.scale)
    if config.pool.noise:
        _run_stage("noise", "noise/**/*.png", config)
    if not (config.run / "generator.safetensors").exists():
        GeneratorLoss(config.loss)  # says so if VGG19's weights are missing
    if foreign_pairs:
        logger.info("%s: pairs made elsewhere, used as they are", config.pairs_dir)
    else:
        if kernels_needed:
            _run_stage("kernels", "kernels/**/*.mat", config)
        stages.make_pairs(_part(config, MakePairsConfig))


def _run_stage(stage: str, pattern: str, config: TrainConfig) -> None:
    folder = config.noise_pool_dir if stage == "noise" else config.pool_dir
    if is_foreign(folder, stage, pattern):
        logger.info("%s: %s made elsewhere, used as they are", folder, stage)
    elif stage == "kernels":
        stages.estimate_kernels(_part(config, EstimateKernelsConfig, shard=None, shards=None))
    else:
        stages.collect_noise(_part(config, CollectNoiseConfig))


def split_pairs(config: TrainConfig, noise: list[Path]) -> tuple[list[Pair], ValidationSet]:
    """Return the pairs to train on, and the validation images: `data.validation`, else pairs held out."""
    degradation = build_degradation(config.online_degradation, config.scale, DecodedImages(noise))
    lr_name, elsewhere = config.data.lr_name, is_foreign(config.pairs_dir, "pairs", "HR/*")
    pairs = list_pairs(config.pairs_dir, config.scale, lr_name if elsewhere else None)
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
        return pairs, ValidationSet(
            printable(resolve_unnamed(config.data.validation).name or "/"), images
        )
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
    """Raise UserError for an image that is too small for SSIM's window and the border left out."""
    needed = 11 + 2 * scale
    for image in images:
        height, width = image.hr.shape[1:]
        if min(height, width) < needed:
            raise UserError(
                f"validation image {image.name}: its HR is {width}x{height}, but SSIM needs {needed} on each side: "
                "remove it, or raise trainer.validation_crop if that has cut it"
            )


def evaluate_run(config: TrainConfig, validation: Sequence[ValidationImage], metrics: Path) -> None:
    """Compare the run's generators with bicubic on the validation images; write and print the scores.

    Raises UserError where a file in the run's folder is of another network with code of its own than the config's,
    and at the end if some images could not be evaluated.
    """
    scale, device = (
        config.scale,
        choose_device(config.trainer.device, "trainer.device", local_rank()),
    )
    protocol = resolve(load_protocol("realsr_release"), scale)
    models, weights = {"bicubic": bicubic_model(scale)}, dict[str, dict[str, Any]]()
    for name in ("generator", "generator_ema", "best"):
        if (file := config.run / f"{name}.safetensors").exists():
            allow_custom_code = read_facts(read_weights(file)) == _as_saved(
                config
            )  # then its code is what this command names
            models[name] = as_function(load_model(file, device, "fp32", allow_custom_code))
            weights[name] = describe_weights(file)
    scored = load_metrics(protocol.metrics, load_metric_values(), {}, device)
    results = evaluate_models(models, as_readers(validation), scored, scale)
    setting = Setting(
        protocol, [], scale, "fp32", device.type, lr="the validation images, cut to their centres"
    )
    report = Report(setting, scored, results, weights)
    write_json(metrics, report)
    logger.info("\n%s\n", format_report(report))
    notes = read_notes(read_weights(config.run / "best.safetensors")) if "best" in models else None
    if notes is not None:
        kind = "averaged" if notes.get("averaged") else "raw"
        facts = [notes.get(key) for key in ("step", "by", "set")]
        logger.info("best: step %s, %s weights, by %s on %s", facts[0], kind, *facts[1:])
    logger.info("weights: %s\nmetrics: %s", config.run / "generator.safetensors", metrics)
    logger.info(
        "images and curves: tensorboard --logdir %s", shlex.quote(str(config.run / "tensorboard"))
    )
    if results.failures:
        raise UserError(
            f"{metrics}: {len(results.failures)} could not be evaluated:{list_failures(results.failures)}"
        )


def _as_saved(config: TrainConfig) -> tuple[dict[str, Any], int]:
    """Return the config's generator and scale as a file of weights stores them: in JSON, without tuples."""
    return json.loads(json.dumps(config.generator)), config.scale


def _part(config: TrainConfig, kind: type[P], **values: Any) -> P:
    """Return a stage's configuration, which is a part of the training's."""
    names = {field.name for field in fields(kind)} - set(values)  # type: ignore[arg-type]
    shared = {name: getattr(config, name) for name in names}
    return kind(**shared, **values)
