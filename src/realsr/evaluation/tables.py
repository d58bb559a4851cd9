"""Tables of an evaluation as text and Markdown, and short names of models."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.evaluation.metric import ImageMetric, set_metrics
from realsr.evaluation.report import Estimate, Report
from realsr.evaluation.scoring import list_failures

SUFFIXES = (".safetensors", ".pth", ".pt", ".param", ".bin", ".onnx")
# Names of files and folders in many runs; the parent folder's name is more specific.
COMMON = {"generator", "generator_ema", "best", "default", "runs", "checkpoints", "models"}
STRENGTH = re.compile(r", strength \S+$")  # as `name_strength` writes it


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; the first column has names."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """Return the table as text with aligned columns."""
        lines = [[printable(cell) for cell in line] for line in (self.head, *self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        text = [
            "  ".join([f"{line[0]:{widths[0]}}", *map(str.ljust, line[1:], widths[1:])]).rstrip()
            for line in lines
        ]
        return "\n".join([printable(self.title), *text])

    def as_markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        cells = [
            "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |"
            for line in lines
        ]
        return "\n".join([printable(self.title), "", *cells])


def make_tables(report: Report) -> list[Table]:
    """Return a table of means and, for several models, one of differences from the first model."""
    names, count, metrics = shorten_names(report.models), len(report.images), report.metrics
    columns = {**report.image_metrics, **set_metrics(metrics)}
    rows = []
    for model, means in report.means.items():
        cells = {name: _format_estimate(mean, metrics[name].digits) for name, mean in means.items()}
        for name, value in report.results.sets.get(model, {}).items():
            cells[name] = f"{value:.{metrics[name].digits}f}"
        rows.append([names[model], *(cells.get(name, "—") for name in columns)])
    head = [
        f"{name} {'↑' if isinstance(metric, ImageMetric) and metric.higher_is_better else '↓'}"
        for name, metric in columns.items()
    ]
    images = "1 image" if count == 1 else f"{count} images, mean [95 % interval]"
    tables = [Table(images, ["", *head], rows)]
    if report.differences and report.image_metrics:
        rows = []
        for model, differences in report.differences.items():
            texts = [
                f"{_format_estimate(d, metrics[name].digits, '+')} {d.better}/{d.images}"
                for name, d in differences.items()
            ]
            rows.append([names[model], *texts])
        title = f"difference from {names[report.models[0]]}, image by image: "
        title += "mean [95 % interval] better in"
        tables.append(Table(title, ["", *report.image_metrics], rows))
    return tables


def make_image_table(report: Report) -> Table:
    """Return the scores of each model on each image."""
    names, metrics = shorten_names(report.models), report.image_metrics
    rows = []
    for image in report.images:
        for model in report.models:
            scores = report.results.scores[model][image]
            values = [f"{scores[name]:.{metric.digits}f}" for name, metric in metrics.items()]
            rows.append([image, names[model], *values])
    return Table("image by image", ["image", "model", *metrics], rows)


def format_report(report: Report) -> str:
    """Return the report for a terminal, without failures, which callers raise as an error."""
    tables = [table.as_text() for table in make_tables(report)]
    return "\n\n".join([report.setting.describe(), *tables, *_list_equal(report)])


def format_markdown(report: Report) -> str:
    """Return the content of table.md."""
    lines = report.setting.describe().splitlines()
    head = "  \n".join(lines)  # two spaces: a line break
    tables = [table.as_markdown() for table in [*make_tables(report), make_image_table(report)]]
    failures = report.results.failures
    remarks = _list_equal(report) + [f"left out:{list_failures(failures)}"] * bool(failures)
    return "\n\n".join([head, *tables, *remarks]) + "\n"


def _list_equal(report: Report) -> list[str]:
    """Return a remark about infinite values, or an empty list."""
    names = shorten_names(report.models)
    equal = [
        printable(f"{image} ({names[model]})")
        for model in report.models
        for image, row in report.results.scores[model].items()
        if any(math.isinf(value) for value in row.values())
    ]
    return [f"equal to HR, so PSNR and its mean are infinite: {', '.join(equal)}"] if equal else []


def _format_estimate(estimate: Estimate, digits: int, sign: str = "") -> str:
    form = f"{sign}.{digits}f"
    text = format(estimate.mean, form)
    if estimate.interval is not None:
        text += f" [{', '.join(format(end, form) for end in estimate.interval)}]"
    return text


def check_names(names: Sequence[str], model_names: Sequence[str]) -> None:
    """Raise UserError if two names mean the same model: equal names, or paths of the same file.

    model_names: names that are not paths, such as those of published models.
    """
    models: dict[str, str] = {}
    for name in names:
        key = name if name in model_names else str(Path(name).resolve())
        if key in models:
            raise UserError(f"weights: {models[key]} and {name} are the same; name each model once")
        models[key] = name


def shorten_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short, unique name of each model: as few of the last parts of its path as possible.

    `runs/a/generator.safetensors` becomes `a`, and `runs/a/best.safetensors` becomes `a/best`. A
    strength (see `name_strength`) is preserved.
    """
    sources = {name: STRENGTH.sub("", name) for name in names}
    parts = {source: _parts(source) for source in sources.values()}
    short = {
        source: _shorten(path, [other for s, other in parts.items() if s != source]) or source
        for source, path in parts.items()
    }
    return {name: short[source] + name.removeprefix(source) for name, source in sources.items()}


def name_strength(source: str, strength: float) -> str:
    """Return the name of a model of which only a part, 0..1, is blended with bicubic."""
    return source if strength == 1 else f"{source}, strength {strength:g}"


def _parts(name: str) -> list[str]:
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    path = Path(name.removesuffix(suffix))
    if ".." in path.parts or not path.name:
        path = path.resolve()
    parts = [part for part in path.parts if part != "/"]
    return parts[:-1] if suffix and parts[-1:] == ["generator"] and len(parts) > 1 else parts


def _shorten(parts: list[str], other_models: list[list[str]]) -> str:
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        specific = tail[0] not in COMMON or count == len(parts)
        if specific and all(other[-count:] != tail for other in other_models):
            return "/".join(tail)
    return ""
