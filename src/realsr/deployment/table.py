"""Cost and quality of each exported file, as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from realsr.core.file_names import printable
from realsr.core.files import write_bytes, write_strict_json
from realsr.deployment.measure import Cost
from realsr.evaluation.tables import Table

SIDE = 128  # side in LR pixels of the image that operations, time and memory are measured for
METRICS = {"psnr": ("PSNR", 3), "ssim": ("SSIM", 4)}
REFERENCE = "PyTorch"
FP16_NOTES = {
    "onnx_fp16": "Scores of onnx_fp16 are computed with each result rounded to fp16, as "
    "accelerators do. A CPU computes this file in float32.",
    "ncnn": "The ncnn file has weights in fp16. Its scores are computed by ncnn on this CPU.",
}

MeanScores = Mapping[str, Mapping[str, float]]
"""protocol -> metric -> mean over images."""


@dataclass(frozen=True)
class Float32Choice:
    """A choice of layers that stay in float32 while the others are in INT8.

    kept: these layers. similarity: PSNR in dB to the float32 network. time: relative to float32.
    """

    kept: list[str]
    similarity: float
    time: float


@dataclass(frozen=True)
class SensitivityReport:
    """The loss of each layer in INT8.

    method: how ranges were chosen.
    alone: layer -> PSNR in dB to float32 with only this layer in INT8; low values mean high loss.
    choices: the result of keeping the most sensitive layers in float32.
    """

    method: str
    alone: dict[str, float]
    choices: list[Float32Choice]


@dataclass(frozen=True)
class Row:
    """One exported file, or the reference: PyTorch in float32.

    precision: fp32, fp16 or int8.
    bytes: total size of `files`.
    similarity: mean PSNR in dB to the reference, on the images of the first protocol.
    calibration: how INT8 ranges were chosen.
    kept: layers that stay in float32.
    files: names of all parts.
    """

    name: str
    precision: str
    bytes: int
    scores: MeanScores
    cost: Cost
    similarity: float | None = None
    calibration: str = ""
    kept: Sequence[str] = ()
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Deployment:
    """The table, and the conditions of its numbers.

    gflop: 10^9 floating-point operations for SIDE x SIDE LR pixels.
    judged: the images that files were scored on.
    failed: omitted files and images, with the reason.
    warnings: about files that may have visible losses.
    sensitivity: loss by layer in INT8, if measured.
    """

    source: str
    scale: int
    gflop: float
    parameters: int
    judged: str
    failed: Sequence[str]
    threads: int
    processor: str
    versions: Mapping[str, str]
    rows: list[Row]
    warnings: Sequence[str] = ()
    sensitivity: SensitivityReport | None = None

    def format_text(self) -> str:
        """Return narrow tables for a terminal."""
        costs, scores = self._costs(), self._scores()
        tables = [
            Table(self._title(), costs[0], costs[1:]),
            Table("quality", scores[0], scores[1:]),
            *self._sensitivity_tables(),
        ]
        return "\n\n".join([*(table.as_text() for table in tables), self._notes()])

    def format_markdown(self) -> str:
        """Return the content of table.md: one wide table, and the sensitivity if measured."""
        head, *rows = [
            [*cost, *score[1:]] for cost, score in zip(self._costs(), self._scores(), strict=True)
        ]
        tables = [Table(self._title(), head, rows), *self._sensitivity_tables()]
        return "\n\n".join([*(table.as_markdown() for table in tables), f"{self._notes()}\n"])

    def _costs(self) -> list[list[str]]:
        head = ["", "precision", "calibration", "float32 layers", "MB", "GFLOP", "M parameters"]
        head += ["seconds", "memory MB"]
        return [head] + [
            [
                row.name,
                row.precision,
                row.calibration or "—",
                ", ".join(row.kept) or ("all" if row.precision == "fp32" else "—"),
                f"{row.bytes / 1e6:.2f}",
                f"{self.gflop:.3f}",
                f"{self.parameters / 1e6:.3f}",
                "—" if row.cost.seconds is None else f"{row.cost.seconds:.2f}",
                "—" if row.cost.memory is None else f"{row.cost.memory / 1e6:.0f}",
            ]
            for row in self.rows
        ]

    def _scores(self) -> list[list[str]]:
        """Return the means, each with its difference from float32 in brackets."""
        reference = self.rows[0].scores
        cells = [(protocol, metric) for protocol in reference for metric in METRICS]
        titles = [f"{METRICS[metric][0]} {protocol}" for protocol, metric in cells]
        table = [["", *titles, "PSNR to float32"]]
        for row in self.rows:
            texts = []
            for protocol, metric in cells:
                digits, value = METRICS[metric][1], row.scores[protocol][metric]
                text = f"{value:.{digits}f}"
                if row is not self.rows[0]:
                    text += f" ({value - reference[protocol][metric]:+.{digits}f})"
                texts.append(text)
            table.append([row.name, *texts, _decibels(row.similarity)])
        return table

    def _sensitivity_tables(self) -> list[Table]:
        """Return the table of layers kept in float32; empty if not measured."""
        if self.sensitivity is None:
            return []
        rows = [
            [", ".join(choice.kept) or "none", _decibels(choice.similarity), f"{choice.time:.2f}"]
            for choice in self.sensitivity.choices
        ]
        title = f"INT8 ({self.sensitivity.method}) with the most sensitive layers in float32"
        return [Table(title, ["float32 layers", "PSNR to float32, dB", "time / float32"], rows)]

    def _title(self) -> str:
        side = self.scale * SIDE
        return f"{printable(self.source)}, 3x{SIDE}x{SIDE} -> 3x{side}x{side}"

    def _notes(self) -> str:
        lines = [
            f"GFLOP, seconds (minimum of several) and memory (peak, without libraries): one image "
            f"of 3x{SIDE}x{SIDE}, {self.threads} threads of {self.processor}.",
            f"PSNR and SSIM: means over {self.judged}, by protocol. In brackets: difference from "
            f"{REFERENCE} in float32.",
            *(FP16_NOTES[row.name] for row in self.rows if row.name in FP16_NOTES),
            *(f"warning: {warning}" for warning in self.warnings),
            *(f"left out: {reason}" for reason in self.failed),
        ]
        return "\n".join(lines)


def write_tables(folder: Path, deployment: Deployment) -> None:
    """Write table.json, by `write_strict_json`, and table.md."""
    write_strict_json(folder / "table.json", asdict(deployment))
    text = deployment.format_markdown().encode("utf-8", "backslashreplace")
    write_bytes(folder / "table.md", text)


def _decibels(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "—"
    return "equal" if math.isinf(value) else f"{value:.2f}"
