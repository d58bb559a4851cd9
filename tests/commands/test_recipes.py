import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_work import Command, write_photos

from config_files import head_command
from realsr.config.options import conf_dir, list_options
from realsr.networks import build_generator
from realsr.weights import load_generator, save_generator

# What makes a recipe's work small, and leaves its networks, losses and pairs what they are.
SMALL = (
    "kernels.iterations=2", "kernels.gates=null", "noise.size=32", "noise.stride=32", "noise.max_variance=100",
    "noise.min_mean=0", "generator.features=4", "generator.blocks=1", "generator.growth=4", "discriminator.features=4",
    "trainer.max_steps=2", "trainer.batch=2", "trainer.workers=0", "trainer.device=cpu", "trainer.log_every=1",
    "trainer.checkpoint_every=1", "trainer.validation_crop=64",
)  # fmt: skip
TRACKS = {  # the last folder of work_dir
    "adapt": "adapt",
    "real_esrgan": "blind",
    "real_esrnet": "blind",
    "realsr_df2k": "df2k",
    "realsr_df2k_jpeg": "df2k_jpeg",
    "realsr_df2k_paper": "df2k",
    "realsr_dped": "dped",
    "rrdb_psnr": "psnr",
}
BY_L1 = ("real_esrnet", "rrdb_psnr")
WITHOUT_POOL = ("real_esrnet", "rrdb_psnr", "real_esrgan")
VGG128 = ("realsr_df2k", "realsr_df2k_jpeg")
PHOTOS = {"data.source": ("abc", (288, 288)), "data.target": ("xy", (144, 160))}


def run_recipe(recipe: str, command: Command, features: dict[str, Path], scale: int = 4) -> None:
    """Run the very command of a recipe's head on small photos, from what the pretraining left, and look at its run."""
    name, arguments = head_command(conf_dir() / "experiment" / f"{recipe}.yaml")
    given = dict(argument.split("=") for argument in arguments)
    for key, (names, size) in PHOTOS.items():
        if key in given:
            write_photos(Path(given[key]), names, size, block=32)
    more = [f"scale={scale}"]
    if recipe not in VGG128:  # which takes no other crop
        more.append("trainer.crop=64")
    if recipe == "adapt":  # in place of the published generator, which is larger
        more += ["init=work/psnr/runs/rrdb_psnr", f"loss.lpips.weights={features['alexnet']}"]
    elif recipe not in BY_L1:
        more.append(f"loss.perceptual.weights={features['vgg19']}")
    # Only KernelGAN has iterations; the recipe `adapt` has the spectral estimator.
    small = [key for key in SMALL if recipe != "adapt" or key != "kernels.iterations=2"]
    outcome = command(name, *arguments, *small, *more)
    assert outcome.code == 0, outcome.log
    assert "starts from scratch" not in outcome.log
    run = Path("work") / TRACKS[recipe] / "runs" / recipe
    assert (run / "metrics.json").is_file()
    assert all(
        tensor.isfinite().all() for tensor in load_file(run / "generator.safetensors").values()
    )
    assert load_generator(run)[1] == scale


def pretend_pretraining(scale: int = 4) -> None:
    torch.manual_seed(1)
    sizes = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    for run in ("psnr/runs/rrdb_psnr", "blind/runs/real_esrnet"):
        file = Path("work") / run / "generator.safetensors"
        file.parent.mkdir(parents=True)
        save_generator(file, build_generator(sizes, scale), sizes, scale)


def test_all_are_run_below() -> None:
    assert list(TRACKS) == list_options("experiment")


@pytest.mark.parametrize("recipe", TRACKS)
def test_a_recipe_s_own_command_runs(
    recipe: str, command: Command, feature_files: dict[str, Path], tmp_path: Path
) -> None:
    if recipe != "rrdb_psnr":
        pretend_pretraining()
    if recipe == "real_esrnet":
        shutil.rmtree("work/blind")
    run_recipe(recipe, command, feature_files)
    assert (tmp_path / "work" / TRACKS[recipe] / "pool").exists() == (recipe not in WITHOUT_POOL), (
        "bicubic needs none"
    )
    _, arguments = head_command(conf_dir() / "experiment" / f"{recipe}.yaml")
    used = {Path(argument.split("=")[1]).parts[0] for argument in arguments[1:]}
    assert {path.name for path in tmp_path.iterdir()} == used | {"work"}, "no litter"


@pytest.mark.parametrize("recipe", ["realsr_dped", "realsr_df2k"])
def test_the_pretraining_and_then_a_recipe_at_scale_2(
    recipe: str, command: Command, feature_files: dict[str, Path]
) -> None:
    for name in ("rrdb_psnr", recipe):
        run_recipe(name, command, feature_files, scale=2)


def test_the_stages_before_take_a_recipe_too(command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "abc", (288, 288), block=32)
    arguments = ("+experiment=realsr_dped", "data.source=photos", *SMALL)
    for stage in ("check_data", "estimate_kernels", "collect_noise", "make_pairs"):
        outcome = command(stage, *arguments)
        assert outcome.code == 0, outcome.log
    assert "all photos that track dped needs can be read" in command("check_data", *arguments).log
    assert len(list((tmp_path / "work/dped/pairs/LR").iterdir())) == 3
