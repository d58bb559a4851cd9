"""Kernel PSNR of the study's records, summed up; as a table in Markdown.

python experiments/kernel_recovery/table.py experiments/kernel_recovery/results/2026-11-23.json
"""

import datetime
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from baselines import best_gaussian, best_isotropic, bicubic, covariance
from cases import Case, at_scale, true_root

from realsr.degradation.gaussian import gaussian_kernel
from realsr.degradation.kernels import Kernel, aligned_centre, kernel_psnr, normalise

NAMES = {
    "bicubic": "bicubic",
    "isotropic": "isotropic Gaussian of the best width (knows the true kernel)",
    "kernelgan": "KernelGAN, as published: one run",
    "kernelgan_mean": "KernelGAN, mean of the kernels of {seeds} runs",
    "spectral": "spectral estimator",
    "spectral_x4": "spectral estimator, 4/5 of its variance composed",
    "gaussian": "best Gaussian (knows the true kernel)",
}


def summarise(records: Sequence[dict], photos: str) -> dict:
    """Return what the table shows: PSNR of each case and estimator, and their means and spreads by group.

    A group has a scale and a noise level; `common` of its groups are the cases that all estimators have done.
    """
    cases: dict[Case, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        case = Case(*(record[name] for name in ("photo", "kernel", "scale", "noise")))
        cases[case][record["estimator"]].append(record)
    rows = [_measure(case, found) for case, found in cases.items()]
    names = {name for found in cases.values() for name in found}
    common = [row for row in rows if names <= row["psnr"].keys()]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "cpu": _cpu()},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("numpy", "scipy", "torch")},
        "photos": photos,
        "common": list(_groups(common)),
        "all": list(_groups(rows)) if len(rows) > len(common) else [],
        "cases": rows,
    }


def write_table(summary: dict) -> str:
    """Write the summary as tables in Markdown: estimators down, scale and noise across."""
    blocks = [_table("Cases of all estimators", summary["common"])]
    if summary["all"]:
        blocks.append(_table("All kernels", summary["all"]))
    return "\n\n".join(blocks)


def root_mean(estimates: Sequence[Kernel]) -> Kernel:
    """Return the mean of aligned kernels of odd sizes, laid middle on middle."""
    side = max(len(estimate) for estimate in estimates)
    return normalise(sum(np.pad(estimate, (side - len(estimate)) // 2) for estimate in estimates))


def _measure(case: Case, found: dict[str, list[dict]]) -> dict:
    """Return a case's PSNR by estimator, one number a seed."""
    true = at_scale(true_root(case), case.scale)

    def psnr(root: Kernel) -> float:
        return round(kernel_psnr(true, at_scale(root, case.scale)), 3)

    estimates = {name: [np.array(record["estimate"]) for record in done] for name, done in found.items()}
    result = {name: [psnr(estimate) for estimate in kernels] for name, kernels in estimates.items()}
    if len(estimates.get("kernelgan", [])) > 1:
        result["kernelgan_mean"] = [psnr(root_mean(estimates["kernelgan"]))]
    if case.scale == 4 and "spectral" in estimates:
        result["spectral_x4"] = [psnr(_four_fifths(estimates["spectral"][0]))]
    known = {"bicubic": bicubic(case.scale), "isotropic": best_isotropic(true), "gaussian": best_gaussian(true)}
    result |= {name: [round(kernel_psnr(true, kernel), 3)] for name, kernel in known.items()}
    seconds = {name: [record["seconds"] for record in done] for name, done in found.items()}
    return {**vars(case), "psnr": result, "seconds": seconds}


def _four_fifths(root: Kernel) -> Kernel:
    """Return the Gaussian whose x4 kernel has 4 S and not 5 S as covariance, S being that of `root`.

    `root` says how a sharp photo was blurred that was then halved, S / 4 in pixels of LR. The sharp photo behind x4 is
    as sharp, with pixels of half the size: S / 4 is 4 S in these. Composing k with its doubled grid gives 5 S, as it
    takes k as the blur of a photo that is itself blurred by k.
    """
    return gaussian_kernel(0.8 * covariance(root), len(root), aligned_centre(len(root), 2))


def _groups(rows: Sequence[dict]) -> Iterator[dict]:
    for scale, noise in sorted({(row["scale"], row["noise"]) for row in rows}):
        group = [row for row in rows if (row["scale"], row["noise"]) == (scale, noise)]
        shared = [name for name in NAMES if all(name in row["psnr"] for row in group)]
        figures = {name: _figures([row["psnr"][name] for row in group]) for name in shared}
        yield {"scale": scale, "noise": noise, "count": len(group), "psnr": figures}


def _figures(psnr: Sequence[Sequence[float]]) -> dict:
    """Return the mean over cases and seeds, the spread over cases (of their means), and over seeds (within a case)."""
    means = [np.mean(values) for values in psnr]
    seeds = min(len(values) for values in psnr)
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
    within = float(np.mean([np.std(values, ddof=1) for values in psnr])) if seeds > 1 else None
    rounded = {"mean": float(np.mean(means)), "over_cases": spread, "over_seeds": within}
    return {name: value if value is None else round(value, 2) for name, value in rounded.items()} | {"seeds": seeds}


def _table(title: str, groups: Sequence[dict]) -> str:
    heads = [f"x{group['scale']}, noise {group['noise']:g}" for group in groups]
    lines = [f"| {title}: | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines.append(f"| cases | {' | '.join(str(group['count']) for group in groups)} |")
    for name, words in NAMES.items():
        if any(name in group["psnr"] for group in groups):
            runs = max(group["psnr"].get("kernelgan", {"seeds": 0})["seeds"] for group in groups)
            cells = [_cell(group["psnr"].get(name)) for group in groups]
            lines.append(f"| {words.format(seeds=runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figures: dict | None) -> str:
    if figures is None:
        return "–"
    within = "" if figures["over_seeds"] is None else f" ({figures['over_seeds']:.1f})"
    return f"{figures['mean']:.1f} ± {figures['over_cases']:.1f}{within}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


if __name__ == "__main__":
    print(write_table(json.loads(Path(sys.argv[1]).read_text())))
