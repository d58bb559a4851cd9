"""Recover the known noise of simulated cameras by each form of noise injection.

    python experiments/noise_recovery/study.py --work work/noise_recovery \
        --json experiments/noise_recovery/results/2026-11-29.json
    python experiments/noise_recovery/study.py --json FILE [--figure FILE.png]

The first command makes photos, collects noise patches, fits the noise model, and measures the noise
that each form adds to flat images. The second prints the tables of FILE and draws its figure.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from realsr.config.composition import load_config
from realsr.core.files import write_bytes
from realsr.core.machine import describe_processor
from realsr.core.seeding import numpy_generator
from realsr.data.degradations.degradation import build_degradation, to_batch
from realsr.imaging import write_uint8
from realsr.simulation.camera_model import load_photograph

SCENES = (
    "astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina",
    "rocket", "stereo_motorcycle",
)  # fmt: skip
EXPOSURES = (0.6, 1.4)
LARGEST = 640  # pixels of a side
STRENGTH = 8  # of the non-local means, 8-bit levels
BRIGHTNESS = np.arange(5, 96, 10)  # percent of the range
FORMS = {
    "random": {"name": "noise", "match": "random"},
    "brightness": {"name": "noise", "match": "brightness"},
    "model": {"name": "noise_model"},
}
SIDE, CROPS = 32, 60  # pixels; LR crops per brightness
LAGS = 4
TOLERANCE = 0.1


@dataclass(frozen=True)
class Camera:
    """Known noise. The variance in 8-bit levels is a polynomial of the brightness x in 0..1.

    polynomial: (channels, coefficients of 1, x, x^2, …). blur: standard deviation of the Gaussian
    that correlates pixels, 0 for white noise. colour: correlation of two channels.
    """

    polynomial: tuple[tuple[float, ...], ...]
    blur: float
    colour: float

    def deviation(self, brightness: np.ndarray) -> np.ndarray:
        """Return the standard deviations (…, 3), 8-bit levels, of channels (…, 3) in 0..1."""
        curves = [np.polynomial.Polynomial(coefficients) for coefficients in self.polynomial]
        variances = [curve(brightness[..., c]) for c, curve in enumerate(curves)]
        return np.sqrt(np.stack(variances, axis=-1))

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw noise (h, w, 3) of unit variance."""
        white = rng.standard_normal((size[0] + 32, size[1] + 32, 3))
        if self.blur:
            row = cv2.getGaussianKernel(17, self.blur)
            kernel = row @ row.T
            white = cv2.filter2D(white, -1, kernel / np.sqrt(np.square(kernel).sum()))
        root = np.linalg.cholesky(np.full((3, 3), self.colour) + (1 - self.colour) * np.eye(3))
        return white[16:-16, 16:-16] @ root.T


# Raw: shot and read noise. Developed: a tone curve amplifies shadows and compresses lights, white
# balance separates the channels, and demosaicing and denoising correlate.
CAMERAS = {
    "raw": Camera(((1.5, 20.0), (1.5, 20.0), (1.5, 20.0)), 0.0, 0.0),
    "developed": Camera(
        ((4.0, 60.0, -90.0, 36.0), (3.0, 40.0, -60.0, 24.0), (5.0, 80.0, -120.0, 48.0)), 0.7, 0.4
    ),
    "denoised": Camera(((3.0, 25.0, -22.0), (2.0, 18.0, -16.0), (4.0, 30.0, -26.0)), 1.2, 0.6),
}


@cache
def read_scene(scene: str) -> np.ndarray:
    """Return a scene (h, w, 3) in 0..1.

    Non-local means remove its own noise, which would add to the known noise.
    """
    image = load_photograph(scene, "the study", "demo")[:LARGEST, :LARGEST]
    return cv2.fastNlMeansDenoisingColored(image, None, STRENGTH, STRENGTH, 5, 13) / 255


def write_photos(camera: Camera, folder: Path, name: str) -> None:
    """Write the scenes as the camera sees them."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in SCENES:
        clean = read_scene(scene)
        for exposure in EXPOSURES:
            rng = numpy_generator(0, "noise_recovery", name, scene, str(exposure))
            signal = np.clip(clean * exposure, 0, 1)
            noise = camera.deviation(signal) * camera.draw(clean.shape[:2], rng) / 255
            photo = np.rint(255 * np.clip(signal + noise, 0, 1)).astype(np.uint8)
            write_uint8(folder / f"{scene}_{exposure}.png", photo)


def measure(form: str, files: Sequence[Path]) -> dict[str, Any]:
    """Return the level by brightness (levels, 3) and the correlations of the noise of a form."""
    degradation = build_degradation(FORMS[form], 2, files)
    levels, lags, colours = [], [], []
    for brightness in BRIGHTNESS:
        lr = np.full((SIDE, SIDE, 3), round(255 * brightness / 100), np.uint8)
        noise = []
        for number in range(CROPS):
            rng = numpy_generator(1, "noise_recovery", form, int(brightness), number)
            batch = to_batch(degradation.prepare(lr, 0, 2, rng), np.zeros((2, 2, 3), np.uint8))
            with torch.inference_mode():
                degraded = degradation.apply(batch)[0].permute(1, 2, 0).double().numpy()
            noise.append(255 * degraded - lr)
        levels.append(np.sqrt(np.square(noise).mean((0, 1, 2))))
        lags.append(_autocorrelation(np.array(noise)))
        colours.append(_colour_correlation(np.array(noise)))
    return {
        "levels": np.round(levels, 4).tolist(),
        "autocorrelation": np.round(np.mean(lags, axis=0), 4).tolist(),
        "colour": round(float(np.mean(colours)), 4),
    }


def _autocorrelation(noise: np.ndarray) -> list[float]:
    power = np.square(noise).mean()
    return [
        float((noise[:, :, lag:] * noise[:, :, :-lag]).mean() / power) for lag in range(1, 1 + LAGS)
    ]


def _colour_correlation(noise: np.ndarray) -> float:
    matrix = np.corrcoef(noise.reshape(-1, 3).T)
    return float((matrix.sum() - 3) / 6)


def run(work: Path) -> dict[str, Any]:
    """Return the results of all cameras and forms."""
    from realsr.api.degradation_stages import collect_noise
    from realsr.pools.contents import list_degradation_files

    cameras = {}
    for name, camera in CAMERAS.items():
        source = work / name / "photos"
        write_photos(camera, source, name)
        common = ["+track=df2k", f"data.source={source}", f"work_dir={work / name}", "workers=0"]
        tiles = ["noise=auto", "noise.size=64", "noise.stride=32"]
        collect_noise(load_config("collect_noise", [*common, *tiles]))
        collect_noise(load_config("collect_noise", [*common, "online_degradation=noise_model"]))
        forms = {}
        for form, values in FORMS.items():
            files = list_degradation_files(work / name / "pool", True, values, 2, None)
            forms[form] = measure(form, files) | {"files": len(files)}
        grid = np.repeat(BRIGHTNESS[:, None] / 100, 3, axis=1)
        sample = camera.draw((1024, 1024), numpy_generator(2, "truth"))[None]
        truth = {
            "levels": np.round(camera.deviation(grid), 4).tolist(),
            "autocorrelation": np.round(_autocorrelation(sample), 4).tolist(),
            "colour": round(_colour_correlation(sample), 4),
        }
        cameras[name] = {"truth": truth, **forms}
        print(name, flush=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": describe_processor("model name") or "unknown",
        "photos": len(SCENES) * len(EXPOSURES),
        "brightness": BRIGHTNESS.tolist(),
        "cameras": cameras,
    }


def errors(results: dict[str, Any], camera: str, form: str) -> np.ndarray:
    """Return the relative error of the level (levels, 3)."""
    entry = results["cameras"][camera]
    return np.array(entry[form]["levels"]) / np.array(entry["truth"]["levels"]) - 1


def write_tables(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        f"{results['date']}, {results['processor']}, {results['photos']} photos a camera.", "",
        "| camera | form | largest error | mean error | within 10 % | lag 1, 2, 3 | colours |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for camera, entry in results["cameras"].items():
        for form in ("truth", *FORMS):
            lags = ", ".join(f"{value:.2f}" for value in entry[form]["autocorrelation"][:3])
            tail = f"{lags} | {entry[form]['colour']:.2f} |"
            if form == "truth":
                lines.append(f"| {camera} | truth | | | | {tail}")
                continue
            error = np.abs(errors(results, camera, form))
            share = (error <= TOLERANCE).mean()
            lines.append(
                f"| {camera} | {form} | {error.max():.0%} | {error.mean():.0%} | {share:.0%} | {tail}"
            )
    columns = [results["brightness"].index(value) for value in (5, 15, 35, 55, 75, 85, 95)]
    head = " | ".join(f"{results['brightness'][index]} %" for index in columns)
    lines += ["", f"| error of the level at brightness | {head} |", "|---" * 8 + "|"]
    for camera in results["cameras"]:
        for form in FORMS:
            error = errors(results, camera, form)
            worst = error[np.arange(len(error)), np.abs(error).argmax(axis=1)]
            cells = " | ".join(f"{worst[index]:+.0%}" for index in columns)
            lines.append(f"| {camera}, {form} | {cells} |")
    return "\n".join(lines)


def draw_figure(results: dict[str, Any], path: Path) -> None:
    """Draw level (green) and error (worst channel) against brightness for each camera."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colours = {"random": "#c83c78", "brightness": "#f09628", "model": "#3c9650"}
    names = list(results["cameras"])
    figure, grid = plt.subplots(2, len(names), figsize=(4.2 * len(names), 6.4), sharex=True)
    for column, camera in enumerate(names):
        level, error = grid[:, column]
        truth = np.array(results["cameras"][camera]["truth"]["levels"])[:, 1]
        level.plot(results["brightness"], truth, "k", linewidth=4, alpha=0.3, label="truth")
        for form, colour in colours.items():
            values = np.array(results["cameras"][camera][form]["levels"])
            level.plot(results["brightness"], values[:, 1], color=colour, label=form)
            relative = errors(results, camera, form)
            worst = relative[np.arange(len(relative)), np.abs(relative).argmax(axis=1)]
            error.plot(results["brightness"], 100 * worst, color=colour)
        error.axhspan(-10, 10, color="k", alpha=0.1)
        level.set_title(camera)
        level.set_ylim(0)
        error.set_xlabel("brightness, % of the range")
    grid[0, 0].set_ylabel("noise level of green, 8-bit levels")
    grid[1, 0].set_ylabel("error of the worst channel, %")
    grid[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for photos and pools: run the study")
    parser.add_argument("--json", type=Path, required=True, help="results")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    options = parser.parse_args(arguments)
    if options.work:
        write_bytes(options.json, json.dumps(run(options.work), indent=1).encode())
    results = json.loads(options.json.read_text())
    print(write_tables(results))
    if options.figure:
        draw_figure(results, options.figure)


if __name__ == "__main__":
    main()
