"""Every layout of image file is read right or refused in words, and nothing is dropped in silence.

As a script it prints the table of docs/use/files.md:

    PYTHONPATH=src python tests/imaging/test_image_matrix.py [--verbose]
"""

import argparse
import io
import logging
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from bmp_cases import bmp_cases
from image_case import Case
from metadata_cases import metadata_cases
from omission_cases import omission_cases
from other_cases import other_cases
from tiff_cases import tiff_cases

from realsr.imaging import ImageError, formats, read_photo

OUTCOMES = ("right", "refused", "wrong samples", "unsaid", "unclear")
# What a photographer does not know: names of libraries and types, numbers of errors, Python's own words.
JARGON = re.compile(
    r"Pillow|OpenCV|libtiff|libpng|zlib|decoder error|Error -?\d|list index|tile cannot|broken data stream|codec"
    r"|'\w*\.\w+'|<_io|struct|unpack|NoneType|Error\(|Traceback|cannot identify|mode\b|\(-?\d+\)"
)
ADVICE = re.compile(r"(?i)\b(save|copy|convert|remove|shrink)\b")


def cases() -> Iterator[Case]:
    yield from tiff_cases()
    yield from other_cases()
    yield from bmp_cases()
    yield from metadata_cases()
    yield from omission_cases()


def is_clear(error: object, path: Path) -> bool:
    """Whether a message names the file, tells what to do, and has no words that a photographer does not know."""
    words = str(error).replace(str(path), "")
    return str(path) in str(error) and not JARGON.search(words) and ADVICE.search(words) is not None


def judge(case: Case, folder: Path) -> tuple[str, str]:
    """Return one of OUTCOMES, and what was read or said."""
    path, lines = folder / f"photo{case.suffix}", io.StringIO()
    path.write_bytes(case.data)
    logger, handler = logging.getLogger("realsr"), logging.StreamHandler(lines)
    logger.addHandler(handler)
    try:
        photo = read_photo(path)
    except ImageError as error:
        is_image = "is not a supported image" not in str(error)  # each of the files is one
        clear = is_clear(error, path) and is_image and re.search(case.says, str(error))
        return ("refused" if clear else "unclear"), str(error)
    except Exception as error:
        return "unclear", repr(error)
    finally:
        logger.removeHandler(handler)
    samples, log, right = photo.samples, lines.getvalue(), case.expected
    if right is None or samples.shape != right.shape or samples.dtype != right.dtype:
        return "wrong samples", f"{samples.shape} {samples.dtype} {log}"
    difference = int(np.abs(samples.astype(int) - right).max())
    if difference > case.tolerance:
        return "wrong samples", f"difference {difference} {log}"
    if log.count("\n") > 1 or bool(log) != bool(case.says) or not re.search(case.says, log):
        return "unsaid", f"log: {log!r}"
    lost = [
        name
        for name, value in case.keeps.items()
        if value not in (getattr(photo.metadata, name, None) or b"")
    ]
    if lost:
        return "unsaid", f"lost: {lost}"
    return "right", log


def read_elsewhere(case: Case) -> np.ndarray | None:
    """Return the stored numbers as another reader finds them; None if it does not read the file."""
    try:
        if case.suffix == ".tif":
            with tifffile.TiffFile(io.BytesIO(case.data)) as file:
                page = (
                    next(p for p in file.pages if not p.is_reduced)
                    if len(file.pages) > 1
                    else file.pages[0]
                )
                numbers, planar = (
                    page.asarray(),
                    page.planarconfig == 2 and page.samplesperpixel > 1,
                )
        else:
            planar = False
            numbers = {
                ".png": imagecodecs.png_decode,
                ".webp": imagecodecs.webp_decode,
                ".jpg": imagecodecs.jpeg_decode,
                ".bmp": imagecodecs.bmp_decode,
            }[case.suffix](case.data)
    except (ValueError, RuntimeError, NotImplementedError, KeyError):
        return None
    numbers = numbers.astype(np.uint8) if numbers.dtype == bool else numbers
    return np.moveaxis(numbers, 0, -1) if planar else numbers.reshape(*numbers.shape[:2], -1)


@pytest.mark.slow
def test_all_files_are_read_right_or_refused_in_words(tmp_path):
    every = list(cases())
    assert len(every) >= 300
    results = [(case, *judge(case, tmp_path)) for case in every]
    bad = [
        f"{case.kind}: {case.about}: {outcome}, {text}"
        for case, outcome, text in results
        if outcome != ("refused" if case.expected is None else "right")
    ]
    assert bad == []


@pytest.mark.slow
def test_another_reader_finds_what_the_files_were_made_of():
    agree = Counter()
    for case in cases():
        if case.raw is not None and (numbers := read_elsewhere(case)) is not None:
            same = (
                numbers.shape == case.raw.shape
                and np.abs(numbers.astype(float) - case.raw).max() <= case.tolerance
            )
            assert same, f"{case.kind}: {case.about}"
            agree[case.kind] += 1
    assert agree.total() >= 300


def damage(data: bytes) -> Iterator[bytes]:
    """Yield the file cut off, with a part lost, and with each of its first bytes and some of its last ones changed."""
    for part in range(1, 8):
        yield data[: len(data) * part // 8]
        place = len(data) * part // 8
        yield data[:place] + bytes(40) + data[place + 40 :]
    for place in [*range(2, 60), *range(len(data) - 200, len(data), 5)]:
        if 0 <= place < len(data):
            yield data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :]


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(
        formats, "machine_memory", lambda: 2**26
    )  # sizes that are only claimed take time
    first = {case.kind: case for case in cases()}
    messages = set()
    for case in first.values():
        path = tmp_path / f"photo{case.suffix}"
        for data in damage(case.data):
            path.write_bytes(data)
            for accept in ("refuse", "accept"):
                try:
                    read_photo(path, accept)
                except ImageError as error:
                    messages.add(str(error))
    assert len(messages) > 20
    assert [
        m for m in messages if not is_clear(m, tmp_path / Path(m.split(" ")[0].rstrip(":")).name)
    ] == []


def format_table(rows: Mapping[str, Counter]) -> str:
    """Return a Markdown table; rows: by kind of file how many there are, and of each outcome."""
    keys = ("files", "read elsewhere", *OUTCOMES)
    lines = [" | ".join(["| kind", *keys]) + " |", "|---" * (1 + len(keys)) + "|"]
    for kind, row in [*rows.items(), ("all", sum(rows.values(), Counter()))]:
        lines.append(" | ".join([f"| {kind}", *(str(row[key]) for key in keys)]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="name each file that is not read or refused as it should",
    )
    verbose = parser.parse_args().verbose
    rows: dict[str, Counter] = {}
    logging.getLogger("realsr").propagate = False
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            outcome, text = judge(case, Path(folder))
            row = rows.setdefault(case.kind, Counter())
            row.update(["files", outcome])
            row["read elsewhere"] += case.raw is not None and read_elsewhere(case) is not None
            if verbose and outcome != ("refused" if case.expected is None else "right"):
                sys.stderr.write(f"{case.kind}: {case.about}: {outcome}: {text.strip()}\n")
    sys.stdout.write(format_table(rows) + "\n")


if __name__ == "__main__":
    main()
