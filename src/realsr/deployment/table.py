"""What each exported file costs and loses, as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from realsr.core.file_names import printable
from realsr.deployment.measure import Cost
from realsr.evaluation.tables import Table

SIDE = 128  # LR pixels of the image that work, seconds and memory are measured for
METRICS = {"psnr": ("PSNR", 3), "ssim": ("SSIM", 4)}
REFERENCE = "PyTorch"
FP16_NOTES = {
    "onnx_fp16": "Scores of onnx_fp16 are those of arithmetic that rounds each result to fp16, as accelerators do; a "
    "CPU computes such files in float32.",
    "ncnn": "ncnn's file holds weights in fp16; its scores are those of what ncnn computes with them on this CPU.",
}

MeanScores = Mapping[str, Mapping[str, float]]
"""By protocol and metric, means over images."""


@dataclass(frozen=True)
class KeptLayers:
    """The most costly layers kept in float32: PSNR in dB to float32 throughout, and its time as a share of that's."""

    kept: list[str]
    similarity: float
    time: float


@dataclass(frozen=True)
class SensitivityReport:
    """alone: by layer, PSNR in dB to float32 where this one alone is in INT8; the lower, the more it costs.

    method: how ranges were chosen. choices: what keeping the most costly layers in float32 gains and takes.
    """

    method: str
    alone: dict[str, float]
    choices: list[KeptLayers]


@dataclass(frozen=True)
class Row:
    """One file, or PyTorch's float32 itself, which the others are compared with.

    precision: fp32, fp16 or int8. calibration: of int8, how ranges were chosen. kept: the layers that stay in float32.
    bytes: of all its files, whose names are `files`. similarity: mean PSNR in dB to PyTorch's float32 on the first
    protocol's images.
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
    """The table, and what it holds for.

    gflop: 10^9 floating-point operations for SIDE x SIDE LR pixels. judged: which images files were scored on. failed:
    what was left out, and why. warnings: what to know before a file is used. sensitivity: what layers cost in INT8, if
    measured.
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

    def as_json(self) -> dict[str, Any]:
        """Return what table.json holds; numbers that are not finite (PSNR of equal images) are None."""
        return _finite(asdict(self))

    def format_text(self) -> str:
        """Return what is printed: narrow tables."""
        costs, scores = self._costs(), self._scores()
        tables = [
            Table(self._title(), costs[0], costs[1:]),
            Table("quality", scores[0], scores[1:]),
        ]
        return "\n\n".join(
            [table.as_text() for table in tables + self._sensitivity_tables()] + [self._notes()]
        )

    def format_markdown(self) -> str:
        """Return what table.md holds: one table, and the sensitivity's."""
        head, *rows = [
            [*cost, *score[1:]] for cost, score in zip(self._costs(), self._scores(), strict=True)
        ]
        tables = [Table(self._title(), head, rows), *self._sensitivity_tables()]
        return "\n\n".join([*(table.as_markdown() for table in tables), f"{self._notes()}\n"])

    def _costs(self) -> list[list[str]]:
        head = [
            "",
            "precision",
            "calibration",
            "float32 layers",
            "MB",
            "GFLOP",
            "M parameters",
            "seconds",
            "memory MB",
        ]
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
        """Means, and behind each how much it differs from float32."""
        reference = self.rows[0].scores
        cells = [(protocol, metric) for protocol in reference for metric in METRICS]
        table = [
            [
                "",
                *(f"{METRICS[metric][0]} {protocol}" for protocol, metric in cells),
                "PSNR to float32",
            ]
        ]
        for row in self.rows:
            texts = []
            for protocol, metric in cells:
                digits, value = METRICS[metric][1], row.scores[protocol][metric]
                difference = (
                    f" ({value - reference[protocol][metric]:+.{digits}f})"
                    if row is not self.rows[0]
                    else ""
                )
                texts.append(f"{value:.{digits}f}{difference}")
            table.append([row.name, *texts, _decibels(row.similarity)])
        return table

    def _sensitivity_tables(self) -> list[Table]:
        """What keeping the most costly layers gains and takes; none where it was not measured."""
        if self.sensitivity is None:
            return []
        rows = [
            [", ".join(choice.kept) or "none", _decibels(choice.similarity), f"{choice.time:.2f}"]
            for choice in self.sensitivity.choices
        ]
        title = f"the most costly layers kept in float32, of INT8 by {self.sensitivity.method}"
        return [Table(title, ["float32 layers", "PSNR to float32, dB", "time to float32's"], rows)]

    def _title(self) -> str:
        return f"{printable(self.source)}, 3x{SIDE}x{SIDE} -> 3x{self.scale * SIDE}x{self.scale * SIDE}"

    def _notes(self) -> str:
        return "\n".join(
            (
                f"GFLOP, seconds (least of a few) and memory (peak, without libraries) are for 3x{SIDE}x{SIDE}, on "
                f"{self.threads} threads of {self.processor}.",
                f"PSNR and SSIM: means over {self.judged} by protocol; in brackets the difference from {REFERENCE}'s "
                "float32.",
                *(FP16_NOTES[row.name] for row in self.rows if row.name in FP16_NOTES),
                *(f"warning: {warning}" for warning in self.warnings),
                *(f"left out: {reason}" for reason in self.failed),
            )
        )


def _decibels(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "—"
    return "equal" if math.isinf(value) else f"{value:.2f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
