"""Workers change nothing but the time, go on through signals, and never outlive the main process."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from config_files import yaml_values
from realsr.data import loading
from realsr.data.cache import (
    DecodedImages,
    Images,
    PairImages,
    cache_images,
    cache_pairs,
    decode_pairs,
)
from realsr.data.dataset import Batch, CropDataset
from realsr.data.degradations.degradation import build_degradation
from realsr.data.degradations.identity import Identity
from realsr.data.loading import LoadingError, load_batches
from realsr.data.pairs import list_pairs
from realsr.imaging import ImageError

MakePairs = Callable[..., Path]
SIZES = {"a": (12, 17), "b": (9, 8), "c": (8, 8)}


@pytest.mark.parametrize("name", ["noise", "noise_jpeg"])
def test_batches_depend_neither_on_workers_nor_cache_nor_the_start(
    name: str, make_pairs: MakePairs, tmp_path: Path
) -> None:
    folder = make_pairs(SIZES)
    pairs, patches = list_pairs(folder, 2), [folder / "LR" / "a.png"]
    values = yaml_values(f"online_degradation/{name}")
    cached = cache_images(tmp_path / "noise.u8", patches)

    def read(images: PairImages, noise: Images, start: int, workers: int) -> list[Batch]:
        dataset = CropDataset(images, 3, 16, 2, build_degradation(values, 2, patches=noise), seed=1)
        return list(load_batches(dataset, start, 7, workers))

    whole = read(decode_pairs(pairs), DecodedImages(patches), 0, 0)
    assert len(whole) == 7
    for workers in (0, 2):
        resumed = read(cache_pairs(tmp_path, pairs), cached, 3, workers)
        assert len(resumed) == 4
        for batch, again in zip(whole[3:], resumed, strict=True):
            assert (
                batch.keys()
                == again.keys()
                == {"lr", "hr"} | ({"noise"} if name == "noise" else set())
            )
            assert all(torch.equal(batch[key], again[key]) for key in batch)
    assert not torch.equal(whole[3]["hr"], whole[4]["hr"])


def test_an_image_that_a_worker_cannot_read_is_named(make_pairs: MakePairs) -> None:
    pairs = list_pairs(make_pairs(SIZES), 2)
    pairs[1].hr.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"HR/b\.png is not a supported image") as caught:
        list(load_batches(CropDataset(decode_pairs(pairs), 3, 16, 2, Identity(), seed=0), 0, 4, 1))
    assert "Traceback" not in str(caught.value)


def test_shared_memory_that_is_too_small_is_said_before_the_first_batch(
    make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = CropDataset(decode_pairs(list_pairs(make_pairs(SIZES), 2)), 3, 16, 2, Identity(), 0)
    assert dataset.batch_bytes == 3 * 3 * (8 * 8 + 16 * 16) == len(dataset[0].memory)
    needed = loading.AHEAD * dataset.batch_bytes / loading.SHARE

    def have(free: float) -> int:
        usage = shutil.disk_usage("/")._replace(free=int(free) + 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        return loading.fit_workers(dataset.batch_bytes, 3)

    assert have(3 * needed) == 3
    assert not caplog.records
    assert have(2 * needed) == 2
    assert have(0.9 * needed) == 0
    assert "is too small for trainer.workers=3" in caplog.text
    assert "--shm-size" in caplog.text


class _Broken(CropDataset):
    """A dataset that goes wrong in a worker at step 6."""

    def __init__(self, dataset: CropDataset, how: str):
        self.__dict__ |= dataset.__dict__
        self._how = how

    def __getitem__(self, step: int) -> Batch:
        if step == 6:
            if self._how == "shared memory":
                raise RuntimeError(
                    "unable to allocate shared memory(shm) for file </torch_1>: No space left on device"
                )
            os.kill(os.getpid(), {"death": signal.SIGKILL, "stuck": signal.SIGSTOP}[self._how])
        return super().__getitem__(step)


@pytest.mark.skipif(os.name != "posix", reason="by signals of POSIX")
@pytest.mark.parametrize(
    ("how", "reason"),
    [("death", r"a data worker died.*set trainer\.workers below 1"),
     ("stuck", r"no batch for 6 seconds.*trainer\.workers=0"),
     ("shared memory", r"cannot pass its batch on.*No space left.*--shm-size")],
)  # fmt: skip
def test_a_batch_that_does_not_come_is_an_error_with_its_reason(
    how: str, reason: str, make_pairs: MakePairs
) -> None:
    dataset = CropDataset(decode_pairs(list_pairs(make_pairs(SIZES), 2)), 3, 16, 2, Identity(), 0)
    others = multiprocessing.active_children()
    batches = load_batches(_Broken(dataset, how), 0, 9, 1, timeout=6)
    assert len(next(batches)) == 2
    workers = [
        process.pid
        for process in multiprocessing.active_children()
        if process not in others and process.pid
    ]
    assert len(workers) == 1
    with pytest.raises(LoadingError, match=reason):
        list(batches)
    wait_for_end(workers, 10)


MAIN = """
import multiprocessing, signal, sys
from pathlib import Path
from realsr.data.cache import decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.loading import LoadingError, load_batches
from realsr.data.degradations.degradation import build_degradation
from realsr.data.degradations.identity import Identity
from realsr.data.pairs import list_pairs

def main():
    signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
    signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
    global batches  # still open when the interpreter ends
    dataset = CropDataset(decode_pairs(list_pairs(Path(sys.argv[1]), 2)), 4, 16, 2, Identity(), 0)
    batches = load_batches(dataset, 0, 10**6, 2)
    next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    for line in sys.stdin:
        print(sum(len(next(batches)["lr"]) for _ in range(50)), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def main_process(make_pairs: MakePairs, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with two workers, which reads 50 batches at each line it is given; in a group of its own."""
    (tmp_path / "main.py").write_text(MAIN)
    command = [sys.executable, str(tmp_path / "main.py"), str(make_pairs(SIZES))]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # ended, but nobody has asked how


def wait_for_end(pids: list[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < until, f"{alive} are still there"
        time.sleep(0.05)


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="this system does not tell which processes there are"
)
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_workers_outlive_signals_to_the_job_and_end_with_the_main_process(
    end: str, main_process: subprocess.Popen[str]
) -> None:
    told, asked = main_process.stdout, main_process.stdin
    assert told is not None
    assert asked is not None
    workers = [int(pid) for pid in told.readline().split()]
    assert len(workers) == 2
    for sent in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # as a cluster or a terminal does: to all processes of the job
        os.killpg(main_process.pid, sent)
        assert told.readline() == "told\n"
    for _ in range(3):
        asked.write("\n")
        asked.flush()
        assert told.readline() == "200\n"
    if end == "kill":
        main_process.kill()
        wait_for_end(workers, 10)
    else:
        asked.close()
        assert main_process.wait(20) == 0
        wait_for_end(workers, 1)
        assert main_process.stderr is not None
        assert main_process.stderr.read() == ""
