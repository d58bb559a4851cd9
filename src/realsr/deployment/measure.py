"""Seconds and memory of one network, alone in a process: python -m realsr.deployment.measure FILE SIDE THREADS KIND.

KIND is `file` for an exported one; `weights` for a source of weights, which PyTorch then runs in float32, and
`custom` for one that may name a network of the user's own. (The name does not tell: a `.param` can be either.)
Prints JSON.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.deployment.runtimes import Run, load_library, open_file

ROUNDS = 3
REFUSED = 3  # the exit code where the file cannot be used, which the last line on stderr explains


@dataclass(frozen=True)
class Cost:
    """seconds: for one image, the least of some runs. memory: bytes at the peak, without libraries. None: unknown."""

    seconds: float | None
    memory: int | None


def measure(source: str | Path, side: int, threads: int, kind: str = "file") -> Cost:
    """Return what an image of side x side LR pixels costs on the CPU, measured in a new process, see above.

    Raises RuntimeError where that process fails.
    """
    command = [sys.executable, "-m", "realsr.deployment.measure", str(source), str(side), str(threads), kind]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()[-1:] if ended.returncode == REFUSED else []
        reason = said[0] if said else f"its process ended with {ended.returncode}, as where memory does not suffice"
        raise RuntimeError(f"{source} could not be measured: {reason}")
    return Cost(**json.loads(ended.stdout.splitlines()[-1]))


def main(source: str, side: int, threads: int, kind: str) -> Cost:
    """Measure in this process."""
    if kind == "file":
        load_library(Path(source))  # whose memory does not count
    else:
        import torch  # noqa: F401
    before = _memory("VmRSS")
    run = open_file(Path(source), threads) if kind == "file" else _open_weights(source, threads, kind == "custom")
    run(np.zeros((1, 3, 16, 16), np.float32))  # what is set up once does not count
    lr = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(lr)
        seconds.append(time.perf_counter() - start)
    peak = _memory("VmHWM")
    return Cost(round(min(seconds), 4), None if before is None or peak is None else peak - before)


def _open_weights(source: str, threads: int, allow_custom_code: bool) -> Run:
    import torch

    from realsr.inference.model import load_model

    torch.set_num_threads(threads)
    model = load_model(source, torch.device("cpu"), "fp32", allow_custom_code)
    return lambda lr: model.run(torch.from_numpy(lr)).numpy()


def _memory(key: str) -> int | None:
    """Return this process's memory now (VmRSS) or at most (VmHWM) in bytes; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"{key}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))))  # noqa: T201
    except UserError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)  # noqa: T201
        sys.exit(REFUSED)
