"""Checkpoints: the whole state of a training, written atomically."""

import io
import logging
from pathlib import Path
from typing import Any

import torch

from realsr.core.files import write_bytes

logger = logging.getLogger("realsr")

BEST = "best.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int, best: bool = False) -> None:
    """Write `folder/step_<state["step"]>.pt` and remove all but the newest `keep`; or write `folder/best.pt`.

    Raises OSError, also where the run's folder, in which `folder` lies, is gone.
    """
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(folder / (BEST if best else f"step_{state['step']:08d}.pt"), buffer.getvalue())
    if not best:
        remove_old(folder, keep)


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints of steps but the newest `keep`."""
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of steps in a folder, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def checkpoint_step(path: Path) -> int:
    """Return the step of a checkpoint from its name."""
    return int(path.stem.removeprefix("step_"))


def find_newest(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole, the best where no other is; those that are not are set aside.

    Raises OSError where the disk cannot be read, which says nothing of the checkpoint.
    """
    for path in [*reversed(list_checkpoints(folder)), *folder.glob(BEST)]:
        content = io.BytesIO(path.read_bytes())
        try:
            torch.load(content, map_location="cpu", weights_only=True)
            return path
        except Exception as error:  # torch raises many kinds for a broken file, OSError too
            damaged = path.rename(path.with_suffix(".damaged"))  # or it would be counted among those to keep
            logger.warning(
                "%s cannot be read (%s), as after a crash while it was written: it is set aside as %s, and the one "
                "before is used",
                path, type(error).__name__, damaged.name,
            )  # fmt: skip
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that a checkpoint holds."""
    return torch.load(path, map_location="cpu", weights_only=True)
