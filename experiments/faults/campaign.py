"""Inject faults into the commands of the product and count the outcomes.

    python experiments/faults/campaign.py --output work/faults.json
    python experiments/faults/campaign.py --only kills,power --source ../older/src
    python experiments/faults/campaign.py --trial kills/train/34 --keep-failures work/failures

README.md describes the campaigns and the table. The exit code is 1 if a trial failed.
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

CAMPAIGNS = ("kills", "power", "disk", "vanish", "twice", "workers", "manifests", "listing")
COLUMNS = {
    "traceback": "tracebacks",
    "deviation": "silent deviations",
    "hang": "hangs",
    "outside": "outside touched",
}
FOLDER = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    source = options.source.resolve()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # so that the folder is removed
    scratch = Path(tempfile.mkdtemp(prefix="realsr-faults-", dir=options.scratch)).resolve()
    try:
        return run(options, source, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(options: argparse.Namespace, source: Path, scratch: Path) -> int:
    """Prepare scenes, run the selected trials, print the table; return the exit code."""
    sys.path.insert(0, str(FOLDER))
    product = importlib.import_module("product")
    product.set_environment(source, scratch)
    product.import_product(source)
    trials = importlib.import_module("trials")
    selection = options.trial.split(",") if options.trial else []
    only = {part for name in selection for part in name.split("/")[1:2]}
    scenes = importlib.import_module("scenes").Scenes(scratch / "scenes", only)
    began = time.monotonic()
    campaigns = dict.fromkeys(name.split("/")[0] for name in selection) or options.only.split(",")
    chosen: list[Any] = []
    for name in campaigns:
        candidates = importlib.import_module(name).list_trials(scenes)
        if selection:
            exact = [trial for trial in candidates if trial.name in selection]
            candidates = exact or [
                trial for trial in candidates if trial.name.startswith(tuple(selection))
            ]
        if options.limit:
            candidates = candidates[:: max(1, len(candidates) // options.limit)][: options.limit]
        chosen += candidates
    if not chosen:
        raise SystemExit(f"--trial {options.trial}: no such trial")
    machine, results = describe_machine(source, scratch), list[dict[str, Any]]()
    try:
        for result in _watch(
            trials.run_trials(chosen, scratch / "trials", options.jobs, options.keep_failures),
            chosen,
        ):
            results.append(result)
    finally:  # keep results if the campaign is stopped
        seconds = round(time.monotonic() - began)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            report = {
                "machine": machine,
                "seconds": seconds,
                "asked": len(chosen),
                "trials": results,
            }
            options.output.write_text(json.dumps(report, indent=1))
        print(format_report(results))
        print(
            f"\n{json.dumps(machine)}\n{len(results)} of {len(chosen)} trials in {seconds} s with --jobs {options.jobs}"
        )
    return int(any(result["failures"] for result in results))


def _watch(results: Any, selection: Sequence[Any]) -> Any:
    """Yield results and show progress."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread: this process forks
    failures = 0
    # Off a terminal a line every 20 seconds.
    interval = 0.1 if sys.stderr.isatty() else 20
    with tqdm(
        total=len(selection), unit="trial", mininterval=interval, maxinterval=interval
    ) as bar:
        for result in results:
            failures += bool(result["failures"])
            bar.set_postfix_str(f"{failures} failed, {result['trial']}", refresh=False)
            bar.update()
            yield result


def format_report(results: Sequence[dict[str, Any]]) -> str:
    """Return the failing trials, one paragraph each, and the table with a row for each campaign."""
    lines = []
    for result in results:
        for failure in result["failures"]:
            lines.append(
                f"{result['trial']}: {result['fault']}\n  {failure['kind']}: {failure['detail'][:600]}"
            )
    heads = ["campaign", "trials", "failed", *COLUMNS.values(), "other failures", "skipped"]
    rows = [heads, ["---"] * len(heads)]
    names = list(dict.fromkeys(result["trial"].split("/", 1)[0] for result in results))
    rows += [
        [name, *_count([r for r in results if r["trial"].startswith(f"{name}/")])] for name in names
    ]
    rows.append(["all", *_count(results)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([*lines, "", table])


def _count(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return a row: the number of trials, and of trials with each kind of failure."""
    trials_run = [result for result in results if not result["skipped"]]
    kinds = [{failure["kind"] for failure in result["failures"]} for result in trials_run]
    counts = Counter(kind for trial in kinds for kind in trial)
    other_kinds = ", ".join(
        f"{kind} {count}" for kind, count in sorted(counts.items()) if kind not in COLUMNS
    )
    row = [len(trials_run), sum(map(bool, kinds)), *(counts[kind] for kind in COLUMNS)]
    return [*map(str, row), other_kinds or "0", str(len(results) - len(trials_run))]


def describe_machine(source: Path, scratch: Path) -> dict[str, Any]:
    """Return date, commit, CPU, cores, file system and versions."""
    import torch

    commit = subprocess.run(
        ["git", "-C", source, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    system = subprocess.run(["stat", "-f", "-c", "%T", scratch], capture_output=True, text=True)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "date": date.today().isoformat(), "commit": commit.stdout.strip(), "cpu": (models or [platform.machine()])[0],
        "cores": len(os.sched_getaffinity(0)), "file system": system.stdout.strip(), "system": platform.release(),
        "python": platform.python_version(), "torch": torch.__version__, "root": os.geteuid() == 0,
    }  # fmt: skip


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fault campaign: see README.md beside this file.")
    parser.add_argument(
        "--source", type=Path, default=FOLDER.parents[1] / "src", help="the product's src folder"
    )
    parser.add_argument("--only", default=",".join(CAMPAIGNS), help="campaigns, with commas")
    parser.add_argument(
        "--trial", help="names of trials, comma-separated, or a prefix such as kills/train/"
    )
    parser.add_argument(
        "--limit", type=int, help="maximum number of trials per campaign, evenly spaced"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel trials")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--keep-failures", type=Path, help="folder that the folders of failing trials are moved to"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder of the trials, on the file system to test"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.only.split(",")) - set(CAMPAIGNS):
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
