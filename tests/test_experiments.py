import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from config_files import head, head_command, run_stub
from realsr.config.options import conf_dir, list_options
from realsr.config.pipeline import TrainConfig
from realsr.training.settings import check_optimiser, learning_rate

BLIND_DIR = "work_dir=work/blind"
Compose = Callable[..., TrainConfig]
LENGTH = ["trainer.max_steps=60000", "trainer.batch=16", "trainer.crop=128"]
PAPER = ["generator=rrdb", "loss=realsr", "optimiser=adam", *LENGTH]
BLIND = ["online_degradation=high_order", "generator=rrdb", "optimiser=adam_real_esrgan",
         "trainer.batch=48", "trainer.crop=256"]  # fmt: skip
RECIPES = {
    "adapt": (
        "dped",
        [
            "kernels=camera",
            "online_degradation=kernel_noise",
            "noise=auto",
            "generator=rrdb",
            "loss=pixel_lpips_gan",
            "discriminator=patch_small",
            "optimiser=adam_cosine",
            "data.held_out=0.2",
            "noise.size=64",
            "noise.stride=64",
            "optimiser.learning_rate=0.0001",
            "optimiser.beta2=0.999",
            "optimiser.period=300",
            "optimiser.final=1e-6",
            "trainer.max_steps=300",
            "trainer.batch=4",
            "trainer.crop=64",
            "trainer.ema=0.99",
            "trainer.workers=0",
            "trainer.compile=false",
            "trainer.log_every=20",
            "trainer.validate_every=500",
            "trainer.checkpoint_every=100",
            "trainer.validation_images=8",
        ],
    ),
    "real_esrgan": (
        "psnr",
        ["discriminator=unet", "loss=real_esrgan", *BLIND, "trainer.max_steps=400000"],
    ),
    "real_esrnet": (
        "psnr",
        [*BLIND, "loss=pixel", "optimiser=adam_real_esrnet", "trainer.max_steps=1000000"],
    ),
    "realsr_df2k": ("df2k", ["discriminator=vgg128", *PAPER]),
    "realsr_df2k_jpeg": ("df2k_jpeg", ["discriminator=vgg128", *PAPER]),
    "realsr_df2k_paper": ("df2k", ["discriminator=patch", *PAPER]),
    "realsr_dped": ("dped", ["discriminator=patch", *PAPER]),
    "rrdb_psnr": (
        "psnr",
        ["loss=pixel", "optimiser=adam_cosine", *LENGTH, "trainer.max_steps=1000000"],
    ),
}


def test_there_are_these_recipes() -> None:
    assert list(RECIPES) == list_options("experiment")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_its_track_and_values_given_by_hand(recipe: str, composed: Compose) -> None:
    track, values = RECIPES[recipe]
    folder = f"work/{'adapt' if recipe == 'adapt' else track}"
    given = ["data.source=photos", "data.target=clean", "init=weights.safetensors"]
    for scale in (2, 4):
        by_hand = composed(
            f"+track={track}",
            *values,
            f"work_dir={folder}",
            f"run={folder}/runs/{recipe}",
            *given,
            f"scale={scale}",
        )
        assert composed(f"+experiment={recipe}", *given, f"scale={scale}") == by_hand


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_begins_with_prerequisites_source_and_a_command_that_composes(
    recipe: str, composed: Compose
) -> None:
    path = conf_dir() / "experiment" / f"{recipe}.yaml"
    assert "# Prerequisites" in head(path)
    assert "# Source: " in head(path)
    command, arguments = head_command(path)
    assert command == "train"
    assert arguments[0] == f"+experiment={recipe}"
    config = composed(*arguments)
    assert all(getattr(config.data, role) is not None for role in config.pairs.hr)
    assert (config.init is None) == (recipe == "rrdb_psnr")
    pretraining = composed("+experiment=rrdb_psnr"), composed("+experiment=real_esrnet", BLIND_DIR)
    assert config.init in (None, "df2k", *(str(run.run) for run in pretraining))
    check_optimiser(config.optimiser)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_command_line_is_stronger_than_a_recipe(recipe: str, composed: Compose) -> None:
    config = composed(
        f"+experiment={recipe}", "work_dir=OUT", "pool=gaussian", "generator=rrdb_small", "loss=pixel_gan",
        "optimiser=adam_step", "trainer.max_steps=5", "noise.min_mean=7",
    )  # fmt: skip
    assert config.run == Path("OUT/runs") / recipe
    assert (config.pool.kernels, config.generator["blocks"], config.loss["gan"]["weight"]) == (
        "gaussian",
        2,
        0.005,
    )
    assert (config.optimiser.milestones[0], config.trainer.max_steps, config.noise.min_mean) == (
        200000,
        5,
        7,
    )
    assert composed(f"+experiment={recipe}", "run=mine").run == Path("mine")


def test_a_recipe_goes_onto_another_track(composed: Compose) -> None:
    config = composed("+experiment=realsr_df2k", "track=dped")
    assert (config.track, config.pool.kernels, config.noise.min_mean) == ("dped", "estimated", 50)
    assert (config.discriminator["name"], config.run) == (
        "vgg128",
        Path("work/dped/runs/realsr_df2k"),
    )


def test_the_pretraining_is_l1_alone_on_clean_photos(composed: Compose) -> None:
    config = composed("+experiment=rrdb_psnr")
    assert config.loss == {"pixel": {"name": "l1", "weight": 1.0}}
    assert (config.pairs.hr, config.pool.kernels, config.pool.noise) == (
        ["target"],
        "bicubic",
        False,
    )
    assert (config.online_degradation, config.generator["blocks"]) == (
        {"name": "noise", "match": "random"},
        23,
    )


def test_the_pretraining_s_two_schedules(composed: Compose) -> None:
    cosine = composed("+experiment=rrdb_psnr").optimiser
    rates = [
        learning_rate(done, cosine) for done in (0, 125_000, 249_999, 250_000, 750_000, 999_999)
    ]
    assert rates == pytest.approx([2e-4, 1.0005e-4, 1e-7, 2e-4, 2e-4, 1e-7], rel=1e-4)
    assert (cosine.beta1, cosine.beta2) == (0.9, 0.99)
    step = composed("+experiment=rrdb_psnr", "optimiser=adam_step").optimiser
    rates = [learning_rate(done, step) for done in (0, 199_999, 200_000, 400_000, 600_000, 999_999)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5])


def docs_commands(name: str) -> list[list[str]]:
    """The arguments of each `python -m realsr.…` line of a page that names a recipe."""
    text = (conf_dir().parent / "docs" / "train" / name).read_text().replace("\\\n", " ")
    lines = [
        line.strip().strip("`")
        for line in text.splitlines()
        if line.startswith("    python -m realsr.")
    ]
    return [shlex.split(line)[3:] for line in lines if "+experiment=" in line]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_docs_have_the_command_of_each_head(recipe: str) -> None:
    def known(arguments: list[str]) -> list[str]:
        return [argument for argument in arguments if not argument.startswith("init=")]

    text = (conf_dir().parent / "docs" / "train" / "recipes.md").read_text()
    rows = [line.split("`") for line in text.splitlines() if line.startswith(f"| `{recipe}` |")]
    commands = [
        *docs_commands("recipes.md"),
        *(shlex.split(row[3]) for row in rows if len(row) > 3),
    ]
    expected = known(head_command(conf_dir() / "experiment" / f"{recipe}.yaml")[1])
    assert expected in [known(command) for command in commands]


@pytest.mark.parametrize("page", ["recipes.md", "sweeps.md"])
def test_the_docs_commands_compose(page: str, composed: Compose) -> None:
    commands = docs_commands(page)
    assert commands
    for arguments in commands:
        if "--config-dir" in arguments:
            continue  # is run below
        plain = [a for a in arguments if a != "-m" and not a.startswith(("hydra/", "hydra."))]
        composed(
            *(
                argument.partition(",")[0] if "=[" not in argument else argument
                for argument in plain
            )
        )


def test_the_docs_own_recipe_is_taken_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (conf_dir().parent / "docs" / "train" / "recipes.md").read_text()
    block = text.partition("```yaml\n")[2].partition("```")[0]
    (arguments,) = (a for a in docs_commands("recipes.md") if "--config-dir" in a)
    own = Path(arguments[arguments.index("--config-dir") + 1])
    monkeypatch.chdir(tmp_path)
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "phone.yaml").write_text(block)
    found: list[TrainConfig] = []
    monkeypatch.setattr(sys, "argv", ["realsr.train", *arguments])
    run_stub("train", found.append)
    config = found[0]
    assert (config.track, config.scale, config.run) == ("dped", 2, Path("work/phone/runs/phone"))
    assert (config.kernels["name"], config.noise.auto, config.trainer.max_steps) == (
        "spectral",
        True,
        20000,
    )
    assert list(tmp_path.iterdir()) == [own.resolve()]
