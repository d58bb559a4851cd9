"""Work on many files in worker processes, with results that do not depend on how many there are."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2
import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 8  # a worker takes seconds to start: not worth it for fewer items


def count_workers(items: int, asked: int | None) -> int:
    """Return how many worker processes to use: as many as asked for, else one a core, or none for a few items."""
    if asked is not None:
        return min(asked, items)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, items) if items >= FEW and cores > 1 else 0


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 2
) -> Iterator[Result]:
    """Yield function(item) of each item in order, computed in `workers` processes, or in this one if that is 0.

    The function and its items must be picklable; at most `ahead` items a worker are under way or waiting to be
    taken, so that memory stays bounded. An exception of the function is raised here. Nothing outlives the iteration.
    """
    if workers == 0:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["realsr.imaging"])
    iterator = iter(items)
    pool = ProcessPoolExecutor(workers, context, initializer=_use_one_thread)
    try:
        pending: deque[Future[Result]] = deque(
            pool.submit(function, item) for item in islice(iterator, workers * ahead)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(iterator, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _use_one_thread() -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
