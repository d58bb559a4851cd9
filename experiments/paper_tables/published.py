"""Published numbers: one file per table in published/, and the data sets in data_sets.yaml."""

from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True)
class DataSet:
    """A data set; `lr` and `hr`: whether it has its own LR and HR."""

    name: str
    title: str
    get: str
    images: int | None = None
    lr: bool = False
    hr: bool = True


@dataclass(frozen=True)
class Row:
    """A method on a data set: published values, and the source of its weights or a reason."""

    name: str
    data: str
    values: dict[str, float]
    weights: str | None
    missing: str


@dataclass(frozen=True)
class Table:
    """A published table; `metrics`: those of the protocol, with label and decimals."""

    name: str
    title: str
    source: str
    protocol: str
    notes: list[str]
    metrics: dict[str, tuple[str, int]]
    rows: list[Row]
    data: dict[str, DataSet]


def table_names() -> list[str]:
    """Return the names of the tables."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "data_sets")


def read_table(name: str) -> Table:
    """Return a table by name. Raises ValueError if a row lacks or exceeds the metrics."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    sets = yaml.safe_load((FOLDER / "data_sets.yaml").read_text())
    metrics = {
        metric: (label, decimals) for metric, (label, decimals) in content["metrics"].items()
    }
    rows = [
        Row(
            row["name"],
            row.get("data") or content["data"],
            dict(zip(metrics, row["values"], strict=True)),
            row.get("weights"),
            row.get("missing", ""),
        )
        for row in content["rows"]
    ]
    data = {row.data: DataSet(row.data, **sets[row.data]) for row in rows}
    return Table(
        name,
        content["title"],
        content["source"],
        content["protocol"],
        content["notes"],
        metrics,
        rows,
        data,
    )
