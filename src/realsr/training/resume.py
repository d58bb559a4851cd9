"""Where a training begins: where its newest checkpoint ends, or with the weights it is given."""

import logging
from operator import index
from pathlib import Path
from typing import Any

import torch

from realsr.core.errors import UserError
from realsr.core.seeding import derive_seed
from realsr.core.tensor_files import TensorFileError, check_finite
from realsr.training.checkpoints import find_newest, load_checkpoint, remove_old
from realsr.training.distributed import Processes
from realsr.training.monitor import Watch
from realsr.training.randomness import random_state, restore_random_state
from realsr.training.selection import Selection
from realsr.training.settings import TrainingConfig
from realsr.training.state import Parts
from realsr.weights import load_generator_state

logger = logging.getLogger("realsr")


def gather_state(step: int, parts: Parts, watch: Watch, selection: Selection, processes: Processes) -> dict[str, Any]:
    """Return all that the training after `step` depends on; to be called by all processes at once.

    Learning rates and samples are functions of the step.
    """
    return {
        "step": step,
        **parts.state(),
        "watch": watch.state_dict(),
        "selection": selection.state_dict(),
        "random": processes.gather(random_state(parts.device)),
    }


def begin(
    parts: Parts, watch: Watch, selection: Selection, run: Path, config: TrainingConfig, processes: Processes
) -> int:
    """Take up the newest checkpoint, else `init`, else nothing; return how many steps are done.

    Raises UserError where the checkpoint is of another training.
    """
    path = processes.share(find_newest(run / "checkpoints") if processes.first else None)
    if processes.first:
        remove_old(run / "checkpoints", config.trainer.keep_checkpoints)  # a kill may have come between
    if path is None:
        if config.init is None:
            if config.loss.gan > 0 or config.loss.perceptual.weight > 0:
                logger.warning("training starts from scratch; init=WEIGHTS would start from a PSNR-trained generator")
        else:
            load_generator_state(parts.generator, config.init)
            if parts.ema is not None:
                parts.ema.load_state_dict(parts.generator.state_dict())
        return 0
    state = load_checkpoint(path)
    try:
        check_finite(state["generator"])
        parts.restore(state)
        watch.load_state_dict(state["watch"])
        selection.load_state_dict(state["selection"])
        step, states = index(state["step"]), list(state["random"])
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is of another training ({reason}): begin anew with overwrite=true, or in another run=FOLDER; "
            "init=RUN starts from its weights alone"
        ) from error
    if len(states) == processes.count:
        restore_random_state(states[processes.rank], parts.device)
    else:
        torch.manual_seed(derive_seed(config.seed, "training", step, processes.rank))
        logger.info(
            "the run was in %d processes and goes on in %d: networks with dropout and the like draw other numbers than "
            "they would have",
            len(states), processes.count,
        )  # fmt: skip
    logger.info("training goes on after step %d, from %s", step, path.name)
    return step
