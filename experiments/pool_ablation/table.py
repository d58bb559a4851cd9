"""Score all finished runs of the ablation, print its tables and draw its figures.

    PYTHONPATH=experiments/pool_ablation python experiments/pool_ablation/table.py work/pool_ablation
        --alexnet FILE --vgg16 FILE --results experiments/pool_ablation/results

--alexnet, --vgg16: torchvision's weights, for LPIPS and DISTS. A repeated call scores new runs only.
Intervals (95 %) are over seeds and test photos. Differences are between runs of one camera and one
seed, so both have the same crops in the same order.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from scores import METRICS, Content, evaluate_runs, measure_gaps, measure_kernels
from simulated_cameras import CAMERAS

from realsr.core.files import write_bytes
from realsr.evaluation.tables import Table

TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips_alex": "LPIPS", "dists": "DISTS"}
DIGITS = {"psnr": 2, "ssim": 3, "lpips_alex": 3, "dists": 3}
HIGHER = {"psnr": True, "ssim": True, "lpips_alex": False, "dists": False}
REFERENCE = "spectral"
CONTROLS = {"vgg128": "patch128"}  # arms with another reference
RESAMPLES = 2000
OTHER_LOSSES = ("l1", "patch128", "vgg128")  # arms with the pool of `spectral`
OTHERS = ("interpolation", "start")  # models that are not arms


def collect(study: Path, weights: dict[str, Path]) -> Content:
    """Return scores, kernel PSNR and gaps of all cameras."""
    file = study / "results.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    results: Content = {"scores": {}, "kernels": {}, "gaps": old.get("gaps", {})}
    for camera in CAMERAS:
        for folder in sorted((study / camera).glob("seed_*")):
            seed = folder.name.removeprefix("seed_")
            evaluate_runs(study, camera, int(seed), weights)
            scores = json.loads((folder / "scores.json").read_text())
            results["scores"].setdefault(camera, {})[seed] = scores
            for arm in scores.keys() - set(OTHERS):
                psnr = measure_kernels(study, camera, arm, int(seed))
                if psnr is not None:
                    results["kernels"].setdefault(camera, {}).setdefault(arm, {})[seed] = psnr
        arms = [arm for arm in results["scores"][camera]["0"] if arm not in OTHERS]
        if set(results["gaps"].get(camera, {})) != set(arms):
            results["gaps"][camera] = measure_gaps(study, camera, arms)
        write_bytes(file, json.dumps(results, indent=1).encode())
    return results


def list_arms(results: Content) -> list[str]:
    """Return all models of the first seed, in the order of their runs."""
    first = next(iter(results["scores"].values()))
    return list(first["0"])


def read_values(
    results: Content, arm: str, metric: str, camera: str, reference: str | None = None
) -> np.ndarray:
    """Return a metric, or its difference from a reference arm, as (seeds, photos)."""
    seeds = [s for s in results["scores"][camera].values() if arm in s]
    return np.array(
        [
            [
                scores[metric] - (s[reference][photo][metric] if reference else 0)
                for photo, scores in s[arm].items()
            ]
            for s in seeds
            if reference is None or reference in s
        ]
    )


def estimate(
    results: Content, arm: str, metric: str, cameras: list[str], reference: str | None = None
) -> tuple[float, float, float]:
    """Return the mean over cameras and its 95 % interval by the bootstrap over seeds and photos.

    The photos are drawn jointly for all cameras, which take photos of the same scenes.
    """
    values = [read_values(results, arm, metric, camera, reference) for camera in cameras]
    rng = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        photos = rng.integers(values[0].shape[1], size=values[0].shape[1])
        samples = [v[rng.integers(len(v), size=len(v))][:, photos].mean() for v in values]
        means.append(fmean(samples))
    low, high = np.quantile(means, (0.025, 0.975))
    return fmean(v.mean() for v in values), float(low), float(high)


def count_better(
    results: Content, arm: str, metric: str, cameras: list[str], reference: str
) -> tuple[int, int]:
    """Return in how many photos of all cameras an arm beats another, and of how many.

    A photo's value is the mean over the seeds that both arms have.
    """
    values = [read_values(results, arm, metric, c, reference).mean(0) for c in cameras]
    differences = np.concatenate(values)
    return int(((differences > 0) if HIGHER[metric] else (differences < 0)).sum()), len(differences)


def deviation(results: Content, arm: str, metric: str) -> float:
    """Return the standard deviation over seeds of a camera's mean, averaged over cameras."""
    means = [read_values(results, arm, metric, camera).mean(1) for camera in results["scores"]]
    return fmean(stdev(m) if len(m) > 1 else float("nan") for m in means)


def make_table(results: Content, title: str, cameras: list[str]) -> Table:
    """Return the mean of each metric with its interval."""
    rows = []
    for arm in list_arms(results):
        cells = []
        for metric in METRICS:
            mean, low, high = estimate(results, arm, metric, cameras)
            digits = DIGITS[metric]
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        seeds = {sum(arm in s for s in results["scores"][camera].values()) for camera in cameras}
        rows.append([arm, str(min(seeds)), *cells])
    return Table(title, ["", "seeds", *TITLES.values()], rows)


def make_differences(results: Content, title: str, cameras: list[str]) -> Table:
    """Return the differences from the reference arm, and the share of photos that are better."""
    rows = []
    for arm in list_arms(results):
        reference = CONTROLS.get(arm, REFERENCE)
        if arm == reference:
            continue
        cells = []
        for metric in METRICS:
            mean, low, high = estimate(results, arm, metric, cameras, reference)
            better, photos = count_better(results, arm, metric, cameras, reference)
            digits = DIGITS[metric]
            interval = f"[{low:+.{digits}f}, {high:+.{digits}f}]"
            cells.append(f"{mean:+.{digits}f} {interval} {better}/{photos}")
        rows.append([f"{arm} - {reference}", *cells])
    return Table(title, ["", *TITLES.values()], rows)


def make_camera_table(results: Content, metric: str) -> Table:
    """Return the mean of a metric for each camera, and the deviation over seeds."""
    rows = [
        [
            arm,
            *(f"{read_values(results, arm, metric, c).mean():.{DIGITS[metric]}f}" for c in CAMERAS),
            f"{deviation(results, arm, metric):.{DIGITS[metric] + 1}f}",
        ]
        for arm in list_arms(results)
    ]
    return Table(TITLES[metric], ["", *CAMERAS, "deviation over seeds"], rows)


def make_wins(results: Content, metric: str) -> np.ndarray:
    """Return the share of photos, seeds and cameras in which the arm of a row beats a column's."""
    arms = list_arms(results)
    wins = np.full((len(arms), len(arms)), np.nan)
    for i, first in enumerate(arms):
        for j, second in enumerate(arms):
            outcomes = [
                (s[first][photo][metric] > s[second][photo][metric]) == HIGHER[metric]
                for seeds in results["scores"].values()
                for s in seeds.values()
                if first in s and second in s
                for photo in s[first]
            ]
            if i != j:
                wins[i, j] = np.mean(outcomes)
    return wins


def correlate(results: Content) -> Iterator[list[str]]:
    """Yield a row for each camera: rank correlation over arms of the gap, and of kernel PSNR."""
    for camera, measures in results["gaps"].items():
        gaps = {arm: gap for arm, gap in measures.items() if arm not in OTHER_LOSSES}
        cells = [camera, str(len(gaps))]
        for figure in ("distance", "accuracy"):
            x = [gap[figure] for gap in gaps.values()]
            for metric in ("psnr", "lpips_alex", "dists"):
                y = [read_values(results, arm, metric, camera).mean() for arm in gaps]
                cells.append(f"{spearmanr(x, y).statistic:+.2f}")
        kernels = {arm: fmean(k.values()) for arm, k in results["kernels"][camera].items()}
        # The same recipe but for the kernels.
        arms = [
            a
            for a in ("gaussian", "kernelgan", "spectral", "camera", "true_kernel")
            if a in kernels
        ]
        for metric in ("psnr", "lpips_alex", "dists"):
            y = [read_values(results, arm, metric, camera).mean() for arm in arms]
            cells.append(f"{spearmanr([kernels[a] for a in arms], y).statistic:+.2f}")
        yield cells


def make_correlations(results: Content) -> Table:
    """Return the rank correlations of what is known before training with the scores after it."""
    names = ("PSNR", "LPIPS", "DISTS")
    head = ["", "arms"]
    head += [
        f"{x}, {name}" for x in ("kernel distance", "accuracy", "kernel PSNR") for name in names
    ]
    return Table("rank correlation over arms", head, list(correlate(results)))


def make_inputs(results: Content) -> Table:
    """Return the kernel PSNR (mean over seeds) and the gap of each arm and camera."""
    rows = []
    for arm in [arm for arm in list_arms(results) if arm not in OTHERS]:
        cells = [arm]
        for camera in CAMERAS:
            kernels = results["kernels"].get(camera, {}).get(arm)
            gap = results["gaps"][camera][arm]
            psnr = f"{fmean(kernels.values()):.1f} dB, " if kernels else ""
            cells.append(f"{psnr}{gap['distance']:.2f} ({gap['accuracy']:.2f})")
        rows.append(cells)
    title = "kernel PSNR, kernel distance (accuracy) of LR from the camera's photos"
    return Table(title, ["", *CAMERAS], rows)


def draw(results: Content, file: Path) -> None:
    """Draw the scores of each arm on each camera, and how often each arm beats each other."""
    arms = list_arms(results)
    metrics = ("psnr", "lpips_alex", "dists")
    figure = Figure(figsize=(15, 0.32 * len(arms) + 6.5), layout="constrained")
    panels = figure.subplots(2, len(metrics))
    for column, metric in enumerate(metrics):
        axes = panels[0, column]
        for number, camera in enumerate(CAMERAS):
            for row, arm in enumerate(arms):
                mean, *interval = estimate(results, arm, metric, [camera], "start")
                y = row + 0.17 * (number - 1.5)
                axes.plot(interval, (y, y), color=f"C{number}", linewidth=1, alpha=0.5)
                label = camera if row == 0 else None
                axes.plot(mean, y, "o", color=f"C{number}", markersize=4, label=label)
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.set_yticks(range(len(arms)), arms if column == 0 else [])
        axes.invert_yaxis()
        better = "higher" if HIGHER[metric] else "lower"
        axes.set_title(
            f"{TITLES[metric]}: change from the common start ({better} is better)", fontsize=10
        )
        axes.grid(axis="y", alpha=0.3)
        wins = panels[1, column]
        wins.imshow(make_wins(results, metric), cmap="RdBu", vmin=0, vmax=1)
        wins.set_xticks(range(len(arms)), arms, rotation=90, fontsize=8)
        wins.set_yticks(range(len(arms)), arms if column == 0 else [], fontsize=8)
        wins.set_title(
            f"{TITLES[metric]}: how often the row beats the column (blue: often)", fontsize=10
        )
    panels[0, 0].legend(fontsize=8)
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    for name in ("alexnet", "vgg16", "results"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    results = collect(options.study, {"alexnet": options.alexnet, "vgg16": options.vgg16})
    cameras = list(CAMERAS)
    tables = [
        make_table(results, "all cameras", cameras),
        make_differences(results, "all cameras: differences", cameras),
        *(make_differences(results, f"{camera}: differences", [camera]) for camera in cameras),
        *(make_camera_table(results, metric) for metric in METRICS),
        make_inputs(results),
        make_correlations(results),
    ]
    text = "\n\n".join(table.as_markdown() for table in tables)
    print(text)
    options.results.mkdir(parents=True, exist_ok=True)
    write_bytes(options.results / "small.json", json.dumps(results, indent=1).encode())
    write_bytes(options.results / "small.md", (text + "\n").encode())
    draw(results, options.results / "small.png")


if __name__ == "__main__":
    main()
