"""ONNX files that `realsr.export` has written, run by onnxruntime."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from realsr.errors import UserError
from realsr.inference.sessions import INPUT, OUTPUT, open_session

CONVENTION = {"range": "0..1", "colours": "RGB", "layout": "NCHW", "output": "clamp to 0..1, times 255, round"}
"""How pixels become the input, and the output pixels: said in each file, for programs without this package."""


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
        if {key: metadata[key] for key in CONVENTION} != CONVENTION or scale < 1 or not 0 < need < float("inf"):
            raise ValueError(f"scale {scale}, {need} bytes a pixel, {metadata}")
        texts = (metadata["source_sha256"], metadata["made_by"])
        return OnnxFacts(scale, metadata["precision"], need, *texts)
    except (KeyError, ValueError) as error:
        raise ValueError("its metadata is not what realsr.export writes: scale, range, colours …") from error


def load_onnx(path: Path, device: torch.device) -> tuple[Callable[[Tensor], Tensor], OnnxFacts, torch.device]:
    """Return a file's network as a function (N, 3, h, w) -> (N, 3, s*h, s*w), its facts, and where it runs.

    On a GPU it runs where onnxruntime has a build for it, else on the CPU.

    Raises UserError as `open_session` does, and for a file of other programs.
    """
    session, on_gpu = open_session(path, torch.get_num_threads(), device.index or 0 if device.type == "cuda" else None)
    try:
        facts = read_facts(session.get_modelmeta().custom_metadata_map)
        if (names := [value.name for value in (*session.get_inputs(), *session.get_outputs())]) != [INPUT, OUTPUT]:
            raise ValueError(f"its input and output are {', '.join(names)}, not {INPUT} and {OUTPUT}")
    except ValueError as error:
        raise UserError(f"{path}: cannot be used as a model ({error}); expected a file of realsr.export") from error

    def run(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run([OUTPUT], {INPUT: x.cpu().numpy()})[0]).to(x.device)
        except Exception as error:  # onnxruntime's own classes, one for each code
            raise RuntimeError(str(error)) from error

    return run, facts, device if on_gpu else torch.device("cpu")
