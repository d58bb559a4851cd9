"""Files of networks opened by the libraries that run them. Without torch, so that their memory can be told from its."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_kinds import UNKNOWN, identify_file
from realsr.core.memory import limited_memory

INPUT, OUTPUT = "lr", "sr"
ELSEWHERE = "session.model_external_initializers_file_folder_path"
"""Where onnxruntime looks for other files that a model given as bytes names: the current folder, unless it is told."""

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
"""What onnxruntime's reasons mean, by what they hold; the first that fits counts."""


def open_session(path: Path, threads: int, gpu: int | None = None) -> tuple[Any, bool]:
    """Return onnxruntime's session of a file, and whether it runs on the GPU asked for (by number).

    Where onnxruntime has no build for GPUs it runs on the CPU. A file whose weights are in other files is refused,
    since it could name any.

    Raises UserError where onnxruntime is not installed, and where it cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: running ONNX files needs onnxruntime: say pip install 'realsr[onnx]'") from error
    cuda = "CUDAExecutionProvider"
    on_gpu = gpu is not None and cuda in onnxruntime.get_available_providers()
    provider: Any = (cuda, {"device_id": gpu}) if on_gpu else "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they are told below
    if _overflows_in_8_bits():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry(ELSEWHERE, str(Path(os.devnull, "none")))
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

    Raises TimeoutError after `limit` seconds, RuntimeError for what goes wrong inside.
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
            options.terminate = True  # of no effect where the run has ended; else the executor waits for it


def _overflows_in_8_bits(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is an x86 processor whose sums of 8-bit products end at 16 bits: with AVX2, but without VNNI.

    onnxruntime then has a slower way that is exact, which it would take on processors with VNNI, too, if asked to.
    False where the system does not tell.
    """
    try:
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags")]
    except OSError:
        return False
    flags = set(lines[0].split()) if lines else set()
    return "avx2" in flags and not any(flag.endswith("vnni") for flag in flags)
