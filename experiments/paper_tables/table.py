"""A published table beside what is measured here.

    python experiments/paper_tables/table.py TABLE [--hr [NAME=]DIR] [--lr [NAME=]DIR] [--model ROW=WEIGHTS] …

TABLE is one of published/*.yaml, or `all`. `--hr NAME=DIR` is the folder of the data set NAME that the table was
published on; without NAME it is another data set in its place, and the table says so. Without folders the published
rows are printed, and for each what is missing and how to get it. Further key=value go to realsr.evaluate, for example
device=cuda or protocol.metrics=[psnr,ssim_uniform]. The table and realsr.evaluate's files go to --output.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measure import Folders, Measurement, measure, missing_data, missing_weights
from published import Table, read_table, table_names
from report import format_table

from realsr.core.errors import UserError
from realsr.core.files import write_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write tables; return 1 if an evaluation failed or an argument is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = _parse(arguments)
    failures: list[str] = []
    try:
        names = table_names() if options.table == "all" else [options.table]
        tables = [_with_models(read_table(name), options.model) for name in names]
        folders = _folders(tables, options)
        for table in tables:
            text = compare(table, folders, options.output / table.name, options.overrides, failures)
            print(text)
            (options.output / table.name).mkdir(parents=True, exist_ok=True)
            write_bytes(options.output / table.name / "table.md", text.encode())
    except UserError as error:
        failures.append(str(error))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def compare(
    table: Table,
    folders: dict[str, Folders],
    output: Path,
    overrides: Sequence[str],
    failures: list[str],
) -> str:
    """Return a table as Markdown with the available measurements; append to `failures`."""
    without_data = {
        name: missing_data(data, folders.get(name)) for name, data in table.data.items()
    }
    without_weights = {row.name: reason for row in table.rows if (reason := missing_weights(row))}
    measurements: dict[str, Measurement] = {}
    results: dict[
        tuple[Folders, tuple[str, ...]], Measurement
    ] = {}  # one folder may stand for several data sets
    for name in (name for name, reason in without_data.items() if not reason):
        rows = [row for row in table.rows if row.data == name and row.name not in without_weights]
        weights = tuple(dict.fromkeys(row.weights for row in rows if row.weights))
        key = folders[name], weights
        try:
            if weights:
                results[key] = results.get(key) or measure(
                    table.protocol,
                    weights,
                    folders[name],
                    output / _folder(name, folders[name]),
                    overrides,
                )
                measurements[name] = results[key]
        except UserError as error:
            failures.append(f"{table.name}, {name}: {error}")
            without_data[name] = "realsr.evaluate failed and said why"
    return format_table(table, measurements, without_data, without_weights)


def _folder(name: str, folders: Folders) -> str:
    """Return the folder of an evaluation; a substitute data set has its own name."""
    return f"in_place_of_{name}" if folders.stand_in else name


def _with_models(table: Table, models: Sequence[str]) -> Table:
    """Return the table with the weights of --model."""
    entries = dict(text.rsplit("=", 1) for text in models)
    return replace(
        table, rows=[replace(row, weights=entries.get(row.name, row.weights)) for row in table.rows]
    )


def _folders(tables: Sequence[Table], options: argparse.Namespace) -> dict[str, Folders]:
    """Return the folders of each data set, or else the folders without a name."""
    names = {name for table in tables for name in table.data}
    by_name: dict[str, dict[str, Path]] = {}
    for role in ("hr", "lr"):
        for text in getattr(options, role):
            name, _, folder = text.rpartition("=")
            if name and name not in names:
                raise UserError(
                    f"--{role} {text}: no data set {name}; there is: {', '.join(sorted(names))}"
                )
            if not Path(folder).is_dir():
                raise UserError(f"--{role} {text}: no folder {folder}")
            by_name.setdefault(name, {})[role] = Path(folder)
    return {
        name: Folders(entries.get("hr"), entries.get("lr"), stand_in=name not in by_name)
        for name in names
        if (entries := by_name.get(name) or by_name.get(""))
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=[*table_names(), "all"])
    parser.add_argument(
        "--hr", action="append", default=[], metavar="[NAME=]DIR", help="folder of HR images"
    )
    parser.add_argument(
        "--lr", action="append", default=[], metavar="[NAME=]DIR", help="folder of LR images"
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="ROW=WEIGHTS", help="a row's weights"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("work/paper_tables"), help="folder for what is written"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for realsr.evaluate")
    options = parser.parse_intermixed_args(arguments)
    if wrong := [text for text in options.model if "=" not in text]:
        parser.error(f"--model {wrong[0]}: expected ROW=WEIGHTS, e.g. --model DPED=DPED.pth")
    return options


if __name__ == "__main__":
    sys.exit(main())
