"""Where a training begins: where its newest checkpoint ends, or with the weights it is given."""

import logging
import random
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch

from realsr.core.errors import UserError
from realsr.core.seeding import derive_seed
from realsr.core.tensor_files import TensorFileError, check_finite
from realsr.training.checkpoints import find_newest, load_checkpoint, remove_old
from realsr.training.distributed import DistributedContext
from realsr.training.generator_loss import active_terms
from realsr.training.monitor import TrainingMonitor
from realsr.training.selection import Selection
from realsr.training.settings import TrainingConfig
from realsr.training.state import TrainState
from realsr.weights import load_generator_state

logger = logging.getLogger("realsr")

MAX_THREADS = 1024  # beyond which a checkpoint is damaged


def gather_state(
    step: int, state: TrainState, monitor: TrainingMonitor, selection: Selection, processes: DistributedContext
) -> dict[str, Any]:
    """Return all that the training after `step` depends on; to be called by all processes at once.

    Learning rates and samples are functions of the step.
    """
    return {
        "step": step,
        **state.state(),
        "watch": monitor.state_dict(),
        "selection": selection.state_dict(),
        "threads": torch.get_num_threads(),
        "random": processes.gather(random_state(state.device)),
    }


def restore_or_initialize(
    state: TrainState,
    monitor: TrainingMonitor,
    selection: Selection,
    run: Path,
    config: TrainingConfig,
    processes: DistributedContext,
) -> int:
    """Take up the newest checkpoint, else `init`, else nothing; return how many steps are done.

    Raises UserError where the checkpoint is of another training.
    """
    path = processes.broadcast(find_newest(run / "checkpoints") if processes.is_main else None)
    if processes.is_main:
        remove_old(run / "checkpoints", config.trainer.keep_checkpoints)  # a kill may have come between
    if path is None:
        if config.init is None:
            if any(term["name"] != "l1" for term in active_terms(config.loss).values()):
                logger.warning("training starts from scratch; init=WEIGHTS would start from a PSNR-trained generator")
        else:
            load_generator_state(state.generator, config.init)
            if state.ema is not None:
                state.ema.load_state_dict(state.generator.state_dict())
        return 0
    saved = load_checkpoint(path)
    try:
        check_finite(saved["generator"])
        state.restore(saved)
        monitor.load_state_dict(saved["watch"])
        selection.load_state_dict(saved["selection"])
        step, states = index(saved["step"]), list(saved["random"])
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is of another training ({reason}): begin anew with overwrite=true, or in another run=FOLDER; "
            "init=RUN starts from its weights alone"
        ) from error
    _restore_threads(saved.get("threads"), path)
    if len(states) == processes.world_size:
        restore_random_state(states[processes.rank], state.device)
    else:
        torch.manual_seed(derive_seed(config.seed, "training", step, processes.rank))
        logger.info(
            "the run was in %d processes and goes on in %d: networks with dropout and the like draw other numbers than "
            "they would have",
            len(states), processes.world_size,
        )  # fmt: skip
    logger.info("training goes on after step %d, from %s", step, path.name)
    return step


def _restore_threads(threads: object, path: Path) -> None:
    """Compute with as many threads as before: their number changes the last bits of sums."""
    now = torch.get_num_threads()
    if isinstance(threads, int) and threads != now and 0 < threads <= MAX_THREADS:
        torch.set_num_threads(threads)
        logger.info(
            "%s was computed with %d threads, and the training goes on with them; %d are set now",
            path.name,
            threads,
            now,
        )


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators that a network may draw from, torch's, the GPU's, NumPy's and Python's.

    The data need none of it: sample n is a function of the seed and n.
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (what others draw from)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set the generators to a state."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
