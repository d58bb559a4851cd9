"""The jobs of the local page: a folder for each, and a queue that runs one at a time."""

import logging
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realsr.core.errors import ImageError, UserError, WeightsError, first_line

logger = logging.getLogger("realsr")

MAX_JOBS = 16  # with a folder; beyond, the oldest that is neither waiting nor running is deleted


class Cancelled(Exception):
    """The page no longer needs the job."""


class Job:
    """A request of the page: its folder of photos and results, its progress and its outcome.

    state: receiving (photos are being sent), waiting, running, finished or failed.
    result: what the page shows, JSON. files: names of files in the folder that the page may read.
    notes: warnings of the work. error: why it failed.
    """

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self.state, self.cancelled, self.number = "receiving", False, 0
        self.result: dict[str, Any] = {}
        self.files: list[str] = []
        self.notes: list[str] = []
        self.error: str | None = None
        self.begin("")

    def begin(self, stage: str, total: int = 0, seconds: float | None = None) -> None:
        """Begin a stage of `total` steps, 0 if unknown, and of `seconds`, None if unknown."""
        self._stop_if_cancelled()
        self._stage, self._total, self._count, self._seconds = stage, total, 0, seconds
        self._start = self._latest = time.monotonic()

    def advance(self, steps: int) -> None:
        """Add finished steps. Raises Cancelled."""
        self._stop_if_cancelled()
        self._count, self._latest = self._count + steps, time.monotonic()

    def _stop_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled

    def _estimate(self) -> tuple[float | None, float | None]:
        """Return the remaining seconds of the stage and the fraction that has passed, or None.

        The estimate follows the clock between two steps.
        """
        seconds = self._seconds
        if self._count:
            seconds = (self._latest - self._start) * self._total / self._count
        if not seconds:
            return None, None
        elapsed = time.monotonic() - self._start
        return max(0.0, seconds - elapsed), min(0.99, elapsed / seconds)

    def relative(self, text: str) -> str:
        """Return a message with the names of the job's photos instead of their paths."""
        return text.replace(f"{self.folder}/photo/", "").replace(f"{self.folder}/", "")

    def describe(self) -> dict[str, Any]:
        """Return the state for the page, JSON."""
        seconds_left, fraction = self._estimate()
        return {
            "state": self.state,
            "stage": self._stage,
            "fraction": fraction,
            "seconds_left": seconds_left,
            "result": self.result,
            "notes": self.notes,
            "error": self.error,
        }


Work = Callable[[Job], None]


class JobQueue:
    """Runs jobs one after the other in a thread. Their folders are in `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._queue: queue.SimpleQueue[tuple[Job, Work]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the states
        self._count = 0
        threading.Thread(target=self._run, daemon=True).start()

    def create(self) -> Job:
        """Return a new job with an empty folder. Raises UserError if too many jobs wait."""
        idle = [job for job in self._jobs.values() if job.state not in ("waiting", "running")]
        if len(self._jobs) >= MAX_JOBS:
            if not idle:
                raise UserError(f"{MAX_JOBS} jobs are waiting: cancel some of them, or wait")
            self.remove(idle[0])
        job = Job(self._folder / secrets.token_urlsafe(12))
        job.folder.mkdir()
        self._jobs[job.name] = job
        return job

    def find(self, name: str) -> Job | None:
        """Return the job of a name, None if it was removed."""
        return self._jobs.get(name)

    def submit(self, job: Job, work: Work) -> None:
        """Append a job to the queue. Raises UserError if it was submitted before."""
        if job.state != "receiving":
            raise UserError("the job was started before: send its photos again")
        self._count += 1
        job.number, job.state = self._count, "waiting"
        self._queue.put((job, work))

    def count_before(self, job: Job) -> int:
        """Return how many jobs run or wait before a waiting job."""
        return sum(
            other.state in ("waiting", "running") and other.number < job.number
            for other in list(self._jobs.values())
        )

    def remove(self, job: Job) -> None:
        """Delete a job and its folder; a running one stops at its next step, then."""
        with self._lock:
            job.cancelled = True
            is_running = job.state == "running"
        self._jobs.pop(job.name, None)
        if not is_running:
            shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove all jobs."""
        for job in list(self._jobs.values()):
            self.remove(job)

    def _run(self) -> None:
        while True:
            job, work = self._queue.get()
            with self._lock:
                if job.cancelled:
                    continue
                job.state = "running"
            error = _try_work(job, work)
            for photos in filter(Path.is_dir, job.folder.glob("*")):
                shutil.rmtree(photos, ignore_errors=True)
            with self._lock:
                job.error = None if error is None else job.relative(error)
                job.state = "finished" if error is None else "failed"
            if job.cancelled:
                shutil.rmtree(job.folder, ignore_errors=True)


class _Notes(logging.Handler):
    """Adds warnings to the notes of a job."""

    def __init__(self, job: Job):
        super().__init__(logging.WARNING)
        self._job = job

    def emit(self, record: logging.LogRecord) -> None:
        """Add the message of a record, once."""
        text = self._job.relative(record.getMessage())
        if text not in self._job.notes:
            self._job.notes.append(text)


def _try_work(job: Job, work: Work) -> str | None:
    """Do the work of a job; return why it failed, None if it did not."""
    notes = _Notes(job)
    logger.addHandler(notes)
    try:
        work(job)
    except Cancelled:
        return "cancelled"
    except (UserError, ImageError, WeightsError) as error:
        return str(error)
    except MemoryError:
        return "out of memory: close other programs, set smaller tiles, or send a smaller photo"
    except OSError as error:
        return f"{error}: check the disk of the temporary folder"
    except RuntimeError as error:  # other authors' networks may have other requirements
        return f"the computation fails on this photo ({first_line(error)})"
    except Exception as error:  # the queue goes on
        logger.exception("a job of the page failed")
        return f"unexpected error ({error!r}): see the terminal of realsr app"
    finally:
        logger.removeHandler(notes)
    return None
