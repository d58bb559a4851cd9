"""A generator as ncnn's two files, a `.param` (layers) and a `.bin` (weights, most in fp16), by the program pnnx."""

import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from realsr.core.errors import UserError

SHAPES = ((1, 3, 24, 40), (1, 3, 32, 28))  # what differs between them pnnx leaves open


def write_ncnn(network: nn.Module, path: Path) -> None:
    """Write `path` (.param) and its .bin; their input and output are called in0 and out0.

    Weights that fp16 holds as subnormal numbers, those below 2^-14, become 0: so pnnx rounds.

    The program itself is run, and not `pnnx.export`, which executes code that it generates, does not tell of failure,
    and leaves eight files beside the two.

    Raises UserError where torch cannot trace the network, or pnnx cannot express it.
    """
    from pnnx import EXEC_PATH

    with tempfile.TemporaryDirectory(prefix="realsr_") as folder:
        _trace(network, Path(folder) / "network.pt")
        shapes = ["[{},{},{},{}]f32".format(*shape) for shape in SHAPES]
        command = [EXEC_PATH, "network.pt", f"inputshape={shapes[0]}", f"inputshape2={shapes[1]}", "fp16=1"]
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise UserError(f"pnnx cannot be run ({error}): leave the format ncnn out") from error
        parts = [(Path(folder) / f"network.ncnn{suffix}", path.with_suffix(suffix)) for suffix in (".param", ".bin")]
        if ended.returncode != 0 or not all(made.is_file() for made, _ in parts):
            last = (ended.stderr.strip() or ended.stdout.strip() or "nothing said").splitlines()[-1]
            raise UserError(
                f"pnnx cannot express the generator (ended with {ended.returncode}: {last}): leave the format ncnn out"
            )
        for made, wanted in parts:
            wanted.write_bytes(made.read_bytes())


def _trace(network: nn.Module, path: Path) -> None:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch prefers its own new formats, which pnnx does not read
            torch.jit.trace(network.eval(), torch.zeros(SHAPES[0]), check_trace=False).save(str(path))
    except Exception as error:  # whatever the network's own code raises, too
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"torch cannot trace the generator for pnnx ({reason}): leave the format ncnn out") from error
