"""Parts of the work in threads: in order, with progress of all, and ended together."""

import time

import pytest
import torch

from realsr.core.threads import split_work


@pytest.fixture(autouse=True)
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
def test_parts_come_in_order_and_progress_adds_up(count):
    counted = []
    parts = split_work(squares, [range(count), "abcdefgh"[:count]], counted.append)
    assert len(parts) == min(count, 3)
    assert [value for part in parts for value in part] == [f"{'abcdefgh'[i]}{i * i}" for i in range(count)]
    assert sum(counted) == 2 * count
    assert torch.get_num_threads() == 3


def test_what_one_part_raises_ends_the_others():
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


def test_an_interruption_in_progress_ends_all():
    def interrupt(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split_work(squares, [range(3), "abc"], interrupt)
