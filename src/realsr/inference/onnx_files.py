"""ONNX files that `realsr.export` has written, run by onnxruntime."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.memory import limited_memory
from realsr.core.tensor_files import tell_reason
from realsr.inference.sessions import INPUT, OUTPUT, open_session, run_session
from realsr.weights.generators import MAX_SCALE

CONVENTION = {"range": "0..1", "colours": "RGB", "layout": "NCHW", "output": "clamp to 0..1, times 255, round"}
"""How pixels become the input, and the output pixels: said in each file, for programs without this package."""
MAX_BYTES = 1e9  # for one pixel; DF2K takes 14,000
LONGEST_TEXT = 200
PROBE, PROBE_LIMIT = 16, 10.0  # LR pixels a side of the first tile, and the seconds that it may take
RUN_LIMIT, RUN_TIMES = 60.0, 100  # a later tile may take these seconds, and this many times as long as the first


@dataclass(frozen=True)
class OnnxFacts:
    """What a file tells of itself in its metadata, beside `CONVENTION`.

    scale: HR pixels for one of LR.
    precision: fp32, fp16, or int8 and how it was calibrated.
    bytes_per_pixel: the most memory that its tensors take at once for one LR pixel, in float32 (`measure_bytes`).
    source_sha256: of the file of weights that it was made of.
    made_by: this package and its version.
    """

    scale: int
    precision: str
    bytes_per_pixel: float
    source_sha256: str
    made_by: str

    def as_metadata(self) -> dict[str, str]:
        """Return what is written into a file: text by key."""
        return CONVENTION | {key: str(value) for key, value in asdict(self).items()}


def read_facts(metadata: dict[str, str]) -> OnnxFacts:
    """Return what a file's metadata tells. Raises ValueError where it is not of `realsr.export`."""
    try:
        scale, need = int(metadata["scale"]), float(metadata["bytes_per_pixel"])
        texts = metadata["precision"], metadata["source_sha256"], metadata["made_by"]
        convention = {key: metadata[key] for key in CONVENTION}
    except (KeyError, ValueError) as error:
        raise ValueError("its metadata is not what realsr.export writes: scale, range, colours …") from error
    if convention != CONVENTION or any(len(text) > LONGEST_TEXT or not text.isprintable() for text in texts):
        raise ValueError("its metadata is not what realsr.export writes: range, colours, precision …")
    if not 1 <= scale <= MAX_SCALE or not 1 <= need <= MAX_BYTES:
        raise ValueError(
            f"its metadata is not what realsr.export writes: scale {scale}, {need:g} bytes per pixel; expected 1 to "
            f"{MAX_SCALE}, and 1 to {MAX_BYTES:g}"
        )
    return OnnxFacts(scale, texts[0], need, *texts[1:])


def load_onnx(path: Path, device: torch.device) -> tuple[Callable[[Tensor], Tensor], OnnxFacts, torch.device]:
    """Return a file's network as a function (N, 3, h, w) -> (N, 3, s*h, s*w), its facts, and where it runs.

    On a GPU it runs where onnxruntime has a build for it, else on the CPU. A small tile is computed at once, which
    shows whether the file does what its metadata says, and sets how long the function may take.

    Raises UserError as `open_session` does, for a file of other programs, and for one whose results are of another
    size or take too long; so does the function. What onnxruntime raises is a RuntimeError there.
    """
    session, on_gpu = open_session(path, torch.get_num_threads(), device.index or 0 if device.type == "cuda" else None)
    try:
        facts = read_facts(session.get_modelmeta().custom_metadata_map)
        _check_ends(session)
    except ValueError as error:
        raise UserError(f"{path}: cannot be used as a model ({error}); expected a file of realsr.export") from error

    def compute(x: Tensor, limit: float) -> Tensor:
        y = run_session(session, x.cpu().numpy(), limit)
        expected = (len(x), 3, facts.scale * x.shape[2], facts.scale * x.shape[3])
        if not isinstance(y, np.ndarray) or y.dtype != np.float32 or y.shape != expected:
            kind = f"{y.shape} of {y.dtype}" if isinstance(y, np.ndarray) else "no numbers"
            raise ValueError(f"it gives {kind} for {tuple(x.shape)}, expected {expected} of float32")
        return torch.from_numpy(y).to(x.device)

    start = time.monotonic()
    try:
        with limited_memory(path.stat().st_size) if not on_gpu else nullcontext():
            compute(torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0)), PROBE_LIMIT)
    except (ValueError, RuntimeError, TimeoutError) as error:
        reason = "onnxruntime cannot compute it" if isinstance(error, RuntimeError) else tell_reason(error)
        raise UserError(
            f"{path}: cannot be used as a model: a tile of {PROBE}x{PROBE} pixels fails ({reason}); "
            "expected a file of realsr.export"
        ) from error
    per_pixel = (time.monotonic() - start) / PROBE**2

    def run(x: Tensor) -> Tensor:
        limit = RUN_LIMIT + RUN_TIMES * per_pixel * x.shape[0] * x.shape[2] * x.shape[3]
        try:
            return compute(x, limit)
        except (ValueError, TimeoutError) as error:
            raise UserError(f"{path}: cannot be used as a model ({error}); expected a file of realsr.export") from error

    return run, facts, device if on_gpu else torch.device("cpu")


def _check_ends(session: Any) -> None:
    """Raise ValueError where input and output are not one picture each: float32, four sides, three channels."""
    ends = [*session.get_inputs(), *session.get_outputs()]
    if (names := [end.name for end in ends]) != [INPUT, OUTPUT]:
        told = ", ".join(name[:40] for name in names[:4]) or "nothing"
        raise ValueError(f"its input and output are {told}, not {INPUT} and {OUTPUT}")
    for end in ends:
        if end.type != "tensor(float)":
            raise ValueError(f"its {end.name} is {end.type}; expected tensor(float)")
    shape = ends[0].shape
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"its {INPUT} has the shape {shape[:6]}; expected (batch, 3, height, width)")
