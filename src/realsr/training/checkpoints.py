"""Checkpoints: the whole state of a training, written atomically."""

import io
import logging
from pathlib import Path
from typing import Any

import torch

from realsr.imaging import write_bytes

logger = logging.getLogger("realsr")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write `folder/step_<step>.pt` and remove all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"step": step, **state}, buffer)
    write_bytes(folder / f"step_{step:08d}.pt", buffer.getvalue())
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, and say which cannot; None where there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            logger.warning(
                "%s cannot be read and is left aside (%s)", path, (str(error) or repr(error)).splitlines()[0]
            )
    return None
