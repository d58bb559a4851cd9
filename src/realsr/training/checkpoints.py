"""Checkpoints: the whole state of a training, written atomically."""

import io
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from realsr.core.files import replace_file

logger = logging.getLogger("realsr")

BEST = "best.pt"


class CheckpointWriter:
    """Writes checkpoints into a folder while the training goes on: to put one on the disk can take seconds.

    Use it in a `with`, at whose end the last one is on the disk. A write that fails raises its OSError at the next
    `save`, or at the end.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1)
        self._write: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def save(self, state: dict[str, Any], best: bool = False) -> None:
        """Write a state as `step_<state["step"]>.pt` and remove all but the newest `keep`; or write it as `best.pt`."""
        content = io.BytesIO()
        torch.save(state, content)
        self.wait()
        self._write = self._thread.submit(write_checkpoint, self._folder, state["step"], content, self._keep, best)

    def wait(self) -> None:
        """Wait until what was saved is on the disk. Raises OSError where it is not."""
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        self.wait()


def write_checkpoint(folder: Path, step: int, content: io.BytesIO, keep: int, best: bool) -> None:
    """Write a checkpoint's content as `CheckpointWriter.save` says.

    Raises OSError, also where the run's folder, in which `folder` lies, is gone.
    """
    folder.mkdir(exist_ok=True)
    with replace_file(folder / (BEST if best else f"step_{step:08d}.pt")) as file:
        file.write(content.getbuffer())
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
        except Exception:  # torch raises many kinds for a broken file, OSError too
            damaged = path.rename(path.with_suffix(".damaged"))  # or it would be counted among those to keep
            logger.warning(
                "%s cannot be read, as after a crash while it was written: it is set aside as %s, and the one "
                "before is used",
                path,
                damaged.name,
            )
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that a checkpoint holds."""
    return torch.load(path, map_location="cpu", weights_only=True)
