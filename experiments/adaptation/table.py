"""Print the study's scores: means over photos with 95 % bootstrap intervals, by camera and over all.

    python experiments/adaptation/table.py OUTPUT [--steps 250]

Runs that differ in the seed alone are averaged photo by photo. The last table has the standard
deviation over seeds of a camera's mean PSNR and LPIPS.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

from study import METRICS

from realsr.evaluation.report import estimate_mean
from realsr.evaluation.tables import Table

Scores = dict[str, dict[str, float]]
TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips_alex": "LPIPS", "dists": "DISTS"}
DIGITS = {"psnr": 2, "ssim": 3, "lpips_alex": 3, "dists": 3}


def read_runs(file: Path, steps: int) -> dict[str, list[Scores]]:
    """Return arm -> seed -> photo -> metric, of runs of `steps` and other models."""
    runs: dict[str, list[Scores]] = {}
    for name, scores in json.loads(file.read_text()).items():
        arm, _, rest = name.partition("-")
        if rest:  # the model `bicubic` is interpolation
            arm = {"bicubic": "bicubic pairs"}.get(arm, arm)
        if not rest or rest.startswith(f"{steps}-"):
            runs.setdefault(arm, []).append(scores)
    return runs


def average_seeds(runs: dict[str, list[Scores]]) -> dict[str, Scores]:
    """Return arm -> photo -> metric -> mean over seeds."""
    return {
        arm: {
            photo: {m: sum(run[photo][m] for run in seeds) / len(seeds) for m in METRICS}
            for photo in seeds[0]
        }
        for arm, seeds in runs.items()
    }


def make_table(title: str, arms: dict[str, Scores]) -> Table:
    """Return means, changes relative to df2k, and the share of photos better in PSNR and LPIPS."""
    rows = []
    published = arms["df2k"]
    for arm, scores in arms.items():
        cells = []
        for metric in METRICS:
            estimate = estimate_mean([photo[metric] for photo in scores.values()])
            low, high = estimate.interval
            digits = DIGITS[metric]
            cells.append(f"{estimate.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        psnr = estimate_mean([scores[p]["psnr"] - published[p]["psnr"] for p in scores])
        lpips = [sum(s[p]["lpips_alex"] for p in scores) for s in (scores, published)]
        better = sum(
            scores[p]["psnr"] > published[p]["psnr"]
            and scores[p]["lpips_alex"] < published[p]["lpips_alex"]
            for p in scores
        )
        change = f"{100 * (lpips[0] / lpips[1] - 1):+.1f} %"
        low, high = psnr.interval
        gain = f"{psnr.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        rows.append([arm, *cells, gain, change, f"{better}/{len(scores)}"])
    heads = [*TITLES.values(), "PSNR - df2k", "LPIPS / df2k", "both better"]
    return Table(title, ["", *heads], rows)


def make_seed_table(cameras: dict[str, dict[str, list[Scores]]]) -> Table:
    """Return the deviation over seeds of the mean PSNR and LPIPS, of arms with several seeds."""
    rows = []
    for camera, runs in cameras.items():
        for arm, seeds in runs.items():
            if len(seeds) > 1:
                means = {
                    metric: [fmean(photo[metric] for photo in scores.values()) for scores in seeds]
                    for metric in ("psnr", "lpips_alex")
                }
                deviations = [f"{stdev(means['psnr']):.2f}", f"{stdev(means['lpips_alex']):.4f}"]
                rows.append([camera, arm, str(len(seeds)), *deviations])
    return Table("deviation over seeds", ["camera", "arm", "seeds", "PSNR", "LPIPS"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()
    runs = {
        file.parent.name: read_runs(file, options.steps)
        for file in sorted(options.output.glob("*/scores.json"))
    }
    cameras = {camera: average_seeds(arms) for camera, arms in runs.items()}
    for camera, arms in cameras.items():
        print(make_table(camera, arms).as_markdown(), end="\n\n")
    common = [
        arm for arm in next(iter(cameras.values())) if all(arm in c for c in cameras.values())
    ]
    means = {
        arm: {
            f"{camera} {photo}": scores
            for camera, arms in cameras.items()
            for photo, scores in arms[arm].items()
        }
        for arm in common
    }
    print(make_table("all cameras", means).as_markdown(), end="\n\n")
    print(make_seed_table(runs).as_markdown())


if __name__ == "__main__":
    main()
