"""Compare the result of a command with the reference, and judge its end."""

import io
import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import scipy.io
import torch
from product import Run
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

TIMES = ("mtime_ns", "mtime", "time", "times", "seconds", "written", "host", "pid", "since")
# Scalars of speed and memory differ between runs.
VARYING_TAGS = ("speed/", "memory/")
KINDS = (
    "traceback",
    "deviation",
    "hang",
    "outside",
    "message",
    "leftover",
    "keep",
    "lines twice",
    "campaign",
)


@dataclass(frozen=True)
class Failure:
    """A failure of a trial: one of `KINDS`, and a description."""

    kind: str
    detail: str


def judge_run(run: Run, codes: Sequence[int] = (0,), names: Sequence[str] = ()) -> list[Failure]:
    """Judge how a command ended.

    codes: the exit codes that are right. names: where it ended with an error, one of these must be in its message.
    """
    failures = []
    if run.hung:
        failures.append(
            Failure(
                "hang",
                f"{run.command}: killed after {run.seconds:.0f} s; it said: {run.last[:200]}",
            )
        )
    if run.traceback:
        frames = [line for line in run.lines if line.startswith("File ")][-1:]
        failures.append(
            Failure("traceback", f"{run.command}: {run.last[:300]} ({' '.join(frames)})")
        )
    if run.hung or run.traceback:
        return failures
    if run.code not in codes:
        failures.append(
            Failure(
                "message",
                f"{run.command}: exit code {run.code}, not {codes}; it said: {run.last[:300]}",
            )
        )
    elif run.code == 1:
        failures += _judge_error(run, names)
    return failures


def _judge_error(run: Run, names: Sequence[str]) -> list[Failure]:
    errors = [line for line in run.lines if line.startswith("error: ")]
    if not errors:
        return [
            Failure(
                "message",
                f"{run.command}: no line that begins with 'error: '; last line: {run.last[:300]}",
            )
        ]
    if names and not any(name in run.text for name in names):
        return [
            Failure(
                "message",
                f"{run.command}: does not name {' or '.join(names[:4])}: {errors[0][:300]}",
            )
        ]
    return []


def compare_folders(
    reference: Path, state: Path, paths: Sequence[str], roots: Sequence[Path] = ()
) -> list[str]:
    """Return in words how a folder differs from the reference, file by file below `paths`.

    What differs between two runs that nothing has disturbed is left out: times in JSON, the index behind a cache's
    pixels, and of TensorBoard's files all but steps and values.
    """
    expected, actual = _list_files(reference, paths), _list_files(state, paths)
    words = [f"{name} is missing" for name in sorted(expected.keys() - actual.keys())]
    words += [
        f"{name} is there, but should not be" for name in sorted(actual.keys() - expected.keys())
    ]
    for name in sorted(expected.keys() & actual.keys()):
        first, second = expected[name].read_bytes(), actual[name].read_bytes()
        if first == second:
            continue
        stable_first, stable_second = (
            _without_times(name, first, roots),
            _without_times(name, second, roots),
        )
        if stable_first != stable_second:
            words.append(
                f"{name} differs"
                f"{_tell_damage(first, second) or _tell_difference(stable_first, stable_second)}"
            )
    for folder in {path.parent for path in _list_events(reference, paths)}:
        relative = folder.relative_to(reference)
        words += compare_scalars(folder, state / relative)
    return words


def find_leftovers(folder: Path) -> list[str]:
    """Return the temporary files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*.tmp"))


def count_surplus(folder: Path, keep: int) -> list[str]:
    """Describe folders with more than `keep` checkpoints."""
    folders = {path.parent for path in folder.rglob("step_*.pt")}
    numbers = {place: len(list(place.glob("step_*.pt"))) for place in folders}
    return [
        f"{place.name}: {number} checkpoints, not {keep}"
        for place, number in numbers.items()
        if number > keep
    ]


def find_doubles(folder: Path) -> list[str]:
    """Return duplicate (same step and set) and torn lines of metrics.jsonl."""
    words = []
    for path in folder.rglob("metrics.jsonl"):
        lines: set[tuple[Any, Any]] = set()
        for line in path.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
                key = (record["step"], record["validation"])
            except (ValueError, KeyError, TypeError):
                words.append(f"{path.name}: a torn line: {line[:60]!r}")
                continue
            if key in lines:
                words.append(f"{path.name}: step {key[0]} twice")
            lines.add(key)
    return words


def find_torn(folder: Path) -> list[str]:
    """Return the incomplete files below a folder, by format, without temporary files."""
    words = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and not _is_event_file(path):
            try:
                _read_file(path)
            except Exception as error:  # readers raise many kinds
                words.append(
                    f"{path.relative_to(folder)} is not whole: {type(error).__name__}: {str(error)[:100]}"
                )
    return words


def _read_file(path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".png" and not content.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("no end of a PNG")
    if path.suffix == ".json":
        json.loads(content)
    elif path.suffix in (".pt", ".pth"):
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    elif path.suffix == ".safetensors":
        safetensors.torch.load(content)
    elif path.suffix == ".mat":
        scipy.io.loadmat(io.BytesIO(content))
    elif not content and path.suffix not in (".lock", ".jsonl"):
        raise ValueError("empty")


def judge_state(
    reference: Path,
    state: Path,
    paths: Sequence[str],
    keep: int | None = None,
    roots: Sequence[Path] = (),
) -> list[Failure]:
    """Judge the files after a command that succeeded."""
    failures = [
        Failure("deviation", words) for words in compare_folders(reference, state, paths, roots)
    ]
    for path in paths:
        failures += [Failure("leftover", name) for name in find_leftovers(state / path)]
        failures += [Failure("lines twice", words) for words in find_doubles(state / path)]
        if keep is not None:
            failures += [Failure("keep", words) for words in count_surplus(state / path, keep)]
    return failures


def read_scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Return (tag, step) -> value of a TensorBoard folder, as TensorBoard shows them."""
    values: dict[tuple[str, int], float] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in _read_events(path.read_bytes()):
            if event.session_log.status == SessionLog.START and event.step:
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value") and not value.tag.startswith(VARYING_TAGS):
                    values[value.tag, event.step] = value.simple_value
    return values


def compare_scalars(reference: Path, state: Path) -> list[str]:
    """Describe how the TensorBoard scalars of two folders differ."""
    expected, actual = read_scalars(reference), read_scalars(state)
    words = []
    if losses := sorted(expected.keys() - actual.keys(), key=lambda key: key[1]):
        words.append(
            f"TensorBoard lacks {len(losses)} of {len(expected)} scalars, from step {losses[0][1]} on"
        )
    if new := actual.keys() - expected.keys():
        words.append(f"TensorBoard has {len(new)} scalars that it should not have")
    if changes := [
        key for key in expected.keys() & actual.keys() if repr(expected[key]) != repr(actual[key])
    ]:
        words.append(f"TensorBoard has other values: {changes[:3]}")
    return words


def _read_events(content: bytes) -> Iterator[Event]:
    """Yield the events of a file up to the first torn event."""
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        body = content[place + 12 : place + 12 + length]
        if not length or len(body) < length:
            return
        yield Event.FromString(body)
        place += 16 + length


def _is_event_file(path: Path) -> bool:
    return path.name.startswith("events.out.tfevents.")


def _list_events(folder: Path, paths: Sequence[str]) -> list[Path]:
    return [file for path in paths for file in (folder / path).rglob("events.out.tfevents.*")]


def _list_files(folder: Path, paths: Sequence[str]) -> dict[str, Path]:
    files = [
        file
        for path in paths
        for file in ((folder / path).rglob("*") if (folder / path).is_dir() else [folder / path])
    ]
    hidden = re.compile(
        r"^\.|\.lock$|^sentinel\.txt$"
    )  # locks and remaining temporary files are judged separately
    return {
        file.relative_to(folder).as_posix(): file
        for file in files
        if file.is_file() and not _is_event_file(file) and not hidden.search(file.name)
    }


def _without_times(name: str, content: bytes, roots: Sequence[Path]) -> Any:
    for root in roots:
        content = content.replace(str(root).encode(), b"ROOT")
    if name.endswith(".json"):
        try:
            return _strip(json.loads(content))
        except (ValueError, RecursionError):
            return content
    if name.endswith(".pt"):  # equal states may be pickled differently
        try:
            return _list_values(
                torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            )
        except Exception:  # torch raises many kinds for a broken file
            return content
    if name.endswith((".u8", ".cache")):  # pixels, then an index with times
        return content[: content.rfind(b'[["')] if b'[["' in content else content
    return content


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items() if key not in TIMES}
    return [_strip(item) for item in value] if isinstance(value, list) else value


def _tell_damage(expected: bytes, actual: bytes) -> str:
    if not actual:
        return ": it is empty"
    if not any(actual):
        return ": it is zeros"
    if len(actual) < len(expected) and expected.startswith(actual):
        return ": it is cut short"
    return ""


def _tell_difference(expected: Any, actual: Any, place: str = "") -> str:
    """Return the first place where two values differ, with the values."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(actual.keys() - expected.keys())]:
            if expected.get(key) != actual.get(key):
                return _tell_difference(expected.get(key), actual.get(key), f"{place}.{key}")
    if isinstance(expected, bytes):
        return f" ({len(expected)} bytes expected, {len(actual)} are there)"
    return f": at {place or 'the whole'} {str(expected)[:120]} is expected, {str(actual)[:120]} is there"


def _list_values(value: Any) -> Any:
    """Return a checkpoint's state with its tensors as comparable values."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _list_values(item) for key, item in value.items()}
    return [_list_values(item) for item in value] if isinstance(value, list | tuple) else value
