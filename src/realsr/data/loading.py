"""Batches computed ahead by worker processes."""

import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from realsr.core.errors import UserError
from realsr.core.workers import hide_main, worker_context
from realsr.data.dataset import Batch, CropDataset

logger = logging.getLogger("realsr")

AHEAD = 4  # batches under way for each worker
SHARED_MEMORY = Path("/dev/shm")
SHARE = 0.9  # of its free bytes; the rest is for other processes


class LoadingError(UserError):
    """No batch has come. The state of the training is that after the last one."""


def load_batches(
    dataset: CropDataset,
    first_step: int,
    last_step: int,
    workers: int,
    pinned: bool = False,
    timeout: float = 55,
) -> Iterator[Batch]:
    """Yield the dataset's items first_step to last_step - 1 in order, computed ahead by workers, here if there are 0.

    Workers ignore Ctrl-C and SIGTERM, which reach all processes of a job at once: the main process may still have to
    write a checkpoint. They end when it closes the iterator or has ended.

    Args:
        pinned: into page-locked memory, from which a GPU copies while it computes.
        timeout: seconds in which a batch must come.

    Raises:
        LoadingError: where a worker has died or is stuck, or shared memory is full.
        ImageError, UserError, OSError: as the dataset does.
    """
    workers = fit_workers(dataset.batch_bytes, workers)
    others = set(multiprocessing.active_children())
    loader: DataLoader[Batch | Exception] = DataLoader(
        _Caught(dataset),
        batch_size=None,  # an item is a batch
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_start_worker,
        multiprocessing_context=worker_context() if workers else None,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or the workers' seeds, which are unused, would come from the global one
        prefetch_factor=AHEAD if workers else None,
    )
    with hide_main():
        batches = iter(loader)
    children = [child for child in multiprocessing.active_children() if child not in others]
    try:
        while (batch := _next_batch(batches, children, timeout)) is not None:
            yield batch
    except GeneratorExit:
        raise
    except BaseException:
        _kill(children)  # a worker that is stuck would keep this process from its end
        raise


def fit_workers(batch_bytes: int, workers: int) -> int:
    """Return how many workers, at most `workers`, shared memory has room for; a warning reports fewer.

    Batches travel in shared memory, of which a container may have little (Docker: 64 MB).
    """
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return workers
    free, needed = int(SHARE * shutil.disk_usage(SHARED_MEMORY).free), AHEAD * batch_bytes
    fitting = min(workers, free // needed)
    if fitting < workers:
        logger.warning(
            "%s has room for the batches of %d data workers, not of trainer.workers=%d, which need %.3g MB; with 0 the "
            "main process loads. More room is faster, e.g. docker run --shm-size=1g",
            SHARED_MEMORY, fitting, workers, needed * workers / 1e6,
        )  # fmt: skip
    return fitting


def _next_batch(
    batches: Iterator[Batch | Exception], workers: Sequence[BaseProcess], timeout: float
) -> Batch | None:
    """Return the next batch, None after the last. Raises what the dataset raised in a worker, LoadingError."""
    # A worker that is stuck can block this process in the middle of a message, where DataLoader has no timeout.
    stuck, dead = threading.Event(), False

    def end_wait() -> None:
        stuck.set()
        _kill(workers)

    timer = threading.Timer(timeout, end_wait)
    timer.daemon = True
    if workers:
        timer.start()
    try:
        batch = next(batches, None)
    except (RuntimeError, OSError, EOFError) as error:
        if not workers:
            raise
        batch, dead = error, True
    finally:
        timer.cancel()
    if not isinstance(batch, Exception):
        return batch
    if not dead and not (
        isinstance(batch, RuntimeError) and "shared memory" in str(batch)
    ):  # torch's words if full
        raise batch
    line = (str(batch) or repr(batch)).splitlines()[0]
    reason = f"a data worker {'has died' if dead else 'cannot hand over its batch'} ({line}), "
    reason += f"most often because memory or {SHARED_MEMORY} is full (docker run --shm-size=1g)"
    if stuck.is_set():
        reason = f"no batch has come for {timeout:g} seconds (trainer.data_timeout): the disk is slow or stuck"
    raise LoadingError(
        f"{reason}; set a smaller trainer.workers than {len(workers)}: trainer.workers=0 loads in the main process"
    ) from None


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


class _Caught(Dataset[Batch | Exception]):
    """A dataset whose errors are items: raised in a worker, they would come with the text of its traceback."""

    def __init__(self, dataset: CropDataset):
        self._dataset = dataset

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self._dataset[step]
        except Exception as error:
            if get_worker_info() is None:
                raise
            return error


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # torch has one thread in a worker by itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = parent_process()
    if main is not None and hasattr(signal, "sigtimedwait"):
        threading.Thread(target=_end_with, args=(main,), daemon=True).start()
    elif os.name == "posix":  # macOS does not report who sends SIGTERM, so a worker ends with any
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with(main: BaseProcess) -> None:
    """End this process when the main one has ended or sends SIGTERM; signals are blocked here (`worker_context`)."""
    while True:
        received = signal.sigtimedwait({signal.SIGTERM}, 2)
        if not main.is_alive() or (received is not None and received.si_pid == main.pid):
            os._exit(0)
