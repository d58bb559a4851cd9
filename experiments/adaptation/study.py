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
L1 = ["loss=pixel"]
FAST = "optimiser.learning_rate=0.0002"
LAYERS = "{2: 0.1, 7: 0.1, 14: 1, 21: 1, 28: 1}"


def add_features(term: str, gan: float) -> list[str]:
    """Return L1 + a term with the features of a classifier + relativistic average GAN."""
    if not gan:
        return [*L1, f"+loss.features={term}"]
    loss = ["loss=pixel_gan", "discriminator=patch_small", f"loss.gan.weight={gan}"]
    return [*loss, f"+loss.features={term}"]


def list_arms(vgg16: Path, alexnet: Path) -> dict[str, list[str]]:
    """Return the overrides of each arm. `true` and `bicubic` are other pairs with the recipe `adapted`."""

    def vgg(weight: float, *keys: str, gan: float = 0.005) -> list[str]:
        network = f"network: vgg16, layers: {LAYERS}, weights: {vgg16}"
        term = f"{{name: perceptual_layers, weight: {weight}, {network}}}"
        return [*add_features(term, gan), *keys]

    def alex(weight: float, *keys: str, gan: float = 0.005) -> list[str]:
        term = f"{{name: lpips_loss, weight: {weight}, net: alex, weights: {alexnet}}}"
        return [*add_features(term, gan), *keys]

    jpeg = ["online_degradation=noise_jpeg", "online_degradation.quality=[83,93]"]
    draw = "online_degradation=kernel_noise"
    real_esrgan = "init=realesrgan_x4plus"
    return {
        "l1": [*L1],
        "l1_fast": [*L1, FAST],
        "vgg": vgg(0.1),
        "vgg_weak": vgg(0.03),
        "vgg_weak_fast": vgg(0.03, FAST),
        "vgg_weak_frozen": vgg(0.03),
        "vgg_weak_clean_up_3": vgg(0.03, "pairs.clean_up=3"),
        "vgg_weak_fast_jpeg": vgg(0.03, FAST, *jpeg),
        "vgg_light_fast": vgg(0.01, FAST),
        "vgg_real_esrgan": vgg(0.1, real_esrgan),
        "alex_slow": alex(0.1),
        "adapted": alex(0.05),
        "alex_weak": alex(0.02, gan=0.002),
        "camera": alex(0.05, "kernels=camera", draw),
        "camera_weak": alex(0.02, "kernels=camera", draw, gan=0.002),
        "alex": alex(0.1, FAST),
        "alex_clean_up_3": alex(0.1, FAST, "pairs.clean_up=3"),
        "alex_clean_up_4": alex(0.1, FAST, "pairs.clean_up=4"),
        "true": alex(0.05, "pool.noise=false", "online_degradation=none"),
        "bicubic": alex(
            0.05, "pool.kernels=bicubic", "pool.noise=false", "online_degradation=none"
        ),
    }


def freeze_blocks(count: int) -> None:
    """Make the first layer and `count` blocks of each generator built from now on constant."""
    from realsr.training import state

    build = state.build_generator

    def build_frozen(*arguments):
        network = build(*arguments)
        for part in (network.conv_first, *network.RRDB_trunk[:count]):
            part.requires_grad_(False)
        return network

    state.build_generator = build_frozen


def train(
    arm: str, overrides: list[str], camera: Path, clean_up: int, steps: int, seed: int
) -> None:
    """Train an arm on a camera's photos. Arms share the pool and, where they can, the pairs."""
    pairs = {"true": "true_pairs", "bicubic": "bicubic_pairs"}.get(arm, "pairs")
    if "clean_up" in arm:
        pairs = f"pairs_{arm}"
    pool = "pool"
    if arm.startswith("camera"):
        pool, pairs = "pool_camera", "pairs_camera"
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
        if arm.endswith("frozen"):
            freeze_blocks(12)  # of 23; one such arm a call
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
