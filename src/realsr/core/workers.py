"""Work on many items in worker processes or threads; results do not depend on their number."""

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
from realsr.core.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_ITEMS = 8  # for worker processes, which take seconds to start
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def count_workers(items: int, workers: int | None) -> int:
    """Return the number of worker processes: `workers` if set, else one per core.

    Without `workers`, fewer than `MIN_ITEMS` items are computed in the main process (0 workers).
    """
    if workers is not None:
        return min(workers, items)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(cores, items) if items >= MIN_ITEMS and cores > 1 else 0


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 2
) -> Iterator[Result]:
    """Yield function(item) for each item in order, in `workers` processes (0: in this one).

    The function and its items must be picklable and not defined in the main script, which the
    processes do not import. At most `ahead` items per worker are in progress or wait to be yielded,
    so memory is bounded. All processes end with the iteration.

    Raises the function's errors, and UserError if a process dies.
    """
    if workers == 0:
        yield from map(function, items)
        return
    iterator = iter(items)
    pool = ProcessPoolExecutor(workers, worker_context(), initializer=_use_one_thread)
    pending = deque[Future[Result]]()

    def submit(count: int) -> None:
        """Submit the next `count` items to the pool."""
        for item in islice(iterator, count):
            with hide_main():  # submit() starts the processes of the pool
                pending.append(pool.submit(function, item))

    try:
        submit(workers * ahead)
        while pending:
            result = pending.popleft().result()
            submit(1)
            yield result
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} worker processes died, probably out of memory. Finished items are "
            f"kept: set workers={workers // 2} and repeat the command; 0 uses the main process"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def map_with_progress(
    title: str,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    done: int = 0,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item and function(item) in order, and show the progress under a title.

    Write the call in the `for` statement itself, so that an error in the loop ends the progress.

    workers: see `count_workers`. done: number of items that an earlier run finished.
    """
    results = map_items(function, items, count_workers(len(items), workers))
    with Progress(title, total=done + len(items), done=done) as progress:
        for item, result in zip(items, results, strict=True):
            progress.advance()
            yield item, result


@contextmanager
def hide_main() -> Iterator[None]:
    """Prevent processes that are started in the block from running the main script again.

    Python would run it in each process up to `if __name__ == "__main__":`, which a user's script may
    lack, and would fail for a script from standard input.
    """
    main = sys.modules["__main__"].__dict__
    attributes = {key: main.pop(key) for key in ("__file__", "__spec__") if key in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update({"__spec__": None} | attributes)


def worker_context() -> BaseContext:
    """Return the context that starts worker processes as forks of a server that has imported torch.

    A fork of this process would inherit the locks of its threads and, after CUDA is initialised, a
    GPU that it cannot use. A new process would need seconds to import torch.
    """
    method = "forkserver" if os.name == "posix" else "spawn"
    if multiprocessing.get_start_method(allow_none=True) not in (
        None,
        *multiprocessing.get_all_start_methods(),
    ):
        # The default method of joblib's processes is not available to their children.
        multiprocessing.set_start_method(method, force=True)
    if method == "spawn":
        return multiprocessing.get_context(method)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["realsr.imaging"])
    # Ctrl-C and SIGTERM reach all processes of a job, but the main process may still need workers.
    # Therefore the server and its children start with these signals blocked. The server ends with
    # the main process.
    resource_tracker.ensure_running()  # otherwise the server starts it, which unblocks the signals
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


def split_work(
    work: Callable[..., Result], columns: Sequence[Sequence[Any]], progress: Callable[[int], None]
) -> list[Result]:
    """Return work(*part, progress=…) for each part of the items, in the number of threads of torch.

    columns: sequences of equal length, which are split at the same indices. Each thread uses one core,
    which is faster for small tensor operations than one operation on all cores. The results do not
    depend on the number of threads.

    Raises the first error of a part. The other parts then end at their next call of `progress`, as
    after Ctrl-C.
    """
    threads, items = torch.get_num_threads(), len(columns[0])
    count = min(threads, items)
    bounds = [round(i * items / count) for i in range(count + 1)]
    lock, stop_event = threading.Lock(), threading.Event()

    def advance(steps: int) -> None:
        """Report progress from a thread. Raises CancelledError if the work was stopped."""
        if stop_event.is_set():
            raise CancelledError
        with lock:
            progress(steps)

    def run(first: int, last: int) -> Result:
        try:
            return work(*(column[first:last] for column in columns), progress=advance)
        except BaseException:
            stop_event.set()
            raise

    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(run, first, last) for first, last in pairwise(bounds)]
        for future in futures:
            if (error := future.exception()) is not None and not isinstance(error, CancelledError):
                raise error
        return [future.result() for future in futures]
    finally:
        stop_event.set()
        pool.shutdown()
        torch.set_num_threads(threads)  # each thread also set it for threads that start later


def _use_one_thread() -> None:
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked in the server
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
