"""A pool, pairs, runs and checkpoints of commit 7a7b301 are continued, evaluated and used; see tests/records/README."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from small_work import Command

RECORDS = Path(__file__).parents[1] / "records" / "7a7b301"
COMMON = "scale=2 work_dir=. workers=0"
POOL = (
    "+track=dped kernels=spectral data.source=source pool_dir=pool_spectral noise.size=32 noise.stride=16 "
    f"noise.max_variance=40 {COMMON}"
)
GAN_POOL = (
    "+track=dped kernels=kernelgan kernels.iterations=8 kernels.gates=null kernels.device=cpu data.source=target "
    f"pool_dir=pool_kernelgan {COMMON}"
)
GAUSSIAN = f"+track=dped pool=gaussian pool.estimator.count=2 data.source=source pool_dir=pool_gaussian {COMMON}"
MAT = f"+track=dped pool=from_mat pool.estimator.folder=mats data.source=source pool_dir=pool_mat {COMMON}"
BICUBIC_PAIRS = f"+track=psnr data.target=target pairs_dir=pairs_bicubic {COMMON}"
TINY = (
    "generator=rrdb_small generator.features=2 generator.blocks=1 generator.growth=1 optimiser.learning_rate=0.01 "
    "trainer.batch=2 trainer.crop=32 trainer.checkpoint_every=2 trainer.validate_every=2 trainer.log_every=2 "
    "trainer.keep_checkpoints=1 trainer.workers=0 trainer.device=cpu trainer.precision=fp32 trainer.max_steps=4"
)
GAN = f"{POOL} pairs_dir=pairs {TINY} loss=pixel_gan discriminator.features=2 discriminator.layers=1 cache_dir=cache"
JPEG = f"{POOL} pairs_dir=pairs {TINY} loss=pixel trainer.ema=null online_degradation=noise_jpeg cache_dir=cache"
PIXEL = f"{BICUBIC_PAIRS} {TINY} trainer.ema=null init=run_finished/generator.safetensors cache_dir=cache_bicubic"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A copy of the records as the current folder, in which their commands were run."""
    shutil.copytree(RECORDS, tmp_path, dirs_exist_ok=True)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".mat", ".png")
    }


@pytest.mark.parametrize(
    ("name", "line", "folder"),
    [
        ("estimate_kernels", POOL, "pool_spectral"),
        ("collect_noise", POOL, "pool_spectral"),
        ("estimate_kernels", GAN_POOL, "pool_kernelgan"),
        ("estimate_kernels", GAUSSIAN, "pool_gaussian"),
        ("estimate_kernels", MAT, "pool_mat"),
        ("make_pairs", f"{POOL} pairs_dir=pairs", "pairs"),
        ("make_pairs", BICUBIC_PAIRS, "pairs_bicubic"),
    ],
)
def test_what_is_complete_stays_as_it_is(
    name: str, line: str, folder: str, records: Path, command: Command
) -> None:
    before = contents(records / folder)
    outcome = command(name, *shlex.split(line))
    assert outcome.code == 0, outcome.log
    after = contents(records / folder)
    after.pop("kernels.png", None)
    assert after == before


def test_a_pair_is_rebuilt(records: Path, command: Command) -> None:
    outcome = command("rebuild_pair", *shlex.split(f"{POOL} pairs_dir=pairs"), "pair=photo_1")
    assert "rebuilt, identical to the record" in outcome.log


def test_a_shard_is_taken_in(records: Path, command: Command) -> None:
    line = f"+track=dped kernels=spectral data.source=source pool_dir=pool_shards {COMMON}"
    assert command("estimate_kernels", *shlex.split(line)).code == 0
    made, wanted = (
        contents(records / pool / "kernels") for pool in ("pool_shards", "pool_spectral")
    )
    assert made.keys() == wanted.keys()
    assert all(made[name][128:] == wanted[name][128:] for name in made), (
        "a .mat begins with the time"
    )


def test_a_finished_run_is_evaluated_and_has_nothing_to_do(records: Path, command: Command) -> None:
    outcome = command("train", *shlex.split(GAN), "run=run_finished")
    assert "already trained and evaluated, nothing to do" in outcome.log
    line = "weights=[bicubic,run_finished] data.hr=target scale=2 device=cpu output=again"
    assert command("evaluate", *shlex.split(line)).code == 0
    assert scores(Path("again")) == pytest.approx(scores(Path("evaluation")), abs=1e-4)


def scores(folder: Path) -> dict[tuple[str, str, str], float]:
    """The scores of an evaluation, by model, image and metric."""
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("model", "image")]
    return {(row["model"], row["image"], name): float(row[name]) for row in rows for name in names}


@pytest.mark.parametrize("by_its_config", [False, True])
@pytest.mark.parametrize(
    ("run", "line"), [("run_unfinished", GAN), ("run_jpeg", JPEG), ("run_pixel", PIXEL)]
)
def test_a_run_goes_on_as_it_would_have(
    run: str, line: str, by_its_config: bool, records: Path, command: Command
) -> None:
    if by_its_config:
        line = f"--config-path {run} --config-name config trainer.max_steps=4"
    outcome = command("train", *shlex.split(line), f"run={run}")
    assert outcome.code == 0, outcome.log
    assert "training continues after step 2" in outcome.log
    expected = json.loads((records / "expected.json").read_text())["runs"][run]["2 threads"][
        "weights"
    ]
    for file, tensors in expected.items():
        weights = load_file(records / run / file)
        for name, values in tensors.items():
            assert weights[name].ravel()[: len(values)] == pytest.approx(values, abs=1e-6), (
                f"{file}: {name}"
            )


def test_a_run_of_another_configuration_is_refused(records: Path, command: Command) -> None:
    outcome = command(
        "train", *shlex.split(GAN), "optimiser.learning_rate=0.001", "run=run_unfinished"
    )
    assert outcome.code == 1
    assert "optimiser.learning_rate: was 0.01, now 0.001" in outcome.log
    assert outcome.log.count(": was ") == 1
