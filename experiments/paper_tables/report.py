"""A table as Markdown: published values, measurements, differences, and missing items."""

from collections.abc import Iterator, Mapping, Sequence

from measure import Measurement
from published import Row, Table

NONE = "–"


def format_table(
    table: Table,
    measurements: Mapping[str, Measurement],
    without_data: Mapping[str, str],
    without_weights: Mapping[str, str],
) -> str:
    """Return a table's Markdown.

    Args:
        table: published rows.
        measured: by data set.
        without_data: by data set that is not at hand, why, and how to get it.
        without_weights: the same by name of a row.
    """
    lines = [
        f"# {table.title}",
        "",
        f"Source: {table.source}",
        "",
        *describe_protocol(table, measurements),
        "",
    ]
    lines += [f"- {note}" for note in table.notes]
    lines += [
        "",
        *_describe_data(table, measurements, without_data),
        "",
        *_rows(table, measurements),
    ]
    if without_weights:
        lines += ["", "Rows without weights (--model ROW=WEIGHTS gives a row's):", ""]
        for reason in dict.fromkeys(without_weights.values()):
            rows = ", ".join(name for name, why in without_weights.items() if why == reason)
            lines.append(f"- {rows}: {' '.join(reason.split())}")
    return "\n".join(lines) + "\n"


def describe_protocol(table: Table, measurements: Mapping[str, Measurement]) -> list[str]:
    """Return the protocol by name, and with all values used for the measurements."""
    lines = [f"Protocol: `{table.protocol}`"]
    for values in {
        str(measurement.protocol): measurement.protocol for measurement in measurements.values()
    }.values():
        settings = ", ".join(f"{key}={value}" for key, value in values.items() if key != "note")
        lines += ["", f"Measured with: {settings}"]
    return lines


def _describe_data(
    table: Table, measurements: Mapping[str, Measurement], without_data: Mapping[str, str]
) -> Iterator[str]:
    for name, data in table.data.items():
        yield f"- Published on **{name}**: {data.title}."
        if measurement := measurements.get(name):
            lr = (
                f", LR {measurement.folders.lr}"
                if measurement.folders.lr
                else ", LR made by the protocol"
            )
            folder = (
                f"{measurement.folders.hr or 'no HR'}{lr}, {measurement.folders.images()} images"
            )
            if measurement.folders.stand_in:
                yield (
                    f"  **Measured on another data set in its place**: {folder}. What the line *difference* says is "
                    "the difference of two data sets, too."
                )
            else:
                yield f"  Measured on it: {folder}."
        else:
            yield f"  Not measured: {without_data.get(name) or 'no row of it has weights'}."


def _rows(table: Table, measurements: Mapping[str, Measurement]) -> Iterator[str]:
    several = len(table.data) > 1
    head = [
        "method",
        *(["data"] if several else []),
        "",
        *(label for label, _ in table.metrics.values()),
    ]
    yield _line(head)
    yield _line(["---"] * (len(head) - len(table.metrics)) + ["---:"] * len(table.metrics))
    for row in table.rows:
        data = [row.data] if several else []
        yield _line([row.name, *data, "published", *_values(table, row.values)])
        means = (
            measurements[row.data].means.get(row.weights or "")
            if row.data in measurements
            else None
        )
        if means is not None:
            stand_in = measurements[row.data].folders.stand_in
            other = ", other data" if stand_in else ""
            blank = [""] * (1 + len(data))
            yield _line([*blank, f"measured{other}", *_values(table, means)])
            yield _line([*blank, f"difference{other}", *_differences(table, row, means)])


def _values(table: Table, values: Mapping[str, float | None]) -> list[str]:
    return [
        _number(values.get(metric), f".{decimals}f")
        for metric, (_, decimals) in table.metrics.items()
    ]


def _differences(table: Table, row: Row, means: Mapping[str, float | None]) -> list[str]:
    return [
        NONE
        if (mean := means.get(metric)) is None
        else _number(mean - row.values[metric], f"+.{decimals}f")
        for metric, (_, decimals) in table.metrics.items()
    ]


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else f"{value:{form}}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
