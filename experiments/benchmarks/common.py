"""Shared parts of the benchmark scripts: facts about the machine, and the report of results."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realsr.provenance.manifest import package_versions


def machine() -> dict[str, Any]:
    """Return the facts that measured times depend on: processor, cores, versions."""
    cpu = platform.processor() or "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": cores,
        "system": platform.platform(),
        "versions": package_versions(),
    }


def report(results: dict[str, Any], json_path: Path | None) -> None:
    """Print results, one per line; with a path, also write them with date and machine as JSON."""
    for name, value in results.items():
        print(name, value)
    if json_path is not None:
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "results": results,
        }
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
