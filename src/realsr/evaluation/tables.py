"""Tables of an evaluation, for a terminal and in Markdown, and what models are called in them and in file names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.evaluation.metric import Metric, SetMetric
from realsr.evaluation.report import Estimate, Report
from realsr.evaluation.scoring import list_failures

SUFFIXES = (".safetensors", ".pth", ".pt", ".param", ".bin", ".onnx")
# Names of files and folders that many runs have; the folder above is more specific.
COMMON = {"generator", "generator_ema", "best", "default", "runs", "checkpoints", "models"}


@dataclass(frozen=True)
class Table:
    """Rows of words under a head; the first column is of names."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """Return it with aligned columns."""
        lines = [[printable(cell) for cell in line] for line in (self.head, *self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        text = [
            "  ".join([f"{line[0]:{widths[0]}}", *map(str.ljust, line[1:], widths[1:])]).rstrip()
            for line in lines
        ]
        return "\n".join([printable(self.title), *text])

    def as_markdown(self) -> str:
        """Return it as a table of Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [
            "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |"
            for line in lines
        ]
        return "\n".join([printable(self.title), "", *cells])


def make_tables(report: Report) -> list[Table]:
    """Return the means, and of several models the differences from the first."""
    names, count, metrics = shorten_names(report.models), len(report.images), report.metrics
    sets = [name for name, metric in metrics.items() if isinstance(metric, SetMetric)]
    rows = []
    for model in report.models:
        means, values = report.means[model], report.results.sets.get(model, {})
        cells = [
            _format_estimate(estimate, metrics[name].digits) for name, estimate in means.items()
        ]
        cells += [
            f"{values[name]:.{metrics[name].digits}f}" if name in values else "—" for name in sets
        ]
        rows.append([names[model], *cells])
    head = [_title(name, metrics[name]) for name in [*report.image_metrics, *sets]]
    images = "1 image" if count == 1 else f"{count} images, mean [95 % interval]"
    tables = [Table(images, ["", *head], rows)]
    if report.differences and report.image_metrics:
        rows = []
        for model, differences in report.differences.items():
            cells = [
                f"{_format_estimate(d, metrics[name].digits, '+')} {d.better}/{d.images}"
                for name, d in differences.items()
            ]
            rows.append([names[model], *cells])
        title = f"difference from {names[report.models[0]]}, image by image: mean [95 % interval] better in"
        tables.append(Table(title, ["", *report.image_metrics], rows))
    return tables


def make_image_table(report: Report) -> Table:
    """Return the scores of each image by each model."""
    names, scores, metrics = (
        shorten_names(report.models),
        report.results.scores,
        report.image_metrics,
    )
    rows = [
        [
            image,
            names[model],
            *(f"{scores[model][image][name]:.{m.digits}f}" for name, m in metrics.items()),
        ]
        for image in report.images
        for model in report.models
    ]
    return Table("image by image", ["image", "model", *metrics], rows)


def format_report(report: Report) -> str:
    """Return what an evaluation prints."""
    blocks = [
        report.setting.describe(),
        *(table.as_text() for table in make_tables(report)),
        *_remarks(report),
    ]
    return "\n\n".join(blocks)


def format_markdown(report: Report) -> str:
    """Return the content of table.md."""
    tables = [table.as_markdown() for table in [*make_tables(report), make_image_table(report)]]
    return "\n\n".join(["\n".join(f"{line}  " for line in report.setting.describe().splitlines()).rstrip(), *tables,
                        *_remarks(report)]) + "\n"  # fmt: skip


def _remarks(report: Report) -> list[str]:
    names = shorten_names(report.models)
    equal = [
        printable(f"{image} ({names[model]})")
        for model in report.models
        for image, row in report.results.scores[model].items()
        if any(math.isinf(value) for value in row.values())
    ]
    remarks = []
    if equal:
        remarks.append(f"equal to HR, so that PSNR and its mean are infinite: {', '.join(equal)}")
    if report.results.failed:
        remarks.append(f"left out:{list_failures(report.results.failed)}")
    return remarks


def _title(name: str, metric: Metric) -> str:
    higher = not isinstance(metric, SetMetric) and metric.higher_is_better
    return f"{name} {'↑' if higher else '↓'}"


def _format_estimate(estimate: Estimate, digits: int, sign: str = "") -> str:
    form = f"{sign}.{digits}f"
    interval = (
        ""
        if estimate.interval is None
        else f" [{', '.join(format(end, form) for end in estimate.interval)}]"
    )
    return f"{estimate.mean:{form}}{interval}"


def check_names(names: Sequence[str], published: Sequence[str]) -> None:
    """Raise UserError where two names are the same model: equal, or paths of one file or folder."""
    models: dict[str, str] = {}
    for name in names:
        key = name if name in published else str(Path(name).resolve())
        if key in models:
            raise UserError(f"weights: {models[key]} and {name} are the same; name each model once")
        models[key] = name


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each: the last parts of a path, as few as distinguish it from the others.

    `runs/a/generator.safetensors` is `a`, beside `runs/a/best.safetensors`, which is `a/best`.
    """
    parts = {name: _parts(name) for name in names}
    return {
        name: _shorten(parts[name], [other for n, other in parts.items() if n != name]) or name
        for name in names
    }


def _parts(name: str) -> list[str]:
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    path = Path(name.removesuffix(suffix))
    parts = [
        part
        for part in (path.resolve() if ".." in path.parts or not path.name else path).parts
        if part != "/"
    ]
    return parts[:-1] if suffix and parts[-1:] == ["generator"] and len(parts) > 1 else parts


def _shorten(parts: list[str], others: list[list[str]]) -> str:
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        if (tail[0] not in COMMON or count == len(parts)) and all(
            other[-count:] != tail for other in others
        ):
            return "/".join(tail)
    return ""
