"""Kernel PSNR of the study's records, summed up; as a table in Markdown.

python experiments/kernel_recovery/table.py experiments/kernel_recovery/results/2026-11-23.json

Of several files it prints how much KernelGAN's forms vary over seeds.
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

from realsr.core.machine import describe_processor
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, kernel_psnr, normalise
from realsr.kernels.gaussian import gaussian_kernel

NAMES = {
    "bicubic": "bicubic",
    "isotropic": "isotropic Gaussian of the best width (knows the true kernel)",
    "kernelgan": "KernelGAN, as published: one run",
    "kernelgan_mean": "KernelGAN, mean of the kernels of its runs",
    "kernelgan_steady": "KernelGAN, steady form",
    "spectral": "spectral estimator (at x4: its x2 kernel composed)",
    "spectral_x4": "spectral estimator, its x4 kernel",
    "gaussian": "best Gaussian (knows the true kernel)",
}
LOW = 26.0  # dB, of a failed run


def summarise(records: Sequence[dict], photos: str) -> dict:
    """Return what the table shows: PSNR of each case and estimator, and their means and spreads by group.

    A group has a scale and a noise level; `common` of its groups are the cases that all estimators have done.
    """
    cases: dict[Case, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        case = Case(*(record[name] for name in ("photo", "kernel", "scale", "noise")))
        cases[case][record["estimator"]].append(record)
    rows = [_measure(case, group) for case, group in cases.items()]
    names = {name for group in cases.values() for name in group}
    common = [row for row in rows if names <= row["psnr"].keys()]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "cpu": describe_processor("model name")},
        "versions": {"python": platform.python_version()}
        | {n: version(n) for n in ("numpy", "scipy", "torch")},
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
    return "\n\n".join([*blocks, _excess_table(summary["cases"])])


def root_mean(estimates: Sequence[Kernel]) -> Kernel:
    """Return the mean of aligned kernels of odd sizes, laid middle on middle."""
    side = max(len(estimate) for estimate in estimates)
    return normalise(sum(np.pad(estimate, (side - len(estimate)) // 2) for estimate in estimates))


def _measure(case: Case, records: dict[str, list[dict]]) -> dict:
    """Return a case's PSNR by estimator, one number a seed."""
    true = at_scale(true_root(case), case.scale)

    def psnr(root: Kernel) -> float:
        return round(kernel_psnr(true, at_scale(root, case.scale)), 3)

    estimates = {
        name: [np.array(record["estimate"]) for record in group] for name, group in records.items()
    }
    result = {name: [psnr(estimate) for estimate in kernels] for name, kernels in estimates.items()}
    if len(estimates.get("kernelgan", [])) > 1:
        result["kernelgan_mean"] = [psnr(root_mean(estimates["kernelgan"]))]
    if case.scale == 4 and "spectral" in estimates:
        result["spectral_x4"] = [psnr(_four_fifths(estimates["spectral"][0]))]
    bounds = {
        "bicubic": bicubic(case.scale),
        "isotropic": best_isotropic(true),
        "gaussian": best_gaussian(true),
    }
    result |= {name: [round(kernel_psnr(true, kernel), 3)] for name, kernel in bounds.items()}
    seconds = {name: [record["seconds"] for record in group] for name, group in records.items()}
    wide = {
        name: [round(_excess(kernel, true_root(case)), 2) for kernel in kernels]
        for name, kernels in estimates.items()
    }
    return {**vars(case), "psnr": result, "excess": wide, "seconds": seconds}


def _excess(root: Kernel, true: Kernel) -> float:
    """Return the excess variance of an x2 kernel, mean of both axes, pixels squared."""
    return float(np.trace(covariance(root) - covariance(true)) / 2)


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
        common = [name for name in NAMES if all(name in row["psnr"] for row in group)]
        figures = {name: _figures([row["psnr"][name] for row in group]) for name in common}
        gains = {
            name: _gain(group, name)
            for name in common
            if name != "kernelgan" and "kernelgan" in common
        }
        yield {"scale": scale, "noise": noise, "count": len(group), "psnr": figures, "gain": gains}


def _gain(group: Sequence[dict], name: str) -> dict:
    """Return the mean gain over one run of KernelGAN per case, and its standard error."""
    gains = [np.mean(row["psnr"][name]) - np.mean(row["psnr"]["kernelgan"]) for row in group]
    error = np.std(gains, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return {"mean": round(float(np.mean(gains)), 2), "error": round(float(error), 2)}


def _figures(psnr: Sequence[Sequence[float]]) -> dict:
    """Return the mean, the spread over cases (of means), and over seeds (within a case)."""
    means = [np.mean(values) for values in psnr]
    seeds = min(len(values) for values in psnr)
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
    within = float(np.mean([np.std(values, ddof=1) for values in psnr])) if seeds > 1 else None
    numbers = {"mean": float(np.mean(means)), "over_cases": spread, "over_seeds": within}
    return {
        name: value if value is None else round(value, 2) for name, value in numbers.items()
    } | {"seeds": seeds}


def _table(title: str, groups: Sequence[dict]) -> str:
    heads = [f"x{group['scale']}, noise {group['noise']:g}" for group in groups]
    lines = [f"| {title}: | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines.append(f"| cases | {' | '.join(str(group['count']) for group in groups)} |")
    if any("kernelgan" in group["psnr"] for group in groups):
        runs = [group["psnr"].get("kernelgan", {"seeds": 0})["seeds"] for group in groups]
        lines.append(f"| KernelGAN's runs a case | {' | '.join(map(str, runs))} |")
    for name, words in NAMES.items():
        if any(name in group["psnr"] for group in groups):
            cells = [_cell(group["psnr"].get(name)) for group in groups]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    for name, words in NAMES.items():
        if name in ("kernelgan_mean", "kernelgan_steady", "spectral", "spectral_x4") and any(
            name in group["gain"] for group in groups
        ):
            gains = [group["gain"].get(name) for group in groups]
            cells = [
                f"{gain['mean']:+.1f} ± {gain['error']:.1f}" if gain else "–" for gain in gains
            ]
            lines.append(f"| gain over one run: {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _excess_table(rows: Sequence[dict]) -> str:
    """Return a table of the excess variance by photo: mean ± spread over the kernels."""
    clean = [row for row in rows if (row["scale"], row["noise"]) == (2, 0)]
    photos = sorted({row["photo"] for row in clean})
    lines = [
        f"| Excess of variance, x2, noise 0: | {' | '.join(photos)} |",
        "|---" * (len(photos) + 1) + "|",
    ]
    for name in sorted({name for row in clean for name in row["excess"]}):
        cells = []
        for photo in photos:
            excess = [
                np.mean(row["excess"][name])
                for row in clean
                if row["photo"] == photo and name in row["excess"]
            ]
            spread = f" ± {np.std(excess, ddof=1):.2f}" if len(excess) > 1 else ""
            cells.append(f"{np.mean(excess):+.2f}{spread}" if excess else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_steadiness(rows: Sequence[dict]) -> str:
    """Return a table of the spread over seeds of KernelGAN's forms, x2, from rows of `summarise`.

    Standard deviations are those over the runs of a case.
    """
    lines = [
        "| x2 | cases, runs | mean | standard deviation: mean, median over cases | lowest run "
        f"| below {LOW:g} dB |",
        "|---" * 6 + "|",
    ]
    for noise in sorted({row["noise"] for row in rows}):
        for name in ("kernelgan", "kernelgan_steady"):
            runs = [
                row["psnr"][name]
                for row in rows
                if (row["scale"], row["noise"]) == (2, noise) and len(row["psnr"].get(name, [])) > 1
            ]
            if runs:
                spreads = [np.std(values, ddof=1) for values in runs]
                psnr = np.concatenate(runs)
                lines.append(
                    f"| noise {noise:g}: {NAMES[name]} | {len(runs)}, {len(psnr)} "
                    f"| {np.mean([np.mean(values) for values in runs]):.1f} "
                    f"| {np.mean(spreads):.1f}, {np.median(spreads):.1f} "
                    f"| {psnr.min():.1f} | {(psnr < LOW).sum()} |"
                )
    return "\n".join(lines)


def _cell(figures: dict | None) -> str:
    if figures is None:
        return "–"
    within = "" if figures["over_seeds"] is None else f" ({figures['over_seeds']:.1f})"
    return f"{figures['mean']:.1f} ± {figures['over_cases']:.1f}{within}"


if __name__ == "__main__":
    summaries = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    if len(summaries) == 1:
        print(write_table(summaries[0]))
    else:
        print(write_steadiness([row for summary in summaries for row in summary["cases"]]))
