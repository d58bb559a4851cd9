"""Checkpoints: the full state of a training, written atomically and restored bit for bit."""

import io
import logging
import random
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch

from realsr.core.errors import UserError
from realsr.core.files import replace_file
from realsr.core.seeding import derive_seed
from realsr.core.tensor_files import TensorFileError, check_finite
from realsr.training.distributed import DistributedContext
from realsr.training.generator_loss import is_perceptual
from realsr.training.monitor import TrainingMonitor
from realsr.training.settings import TrainingConfig
from realsr.training.state import TrainState
from realsr.training.validation import Selection
from realsr.weights import load_generator_state

logger = logging.getLogger("realsr")

BEST = "best.pt"
MAX_THREADS = 1024  # a larger number means that a checkpoint is damaged


class CheckpointWriter(AbstractContextManager["CheckpointWriter"]):
    """Writes checkpoints into a folder in a separate thread, since the disk can take seconds.

    Use it in a `with` statement, which ends when the last checkpoint is on disk. An OSError of a
    write (also if the parent folder was removed) is raised at the next `save` or at the end.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1)
        self._write: Future[None] | None = None

    def save(self, state: dict[str, Any], best: bool = False) -> None:
        """Write a state as `step_<step>.pt`, and remove all but the newest `keep`.

        best: write it as `best.pt` instead, and remove nothing.
        """
        content = io.BytesIO()
        torch.save(state, content)
        self.wait()
        self._write = self._thread.submit(self._write_file, state["step"], content, best)

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk."""
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        self.wait()

    def _write_file(self, step: int, content: io.BytesIO, best: bool) -> None:
        self._folder.mkdir(exist_ok=True)
        with replace_file(self._folder / (BEST if best else f"step_{step:08d}.pt")) as file:
            file.write(content.getbuffer())
        if not best:
            remove_old(self._folder, self._keep)


def remove_old(folder: Path, keep: int) -> None:
    """Remove all `step_*.pt` but the newest `keep`."""
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the `step_*.pt` of a folder, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def find_newest(folder: Path) -> Path | None:
    """Return the newest intact checkpoint, else `best.pt`, else None. Damaged files are renamed.

    Raises OSError if the disk cannot be read; such a file is not taken for damaged.
    """
    for path in [*reversed(list_checkpoints(folder)), *folder.glob(BEST)]:
        content = io.BytesIO(path.read_bytes())
        try:
            torch.load(content, map_location="cpu", weights_only=True)
            return path
        except Exception:  # torch raises various errors for a broken file, OSError too
            # Renamed, else it would count towards `keep`.
            new_path = path.rename(path.with_suffix(".damaged"))
            logger.warning(
                "%s cannot be read, probably because of a crash while it was written: renamed to "
                "%s; using the previous checkpoint",
                path,
                new_path.name,
            )
    return None


def gather_state(
    step: int,
    state: TrainState,
    monitor: TrainingMonitor,
    selection: Selection,
    processes: DistributedContext,
) -> dict[str, Any]:
    """Return the full state of a training after `step`. All processes must call it together.

    Learning rates and samples are functions of the step, and not part of the state.
    """
    return {
        "step": step,
        **state.state_dict(),
        "watch": monitor.state_dict(),
        "selection": selection.state_dict(),
        "threads": torch.get_num_threads(),
        "random": processes.gather(_random_state(state.device)),
    }


def restore_or_initialize(
    state: TrainState,
    monitor: TrainingMonitor,
    selection: Selection,
    run: Path,
    config: TrainingConfig,
    processes: DistributedContext,
) -> int:
    """Restore the newest checkpoint, else load `init`, if set; return the last trained step.

    Raises UserError if the checkpoint is of another training.
    """
    path = processes.broadcast(find_newest(run / "checkpoints") if processes.is_main else None)
    if processes.is_main:
        # A killed run may have left more.
        remove_old(run / "checkpoints", config.trainer.keep_checkpoints)
    if path is None:
        _initialize(state, config)
        return 0
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    try:
        check_finite(checkpoint["generator"])
        state.load_state_dict(checkpoint)
        monitor.load_state_dict(checkpoint["watch"])
        selection.load_state_dict(checkpoint["selection"])
        step, random_states = index(checkpoint["step"]), list(checkpoint["random"])
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is of another training ({reason}): set overwrite=true to restart, or choose "
            "another run=FOLDER; init=RUN loads only its weights"
        ) from error
    _restore_threads(checkpoint.get("threads"), path)
    if len(random_states) == processes.world_size:
        _restore_random_state(random_states[processes.rank], state.device)
    else:
        torch.manual_seed(derive_seed(config.seed, "training", step, processes.rank))
        logger.info(
            "the training used %d processes and now uses %d: the random numbers of networks, such "
            "as those of dropout, will differ",
            len(random_states), processes.world_size,
        )  # fmt: skip
    logger.info("training continues after step %d, from %s", step, path.name)
    return step


def _initialize(state: TrainState, config: TrainingConfig) -> None:
    if config.init is not None:
        load_generator_state(state.generator, config.init)
        if state.ema is not None:
            state.ema.load_state_dict(state.generator.state_dict())
    elif is_perceptual(config.loss):
        logger.warning(
            "training starts from scratch; set init=WEIGHTS to start from a PSNR-trained generator"
        )


def _restore_threads(threads: object, path: Path) -> None:
    """Set the previous number of threads, on which the last bits of sums depend."""
    now = torch.get_num_threads()
    if isinstance(threads, int) and threads != now and 0 < threads <= MAX_THREADS:
        torch.set_num_threads(threads)
        logger.info(
            "%s was computed with %d threads: the training continues with them instead of %d",
            path.name, threads, now,
        )  # fmt: skip


def _random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the random generators that a network may use, but data do not."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def _restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
