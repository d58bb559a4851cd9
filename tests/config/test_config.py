import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import realsr.config.options
from config_files import head, head_command, run_stub
from realsr.config.command_line import key_types
from realsr.config.composition import to_dataclass, to_yaml
from realsr.config.options import conf_dir, list_options
from realsr.config.pipeline import TrainConfig
from realsr.config.schema import COMMANDS
from realsr.core.errors import UserError

TRACKS = ("demo", "df2k", "df2k_jpeg", "dped", "psnr")
ADDED = ("track", "experiment", "layout")  # with a plus
OTHERS = ("protocol", "metric")  # of realsr.evaluate
GROUPS = sorted(
    path.name
    for path in conf_dir().iterdir()
    if path.is_dir() and path.name not in (*ADDED, *OTHERS)
)
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    reached = []

    def call(*arguments: str, name: str = "train", want: bool = False) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["realsr.train", *arguments])
        caplog.clear()
        reached.clear()
        code = 0
        try:
            run_stub(name, reached.append)
        except SystemExit as end:
            code = int(end.code or 0)
        assert bool(reached) == want
        assert not list(tmp_path.iterdir()), "Hydra leaves no litter"
        written = capsys.readouterr()
        return code, "\n".join(
            record.getMessage() for record in caplog.records
        ) + written.out + written.err

    return call


def test_there_are_these_tracks() -> None:
    assert tuple(list_options("track")) == TRACKS


@pytest.mark.parametrize("track", TRACKS)
def test_each_track_begins_with_prerequisites_and_a_command_that_composes(
    track: str, composed: Callable[..., TrainConfig]
) -> None:
    path = conf_dir() / "track" / f"{track}.yaml"
    assert "# Prerequisites" in head(path)
    _, overrides = head_command(path)
    config = composed(*(overrides or [f"+track={track}"]))
    assert config.track == track
    if track != "demo":
        assert re.search(r"\d+ (PNG|images)", head(path)), "how much there is to have"
        assert f"+track={track}" in overrides
        assert all(getattr(config.data, role) is not None for role in config.pairs.hr)
        assert config.work_dir == Path(f"work/{track}")


def test_tracks_are_the_recipes_of_the_paper(composed: Callable[..., TrainConfig]) -> None:
    df2k, jpeg, dped = (composed(f"+track={track}") for track in ("df2k", "df2k_jpeg", "dped"))
    assert (
        (df2k.pool.kernels, df2k.pairs.hr)
        == (jpeg.pool.kernels, jpeg.pairs.hr)
        == ("bicubic", ["source", "target"])
    )
    assert (dped.pool.kernels, dped.pairs.hr) == ("estimated", ["source"])
    assert (
        df2k.online_degradation == dped.online_degradation == {"name": "noise", "match": "random"}
    )
    assert jpeg.online_degradation == {
        "name": "noise_jpeg",
        "quality": [30, 95],
        "match": "random",
        "jpeg": "quality",
    }
    assert (df2k.noise.max_variance, df2k.noise.min_mean, dped.noise.min_mean) == (20, 0, 50)
    assert (dped.kernels["iterations"], dped.kernels["learning_rate"]) == (3000, 2e-4)
    for config in (df2k, jpeg, dped):
        assert config.pool.noise
        assert config.scale == 4
        weights = {key: term["weight"] for key, term in config.loss.items()}
        assert weights == {"pixel": 0.01, "perceptual": 1.0, "gan": 0.005}
        assert (config.trainer.max_steps, config.trainer.batch, config.trainer.crop) == (
            60000,
            16,
            128,
        )
        assert (config.optimiser.learning_rate, config.optimiser.milestones) == (
            1e-4,
            [5000, 10000, 20000, 30000],
        )
        assert config.generator == {"name": "rrdb", "features": 64, "blocks": 23, "growth": 32}
        assert config.kernels["name"] == ("kernelgan" if config is dped else "spectral")
        assert {role: e.photos for role, e in config.data.expected.items()}["source"] in (
            2650,
            5614,
        )


@pytest.mark.parametrize("track", TRACKS)
def test_every_option_of_every_group_composes_under_every_track(
    track: str, composed: Callable[..., TrainConfig]
) -> None:
    assert GROUPS == [
        "discriminator",
        "generator",
        "kernels",
        "loss",
        "noise",
        "online_degradation",
        "optimiser",
        "pairs",
        "pool",
        "tracker",
        "trainer",
    ]
    options = {group: list_options(group) for group in GROUPS}
    for index in range(
        max(map(len, options.values()))
    ):  # a compose takes 0.2 s, so one of each group at once
        chosen = {group: names[index % len(names)] for group, names in options.items()}
        own = [f"{group}.name=my.Net" for group, name in chosen.items() if name == "custom"]
        own += ["generator.architecture=SPAN"] if chosen["generator"] == "spandrel" else []
        chosen_options = [f"{group}={name}" for group, name in chosen.items()]
        config = composed(f"+track={track}", *chosen_options, *own)
        assert config.pool.kernels == LAID[chosen["pool"]][0], (
            "the command line is stronger than the track"
        )


def test_folders_follow_the_work_dir_and_each_can_be_given(
    composed: Callable[..., TrainConfig],
) -> None:
    config = composed("+track=dped", "work_dir=out")
    assert (config.pool_dir, config.pairs_dir, config.run) == (
        Path("out/pool"),
        Path("out/pairs"),
        Path("out/runs/default"),
    )
    assert composed("+track=dped", "work_dir=out", "pool_dir=other").pool_dir == Path("other")


LAID = {
    "bicubic": ("bicubic", False),
    "noise_only": ("bicubic", True),
    "kernels_only": ("estimated", False),
    "kernels_and_noise": ("estimated", True),
    "gaussian": ("gaussian", True),
    "gaussian_isotropic": ("gaussian_isotropic", True),
    "from_mat": ("mat", True),
}


def test_by_pool_shares_what_is_alike_and_keeps_apart_what_differs(
    composed: Callable[..., TrainConfig],
) -> None:
    assert sorted(LAID) == list_options("pool")
    runs = set()
    for pool, (kernels, noise) in LAID.items():
        config = composed("+track=dped", "work_dir=out", "+layout=by_pool", f"pool={pool}")
        assert config.pool_dir == Path("out/pools") / kernels
        assert config.pairs_dir == Path("out/pairs") / kernels
        assert config.noise_pool_dir == Path("out/pools/estimated")
        assert config.pool.noise == noise
        runs.add(config.run)
    assert len(runs) == len(LAID)


def test_the_yaml_of_a_config_makes_the_same_config(composed: Callable[..., TrainConfig]) -> None:
    from omegaconf import OmegaConf

    config = composed("+track=df2k_jpeg", "data.source=photos")
    keys = key_types(TrainConfig)
    assert to_dataclass(OmegaConf.create(to_yaml(config)), TrainConfig, keys) == config


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("folder", ["work_dir", "pool_dir", "pairs_dir", "run"])
def test_photos_are_kept_apart_from_what_is_written(
    role: str, folder: str, composed: Callable[..., TrainConfig]
) -> None:
    with pytest.raises(UserError, match=f"data.{role} and {folder} are the same folder"):
        composed("+track=dped", f"data.{role}=photos", f"{folder}=./x/../photos")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], ["no track set: add +track=<track>, one of demo, df2k, df2k_jpeg, dped"]),
        ([], ["or a recipe, which includes its track: +experiment=<recipe>, one of adapt, real_esrgan, real_esrnet,"]),
        (["+experiment=nothing"], ["experiment=nothing: expected one of ", "realsr_dped", "rrdb_psnr"]),
        (["experiment=rrdb_psnr"], ["a recipe needs a plus: +experiment=<recipe>, one of adapt, real_esrgan, "]),
        (["+track=dped", "+experiment=realsr_dped"], ["two tracks are set: a recipe", "so remove +track=…"]),
        (["+experiment=realsr_dped", "+track=df2k"], ["two tracks are set: a recipe", "so remove +track=…"]),
        (["track=dped"], ["a track needs a plus: +track=<track>, one of demo, df2k, df2k_jpeg, dped"]),
        (["+track=dpde"], ["dpde", "df2k_jpeg", "dped"]),
        (["+track=dped", "generator=rrbd"], ["generator=rrbd: expected one of compact, custom, dat_light"]),
        (["+track=dped", "trainer.max_step=3"], ["unknown key trainer.max_step. Did you mean trainer.max_steps"]),
        (["+track=dped", "trainr.max_steps=3"], ["Did you mean trainer.max_steps?"]),
        (["+track=dped", "generater.blocks=3"], ["Did you mean generator.blocks?"]),
        (["+track=dped", "max_steps=3"], ["Did you mean trainer.max_steps"]),
        (["+track=dped", "qqq=3"], ["unknown key qqq. Valid keys: track, work_dir"]),
        (["+track=dped", "+data.sorce=x"], ["unknown key data.sorce. Did you mean data.source?", "target, validation"]),
        (["+track=dped", "+new=1"], ["unknown key new"]),
        (["+track=dped", "layout=by_pool"], ["a layout needs a plus: +layout=<layout>, one of by_pool"]),
        (
            ["+track=dped", "loss/term@loss.p=l1"],
            ["loss/term@loss.p needs a plus: +loss/term@loss.p=<option>, one of charbonnier, dists"],
        ),
        (["+track=dped", "seed=abc"], ["seed=abc: expected a whole number"]),
        (["+track=dped", "pool.noise=3.5"], ["3.5", "pool.noise"]),
        (["+track=dped", "pool.kernels=motion"], ["pool.kernels=motion: expected bicubic or estimated"]),
        (["+track=dped", "pairs=[a"], ["pairs=[a: invalid key=value"]),
        (["+track=dped", "trainer.batch=null"], ["trainer.batch=null: expected a whole number"]),
        (["+track=dped", "trainer.cache=maybe"], ["trainer.cache=maybe: expected true or false"]),
        (["+track=dped", "optimiser.milestones=3"], ["optimiser.milestones=3: expected a list in brackets"]),
        (["+track=dped", "data=3"], ["data=3: expected a nested key, data.source=…"]),
        (["+track=dped", "PHOTO.jpg"], ["PHOTO.jpg: expected key=value"]),
        (["+track=dped", "data.source=${oc.env:UNSET_X}/a"], ["UNSET_X}/a: the environment variable UNSET_X is not"]),
        (["+track=dped", "work_dir=o_${pol_dir}"], ["work_dir=o_${pol_dir}: unknown key pol_dir. Did you mean p"]),
        (["+track=dped", "work_dir=${nope:1}"], ["work_dir=${nope:1}: unknown resolver nope"]),
        (["+track=dped", "work_dir=${work_dir}"], ["work_dir=${work_dir}: refers to itself"]),
        (["+track=dped", "work_dir=${a"], ["work_dir='${a': ${ starts an invalid reference"]),
        (["+track=dped", "hydra.job.chdir=true"], ["hydra.job.chdir=true: paths are relative to"]),
        (["+track=dped", "--config-dir=nowhere"], ["--config-dir", "not found"]),
        (["+track=dped", "--config-name=nobody"], ["--config-name nobody: no nobody.yaml"]),
        (["+track=dped", "scale=5"], ["scale=5: expected 1, 2, 3, 4 or 8; other scales need a generator of"]),
        (
            ["+track=dped", "scale=5", "generator.name=my.Net"],
            ["scale=5: pool.kernels=estimated supports scales 1, 2, 3, 4 and 8"],
        ),
        (["+track=dped", "scale=100000"], ["scale=100000: expected 1, 2, 3, 4 or 8"]),
        (["+track=dped", "trainer.ema=nan"], ["trainer.ema=nan: expected a finite number from 0 to below 1"]),
    ],
)  # fmt: skip
def test_wrong_arguments_end_in_a_message(
    arguments: list[str], pattern: list[str], run: Run
) -> None:
    code, message = run(*arguments)
    assert code == 1
    assert "error: " in message
    assert "Traceback" not in message
    for part in pattern:
        assert part in message


def test_an_unknown_key_lists_the_keys_of_the_command_only(run: Run) -> None:
    for name in ("train", "collect_noise"):
        keys = [key for key in key_types(COMMANDS[name].part) if "." not in key]
        _, message = run("+track=dped", "qqq=1", name=name)
        match = re.search(r"Valid keys: (.*?)\.", message)
        assert match is not None
        assert sorted(match[1].split(", ")) == sorted(keys)
    _, message = run("+track=dped", "+data.qqq=1", name="collect_noise")
    assert "Valid keys of data: source." in message


def test_cfg_job_shows_the_composed_config(run: Run) -> None:
    code, text = run("+track=dped", "work_dir=OUT", "--cfg", "job", "--resolve")
    assert code == 0
    assert "pool_dir: OUT/pool" in text
    assert "kernels: estimated" in text


def test_help_lists_commands_and_groups(run: Run) -> None:
    code, text = run("--help")
    assert code == 0
    words = (
        "check_data",
        "estimate_kernels",
        "make_pairs",
        "+track=<track>",
        "rrdb_small",
        "--config-dir",
    )
    for word in (*words, "+experiment=<recipe>", "realsr_df2k_paper"):
        assert word in text
    text = run("--help", name="evaluate")[1]
    assert "hr: null" in text
    assert "protocol=<option>: basicsr, ntire2020, ntire2020_track2, realsr_release, vacc" in text


def test_help_shows_the_values_of_the_track_and_the_recipe(run: Run) -> None:
    text = run("+track=dped", "--help")[1]
    for group in ("kernels=kernelgan", "pool=kernels_and_noise", "pairs=source", "generator=rrdb"):
        assert f"# {group}\n" in text
    assert "  min_mean: 50\n" in text.split("replaces these values")[1]
    assert "# kernels=spectral\n" in run("+track=dped", "kernels=spectral", "--help")[1]
    text = run("+experiment=realsr_df2k", "--help")[1]
    for group in ("discriminator=vgg128", "pool=noise_only", "pairs=source_and_target"):
        assert f"# {group}\n" in text
    assert "run: ${work_dir}/runs/realsr_df2k\n" in text
    text = run("+track=dped", "--help", name="estimate_kernels")[1]
    assert "expected" not in text
    assert "5614" not in text


def test_help_shows_the_terms_that_the_arguments_or_a_recipe_add(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = run("+loss/term@loss.ldl=ldl", "--help")[1]
    assert "\n  +loss/term@loss.<key>=<term>: charbonnier, dists, " in text
    head = "\n\nloss.ldl:  # +loss/term@loss.ldl=ldl\n  # L1 weighted by a map of artifacts (LDL)."
    assert head in text
    assert "\n  window: 7                        # side of the neighbourhood" in text
    assert "loss/term" not in run("+loss/term@loss.ldl=ldl", "--help", name="collect_noise")[1]

    folder = tmp_path_factory.mktemp("options")
    (folder / "loss" / "term").mkdir(parents=True)
    (folder / "loss" / "term" / "edges.yaml").write_text("name: edges.Edges\nwidth: 3  # pixels\n")
    (folder / "experiment").mkdir()
    (folder / "experiment" / "sharp.yaml").write_text(
        "# @package _global_\ndefaults: [/track: dped, {/loss/term@loss.fft: fft}, _self_]\n"
    )
    text = run(
        f"--config-dir={folder}", "+experiment=sharp", "+loss/term@loss.near=edges", "--help"
    )[1]
    assert "\nloss.near:  # +loss/term@loss.near=edges\n  width: 3  # pixels\n" in text
    assert "\nloss.fft:  # +loss/term@loss.fft=fft\n" in text
    assert re.search(r"@loss\.<key>=<term>: .*, edges, ", text)


def test_good_arguments_reach_the_function_and_errors_can_follow_each_other(run: Run) -> None:
    for _ in range(2):
        assert run("+track=dped", want=True)[0] == 0
        assert run("+track=nope")[0] == 1


def test_evaluate_says_what_it_needs(run: Run) -> None:
    code, message = run("protocol.crops=1", name="evaluate")
    assert code == 1
    assert "Did you mean protocol.crop" in message
    code, message = run("protocol=nobody", name="evaluate")
    assert code == 1
    assert "realsr_release" in message


def test_config_dir_adds_an_option_of_one_s_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "generator").mkdir()
    (own / "generator" / "mine.yaml").write_text(
        "name: rrdb\nfeatures: 24\nblocks: 5\ngrowth: 12\n"
    )
    (own / "track").mkdir()
    (own / "track" / "phone.yaml").write_text("# @package _global_\ntrack: phone\nscale: 2\n")
    found: list[TrainConfig] = []
    monkeypatch.setattr(
        sys, "argv", ["x", "--config-dir", str(own), "+track=phone", "generator=mine"]
    )
    run_stub("train", found.append)
    assert (found[0].track, found[0].scale, found[0].generator["features"]) == ("phone", 2, 24)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (UserError("so"), 1, "error: so"),
        (OSError(28, "full", "x"), 1, "full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_user_s_end_in_a_message_and_a_code(
    raised: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(config: TrainConfig) -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["x", "+track=dped"])
    with pytest.raises(SystemExit) as end:
        run_stub("train", fail)
    assert end.value.code == code
    assert message in caplog.text


@pytest.mark.parametrize(
    ("config_name", "arguments", "message"),
    [
        (
            "train",
            ["+track=dped"],
            "interrupted; finished work is kept; repeat the command to continue",
        ),
        (
            "upscale",
            ["input=x", "output=y"],
            "interrupted; finished photos are kept; the photo in work restarts",
        ),
        ("compare_domains", ["a=x", "b=y"], "interrupted; the same command restarts"),
        ("export", ["weights=x", "output=y"], "interrupted; the same command restarts"),
    ],
)
def test_ctrl_c_tells_how_it_goes_on(
    config_name: str,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupt(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit):
        run_stub(config_name, interrupt)
    assert message in caplog.text


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "+track=dped"])
    with pytest.raises(ZeroDivisionError):
        run_stub("train", lambda config: 1 / 0)


def test_conf_is_found_in_a_package_and_in_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    package = tmp_path / "src" / "realsr"
    package.mkdir(parents=True)
    monkeypatch.setattr(realsr.config.options, "__file__", str(package / "config" / "options.py"))
    assert conf_dir() == tmp_path / "conf"
    (package / "conf").mkdir()
    assert conf_dir() == package / "conf"


def test_the_docs_example_of_a_sweep_over_pools_composes(
    composed: Callable[..., TrainConfig],
) -> None:
    text = (conf_dir().parent / "docs" / "train" / "pools.md").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if "+layout=by_pool data.source" in line)
    *fixed, pools = shlex.split(line)[4:]
    assert pools.startswith("pool=")
    for pool in pools.removeprefix("pool=").split(","):
        assert composed(*fixed, f"pool={pool}").run == Path("OUT/runs") / pool


@pytest.mark.parametrize(
    ("name", "arguments", "key"),
    [
        ("evaluate", ["data.hr=photos", "output=./photos"], "data.hr"),
        ("evaluate", ["data.lr=photos", "output=./photos"], "data.lr"),
        ("export", ["weights=df2k", "int8.photos=photos", "output=./photos"], "int8.photos"),
    ],
)
def test_results_are_kept_apart_from_images(
    name: str, arguments: list[str], key: str, run: Run
) -> None:
    code, message = run(*arguments, name=name)
    assert code == 1
    assert f"{key} and output are the same folder, photos: choose another output" in message
