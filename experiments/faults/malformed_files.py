"""Read malformed files of weights and kernels, and count the outcomes.

Two sets: crafted files with false declarations (`crafted_files.py`), and files of each kind that are
mutated at random from a seed: cut off, bytes changed, a sector zeroed, a size of four bytes set to another. Each is
read in a process of its own, as `realsr.upscale` (weights, ONNX), `realsr.make_pairs` (.mat) and `realsr.train` (VGG19)
do, and a small tile is enlarged. Outcomes:

- refused: an error in one line of at most 1,000 characters, that names the file (.mat: the caller does);
- loaded: the file is read, and the tile's values are finite;
- unclear: an error of several lines, or more than 20 lines of log;
- traceback: any other exception;
- killed: the process ended by a signal, took more than 3 GB, or more than 20 seconds.

    python experiments/faults/malformed_files.py [--count 300] [--seed 0] [--kinds KIND,KIND] [--output FILE.json]
"""

import argparse
import io
import json
import logging
import os
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from crafted_files import KINDS, NOTES, onnx_files, pickle_bytes, state, write
from crafted_mat import Files, hdf5_files, mat_bytes
from safetensors.torch import save as save_safetensors

from realsr.core.errors import UserError, WeightsError
from realsr.core.mat_variables import MatFileError
from realsr.imaging.kernel_shapes import read_kernel
from realsr.inference.model import load_model
from realsr.inference.tiling import SEAMLESS_OVERLAP, choose_tiles
from realsr.kernels.from_mat import read_mat_kernels
from realsr.training.loss_terms.perceptual import VGGFeatures

OUTCOMES = ("refused", "loaded", "unclear", "traceback", "killed")
SECONDS, MEMORY, LONGEST, LOG_LINES, SECTOR = 20, 3 * 2**30, 1000, 20, 512


def read(path: Path) -> None:
    """Read a file as the commands do; raise their errors."""
    if path.suffix == ".mat":
        errors = list[Exception]()
        for reader in (read_mat_kernels, read_kernel):
            try:
                reader(path)
            except (MatFileError, UserError) as error:
                errors.append(error)
        if len(errors) == 2:
            raise errors[1]
    elif path.stem.startswith("vgg"):
        VGGFeatures("vgg19", path)
    else:
        model = load_model(path, torch.device("cpu"), "fp32")
        choose_tiles(model, None, SEAMLESS_OVERLAP)(1000, 1000)
        if not torch.isfinite(model.run(torch.rand(1, 3, 24, 24))).all():
            raise AssertionError("values that are not finite")


def classify(path: Path) -> tuple[str, str]:
    lines = list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("realsr").addHandler(handler)
    logging.getLogger("realsr").setLevel(logging.INFO)
    try:
        read(path)
        outcome, message = "loaded", ""
    except (UserError, WeightsError, MatFileError) as error:
        message = str(error)
        outcome = (
            "refused"
            if "\n" not in message and len(message) <= LONGEST and path.stem in message
            else "unclear"
        )
    except Exception as error:
        outcome, message = "traceback", repr(error)[:300]
    return ("unclear" if len(lines) > LOG_LINES else outcome), message[:LONGEST]


def trial(path: Path) -> tuple[str, str, float]:
    """Read a file in a separate process; return outcome, message and seconds."""
    start = time.monotonic()
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(sending, json.dumps(classify(path)).encode())
        finally:
            os._exit(0)
    os.close(sending)
    reason = ""
    while not select.select([receiving], [], [], 0.05)[0]:
        if time.monotonic() - start > SECONDS:
            reason = f"over {SECONDS} s"
        elif _resident(child) > MEMORY:
            reason = f"over {MEMORY / 1e9:.1f} GB"
        if reason:
            os.kill(child, signal.SIGKILL)
            break
    with os.fdopen(receiving, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    seconds = round(time.monotonic() - start, 2)
    if reason or not answer:
        return "killed", reason or f"signal {os.WTERMSIG(status)}", seconds
    outcome, message = json.loads(answer)
    return outcome, message, seconds


def _resident(child: int) -> int:
    try:
        return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it has ended
        return 0


def whole_files() -> dict[str, Files]:
    """Return valid files by kind; the first of each is mutated, its partner is not."""
    kernel = np.full((9, 9), 1 / 81)
    onnx = {name: content for name, content in onnx_files().items() if name in ("whole.onnx",)}
    kinds: dict[str, Files] = {
        "safetensors": {"x.safetensors": save_safetensors(state(), {"realsr": json.dumps(NOTES)})},
        "pth": {"x.pth": pickle_bytes(state())},
        "pth legacy": {"x.pth": pickle_bytes(state(), legacy=True)},
        "ncnn param": ncnn_pair(), "ncnn bin": dict(reversed(ncnn_pair().items())),
        "mat 5": {"x.mat": mat_bytes(Kernel=kernel)}, "mat 5 compressed": {"x.mat": mat_bytes(True, Kernel=kernel)},
    }  # fmt: skip
    if onnx:
        kinds["onnx"] = {"x.onnx": onnx["whole.onnx"]}
    if hdf5 := hdf5_files():
        kinds["mat 7.3"] = {"x.mat": hdf5["h5_class_text.mat"]}
    return kinds


def ncnn_pair() -> Files:
    lines, weights, names = list[str](), io.BytesIO(), iter(range(100))
    tensors = [(name, value) for name, value in state().items() if name.endswith("weight")]
    for name, value in tensors:
        options = f"0={len(value)} 1=3 4=1 5=1 6={value.numel()}"
        lines.append(f"Convolution {name} 1 1 a{next(names)} b {options}\n")
        weights.write(
            bytes(4) + value.numpy().tobytes() + np.zeros(len(value), np.float32).tobytes()
        )
    lines.append("Interp up 1 1 a b\n")
    return {
        "x.param": f"7767517\n{len(lines)} 1\n{''.join(lines)}".encode(),
        "x.bin": weights.getvalue(),
    }


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a file in one to three places, more often near its beginning and end."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        length = len(data)
        reach = min(length, int(rng.choice([64, 512, length])))
        place = (
            int(rng.integers(reach))
            if rng.random() < 0.7
            else length - 1 - int(rng.integers(reach))
        )
        kind = rng.integers(4)
        if kind == 0 and length > 16:
            del data[max(8, place) :]
        elif kind == 1:
            for offset in rng.integers(0, 8, 3):
                data[min(place + int(offset), length - 1)] = int(rng.integers(256))
        elif kind == 2:
            start = place // SECTOR * SECTOR
            data[start : start + SECTOR] = bytes(len(data[start : start + SECTOR]))
        else:
            value = int(
                rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, int(rng.integers(2**32))])
            )
            data[place : place + 4] = value.to_bytes(4, "little")[: len(data[place : place + 4])]
    return bytes(data)


def run(
    name: str, paths: list[Path], change: Callable[[int, Path], None] = lambda number, path: None
) -> dict:
    counts, bad, longest = Counter(dict.fromkeys(OUTCOMES, 0)), dict[str, str](), 0.0
    for number, path in enumerate(paths):
        change(number, path)
        outcome, message, seconds = trial(path)
        counts[outcome] += 1
        longest = max(longest, seconds)
        if outcome not in ("refused", "loaded"):
            bad[f"{number} {path.name}"] = f"{outcome}: {message}"
    print(
        f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[o]) for o in OUTCOMES)} | {longest:.1f} |"
    )
    return {"counts": dict(counts), "longest_seconds": longest, "bad": bad}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=300, help="mutated files, of all kinds together"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="of crafted and mutated files; all if not given")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    selection = options.kinds.split(",") if options.kinds else None
    print(
        f"| file | trials | {' | '.join(OUTCOMES)} | longest, s |\n|{'---|' * (len(OUTCOMES) + 3)}"
    )
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for kind, make in KINDS.items():
            if selection is None or kind in selection:
                folder = Path(scratch) / kind.replace(" ", "_")
                folder.mkdir()
                results[f"crafted {kind}"] = run(f"crafted {kind}", write(folder, make()))
        kinds = {
            kind: files
            for kind, files in whole_files().items()
            if selection is None or kind in selection
        }
        for index, (kind, files) in enumerate(kinds.items()):
            folder = Path(scratch) / f"mutated_{index}"
            folder.mkdir()
            write(folder, files)
            name, content = next(iter(files.items()))

            def change(number: int, path: Path, kind: str = kind, content: bytes = content) -> None:
                rng = np.random.default_rng([options.seed, number, *kind.encode()])
                path.write_bytes(mutate(content, rng))

            share = options.count // len(kinds) + (index < options.count % len(kinds))
            results[f"mutated {kind}"] = run(f"mutated {kind}", [folder / name] * share, change)
        code_ran = (Path(scratch) / "touched").exists()
        os.chdir("/")
    print(f"code of a file was run: {'yes' if code_ran else 'no'}")
    for kind, result in results.items():
        for file, message in result["bad"].items():
            print(f"{kind}: {file}: {message}", file=sys.stderr)
    if options.output:
        options.output.write_text(
            json.dumps({"seed": options.seed, "run": code_ran, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
