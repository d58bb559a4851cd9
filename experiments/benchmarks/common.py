"""Shared parts of the benchmark scripts: facts about the machine, and the report of results."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realsr.provenance.manifest import package_versions

VECTOR_FLAGS = ("avx", "fma", "amx", "asimd", "sve", "bf16")


def machine() -> dict[str, Any]:
    """Return the facts that measured times depend on: processor, its vector instructions, versions.

    Instruction sets that torch may not use (ATEN_CPU_CAPABILITY) are among the flags.
    """
    facts = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", facts.get("Features", "")).split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": facts.get("model name") or platform.processor() or "unknown",
        "flags": [flag for flag in flags if flag.startswith(VECTOR_FLAGS)],
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
