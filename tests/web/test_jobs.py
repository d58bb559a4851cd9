import logging
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.web.jobs import MAX_JOBS, Job, JobQueue
from realsr.web.work import check_photo, place_photo


def wait(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the job does not end")


def outcome(job: Job) -> bool:
    return job.state in ("finished", "failed")


def test_one_job_runs_at_a_time_in_the_order_of_the_queue(tmp_path: Path) -> None:
    jobs, gate, order, running = JobQueue(tmp_path), threading.Event(), list[int](), list[int]()

    def work(job: Job) -> None:
        running.append(job.number)
        gate.wait(5)
        order.append(len(running))
        running.remove(job.number)

    group = [jobs.create() for _ in range(3)]
    for job in group:
        jobs.submit(job, work)
    wait(lambda: group[0].state == "running")
    assert [jobs.count_before(job) for job in group] == [0, 1, 2]
    with pytest.raises(UserError, match="started before"):
        jobs.submit(group[0], work)
    gate.set()
    wait(lambda: all(map(outcome, group)))
    assert order == [1, 1, 1]


def test_a_cancelled_job_stops_at_its_next_step_and_leaves_no_file(tmp_path: Path) -> None:
    jobs, gate, steps = JobQueue(tmp_path), threading.Event(), list[int]()

    def work(job: Job) -> None:
        (job.folder / "result.png").write_bytes(b"part")
        job.begin("work", 2)
        for step in range(2):
            gate.wait(5)
            job.advance(1)
            steps.append(step)

    first, second = jobs.create(), jobs.create()
    jobs.submit(first, work)
    jobs.submit(second, work)
    wait((first.folder / "result.png").exists)
    for job in (first, second):
        jobs.remove(job)
        assert jobs.find(job.name) is None
    gate.set()
    wait(lambda: not any(tmp_path.iterdir()))
    assert steps == []


def test_errors_and_warnings_are_lines_without_the_folder(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)

    def work(job: Job) -> None:
        logging.getLogger("realsr").warning("%s: left out: IPTC", job.folder / "a.png")
        (job.folder / "photo").mkdir()
        raise UserError(f"{job.folder / 'a.png'} is damaged")

    def fail(job: Job) -> None:
        raise KeyError("key")

    for function, error in (
        (work, "a.png is damaged"),
        (fail, "unexpected error (KeyError('key'))"),
    ):
        job = jobs.create()
        jobs.submit(job, function)
        wait(lambda job=job: outcome(job))
        assert str(job.describe()["error"]).startswith(error)
        assert not list(job.folder.iterdir()), "the photos are deleted"
    assert jobs.create().notes == []


def test_the_oldest_results_are_deleted(tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    group = [jobs.create() for _ in range(MAX_JOBS + 2)]
    assert [jobs.find(job.name) is None for job in group] == [True] * 2 + [False] * MAX_JOBS
    assert len(list(tmp_path.iterdir())) == MAX_JOBS


def test_the_time_left_follows_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("realsr.web.jobs.time.monotonic", lambda: now)
    job = Job(tmp_path / "job")
    assert (job.describe()["seconds_left"], job.describe()["fraction"]) == (None, None)
    job.begin("work", 10, seconds=40)
    now = 110.0
    assert (job.describe()["seconds_left"], job.describe()["fraction"]) == (30, 0.25)
    job.advance(5)  # 2 s a step
    now = 115.0
    assert (job.describe()["seconds_left"], job.describe()["fraction"]) == (5, 0.75)
    now = 200.0
    assert (job.describe()["seconds_left"], job.describe()["fraction"]) == (0, 0.99)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.png", "is not the name of a file"),
        ("a\\b.png", "is not the name of a file"),
        ("..", "is not the name of a file"),
        ("a\0.png", "is not the name of a file"),
        ("", "is not the name of a file"),
        ("a.heic", "a.heic has the format HEIC, which is not supported"),
        ("a.svg", "a.svg has the format SVG, which is not supported"),
        ("a" * 300 + ".png", "at most 255"),
        ("two.png", "two photos have this name"),
    ],
    ids=ascii,
)
def test_names_that_the_page_sends(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "two.png").touch()
    with pytest.raises(Exception, match=reason):
        place_photo(tmp_path, name)
    assert place_photo(tmp_path, "Ä b.JPG") == tmp_path / "Ä b.JPG"


def huge_png() -> bytes:
    """A PNG of 60000x60000 pixels, with an empty chunk of pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a supported image"),
        (b"GIF89a" + bytes(20), "has the format GIF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "its header cannot be decoded"),
        (huge_png(), "has 3600.00 megapixels, more than 16"),
    ],
    ids=["empty", "gif", "damaged", "huge"],
)
def test_photos_are_refused_before_they_are_decoded(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(content)
    with pytest.raises(Exception, match=reason):
        check_photo(photo, 16)
