"""Records of a training: TensorBoard events, metrics.jsonl, samples/, profile/."""

import json
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.utils.tensorboard.summary import image, scalar

from realsr.core.file_names import printable, utf8_path
from realsr.core.files import parse_json, write_bytes
from realsr.imaging import to_uint8, write_uint8
from realsr.training.trackers.tracker import SafeTracker

logger = logging.getLogger("realsr")

WAIT, WARM_UP, ACTIVE = 5, 2, 5  # steps of a profile


class Records:
    """Writes the records of a run into its folder, and replaces those of steps after `start`.

    Events are written in the training thread: in the thread of SummaryWriter, a full disk causes a
    traceback.

    tracker: gets the same values and images.
    """

    def __init__(self, run: Path, start: int, tracker: SafeTracker):
        self._run, self._tracker = run, tracker
        run.mkdir(parents=True, exist_ok=True)
        _remove_later(run / "metrics.jsonl", start)
        self._open_events()
        self._write_event(step=start + 1, session_log=SessionLog(status=SessionLog.START))

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars to TensorBoard."""
        for name, value in values.items():
            self._write_event(step=step, summary=scalar(name, value))
        self._file.flush()
        self._tracker.log_values(step, values)

    def scores(self, step: int, validation: str, scores: Mapping[str, float]) -> None:
        """Write the scores of a validation set to TensorBoard and metrics.jsonl."""
        self.values(
            step,
            {f"validation {printable(validation)}/{name}": value for name, value in scores.items()},
        )
        with (self._run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "validation": validation, **scores}) + "\n")
            file.flush()
            os.fsync(file.fileno())  # before a checkpoint records the score

    def strips(self, step: int, names: Sequence[str], strips: Sequence[Tensor]) -> None:
        """Write images (3, h, w) to TensorBoard and samples/<name>/step_<step>.png."""
        for name, strip in zip(names, strips, strict=True):
            tag = f"LR, bicubic, SR, HR/{printable(name)}"
            self._write_event(step=step, summary=image(tag, strip, dataformats="CHW"))
            folder = self._run / "samples" / name
            folder.mkdir(parents=True, exist_ok=True)
            strip_uint8 = to_uint8(strip)
            write_uint8(folder / f"step_{step:08d}.png", strip_uint8)
            self._tracker.log_image(step, tag, strip_uint8)

    def sync(self) -> None:
        """Flush all events to disk, as a checkpoint requires. Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush the events and close the file."""
        self._file.close()
        self._tracker.close()

    def _open_events(self) -> None:
        folder = self._run / "tensorboard"
        folder.mkdir(exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        self._path = (
            folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        )
        self._file = self._path.open("wb")
        self._write_event(file_version="brain.Event:2")
        self._file.flush()

    def _write_event(self, **content: Any) -> None:
        if not self._path.exists():
            logger.warning("%s was removed with its curves: writing to a new file", self._path)
            self._file.close()
            self._open_events()
        event = Event(wall_time=time.time(), **content)
        RecordWriter(self._file).write(event.SerializeToString())


def _remove_later(metrics: Path, start: int) -> None:
    """Remove the lines of steps after `start`, and incomplete lines of a crash."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_bytes(metrics, "".join(line for line in lines if _step_of(line) <= start).encode())


def _step_of(line: str) -> float:
    try:
        return float(parse_json(line)["step"]) if line.endswith("}\n") else math.inf
    except (ValueError, TypeError, KeyError):
        return math.inf


class Stopwatch:
    """Measures training speed without pauses, and the share of time spent waiting for data.

    Attributes:
        images: number of training images since the last reading.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.images, self._start = 0, time.monotonic()
        self._seconds = {"waiting": 0.0, "paused": 0.0}

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Count the time of the block as `waiting` for data or as `paused`."""
        start = time.monotonic()
        yield
        self._seconds[activity] += time.monotonic() - start

    def read(self) -> dict[str, float]:
        """Return images per second and the share of waiting since the last call; then reset."""
        seconds = max(time.monotonic() - self._start - self._seconds["paused"], 1e-9)
        images, waiting = self.images, self._seconds["waiting"]
        self._reset()
        return {
            "speed/images_per_second": images / seconds,
            "speed/waiting_for_data": waiting / seconds,
        }


def used_memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory in GB of this process, if the system reports it, and of the GPU."""
    values = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
        values["memory/process_gb"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
        )
    if device.type == "cuda":
        values["memory/gpu_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return values


@contextmanager
def profile(folder: Path, device: torch.device) -> Iterator[Callable[[], None]]:
    """Trace steps 8 to 12 into `folder/trace.json`. Call the result after each step.

    View the trace in a browser at chrome://tracing or ui.perfetto.dev. The slowest operations are
    listed in `folder/operations.txt`.
    """

    def write(profiler: torch.profiler.profile) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with utf8_path(folder) as place:
            profiler.export_chrome_trace(str(place / "trace.json"))
        table = profiler.key_averages().table(
            sort_by=f"self_{device.type}_time_total", row_limit=40
        )
        (folder / "operations.txt").write_text(table, encoding="utf-8")
        logger.info("profile of %d steps: %s", ACTIVE, folder / "trace.json")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    schedule = torch.profiler.schedule(wait=WAIT, warmup=WARM_UP, active=ACTIVE, repeat=1)
    with torch.profiler.profile(
        activities=activities, schedule=schedule, on_trace_ready=write
    ) as profiler:
        yield profiler.step
