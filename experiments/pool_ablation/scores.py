"""Scores of the ablation's runs: metrics of test photos, kernel PSNR and the gap of domains."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from simulated_cameras import CAMERAS, SCALE

from realsr import api
from realsr.api.training_run import list_inputs
from realsr.core.files import write_bytes
from realsr.data.degradations.degradation import build_degradation
from realsr.data.pairs import list_pairs
from realsr.data.validation_images import load_validation
from realsr.domains.comparison import compare_domains, measure_domain
from realsr.imaging import list_images, to_uint8, write_uint8
from realsr.imaging.kernel_shapes import kernel_psnr, load_kernel
from realsr.pools.contents import list_kernels

METRICS = ("psnr", "ssim", "lpips_alex", "dists")
CONF = Path(__file__).parent / "conf"
REGIONS = 256  # of an image, for the gap

Content = dict[str, Any]


def load_arm(camera: str, arm: str, seed: int) -> Any:
    """Return the configuration of a run."""
    search = f"hydra.searchpath=[file://{CONF.resolve()}]"
    return api.load_config("train", [search, f"+camera={camera}", f"+arm={arm}", f"seed={seed}"])


def evaluate_runs(study: Path, camera: str, seed: int, weights: dict[str, Path]) -> None:
    """Score the runs of a camera and a seed that have no scores yet. Bicubic is scored with them."""
    folder = study / camera / f"seed_{seed}"
    file = folder / "scores.json"
    scores = json.loads(file.read_text()) if file.exists() else {}
    models = {"interpolation": "bicubic", "start": str(study / "init/generator_ema.safetensors")}
    for path in sorted(folder.glob("runs/*/generator_ema.safetensors")):
        models[path.parent.name] = str(path)
    todo = {arm: model for arm, model in models.items() if arm not in scores}
    if not todo:
        return
    report = api.evaluate(
        weights=list(todo.values()),
        scale=SCALE,
        data={"hr": str(study / camera / "test/HR"), "lr": str(study / camera / "test/LR")},
        protocol={"metrics": list(METRICS)},
        metric_files={name: str(path) for name, path in weights.items()},
        output=str(folder / "evaluation" / str(len(scores))),
        save_images=True,
        device="cpu",
    )
    scores |= dict(zip(todo, report.results.scores.values(), strict=True))
    write_bytes(file, json.dumps(scores, indent=1).encode())


def measure_kernels(study: Path, camera: str, arm: str, seed: int) -> float | None:
    """Return the mean PSNR of an arm's kernels in dB, None without kernels of a pool."""
    config = load_arm(camera, arm, seed)
    if config.pool.kernels == "bicubic":
        return None
    kernels = list_kernels(config.pool_dir, SCALE)
    return fmean(kernel_psnr(CAMERAS[camera].kernel, load_kernel(path)) for path in kernels)


def measure_gaps(study: Path, camera: str, arms: list[str]) -> dict[str, Content]:
    """Return how far LR of each arm, as its training sees it, is from the camera's photos."""
    photos = measure_domain(list_images(study / camera / "source"), REGIONS, 0, 0, "refuse", None)
    gaps = {}
    for arm in arms:
        config = load_arm(camera, arm, 0)
        files = list_inputs(config)
        online = build_degradation(config.online_degradation, SCALE, files)
        pairs = list_pairs(config.pairs_dir, SCALE)
        folder = study / camera / "gap" / arm
        folder.mkdir(parents=True, exist_ok=True)
        for image in load_validation(pairs, SCALE, online, 0, 4096, len(pairs)):
            write_uint8(folder / f"{image.name}.png", to_uint8(image.lr))
        domain = measure_domain(list_images(folder), REGIONS, 0, 0, "refuse", None)
        result = compare_domains(photos, domain, 0)
        gaps[arm] = {
            "accuracy": result.accuracy.value,
            "distance": result.distance.value,
            "summary": result.summarise(),
        }
    return gaps
