"""Batches made ahead by worker processes."""

import os
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

import cv2
import torch
from torch.utils.data import DataLoader

from realsr.data.dataset import Batch, CropDataset
from realsr.workers import worker_context

AHEAD = 4  # batches under way for each worker


def load_batches(
    dataset: CropDataset, first_step: int, last_step: int, workers: int, pinned: bool = False
) -> DataLoader[Batch]:
    """Return the dataset's items first_step to last_step - 1 in order, made ahead by workers, or here if there are 0.

    Workers leave it to the main process what Ctrl-C and SIGTERM mean: both reach all processes of a job at once, and
    the main one may want to end its step and write a checkpoint. They end when it closes the loader or is gone.

    Args:
        pinned: into page-locked memory, from which a GPU copies while it computes.
    """
    return DataLoader(
        dataset,
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
