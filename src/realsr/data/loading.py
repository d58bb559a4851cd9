"""Prefetching of batches by worker processes."""

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

AHEAD = 4  # batches prefetched by each worker
SHARED_MEMORY = Path("/dev/shm")
SHARE = 0.9  # of its free bytes; the rest remains for other processes


class LoadingError(UserError):
    """No batch arrived. The training state is that after the last batch."""


def load_batches(
    dataset: CropDataset,
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool = False,
    timeout: float = 55,
) -> Iterator[Batch]:
    """Yield the dataset's items first_step to last_step - 1 in order, prefetched by workers.

    With 0 workers, this process computes them. Workers ignore Ctrl-C and SIGTERM, which reach all
    processes of a job at once, since the main process may still have to write a checkpoint. They
    exit when the main process closes the iterator or exits.

    Args:
        pin_memory: whether to copy batches to page-locked memory, for asynchronous copies to a GPU.
        timeout: longest wait for a batch in seconds.

    Raises:
        LoadingError: if a worker has died or hangs, or shared memory is full.
        ImageError, UserError, OSError: as the dataset does.
    """
    workers = fit_workers(dataset.batch_bytes, workers)
    earlier = set(multiprocessing.active_children())
    loader: DataLoader[Batch | Exception] = DataLoader(
        _ErrorsAsItems(dataset),
        batch_size=None,  # an item is a batch
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        multiprocessing_context=worker_context() if workers else None,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # keeps worker seeds off the global generator
        prefetch_factor=AHEAD if workers else None,
    )
    with hide_main():
        batches = iter(loader)
    children = [child for child in multiprocessing.active_children() if child not in earlier]
    try:
        while (batch := _next_batch(batches, children, timeout)) is not None:
            yield batch
    except GeneratorExit:
        raise
    except BaseException:
        _kill(children)  # a worker that hangs would prevent this process from exiting
        raise


def fit_workers(batch_bytes: int, workers: int) -> int:
    """Return the number of workers, at most `workers`, whose batches fit into shared memory.

    Batches are passed in shared memory, which can be small in a container (Docker: 64 MB). A
    warning reports a reduction.
    """
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return workers
    free, size = int(SHARE * shutil.disk_usage(SHARED_MEMORY).free), AHEAD * batch_bytes
    fitting = min(workers, free // size)
    if fitting < workers:
        logger.warning(
            "%s is too small for trainer.workers=%d, which need %.3g MB: using %d data workers "
            "(0: the main process loads). Enlarge it for speed, e.g. docker run --shm-size=1g",
            SHARED_MEMORY, workers, size * workers / 1e6, fitting,
        )  # fmt: skip
    return fitting


def _next_batch(
    batches: Iterator[Batch | Exception], workers: Sequence[BaseProcess], timeout: float
) -> Batch | None:
    """Return the next batch, None after the last.

    Raises LoadingError, and any error of the dataset in a worker.
    """
    # A worker that hangs can block this process in the middle of a message, and DataLoader's
    # timeout does not apply there.
    timed_out, dead = threading.Event(), False

    def end_wait() -> None:
        timed_out.set()
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
    # torch's message if shared memory is full
    is_full = isinstance(batch, RuntimeError) and "shared memory" in str(batch)
    if not dead and not is_full:
        raise batch
    line = (str(batch) or repr(batch)).splitlines()[0]
    reason = f"a data worker {'died' if dead else 'cannot pass its batch on'} ({line}), "
    reason += f"probably because memory or {SHARED_MEMORY} is full (docker run --shm-size=1g)"
    if timed_out.is_set():
        reason = (
            f"no batch for {timeout:g} seconds (trainer.data_timeout): the disk is slow or hangs"
        )
    raise LoadingError(
        f"{reason}; set trainer.workers below {len(workers)}; with trainer.workers=0 the main "
        "process loads"
    ) from None


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


class _ErrorsAsItems(Dataset[Batch | Exception]):
    """A dataset that returns its errors as items; DataLoader would add a worker's traceback."""

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
    cv2.setNumThreads(0)  # torch uses one thread in a worker by default
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = parent_process()
    if main is not None and hasattr(signal, "sigtimedwait"):
        threading.Thread(target=_exit_with, args=(main,), daemon=True).start()
    elif os.name == "posix":  # macOS does not report the sender of SIGTERM: exit at any
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _exit_with(main: BaseProcess) -> None:
    """Exit when the main process has exited or sends SIGTERM (blocked by `worker_context`)."""
    while True:
        info = signal.sigtimedwait({signal.SIGTERM}, 2)
        if not main.is_alive() or (info is not None and info.si_pid == main.pid):
            os._exit(0)
