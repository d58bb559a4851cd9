"""The training of a generator against a discriminator on pairs."""

import logging
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from realsr.core.devices import choose_device
from realsr.core.errors import Interrupted
from realsr.core.progress import Progress
from realsr.data.cache import cache_pairs, decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.loading import LoadingError, load_batches
from realsr.data.pairs import Pair, keep_large
from realsr.training.checkpoints import CheckpointWriter
from realsr.training.checks import check_settings
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext, local_rank
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.monitor import TrainingMonitor
from realsr.training.profiling import profile
from realsr.training.records import Stopwatch, open_records, used_memory
from realsr.training.resume import gather_state, restore_or_initialize
from realsr.training.schedule import ema_decay, learning_rate
from realsr.training.selection import Selection, ValidationSet
from realsr.training.settings import TrainingConfig
from realsr.training.signals import StopRequest, WaitInterrupted, catch_stop_signals
from realsr.training.state import TrainState, make_state
from realsr.training.step import TrainStep
from realsr.weights import save_generator

logger = logging.getLogger("realsr")


def train(
    pairs: Sequence[Pair],
    degradation: OnlineDegradation,
    validation: ValidationSet,
    run: Path,
    config: TrainingConfig,
    cache: Path,
    processes: DistributedContext = SINGLE_PROCESS,
) -> list[Path]:
    """Train a generator and return the files of its weights: raw, averaged, best.

    The folder `run` gets checkpoints, TensorBoard's records, samples and metrics.jsonl, the folder `cache` the pairs
    decoded. Where the run has a checkpoint, training goes on from there, as if it had never stopped. Raises UserError
    for data or settings that cannot be trained on, WeightsError where VGG19's weights are missing, Interrupted after
    SIGTERM or Ctrl-C, when all is saved.
    """
    trainer, scale = config.trainer, config.scale
    device = choose_device(trainer.device, "trainer.device", local_rank())
    check_settings(config, processes.world_size)

    # What is trained, and where it begins.
    state = make_state(config, device, processes)
    monitor = TrainingMonitor(trainer.max_skipped, state.scaler)
    selection = Selection(validation, run, config, device)
    start = restore_or_initialize(state, monitor, selection, run, config, processes)
    shape = (trainer.batch // processes.world_size, 3, trainer.crop // scale, trainer.crop // scale)
    step_on = TrainStep(state, GeneratorLoss(config.loss).to(device), trainer, shape)

    # Data: each process sees its part of each batch.
    pairs = keep_large(list(pairs), trainer.crop)
    images = cache_pairs(cache, pairs, None) if trainer.cache else decode_pairs(pairs)
    dataset = CropDataset(
        images, trainer.batch, trainer.crop, scale, degradation, config.seed, processes.rank, processes.world_size
    )
    workers = min(trainer.workers, os.cpu_count() or 1)
    batches = load_batches(
        dataset, start, trainer.max_steps, workers, pinned=device.type == "cuda", timeout=trainer.data_timeout
    )

    def save(step: int, best: bool = False) -> None:
        checkpoint = gather_state(step, state, monitor, selection, processes)
        if records is not None:
            records.sync()
            checkpoints.save(checkpoint, best)

    logger.info("%s", describe(state, len(pairs), config, processes))
    stopwatch = Stopwatch()
    with (
        catch_stop_signals() as request,
        Progress("training", total=trainer.max_steps, done=start, silent=not processes.is_main) as progress,
        open_records(run, start, processes.is_main) as records,
        CheckpointWriter(run / "checkpoints", trainer.keep_checkpoints) as checkpoints,
        profile(run / "profile", device, trainer.profile and processes.is_main) as trace,
    ):
        for step in range(start + 1, trainer.max_steps + 1):
            try:
                with stopwatch.waiting(), request.waiting():
                    batch = next(batches)
            except (LoadingError, WaitInterrupted) as error:
                saved = (
                    processes.world_size == 1 and step > start + 1
                )  # with others, who wait for this process, it cannot
                if saved:
                    monitor.catch_up()
                    save(step - 1)
                if isinstance(error, WaitInterrupted):
                    raise _interrupted(request, step - 1, processes, saved) from None
                raise
            tensors = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            lr, hr = degradation.apply(tensors), to_images(tensors["hr"])
            rate, decay = learning_rate(step - 1, config.optimiser), ema_decay(step - 1, trainer.ema or 0)
            monitor.follow(step, step_on(lr, hr, rate, decay, stop=request.signal is not None))
            stopwatch.trained(trainer.batch)
            trace()

            # What is due now; all processes must say the same.
            last = step == trainer.max_steps
            log = last or step % trainer.log_every == 0 or step == start + 1
            score = bool(validation.images) and (last or step % trainer.validate_every == 0)
            keep = last or step % trainer.checkpoint_every == 0
            if log or score or keep:
                monitor.catch_up()
            if log and records is not None:
                records.values(
                    step, monitor.summary() | {"learning_rate": rate} | stopwatch.read() | used_memory(device)
                )
            with stopwatch.paused():
                if score and processes.broadcast(records is not None and selection(step, state, records)):
                    save(step, best=True)
                if keep or monitor.stop:
                    save(step)
            progress.advance(note=f"loss {monitor.latest.get('loss/generator', math.nan):.4f}")
            if monitor.stop and not last:
                raise _interrupted(request, step, processes)

    return save_weights(run, state, config) if processes.is_main else []


def describe(state: TrainState, pairs: int, config: TrainingConfig, processes: DistributedContext) -> str:
    """Return in words what is trained, and how."""
    trainer, half, net = config.trainer, state.precision.half, state.generator
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    numbers = str(half).removeprefix("torch.") if half else "float32"
    together = f", {processes.world_size} processes" if processes.world_size > 1 else ""
    return (
        f"{type(net).__name__} of {millions:.3g} million parameters at scale {config.scale}, {pairs} pairs, batches of "
        f"{trainer.batch} crops of {trainer.crop}x{trainer.crop}; on {state.device} in {numbers}"
        f"{' and TF32' if state.precision.tf32 else ''}{together}"
    )


def save_weights(run: Path, state: TrainState, config: TrainingConfig) -> list[Path]:
    """Write the raw and the averaged weights and return their files, and that of the best, where there is one."""
    networks = {"generator": state.generator} | ({} if state.ema is None else {"generator_ema": state.ema})
    files = [run / f"{name}.safetensors" for name in networks]
    for file, net in zip(files, networks.values(), strict=True):
        save_generator(file, net, config.generator, config.scale)
    return files + [file for file in [run / "best.safetensors"] if file.exists()]


def _interrupted(request: StopRequest, step: int, processes: DistributedContext, saved: bool = True) -> Interrupted:
    number = request.signal or signal.SIGTERM  # another process was asked
    where = "it is saved, and the same command goes on from there"
    if not saved:
        where = "the same command goes on from the last checkpoint, if there is one"
    message = f"stopped after step {step} by {number.name}; {where}"
    return Interrupted(message if processes.is_main else "", code=128 + number)
