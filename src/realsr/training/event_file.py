"""TensorBoard's event file, written at once by the thread that trains.

TensorBoard's own writer does this in a thread of its own, where a full disk ends in a traceback.
"""

import logging
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard.summary import image, scalar

logger = logging.getLogger("realsr")


class EventFile:
    """Writes scalars and images into a new event file of a folder; where that is gone, into another.

    Events of earlier files from step `start` on are superseded, as TensorBoard's `purge_step` has it.
    """

    def __init__(self, folder: Path, start: int):
        self._folder = folder
        self._open(start)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number."""
        self._add(step, scalar(name, value))

    def add_image(self, name: str, picture: Tensor, step: int) -> None:
        """Write a picture (3, h, w), float32 in 0..1."""
        self._add(step, image(name, picture, dataformats="CHW"))

    def flush(self, sync: bool = False) -> None:
        """Hand to the system what is buffered; sync: and put it on the disk. Raises OSError."""
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._file.close()

    def _open(self, start: int | None) -> None:
        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}."
        number = len(list(self._folder.glob(f"{name}*")))
        self._path = self._folder / f"{name}{number}"
        self._file = self._path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        if start is not None:
            self._write(Event(step=start, session_log=SessionLog(status=SessionLog.START)))
        self._file.flush()

    def _add(self, step: int, summary: Summary) -> None:
        if not self._path.exists():
            logger.warning("%s is gone, and the curves in it: a new file is begun", self._path)
            self._file.close()
            self._open(start=None)
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
