"""From photos to an evaluated model: missing stages, training and evaluation."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from realsr.api import degradation_stages as stages
from realsr.api.model_evaluation import evaluate_run
from realsr.config.composition import extract_part, takes_keys, to_yaml
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
    required_inputs,
    try_degradation,
)
from realsr.data.folders import list_photos
from realsr.data.pairs import Pair, hold_out, list_pairs
from realsr.data.pool_files import POOL_INPUTS
from realsr.data.validation_images import ValidationImage, load_validation, load_validation_folder
from realsr.kernels.estimator import make_estimator
from realsr.networks import build_generator
from realsr.pools.contents import list_degradation_files
from realsr.provenance.manifest import is_foreign, lock_stage
from realsr.training.checkpoints import list_checkpoints
from realsr.training.distributed import (
    SINGLE_PROCESS,
    DistributedContext,
    local_rank,
    start_processes,
)
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.run import STAGE, recorded_threads, train_run, use_threads
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings, try_terms
from realsr.training.trackers.tracker import check_tracker
from realsr.training.validation import ValidationSet, make_lpips
from realsr.weights import load_generator_state
from realsr.weights.origin import RUN_FILES

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
        files = [self.folder / name for name in RUN_FILES]
        return {file.stem: file for file in files if file.is_file()}

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
    device = choose_device(config.trainer.device, "trainer.device", local_rank())
    with start_processes(device) as processes:
        if not processes.is_main:
            logger.setLevel(logging.ERROR)  # the first process logs for all
        processes.run_on_main(lambda: prepare(config, processes.world_size))
        files = list_inputs(config)
        pairs, validation = split_pairs(config, files)
        check_validation(validation.images, config.scale)
        is_new = run_training(config, pairs, files, validation, processes)
    if processes.is_main:
        conclude(config, validation.images, is_new)
    return TrainResult(config.run)


def run_training(
    config: TrainConfig,
    pairs: Sequence[Pair],
    files: Sequence[Path],
    validation: ValidationSet,
    processes: DistributedContext = SINGLE_PROCESS,
) -> bool:
    """Train on pairs, and return whether the run has new weights. files: those of `list_inputs`."""
    return train_run(
        config.run,
        pairs,
        files,
        config.online_degradation,
        validation,
        extract_part(config, TrainingConfig),
        to_yaml(config),
        config.cache_dir,
        config.overwrite,
        processes,
    )


def list_inputs(config: TrainConfig) -> list[Path]:
    """Return the files of the pools that the online degradation reads."""
    return list_degradation_files(
        config.noise_pool_dir,
        config.pool.noise,
        config.online_degradation,
        config.scale,
        None if config.pool.kernels == "bicubic" else config.pool_dir,
    )


def prepare(config: TrainConfig, processes: int) -> None:
    """Check the config before any work, then run the stages that the training needs."""
    for key in ("pool_dir", "noise_pool_dir", "pairs_dir", "run"):
        check_folder_place(key, getattr(config, key))
    if config.run.is_dir():
        with lock_stage(config.run, STAGE, wait=False):
            pass  # report another process that trains this run now, not after the stages
    check_settings(extract_part(config, TrainingConfig), processes)
    check_tracker(config.tracker)
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
    foreign_pairs = is_foreign(config.pairs_dir, "pairs")
    # Fast checks come first, since kernels can take hours.
    for role in [] if foreign_pairs else config.pairs.hr:
        list_photos(getattr(config.data, role), role, config.pairs_dir)
    needs_kernels = config.pool.kernels != "bicubic" and not foreign_pairs
    if needs_kernels and not is_foreign(config.pool_dir, "kernels"):
        estimator, key = stages.choose_estimator(config), config.pool.estimator_key
        make_estimator(estimator, key, config.scale, config.workers, None)
    if not (config.run / "generator.safetensors").exists():
        loss = GeneratorLoss(config.loss)  # raises an error if the weights of VGG19 are missing
        try_terms(loss, extract_part(config, TrainingConfig))
    for name in required_inputs(config.online_degradation, config.pool.noise):
        if name != "kernels":  # those of the pairs, below
            _make_input(name, config)
    if foreign_pairs:
        logger.info("%s: pairs made elsewhere, used as they are", config.pairs_dir)
    else:
        if needs_kernels:
            _make_input("kernels", config)
        stages.make_pairs(extract_part(config, MakePairsConfig, compare=False))


def _make_input(name: str, config: TrainConfig) -> None:
    """Run the stage that makes an input of POOL_INPUTS, unless its files were made elsewhere."""
    stage = POOL_INPUTS[name]
    folder = config.pool_dir if name == "kernels" else config.noise_pool_dir
    if is_foreign(folder, stage):
        logger.info("%s: %s made elsewhere, used as they are", folder, stage)
    elif name == "kernels":
        stages.estimate_kernels(
            extract_part(config, EstimateKernelsConfig, shard=None, shards=None)
        )
    else:
        stages.COLLECTORS[name](extract_part(config, CollectNoiseConfig))


def split_pairs(config: TrainConfig, files: list[Path]) -> tuple[list[Pair], ValidationSet]:
    """Return the training pairs and the validation images: `data.validation` or held-out pairs.

    files: those of `list_inputs`.
    """
    degradation = build_degradation(config.online_degradation, config.scale, files)
    lr_name, is_foreign_folder = config.data.lr_name, is_foreign(config.pairs_dir, "pairs")
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
