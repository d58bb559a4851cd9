"""Adapt a published generator to simulated cameras, by several recipes, and score the results.

    python experiments/adaptation/study.py --set report --photos DIR --vgg16 FILE --alexnet FILE
        --output DIR [--cameras NAME,…] [--arms NAME,…] [--steps 250] [--seeds 0,1] [--evaluate]

--photos: a folder with the scenes of cameras.py, in subfolders. --vgg16, --alexnet: torchvision's
weights. A repeated call continues where the last one stopped. --evaluate scores all finished runs;
`table.py` prints the scores.
"""

import argparse
import json
import logging
from pathlib import Path

from cameras import SETS, take_photos

from realsr import api

METRICS = ["psnr", "ssim", "lpips_alex", "dists"]
PUBLISHED = ("bicubic", "df2k", "realesrgan_x4plus")
LAYERS = "{2: 0.1, 7: 0.1, 14: 1, 21: 1, 28: 1}"


def list_arms(vgg16: Path, alexnet: Path) -> dict[str, list[str]]:
    """Return the overrides of each arm of the recipe `adapt`. `true` and `bicubic` are other pairs."""
    lpips = f"loss.lpips.weights={alexnet}"
    network = f"network: vgg16, layers: {LAYERS}, weights: {vgg16}"
    vgg = f"+loss.features={{name: perceptual_layers, weight: 0.03, {network}}}"
    pairs = ["pool.noise=false", "online_degradation=none"]
    spectral = ["kernels=spectral", "online_degradation=noise"]
    return {
        "adapted": [lpips],
        "weak": [lpips, "loss.lpips.weight=0.02", "loss.gan.weight=0.002"],
        "strong": [lpips, "loss.lpips.weight=0.08"],
        "vgg": ["loss=pixel_gan", "discriminator=patch_small", "loss.gan.weight=0.005", vgg],
        "l1": ["loss=pixel"],
        "spectral": [lpips, *spectral],
        "true": [lpips, *pairs],
        "bicubic": [lpips, "pool.kernels=bicubic", *pairs],
    }


def train(
    arm: str, overrides: list[str], camera: Path, clean_up: int, steps: int, seed: int
) -> None:
    """Train an arm on a camera's photos. Arms of one seed share the pool and the pairs."""
    kind = "_spectral" if arm == "spectral" else ""
    pool, pairs = f"pool{kind}_{seed}", f"pairs{kind}_{seed}"
    if arm in ("true", "bicubic"):
        pairs = {"true": "true_pairs", "bicubic": f"bicubic_pairs_{seed}"}[arm]
    api.train(
        api.load_config(
            "train",
            [
                "+experiment=adapt", f"data.source={camera / 'source'}", "data.held_out=0",
                f"work_dir={camera}", f"pool_dir={camera / pool}",
                f"pairs_dir={camera / pairs}", f"pairs.clean_up={clean_up}",
                f"run={camera / 'runs' / f'{arm}-{steps}-{seed}'}", f"seed={seed}",
                f"trainer.max_steps={steps}", f"trainer.validate_every={steps}",
                f"trainer.checkpoint_every={steps}", "trainer.device=cpu", *overrides,
            ],
        )
    )  # fmt: skip


def evaluate(output: Path, camera: str, alexnet: Path, vgg16: Path) -> None:
    """Score the published generators and all runs of a camera that have no scores yet."""
    folder = output / camera
    file = folder / "scores.json"
    scores = json.loads(file.read_text()) if file.exists() else {}
    models = {name: name for name in PUBLISHED} | {
        weights.parent.name: str(weights)
        for weights in sorted(folder.glob("runs/*/generator_ema.safetensors"))
    }
    # Models of other cameras: what an adaptation costs elsewhere.
    other = {"mild": "wide", "wide": "mild", "noisy": "mild"}.get(camera, "none")
    for weights in sorted(output.glob(f"{other}/runs/adapted-*-0/generator_ema.safetensors")):
        models[f"adapted to {other}"] = str(weights)
    fresh = {name: weights for name, weights in models.items() if name not in scores}
    if not fresh:
        return
    report = api.evaluate(
        weights=list(fresh.values()),
        data={"hr": str(output / "hr"), "lr": str(folder / "lr")},
        protocol={"metrics": METRICS},
        metric_files={"alexnet": str(alexnet), "vgg16": str(vgg16)},
        output=str(folder / "evaluation" / str(len(scores))),
        save_images=True,
        overwrite=True,
    )
    scores |= dict(zip(fresh, report.results.scores.values(), strict=True))
    file.write_text(json.dumps(scores, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("photos", "vgg16", "alexnet", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--cameras")
    parser.add_argument("--arms", default="")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--evaluate", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    study = SETS[options.set]
    take_photos(options.photos, options.output, study)
    cameras = options.cameras.split(",") if options.cameras else list(study.cameras)
    arms = list_arms(options.vgg16, options.alexnet)
    for arm in filter(None, options.arms.split(",")):
        for seed in map(int, options.seeds.split(",")):
            for camera in cameras:
                clean_up = study.clean_up.get(camera, 2)
                folder = options.output / camera
                train(arm, arms[arm], folder, clean_up, options.steps, seed)
    if options.evaluate:
        for camera in cameras:
            evaluate(options.output, camera, options.alexnet, options.vgg16)


if __name__ == "__main__":
    main()
