"""ONNX files: opened by onnxruntime, and those of `realsr.export` as models.

Without torch until a model is loaded: the memory that an exported file takes is measured without it.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_kinds import UNKNOWN, identify_file
from realsr.core.memory import limited_memory

if TYPE_CHECKING:
    import torch

INPUT, OUTPUT = "lr", "sr"
CONVENTION = {
    "range": "0..1",
    "colours": "RGB",
    "layout": "NCHW",
    "output": "clamp to 0..1, times 255, round",
}
"""How pixels become the input, and the output pixels: stated in each file, for programs without this package."""
MAX_BYTES = 1e9  # for one pixel; DF2K takes 14,000
LONGEST_TEXT = 200
PROBE, PROBE_LIMIT = (
    16,
    10.0,
)  # LR pixels a side of the first tile, and the seconds that it may take
RUN_LIMIT, RUN_TIMES = (
    60.0,
    100,
)  # a later tile may take these seconds, and this many times as long as the first
OTHER_FILES = "session.model_external_initializers_file_folder_path"
"""Where onnxruntime looks for other files that a model given as bytes names; by default the current folder."""

DAMAGED = "is cut off, damaged, or no ONNX file: download or export it again"
NEWER = "is of a newer ONNX than onnxruntime knows: pip install -U onnxruntime, or export it for an older one"
LAYERS = "has layers that onnxruntime does not know; expected a file of realsr.export"
REASONS = {
    "INVALID_PROTOBUF": DAMAGED,
    "No graph": DAMAGED,
    "External data": "has its weights in other files: save it as one file",
    "Unsupported model IR version": NEWER,
    "opset": NEWER,
    "is not a registered function/op": LAYERS,
    "No Op registered": LAYERS,
    "NOT_IMPLEMENTED": LAYERS,
}
"""What onnxruntime's errors mean, by what they contain; the first match counts."""


@dataclass(frozen=True)
class OnnxFacts:
    """What a file states about itself in its metadata, beside `CONVENTION`.

    precision: fp32, fp16, or int8 and how it was calibrated. bytes_per_pixel: the most memory that its tensors take at
    once for one LR pixel, in float32. source_sha256: of the file of weights. made_by: this package and its version.
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
    """Return what a file's metadata states. Raises ValueError where it is not of `realsr.export`."""
    from realsr.weights.generators import MAX_SCALE  # which imports torch

    facts = None
    try:
        texts = [metadata[key] for key in ("precision", "source_sha256", "made_by")]
        facts = OnnxFacts(
            int(metadata["scale"]), texts[0], float(metadata["bytes_per_pixel"]), *texts[1:]
        )
        sound = all(len(text) <= LONGEST_TEXT and text.isprintable() for text in texts)
        sound &= 1 <= facts.scale <= MAX_SCALE and 1 <= facts.bytes_per_pixel <= MAX_BYTES
        sound &= all(metadata[key] == value for key, value in CONVENTION.items())
    except (KeyError, ValueError):
        sound = False
    if facts is None or not sound:
        raise ValueError(
            "its metadata is not what realsr.export writes: scale, range, colours, precision …"
        )
    return facts


def load_onnx(
    path: Path, device: "torch.device"
) -> tuple[Callable[["torch.Tensor"], "torch.Tensor"], OnnxFacts, "torch.device"]:
    """Return a file's network as a function (N, 3, h, w) -> (N, 3, s*h, s*w), its facts, and where it runs.

    On a GPU it runs where onnxruntime has a build for it, else on the CPU. A small tile is computed at once, which
    shows whether the file does what its metadata states, and sets how long the function may take.

    Raises UserError as `open_session` does, for a file of other programs, and for one whose results are of another
    size or take too long; so does the function. Errors of onnxruntime are RuntimeErrors there.
    """
    import torch

    from realsr.core.tensor_files import tell_reason

    def refuse(reason: object) -> UserError:
        return UserError(
            f"{path}: cannot be used as a model ({reason}); expected a file of realsr.export"
        )

    session, on_gpu = open_session(
        path, torch.get_num_threads(), device.index or 0 if device.type == "cuda" else None
    )
    try:
        facts = read_facts(session.get_modelmeta().custom_metadata_map)
        _check_ends(session)
    except ValueError as error:
        raise refuse(error) from error

    def compute(x: torch.Tensor, limit: float) -> torch.Tensor:
        y = run_session(session, x.cpu().numpy(), limit)
        expected = (len(x), 3, facts.scale * x.shape[2], facts.scale * x.shape[3])
        if not isinstance(y, np.ndarray) or y.dtype != np.float32 or y.shape != expected:
            kind = f"{y.shape} of {y.dtype}" if isinstance(y, np.ndarray) else "no numbers"
            raise ValueError(
                f"it gives {kind} for {tuple(x.shape)}, expected {expected} of float32"
            )
        return torch.from_numpy(y).to(x.device)

    start = time.monotonic()
    try:
        with limited_memory(path.stat().st_size) if not on_gpu else nullcontext():
            compute(
                torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0)),
                PROBE_LIMIT,
            )
    except (ValueError, RuntimeError, TimeoutError) as error:
        reason = (
            "onnxruntime cannot compute it"
            if isinstance(error, RuntimeError)
            else tell_reason(error)
        )
        raise refuse(f"a tile of {PROBE}x{PROBE} pixels fails: {reason}") from error
    per_pixel = (time.monotonic() - start) / PROBE**2

    def run(x: torch.Tensor) -> torch.Tensor:
        try:
            return compute(
                x, RUN_LIMIT + RUN_TIMES * per_pixel * x.shape[0] * x.shape[2] * x.shape[3]
            )
        except (ValueError, TimeoutError) as error:
            raise refuse(error) from error

    return run, facts, device if on_gpu else torch.device("cpu")


def open_session(path: Path, threads: int, gpu: int | None = None) -> tuple[Any, bool]:
    """Return onnxruntime's session of a file, and whether it runs on the GPU of the number `gpu`.

    Where onnxruntime has no build for GPUs it runs on the CPU. A file whose weights are in other files is refused,
    since it could name any.

    Raises UserError where onnxruntime is not installed, and where it cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path}: running ONNX files needs onnxruntime: pip install 'realsr[onnx]'"
        ) from error
    cuda = "CUDAExecutionProvider"
    on_gpu = gpu is not None and cuda in onnxruntime.get_available_providers()
    provider: Any = (cuda, {"device_id": gpu}) if on_gpu else "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors, which are reported below
    if _int8_overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry(OTHER_FILES, str(Path(os.devnull, "none")))
    try:
        content = path.read_bytes()
        with limited_memory(len(content)) if not on_gpu else nullcontext():
            return onnxruntime.InferenceSession(content, options, providers=[provider]), on_gpu
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # onnxruntime's own classes, one for each code
        kind = identify_file(path)
        if kind.format != "onnx" and kind != UNKNOWN:
            raise UserError(f"{path}: {kind.refuse('an ONNX file')}") from error
        reason = next((reason for sign, reason in REASONS.items() if sign in str(error)), DAMAGED)
        raise UserError(f"{path}: {reason}") from error


def run_session(session: Any, lr: np.ndarray, limit: float) -> Any:
    """Return a session's result for one input. Ctrl-C, and the end of the time, stop it between two layers.

    Raises TimeoutError after `limit` seconds, RuntimeError for errors of onnxruntime.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(session.run, [OUTPUT], {INPUT: lr}, options)
        try:
            return future.result(limit)[0]
        except TimeoutError as error:
            raise TimeoutError(f"no result within {limit:.0f} seconds") from error
        except Exception as error:  # onnxruntime's own classes, one for each code
            raise RuntimeError(str(error)) from error
        finally:
            options.terminate = (
                True  # of no effect where the run has ended; else the executor waits for it
            )


def _check_ends(session: Any) -> None:
    """Raise ValueError where input and output are not one image each: float32, four sides, three channels."""
    ends = [*session.get_inputs(), *session.get_outputs()]
    if (names := [end.name for end in ends]) != [INPUT, OUTPUT]:
        raise ValueError(
            f"its input and output are {', '.join(name[:40] for name in names[:4])}, not {INPUT} and {OUTPUT}"
        )
    kinds, shape = [end.type for end in ends], ends[0].shape
    if kinds != ["tensor(float)"] * 2 or len(shape) != 4 or shape[1] != 3:
        raise ValueError(
            f"its input and output are {' and '.join(kinds)}, the input of the shape {shape[:6]}; expected "
            "tensor(float) and (batch, 3, height, width)"
        )


def _int8_overflows(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this x86 processor adds products of 8-bit integers in 16 bits: it has AVX2, but no VNNI.

    There onnxruntime has a slower way that is exact; if set, it would take it on processors with VNNI, too. False where
    the system does not report its processor.
    """
    try:
        lines = [
            line
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if line.startswith("flags")
        ]
    except OSError:
        return False
    flags = set(lines[0].split()) if lines else set()
    return "avx2" in flags and not any(flag.endswith("vnni") for flag in flags)
