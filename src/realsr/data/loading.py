"""Batches made ahead by worker processes."""

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
    """No batch has come. The training is as it was after the last one."""


def load_batches(
    dataset: CropDataset, first_step: int, last_step: int, workers: int, pinned: bool = False, timeout: float = 55
) -> Iterator[Batch]:
    """Yield the dataset's items first_step to last_step - 1 in order, made ahead by workers, or here if there are 0.

    Workers leave it to the main process what Ctrl-C and SIGTERM mean: both reach all processes of a job at once, and
    the main one may want to end its step and write a checkpoint. They end when it closes the iterator or is gone.

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
        generator=torch.Generator(),  # its seeds for workers, which use none, would come out of everyone's generator
        prefetch_factor=AHEAD if workers else None,
    )
    with hide_main():
        batches = iter(loader)
    children = [child for child in multiprocessing.active_children() if child not in others]
    try:
        while (batch := _take(batches, children, timeout)) is not None:
            yield batch
    except GeneratorExit:
        raise
    except BaseException:
        _kill(children)  # one that is stuck would keep this process from its end
        raise


def fit_workers(batch_bytes: int, workers: int) -> int:
    """Return how many workers shared memory has room for, at most `workers`, and say so where it is fewer.

    Batches are handed over in shared memory, of which a container may have little (Docker: 64 MB).
    """
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return workers
    free, needed = int(SHARE * shutil.disk_usage(SHARED_MEMORY).free), AHEAD * batch_bytes
    if needed * workers <= free:
        return workers
    fitting = free // needed
    logger.warning(
        "%s has room for the batches of %d data workers, not of trainer.workers=%d, which need %.3g MB: loading with "
        "%s. More room is faster, e.g. docker run --shm-size=1g",
        SHARED_MEMORY, fitting, workers, needed * workers / 1e6, f"{fitting}" if fitting else "none, in this process",
    )  # fmt: skip
    return fitting


def _take(batches: Iterator[Batch | Exception], workers: Sequence[BaseProcess], timeout: float) -> Batch | None:
    """Return the next batch, None after the last. Raises what the dataset raised in a worker, LoadingError."""
    # A worker that is stuck can block this process in the middle of a message, where no other timeout is heeded.
    stuck = threading.Event()

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
        if stuck.is_set():
            raise LoadingError(
                f"no batch has come for {timeout:g} seconds: a data worker is stuck, or the disk is too slow. Set "
                "trainer.workers=0 to load in the main process, or a larger trainer.data_timeout"
            ) from None
        raise LoadingError(
            f"a data worker has died ({(str(error) or repr(error)).splitlines()[0]}), most often because memory ran "
            f"out: set a smaller trainer.workers than {len(workers)}; 0 loads in the main process"
        ) from None
    finally:
        timer.cancel()
    if isinstance(batch, RuntimeError) and "shared memory" in str(batch):  # torch's words where it is full
        raise LoadingError(
            f"a data worker cannot hand over its batch ({str(batch).splitlines()[0]}): set a smaller trainer.workers "
            f"than {len(workers)}, 0 loads in the main process; or give more room in {SHARED_MEMORY}, e.g. docker run "
            "--shm-size=1g"
        ) from None
    if isinstance(batch, Exception):
        raise batch
    return batch


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


class _Caught(Dataset[Batch | Exception]):
    """A dataset whose errors are items: a worker's errors would come with the text of its traceback."""

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
    elif os.name == "posix":  # macOS cannot tell who sends SIGTERM, so a worker ends with any
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with(main: BaseProcess) -> None:
    """End this process when the main one is gone, or itself sends SIGTERM, as it does at its end to workers left over.

    Here signals are blocked (`worker_context`), so that SIGTERM waits to be asked for.
    """
    while True:
        told = signal.sigtimedwait({signal.SIGTERM}, 2)
        if not main.is_alive() or (told is not None and told.si_pid == main.pid):
            os._exit(0)
