"""ONNX files in onnxruntime, and those of `realsr.export` as models.

torch is imported only when a model is loaded, so that the memory of an exported file can be
measured without it.
"""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsr.core.errors import UserError, import_extra
from realsr.core.file_kinds import UNKNOWN, identify_file
from realsr.core.machine import describe_processor, limited_memory

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("realsr")

INPUT, OUTPUT = "lr", "sr"
CONVENTION = {
    "range": "0..1",
    "colours": "RGB",
    "layout": "NCHW",
    "output": "clamp to 0..1, times 255, round",
}
"""How pixels become the input, and the output pixels; stored in each file for other programs."""
MAX_BYTES = 1e9  # for one pixel; DF2K needs 14,000
LONGEST_TEXT = 200
PROBE, PROBE_LIMIT = 16, 10.0  # LR pixels per side of the first tile, and its time limit in seconds
# Time limit of a later tile: seconds, plus a multiple of the first tile's time per pixel.
RUN_LIMIT, RUN_TIMES = 60.0, 100
OTHER_FILES = "session.model_external_initializers_file_folder_path"
"""Folder of external weights of a model loaded from bytes; by default the current folder."""

DAMAGE = "is truncated, damaged, or not an ONNX file: download or export it again"
NEWER = (
    "needs a newer ONNX version than onnxruntime supports: pip install -U onnxruntime, or export "
    "it for an older version"
)
LAYERS = "has layers that onnxruntime does not support; expected a file of realsr.export"
REASONS = {
    "INVALID_PROTOBUF": DAMAGE,
    "No graph": DAMAGE,
    "External data": "has its weights in other files: save it as one file",
    "Unsupported model IR version": NEWER,
    "opset": NEWER,
    "is not a registered function/op": LAYERS,
    "No Op registered": LAYERS,
    "NOT_IMPLEMENTED": LAYERS,
}
"""Messages for onnxruntime's errors by text that they contain; the first match is used."""


@dataclass(frozen=True)
class OnnxFacts:
    """The metadata of an ONNX file, besides `CONVENTION` and `Origin`.

    precision: fp32, fp16, or int8 with its calibration. bytes_per_pixel: peak memory of the tensors
    for one LR pixel in float32. source_sha256: hash of the weights file. made_by: this package and
    its version.
    """

    scale: int
    precision: str
    bytes_per_pixel: float
    source_sha256: str
    made_by: str

    def as_metadata(self) -> dict[str, str]:
        """Return the metadata as it is written into a file: text by key."""
        return CONVENTION | {key: str(value) for key, value in asdict(self).items()}


def read_facts(metadata: dict[str, str]) -> OnnxFacts:
    """Return the facts in metadata of `realsr.export`. Raises ValueError for other metadata."""
    from realsr.weights.generators import MAX_SCALE  # imports torch

    try:
        texts = [metadata[key] for key in ("precision", "source_sha256", "made_by")]
        facts = OnnxFacts(
            int(metadata["scale"]), texts[0], float(metadata["bytes_per_pixel"]), *texts[1:]
        )
        if (
            all(len(text) <= LONGEST_TEXT and text.isprintable() for text in texts)
            and (1 <= facts.scale <= MAX_SCALE and 1 <= facts.bytes_per_pixel <= MAX_BYTES)
            and CONVENTION.items() <= metadata.items()
        ):
            return facts
    except (KeyError, ValueError):
        pass
    raise ValueError(
        "its metadata is not what realsr.export writes: scale, range, colours, precision …"
    )


def load_onnx(
    path: Path, device: "torch.device"
) -> tuple[Callable[["torch.Tensor"], "torch.Tensor"], OnnxFacts, "torch.device"]:
    """Return a file's network as a function, its facts, and the device on which it runs.

    The function maps (N, 3, h, w) to (N, 3, s*h, s*w). It runs on a GPU if onnxruntime has a build
    for it, else on the CPU. A small tile is computed here, to check the file against its metadata
    and to set the function's time limit.

    Raises UserError as `open_session` does, for files of other programs, and for results of the
    wrong size or that take too long. The function raises UserError for such results, too, and
    RuntimeError for errors of onnxruntime.
    """
    import torch

    from realsr.core.tensor_files import tell_reason
    from realsr.weights.origin import describe_texts

    def refuse(reason: object) -> UserError:
        return UserError(
            f"{path}: cannot be used as a model ({reason}); expected a file of realsr.export"
        )

    gpu = device.index or 0 if device.type == "cuda" else None
    session, on_gpu = open_session(path, torch.get_num_threads(), gpu)
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        facts = read_facts(metadata)
        _check_ends(session)
    except ValueError as error:
        raise refuse(error) from error
    logger.info("%s: %s", path, describe_texts(metadata))

    probe = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0))
    start = time.monotonic()
    try:
        with limited_memory(path.stat().st_size) if not on_gpu else nullcontext():
            _compute(session, facts.scale, probe, PROBE_LIMIT)
    except (ValueError, RuntimeError, TimeoutError) as error:
        from_runtime = isinstance(error, RuntimeError)
        reason = "onnxruntime cannot compute it" if from_runtime else tell_reason(error)
        raise refuse(f"a tile of {PROBE}x{PROBE} pixels fails: {reason}") from error
    per_pixel = (time.monotonic() - start) / PROBE**2

    def run(x: torch.Tensor) -> torch.Tensor:
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        try:
            return _compute(session, facts.scale, x, RUN_LIMIT + RUN_TIMES * per_pixel * pixels)
        except (ValueError, TimeoutError) as error:
            raise refuse(error) from error

    return run, facts, device if on_gpu else torch.device("cpu")


def _compute(session: Any, scale: int, x: "torch.Tensor", limit: float) -> "torch.Tensor":
    """Return a session's result as `run_session`. Raises ValueError for another size or type."""
    import torch

    y = run_session(session, x.cpu().numpy(), limit)
    shape = (len(x), 3, scale * x.shape[2], scale * x.shape[3])
    if not isinstance(y, np.ndarray) or y.dtype != np.float32 or y.shape != shape:
        kind = f"{y.shape} of {y.dtype}" if isinstance(y, np.ndarray) else "no array"
        raise ValueError(f"it returns {kind} for {tuple(x.shape)}; expected {shape} of float32")
    return torch.from_numpy(y).to(x.device)


def open_session(path: Path, threads: int, gpu: int | None = None) -> tuple[Any, bool]:
    """Return onnxruntime's session of a file, and whether it runs on the GPU with index `gpu`.

    It runs on the CPU if onnxruntime has no build for GPUs. A file with weights in other files is
    refused, since it could name any file.

    Raises UserError if onnxruntime is not installed or cannot load the file.
    """
    onnxruntime = import_extra("onnxruntime", f"{path}: running ONNX files", "onnx")
    cuda = "CUDAExecutionProvider"
    on_gpu = gpu is not None and cuda in onnxruntime.get_available_providers()
    provider: Any = (cuda, {"device_id": gpu}) if on_gpu else "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only, which are reported below
    if _int8_overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry(OTHER_FILES, str(Path(os.devnull, "none")))
    try:
        content = path.read_bytes()
        with limited_memory(len(content)) if not on_gpu else nullcontext():
            return onnxruntime.InferenceSession(content, options, providers=[provider]), on_gpu
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # onnxruntime has one class for each error code
        kind = identify_file(path)
        if kind.format != "onnx" and kind != UNKNOWN:
            raise UserError(f"{path}: {kind.refuse('an ONNX file')}") from error
        reason = next((reason for sign, reason in REASONS.items() if sign in str(error)), DAMAGE)
        raise UserError(f"{path}: {reason}") from error


def run_session(session: Any, lr: np.ndarray, limit: float) -> Any:
    """Return a session's result for one input.

    Ctrl-C and the time limit stop it between two layers. Raises TimeoutError after `limit` seconds,
    RuntimeError for errors of onnxruntime.
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
        except Exception as error:  # onnxruntime has one class for each error code
            raise RuntimeError(str(error)) from error
        finally:
            options.terminate = True  # the executor waits for a run that has not ended


def _check_ends(session: Any) -> None:
    """Raise ValueError unless input and output are float32 and the input is (N, 3, h, w)."""
    ends = [*session.get_inputs(), *session.get_outputs()]
    if (names := [end.name for end in ends]) != [INPUT, OUTPUT]:
        text = ", ".join(name[:40] for name in names[:4])
        raise ValueError(f"its input and output are {text}, not {INPUT} and {OUTPUT}")
    kinds, shape = [end.type for end in ends], ends[0].shape
    if kinds != ["tensor(float)"] * 2 or len(shape) != 4 or shape[1] != 3:
        raise ValueError(
            f"its input and output are {' and '.join(kinds)}, with an input of shape {shape[:6]}; "
            "expected tensor(float) and (batch, 3, height, width)"
        )


def _int8_overflows() -> bool:
    """Return whether the processor sums products of 8-bit integers in 16 bits (AVX2 without VNNI).

    For these processors onnxruntime has a slower, exact option, which would slow down processors
    with VNNI, too. False if the system does not report its processor.
    """
    flags = describe_processor("flags").split()
    return "avx2" in flags and not any(flag.endswith("vnni") for flag in flags)
