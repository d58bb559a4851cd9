"""What a training leaves to be watched: TensorBoard's records, metrics.jsonl, samples/."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.file_names import printable
from realsr.core.files import parse_json, write_bytes
from realsr.imaging import to_uint8, write_uint8
from realsr.training.event_file import EventFile


class Records:
    """Writes into a run's folder; what was written after the step where it begins is taken back.

    Args:
        run: the run's folder.
        start: step after which the training goes on.
    """

    def __init__(self, run: Path, start: int):
        self._run = run
        run.mkdir(parents=True, exist_ok=True)
        _remove_later(run / "metrics.jsonl", start)
        self._events = EventFile(run / "tensorboard", start + 1)

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars, for TensorBoard."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def scores(self, step: int, validation: str, scores: Mapping[str, float]) -> None:
        """Write the scores on a validation set, for TensorBoard and metrics.jsonl."""
        self.values(step, {f"validation {printable(validation)}/{name}": value for name, value in scores.items()})
        with (self._run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "validation": validation, **scores}) + "\n")
            file.flush()
            os.fsync(file.fileno())  # before a checkpoint says that this step was scored

    def strips(self, step: int, names: Sequence[str], strips: Sequence[Tensor]) -> None:
        """Write pictures (3, h, w), for TensorBoard and as samples/<name>/step_<step>.png."""
        for name, strip in zip(names, strips, strict=True):
            self._events.add_image(f"LR, bicubic, SR, HR/{printable(name)}", strip, step)
            folder = self._run / "samples" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_uint8(folder / f"step_{step:08d}.png", to_uint8(strip))

    def sync(self) -> None:
        """Put on the disk what a checkpoint of this moment takes for written."""
        self._events.flush(sync=True)

    def close(self) -> None:
        """Write what is still to be written."""
        self._events.close()


@contextmanager
def open_records(run: Path, start: int, wanted: bool) -> Iterator[Records | None]:
    """Open a run's records, if wanted, and close them whatever happens."""
    if not wanted:
        yield None
        return
    records = Records(run, start)
    try:
        yield records
    finally:
        records.close()


class Stopwatch:
    """Measures how fast training goes, without what is paused, and how long it waits for data."""

    def __init__(self) -> None:
        self._start, self._images, self._waited = time.monotonic(), 0, 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done meanwhile."""
        before = time.monotonic()
        yield
        self._start += time.monotonic() - before

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for data."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def trained(self, images: int) -> None:
        """Note that a step on so many images is done."""
        self._images += images

    def read(self) -> dict[str, float]:
        """Return images a second and the share of time that data were waited for, since the last reading."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        values = {"speed/images_per_second": self._images / elapsed, "speed/waiting_for_data": self._waited / elapsed}
        self.__init__()  # type: ignore[misc]
        return values


def used_memory(device: torch.device) -> dict[str, float]:
    """Return the highest use of memory so far in GB: of this process, where the system tells, and of the GPU."""
    values = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
        values["memory/process_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    if device.type == "cuda":
        values["memory/gpu_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return values


def _remove_later(metrics: Path, start: int) -> None:
    """Remove the lines after the checkpoint, which will be written again, and those that a crash has torn."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_bytes(metrics, "".join(line for line in lines if _step_of(line) <= start).encode())


def _step_of(line: str) -> float:
    try:
        return float(parse_json(line)["step"]) if line.endswith("}\n") else math.inf
    except (ValueError, TypeError, KeyError):
        return math.inf
