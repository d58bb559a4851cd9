"""Work on many items at once in threads of this process, each with one core of its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class _StoppedError(Exception):
    """The work is to end, since something else has failed."""


def split_work(
    work: Callable[..., Result], columns: Sequence[Sequence[Any]], progress: Callable[[int], None]
) -> list[Result]:
    """Return work(*part, progress=…) for each part of the items, one part a thread that torch may use.

    columns: sequences of one length, cut at the same places. Several threads with one core each share out small tensor
    operations better than one operation after the other shares itself out, and none rounds by their number. What a
    part raises is raised here, and the others end at their next call of `progress`, as after Ctrl-C.
    """
    threads, items = torch.get_num_threads(), len(columns[0])
    count = min(threads, items)
    bounds = [round(i * items / count) for i in range(count + 1)]
    lock, stopped = threading.Lock(), threading.Event()

    def tell(steps: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        with lock:
            progress(steps)

    def run(first: int, last: int) -> Result:
        try:
            return work(*(column[first:last] for column in columns), progress=tell)
        except BaseException:
            stopped.set()
            raise

    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(run, first, last) for first, last in pairwise(bounds)]
        for future in futures:
            if (error := future.exception()) is not None and not isinstance(error, _StoppedError):
                raise error
        return [future.result() for future in futures]
    finally:
        stopped.set()
        pool.shutdown()
        torch.set_num_threads(threads)  # what a thread sets new ones take over
