"""Work on many items in worker processes or in threads, with results that do not depend on how many there are."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice, pairwise
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import cv2
import torch

from realsr.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 8  # a worker takes seconds to start: not worth it for fewer items
STOPPING = {signal.SIGINT, signal.SIGTERM}


def count_workers(items: int, workers: int | None) -> int:
    """Return how many worker processes to use: `workers` if it is set, else one per core, or none for a few items."""
    if workers is not None:
        return min(workers, items)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(cores, items) if items >= FEW and cores > 1 else 0


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 2
) -> Iterator[Result]:
    """Yield function(item) of each item in order, computed in `workers` processes, or in this one if that is 0.

    The function and its items must be picklable, and not of the main script, which the processes do not import. At most
    `ahead` items a worker are under way or waiting to be taken, so that memory stays bounded. Raises what the function
    raises, and UserError where a process dies. Nothing outlives the iteration.
    """
    if workers == 0:
        yield from map(function, items)
        return
    iterator = iter(items)
    pool = ProcessPoolExecutor(workers, worker_context(), initializer=_use_one_thread)
    pending = deque[Future[Result]]()

    def submit(count: int) -> None:
        for item in islice(iterator, count):
            with hide_main():  # it is here that the pool starts processes
                pending.append(pool.submit(function, item))

    try:
        submit(workers * ahead)
        while pending:
            result = pending.popleft().result()
            submit(1)
            yield result
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} worker processes has died, most often because memory ran out. Finished items are kept: "
            f"set workers={workers // 2} and repeat the command; 0 works in the main process"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def hide_main() -> Iterator[None]:
    """Keep processes that are started in the block from running the main script again.

    Python would run it in each of them, up to a guard `if __name__ == "__main__":` that a user's script may lack, and
    fail where the script is piped to it.
    """
    main = sys.modules["__main__"].__dict__
    attributes = {key: main.pop(key) for key in ("__file__", "__spec__") if key in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update({"__spec__": None} | attributes)


def worker_context() -> BaseContext:
    """Return how worker processes are started: as forks of a small server that has imported torch once.

    A fork of this process would take over the locks its threads hold at that moment and, once CUDA is in use, a GPU
    it cannot use; a process started from nothing imports torch for seconds.
    """
    method = "forkserver" if os.name == "posix" else "spawn"
    if multiprocessing.get_start_method(allow_none=True) not in (
        None,
        *multiprocessing.get_all_start_methods(),
    ):
        # joblib's processes have a default method that their children would not know.
        multiprocessing.set_start_method(method, force=True)
    if method == "spawn":
        return multiprocessing.get_context(method)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["realsr.imaging"])
    # Ctrl-C and SIGTERM reach all processes of a job, but the main one may still need workers. The server starts with
    # these signals blocked, and so do its children; it ends with the main process.
    resource_tracker.ensure_running()  # else the server starts it first, which unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def split_work(
    work: Callable[..., Result], columns: Sequence[Sequence[Any]], progress: Callable[[int], None]
) -> list[Result]:
    """Return work(*part, progress=…) for each part of the items, in as many threads as torch may use.

    columns: sequences of one length, cut at the same places. Each thread has one core: that is faster for small tensor
    operations than one operation on all cores, and the results do not depend on the number of threads. Raises what a
    part raises; the others end at their next call of `progress`, as after Ctrl-C.
    """
    threads, items = torch.get_num_threads(), len(columns[0])
    count = min(threads, items)
    bounds = [round(i * items / count) for i in range(count + 1)]
    lock, stopped = threading.Lock(), threading.Event()

    def advance(steps: int) -> None:
        if stopped.is_set():
            raise CancelledError
        with lock:
            progress(steps)

    def run(first: int, last: int) -> Result:
        try:
            return work(*(column[first:last] for column in columns), progress=advance)
        except BaseException:
            stopped.set()
            raise

    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(run, first, last) for first, last in pairwise(bounds)]
        for future in futures:
            if (error := future.exception()) is not None and not isinstance(error, CancelledError):
                raise error
        return [future.result() for future in futures]
    finally:
        stopped.set()
        pool.shutdown()
        torch.set_num_threads(threads)  # each thread has set it for the threads that start later


def _use_one_thread() -> None:
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # blocked in the server
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
