"""The training loop."""

import logging
import math
import os
import signal
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from realsr.core.devices import choose_device
from realsr.core.errors import Interrupted
from realsr.core.progress import Progress
from realsr.data.cache import cache_pairs, decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.loading import LoadingError, load_batches
from realsr.data.pairs import Pair, keep_large
from realsr.training.checkpoints import CheckpointWriter, gather_state, restore_or_initialize
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext, local_rank
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.monitor import StopRequest, TrainingMonitor, WaitTimeout, catch_stop_signals
from realsr.training.records import Records, Stopwatch, profile, used_memory
from realsr.training.settings import TrainingConfig, ema_decay, learning_rate
from realsr.training.state import TrainState, check_settings, make_state
from realsr.training.step import TrainStep
from realsr.training.trackers.tracker import NO_TRACKER, SafeTracker
from realsr.training.validation import Selection, ValidationSet
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
    tracker: SafeTracker = NO_TRACKER,
) -> list[Path]:
    """Train a generator and return its weights files: raw, averaged, best.

    Checkpoints and `Records` are written to `run`, decoded pairs to `cache`. If the run has a
    checkpoint, training continues from it with the same result as without the interruption.

    Raises UserError for unsuitable data or settings, WeightsError if VGG19's weights are missing,
    Interrupted after SIGTERM or Ctrl-C, once the state is saved.
    """
    trainer = config.trainer
    device = choose_device(trainer.device, "trainer.device", local_rank())
    check_settings(config, processes.world_size)

    # State: networks and optimisers, from the newest checkpoint if there is one.
    state = make_state(config, device, processes)
    monitor = TrainingMonitor(trainer.max_skipped, state.scaler)
    selection = Selection(validation, run, config, device)
    start = restore_or_initialize(state, monitor, selection, run, config, processes)

    # Step: the losses, and the compiled networks.
    lr_side = trainer.crop // config.scale
    lr_shape = (trainer.batch // processes.world_size, 3, lr_side, lr_side)
    train_step = TrainStep(state, GeneratorLoss(config.loss).to(device), trainer, lr_shape)

    # Data: each process loads its share of each batch, from the first step that is left.
    pairs = keep_large(list(pairs), trainer.crop)
    images = cache_pairs(cache, pairs) if trainer.cache else decode_pairs(pairs)
    dataset = CropDataset(
        images, trainer.batch, trainer.crop, config.scale, degradation, config.seed,
        processes.rank, processes.world_size,
    )  # fmt: skip
    workers = min(trainer.workers, os.cpu_count() or 1)
    pin_memory = device.type == "cuda"
    batches = load_batches(
        dataset, start, trainer.max_steps, workers, pin_memory, trainer.data_timeout
    )

    # Records and checkpoints, written by the first process.
    def save(step: int, best: bool = False) -> None:
        """Write a checkpoint; all processes must call it together."""
        checkpoint = gather_state(step, state, monitor, selection, processes)
        if records is not None:
            records.sync()
            checkpoints.save(checkpoint, best)

    def save_alone(step: int) -> bool:
        """Write a checkpoint if this is the only process; return whether it was written."""
        # Saving needs all processes, and the others are waiting in the step.
        if processes.world_size > 1 or step == start:
            return False
        monitor.catch_up()
        save(step)
        return True

    main = processes.is_main
    tracing = trainer.profile and main
    logger.info("%s", describe(state, len(pairs), config, processes))
    stopwatch = Stopwatch()
    with (
        catch_stop_signals() as request,
        Progress("training", total=trainer.max_steps, done=start, silent=not main) as progress,
        closing(Records(run, start, tracker)) if main else nullcontext() as records,
        CheckpointWriter(run / "checkpoints", trainer.keep_checkpoints) as checkpoints,
        profile(run / "profile", device) if tracing else nullcontext(lambda: None) as trace,
    ):
        for step in range(start + 1, trainer.max_steps + 1):
            # Batch. If none arrives, the state is saved.
            try:
                with stopwatch.measure("waiting"), request.waiting():
                    batch = next(batches)
            except LoadingError:
                save_alone(step - 1)
                raise
            except WaitTimeout:
                is_saved = save_alone(step - 1)
                raise _make_interrupt(request, step - 1, processes, is_saved) from None
            tensors = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            lr, hr = degradation.apply(tensors), to_images(tensors["hr"])

            # Step. The monitor reads its measurements later, so that the CPU does not wait.
            rate = learning_rate(step - 1, config.optimiser)
            decay = ema_decay(step - 1, trainer.ema or 0)
            max_norm, stop = config.optimiser.max_gradient_norm, request.signal is not None
            monitor.follow(step, train_step(lr, hr, rate, decay, max_norm, stop))
            stopwatch.images += trainer.batch
            trace()

            # What is due after the step, equal in all processes.
            is_last = step == trainer.max_steps
            must_log = is_last or step % trainer.log_every == 0 or step == start + 1
            must_validate = bool(validation.images) and (
                is_last or step % trainer.validate_every == 0
            )
            must_save = is_last or step % trainer.checkpoint_every == 0
            if must_log or must_validate or must_save:
                monitor.catch_up()

            # Log, validate, save.
            if must_log and records is not None:
                speed = stopwatch.read() | used_memory(device)
                records.values(step, monitor.summary() | {"learning_rate": rate} | speed)
            with stopwatch.measure("paused"):
                if must_validate:
                    is_best = records is not None and selection(step, state, records)
                    if processes.broadcast(is_best):
                        save(step, best=True)
                if must_save or monitor.stop:
                    save(step)
            progress.advance(note=f"loss {monitor.latest.get('loss/generator', math.nan):.4f}")

            # Stop on request.
            if monitor.stop and not is_last:
                raise _make_interrupt(request, step, processes)

    return save_weights(run, state, config) if main else []


def describe(
    state: TrainState, pairs: int, config: TrainingConfig, processes: DistributedContext
) -> str:
    """Return a description of the training for the log."""
    trainer, half, net = config.trainer, state.precision.half, state.generator
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    numbers = str(half).removeprefix("torch.") if half else "float32"
    together = f", {processes.world_size} processes" if processes.world_size > 1 else ""
    return (
        f"{type(net).__name__} of {millions:.3g} million parameters at scale {config.scale}, "
        f"{pairs} pairs, batches of {trainer.batch} crops of {trainer.crop}x{trainer.crop}; on "
        f"{state.device} in {numbers}{' and TF32' if state.precision.tf32 else ''}{together}"
    )


def save_weights(run: Path, state: TrainState, config: TrainingConfig) -> list[Path]:
    """Write the raw and averaged weights; return their files, and that of the best if it exists."""
    files = []
    for name, net in (("generator", state.generator), ("generator_ema", state.ema)):
        if net is not None:
            files.append(run / f"{name}.safetensors")
            save_generator(files[-1], net, config.generator, config.scale)
    return files + [file for file in [run / "best.safetensors"] if file.exists()]


def _make_interrupt(
    request: StopRequest, step: int, processes: DistributedContext, is_saved: bool = True
) -> Interrupted:
    number = request.signal or signal.SIGTERM  # else another process has the request
    state = "its state is saved; repeat the command to continue"
    if not is_saved:
        state = "repeat the command to continue from the last checkpoint, if any"
    message = f"stopped after step {step} by {number.name}; {state}"
    return Interrupted(message if processes.is_main else "", code=128 + number)
