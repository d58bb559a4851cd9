"""Shared parts of the benchmark scripts: options, photos, workers, turns, and the report of results."""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

VECTOR_FLAGS = ("avx", "fma", "amx", "asimd", "sve", "bf16")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the option `--json` of all benchmarks."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    parser.add_argument("--json", type=Path, help="file that receives all figures")
    return parser


def take_turns(
    tasks: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each task, round by round; other load on the machine affects all."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clock()
            task()
            seconds[name].append(clock() - start)
    return seconds


def link_photos(source: Path, folder: Path, copies: int) -> list[Path]:
    """Make a folder of links to photos, each under several names, and return the links."""
    from realsr.imaging import list_images

    folder.mkdir()
    for path in list_images(source):
        for copy in range(copies):  # not side by side
            (folder / f"{copy}_{path.name}").symlink_to(path.resolve())
    return list_images(folder)


@contextmanager
def start_workers(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Start worker processes before the measurement; yield a function like `map_items`."""
    from realsr.core.workers import _use_one_thread

    if count == 0:
        yield lambda function, items, *_: map(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(count, context, initializer=_use_one_thread) as pool:
        list(pool.map(time.sleep, [0.5] * 4 * count))  # each worker takes one
        yield lambda function, items, *_: pool.map(function, items)


def count_child_seconds() -> float:
    """Return the CPU seconds of child processes that have ended, theirs included."""
    times = os.times()
    return times.children_user + times.children_system


def peak_memory(who: int = resource.RUSAGE_SELF) -> float:
    """Return the peak memory in MB of this process, or of the largest child process."""
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes on macOS, kB on Linux
    return resource.getrusage(who).ru_maxrss / unit


def machine() -> dict[str, Any]:
    """Return the facts that measured times depend on: processor, its vector instructions, versions.

    Instruction sets that torch may not use (ATEN_CPU_CAPABILITY) are among the flags.
    """
    from realsr.core.machine import describe_processor
    from realsr.provenance.manifest import package_versions

    flags = (describe_processor("flags") or describe_processor("Features")).split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": describe_processor("model name") or platform.processor() or "unknown",
        "flags": [flag for flag in flags if flag.startswith(VECTOR_FLAGS)],
        "cores": cores,
        "system": platform.platform(),
        "versions": package_versions(),
    }


def report(results: dict[str, Any], json_path: Path | None) -> None:
    """Print results, one per line; with a path, also write them with date and machine as JSON."""
    for name, value in results.items():
        print(name, value)
    if json_path is not None:
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "results": results,
        }
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
