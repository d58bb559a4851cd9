"""A trace of a few steps, to see what a training spends its time on."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from realsr.core.file_names import utf8_path

logger = logging.getLogger("realsr")

SKIPPED, WARM_UP, TRACED = 5, 2, 5


@contextmanager
def profile(folder: Path, device: torch.device, wanted: bool) -> Iterator[Callable[[], None]]:
    """Trace steps 8 to 12 into `folder/trace.json`, if wanted; what is yielded is to be called after each step.

    The trace opens in a browser at chrome://tracing or ui.perfetto.dev; the operations that take longest are in
    `folder/operations.txt`.
    """
    if not wanted:
        yield lambda: None
        return
    on_gpu = device.type == "cuda"

    def write(profiler: torch.profiler.profile) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with utf8_path(folder) as place:
            profiler.export_chrome_trace(str(place / "trace.json"))
        table = profiler.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=40)
        (folder / "operations.txt").write_text(table, encoding="utf-8")
        logger.info("profile of %d steps: %s", TRACED, folder / "trace.json")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    schedule = torch.profiler.schedule(wait=SKIPPED, warmup=WARM_UP, active=TRACED, repeat=1)
    with torch.profiler.profile(activities=activities, schedule=schedule, on_trace_ready=write) as profiler:
        yield profiler.step
