"""Worker processes and threads change nothing but the time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import realsr
from realsr.core.errors import UserError
from realsr.core.workers import MIN_ITEMS, count_workers, map_items, split_work


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_results_come_in_order_from_other_processes():
    results = list(map_items(square, range(20), workers=2))
    assert [value for value, _ in results] == [n**2 for n in range(20)]
    assert os.getpid() not in {process for _, process in results}
    assert list(map_items(square, range(3), workers=0)) == [(n**2, os.getpid()) for n in range(3)]


def test_few_items_are_under_way_at_a_time():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_items(square, items(), workers=2, ahead=2)
    next(results)
    assert len(taken) <= 5
    results.close()


def test_an_exception_of_a_worker_is_raised():
    results = map_items(fail_at_three, range(6), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_dies_is_an_error_that_says_what_to_set():
    with pytest.raises(UserError, match=r"one of 2 worker processes died.*set workers=1 "):
        list(map_items(die_at_three, range(6), workers=2))


UNGUARDED = """
from realsr.core.workers import map_items
print("begins")
print(list(map_items(abs, [-1, -2, -3], workers=2)), __file__, __spec__)
"""


@pytest.mark.parametrize("piped", [False, True])
def test_a_script_without_a_guard_can_have_workers(piped: bool, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED, encoding="utf-8")
    outcome = subprocess.run(
        [sys.executable, "-" if piped else str(script)],
        input=UNGUARDED if piped else None,
        env=os.environ | {"PYTHONPATH": str(Path(realsr.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert outcome.stdout == f"begins\n[1, 2, 3] {'<stdin>' if piped else script} None\n", (
        outcome.stderr
    )
    assert outcome.returncode == 0


def test_number_of_workers():
    assert count_workers(100, 3) == 3
    assert count_workers(2, 3) == 2
    assert count_workers(100, 0) == 0
    assert count_workers(MIN_ITEMS - 1, None) == 0


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell a process's cores"
)
def test_one_worker_a_core():
    cores = len(os.sched_getaffinity(0))
    assert count_workers(1000, None) == (cores if cores > 1 else 0)


def in_workers(numbers: list[int]) -> list[int]:
    return list(map_items(abs, numbers, workers=2))


def test_processes_of_joblib_can_have_workers() -> None:
    joblib = pytest.importorskip("joblib", reason="the extra joblib is not installed")
    made = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(in_workers)([-n, n]) for n in (1, 2)
    )
    assert made == [[1, 1], [2, 2]]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def squares(numbers, names, *, progress):
    assert torch.get_num_threads() == 1
    for _ in numbers:
        progress(2)
    return [f"{name}{number**2}" for number, name in zip(numbers, names, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_come_in_order_and_progress_adds_up(three_threads, count):
    counted = []
    parts = split_work(squares, [range(count), "abcdefgh"[:count]], counted.append)
    assert len(parts) == min(count, 3)
    assert [value for part in parts for value in part] == [
        f"{'abcdefgh'[i]}{i * i}" for i in range(count)
    ]
    assert sum(counted) == 2 * count
    assert torch.get_num_threads() == 3


def test_what_one_part_raises_ends_the_others(three_threads):
    def work(numbers, *, progress):
        if 0 in numbers:
            raise ValueError("zero")
        for _ in range(2000):
            time.sleep(0.01)
            progress(1)

    start = time.monotonic()
    with pytest.raises(ValueError, match="zero"):
        split_work(work, [range(3)], lambda steps: None)
    assert time.monotonic() - start < 10


def test_an_interruption_in_progress_ends_all(three_threads):
    def interrupt(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split_work(squares, [range(3), "abc"], interrupt)
