import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config_files import run_stub
from realsr.config.command_line import quote_arguments
from realsr.config.pipeline import TrainConfig
from realsr.config.schema import UpscaleConfig
from realsr.core.errors import UserError

Compose = Callable[..., Any]

NAMES = [
    "[Group] Show", "2024", "2020_11", "1e3", "0x10", "007", "1.50", "true", "on", "NULL", "'quoted' name", "'it",
    "{braces}", "{a:1}", " blank", "blank ", "IMG (1).jpg", "a=b", "a,b", "a, b", "key: value", "#1", "a#b", "%20",
    "back\\slash", "ends\\", "it's", "!tag", "&anchor", "*star", "@at", "写真", "é", "[", "]", "[]", "a[1]",
    "choice(a,b)", "range(1,3)", "-", "...", "a;b", "a|b", "$", "$HOME", "\\$", "?", "???x", "tab\tx", "\udce9.png",
]  # fmt: skip


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compose:
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["realsr", *arguments])
        reached: list[Any] = []
        run_stub({"config": "train"}.get(name, name), reached.append)
        return reached[0] if len(reached) == 1 else reached

    return call


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_the_text_that_is_typed(name: str, compose: Compose) -> None:
    config = compose("evaluate", f"data.hr={name}", f"output=out/{name}", f"device={name}")
    assert (config.data.hr, config.output) == (Path(name), Path(f"out/{name}"))
    assert config.device == name, "a key of type text"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "," not in name and name.strip() == name]
)
def test_an_element_of_a_list_is_the_text_that_is_typed(name: str, compose: Compose) -> None:
    if name not in ("'quoted' name", "[]"):
        assert compose("evaluate", f"weights=[bicubic,{name}, df2k ]").weights == [
            "bicubic",
            name,
            "df2k",
        ]


def test_a_name_on_the_terminal_is_on_one_line(tmp_path: Path) -> None:
    script = (
        "import realsr.api; from realsr.api.command import *\n"
        "realsr.api.evaluate = lambda config: logger.info('%s\\n%s', config.data.hr, 'end')\n"
        "run_command('evaluate')"
    )
    command = [sys.executable, "-c", script, "data.hr=a\x1b[2Jc\udce9"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    outcome = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert outcome.stderr == b"a\\x1b[2Jc\\xe9\nend\n"


def test_quotes_belong_to_the_name_only_of_a_file(compose: Compose, tmp_path: Path) -> None:
    assert compose("evaluate", "data.hr='a b'").data.hr == Path("a b")
    assert compose("evaluate", 'weights=["a,b",c]').weights == ["a,b", "c"]
    (tmp_path / "'a b'").mkdir()
    assert compose("evaluate", "data.hr='a b'").data.hr == Path("'a b'")


def test_a_list_of_one_needs_no_brackets_and_a_folder_may_have_them(
    compose: Compose, tmp_path: Path
) -> None:
    assert compose("evaluate", "weights=df2k").weights == ["df2k"]
    assert compose("evaluate", "weights=bicubic,df2k").weights == ["bicubic", "df2k"]
    assert compose("evaluate", "weights=[]").weights == []
    many = [f"run_{index}/best.safetensors" for index in range(200)]
    assert compose("evaluate", f"weights=[{','.join(many)}]").weights == many
    (tmp_path / "[a,b]").mkdir()
    assert compose("evaluate", "weights=[a,b]").weights == ["[a,b]"]


def test_null_references_and_missing_values_stay_what_they_are(compose: Compose) -> None:
    config = compose(
        "config", "+track=dped", "data.source=null", "work_dir=a b", "run=${work_dir}/[x]"
    )
    assert (config.data.source, config.run) == (None, Path("a b/[x]"))


def test_numbers_stay_numbers(compose: Compose) -> None:
    config = compose(
        "config", "+track=dped", "seed=7", "optimiser.milestones=[1,2]", "generator.sizes={a:1}"
    )
    assert (config.seed, config.optimiser.milestones, config.generator["sizes"]) == (
        7,
        [1, 2],
        {"a": 1},
    )


def test_a_sweep_is_one_only_with_multirun(compose: Compose, tmp_path: Path) -> None:
    assert compose("config", "+track=dped", "work_dir=a,b").work_dir == Path("a,b")
    configs = compose("config", "-m", "+track=dped", "work_dir=a,b", "seed=1,2")
    assert [(config.work_dir, config.seed) for config in configs] == [
        (Path(folder), seed) for folder in "ab" for seed in (1, 2)
    ]
    (tmp_path / "a,b").mkdir()
    assert compose("config", "-m", "+track=dped", "data.source=a,b").data.source == Path("a,b")


def test_arguments_without_a_key_are_photos(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "a=1.jpg").touch()
    config = compose("upscale", "[1] x.jpg", "a=1.jpg", "2024", "output=out")
    assert [str(path) for path in config.input] == ["[1] x.jpg", "a=1.jpg", "2024"]
    with pytest.raises(UserError, match="photos are set both with input= and without"):
        quote_arguments(["a.jpg", "input=b.jpg"], UpscaleConfig, "input")
    arguments = quote_arguments(["--config-dir", "my", "a.jpg"], UpscaleConfig, "input")
    assert arguments == ["input=[a.jpg]", "--config-dir=my"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "weights=1.jpg",
            "weights=1.jpg: could be a file or set the key weights: type ./weights=1.jpg for the file",
        ),
        ("-a.jpg", "-a.jpg: looks like a flag: type ./-a.jpg for the file"),
        ("--output=x.png", "--output=x.png: unknown flag: set output=x.png"),
        ("--overwrite", "--overwrite: unknown flag: set overwrite=…"),
        ("-o", "-o: unknown flag: expected key=value"),
        ("=", "=: expected key=value, without spaces around ="),
        (
            "output=",
            "output=: has no value (an unset variable?): set output=…, or output=. for the current folder",
        ),
    ],
)
def test_what_is_neither_photo_nor_key_is_said_so(
    argument: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("weights=1.jpg", "-a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        quote_arguments(["b.jpg", argument], UpscaleConfig, "input")
    assert message in str(error.value)


def test_a_photo_may_be_called_as_a_reference_is(compose: Compose, tmp_path: Path) -> None:
    names = ["${a}.jpg", "\\${b}.jpg", "$c.jpg", "~d.jpg"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in compose("upscale", *names, "output=out").input] == names


def test_a_misspelt_key_is_no_photo(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        compose("upscale", "input=a.jpg", "output=b.png", "formt=png")
    assert "unknown key formt. Did you mean format?" in caplog.text


@pytest.mark.parametrize(
    "text", ["2020_11", "2020", "0123", "1e3", "on", "12:30:45", "0x1F", ".5", "~x"]
)
def test_yaml_gives_a_path_as_it_is_written(text: str, compose: Compose, tmp_path: Path) -> None:
    group = tmp_path / "my" / "experiment"
    group.mkdir(parents=True)
    (group / "x.yaml").write_text(
        f"# @package _global_\ninit: {text}\ndata: {{source: {text}, target: null}}\nseed: 7\n"
        "generator: {name: my.Net, sizes: {run: 3}}\n"
    )
    config = compose("config", "--config-dir", "my", "+track=dped", "+experiment=x")
    assert (config.init, config.data.source, config.data.target) == (text, Path(text), None)
    assert (config.seed, config.generator["sizes"]) == (7, {"run": 3})


def test_a_list_of_paths_in_yaml_is_text(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "my" / "models").mkdir(parents=True)
    (tmp_path / "my" / "models" / "x.yaml").write_text(
        "# @package _global_\nweights: [2020_11, 1e3]\nfigures:\n- 007\n"
    )
    config = compose("evaluate", "--config-dir", "my", "+models=x")
    assert (config.weights, config.figures) == (["2020_11", "1e3"], ["007"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "features: 8\n growth: 4\n",
            "bad.yaml, line 2, column 8: invalid YAML: mapping values are not allowed here",
        ),
        (
            "features: 8\nfeatures: 9\n",
            "bad.yaml, line 2, column 1: invalid YAML: found duplicate key features",
        ),
        ("- 1\n- 2\n", "generator/bad.yaml: expected lines of key: value"),
        (
            "defaults: [nobody]\n",
            "generator/bad.yaml: generator=nobody: no file generator/nobody.yaml",
        ),
        (
            "features: ${oc.env:UNSET_X}\n",
            "generator.features=${oc.env:UNSET_X}: the environment variable UNSET_X is not",
        ),
        ("name: \xe9\n", "a YAML file is not UTF-8 text (byte 6 is 0xe9): save it as UTF-8"),
    ],
)
def test_a_mistake_in_a_yaml_file_ends_in_a_line(
    content: str, message: str, compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "my" / "generator").mkdir(parents=True)
    (tmp_path / "my" / "generator" / "bad.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as end:
        compose("config", "--config-dir", "my", "+track=dped", "generator=bad")
    assert end.value.code == 1
    assert message in caplog.text


def test_an_option_may_be_named_like_a_yaml_value(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "my" / "pool").mkdir(parents=True)
    (tmp_path / "my" / "track").mkdir()
    for name in ("true", "on", "1"):
        (tmp_path / "my" / "pool" / f"{name}.yaml").write_text("defaults: [bicubic]\n")
        (tmp_path / "my" / "track" / f"{name}.yaml").write_text(
            f"# @package _global_\ndefaults:\n- override /pool: {name}\n- _self_\ntrack: x\n"
        )
        for arguments in (["+track=dped", f"pool={name}"], [f"+track={name}"]):
            config = compose("config", "--config-dir", "my", *arguments)
            assert config.pool.kernels == "bicubic"
    configs = compose("config", "-m", "--config-dir", "my", "+track=dped", "pool=true,kernels_only")
    assert [config.pool.kernels for config in configs] == ["bicubic", "estimated"]
    for name in ("false", "0", "null"):
        with pytest.raises(SystemExit):
            compose("config", "--config-dir", "my", "+track=dped", f"pool={name}")
        assert f"pool={name}: expected one of 1, bicubic, from_mat" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("decay: many\n", "optimiser/bad.yaml: optimiser.decay=many: expected a number"),
        (
            "decai: 1\n",
            "optimiser/bad.yaml: unknown key optimiser.decai. Did you mean optimiser.decay",
        ),
    ],
)
def test_a_wrong_key_or_value_in_a_yaml_file_is_named(
    content: str, message: str, compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "my" / "optimiser").mkdir(parents=True)
    (tmp_path / "my" / "optimiser" / "bad.yaml").write_text(content)
    with pytest.raises(SystemExit):
        compose("config", "--config-dir", "my", "+track=dped", "optimiser=bad")
    assert message in caplog.text


def test_home_is_meant_by_a_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compose: Compose
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = compose(
        "config", "+track=dped", "work_dir=~/o", "data.source=~", "init=~/g.pth", "data.target=x~/~"
    )
    home = tmp_path / "home"
    assert (config.work_dir, config.pool_dir, config.data.source) == (
        home / "o",
        home / "o" / "pool",
        home,
    )
    assert (config.init, config.data.target) == (f"{home}/g.pth", Path("x~/~"))
    assert compose("evaluate", "weights=[~/a,b~]").weights == [f"{home}/a", "b~"]


def test_the_config_of_a_run_can_be_used_again(compose: Compose, tmp_path: Path) -> None:
    from realsr.config.composition import to_yaml

    first = compose("config", "+track=dped", "work_dir=2020_11", "seed=3")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(first))
    again = compose("config", "--config-path", "run", "--config-name", "config", "seed=4")
    assert isinstance(again, TrainConfig)
    assert (again.work_dir, again.seed, again.pool) == (Path("2020_11"), 4, first.pool)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_the_config_of_a_run_before_warm_up_has_its_own_loss_terms_alone(
    compose: Compose, tmp_path: Path
) -> None:
    from realsr.config.composition import to_yaml

    first = compose(
        "config",
        "+track=dped",
        "loss=pixel",
        "discriminator=vgg128",
        "pool=from_mat",
        "pool.estimator.folder=mats",
    )
    text = to_yaml(first)
    old = re.sub(r"^  (warmup|max_gradient_norm): .*\n", "", text, flags=re.MULTILINE)
    assert len(text.splitlines()) == len(old.splitlines()) + 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(old)
    assert compose("config", "--config-path", "run", "--config-name", "config") == first


def test_the_config_of_a_run_of_an_earlier_version_gets_the_current_keys(
    compose: Compose, tmp_path: Path
) -> None:
    from realsr.config.composition import to_yaml

    first = compose(
        "config",
        "+track=df2k_jpeg",
        "kernels=spectral",
        "kernels.border=7",
        "noise.min_patches=12",
        "pool=from_mat",
        "pool.estimator.folder=mats",
    )
    text = to_yaml(first)
    old = text.replace("  border: 7", "  frame: 7").replace("min_patches: 12", "wanted: 12")
    old = re.sub(r"^ +(match: random|jpeg: quality|network: vgg19)\n", "", old, flags=re.MULTILINE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(old)
    assert len(text.splitlines()) == len(old.splitlines()) + 3
    assert "border: 7" not in old
    assert compose("config", "--config-path", "run", "--config-name", "config") == first


@pytest.mark.parametrize("sweep", [[], ["-m", "tile=64,128"]])
def test_ctrl_c_while_a_command_imports_ends_in_a_line(sweep: list[str], tmp_path: Path) -> None:
    # A module of torch's place in the import, which waits to be interrupted.
    (tmp_path / "torch.py").write_text(
        "print('imports', flush=True)\nimport time\ntime.sleep(60)\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "realsr.upscale", "a.jpg", "output=b.png", *sweep],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A job in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "imports\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    *announcement, message = errors.splitlines()  # a sweep announces its jobs
    assert message.startswith("interrupted; ")
    assert len(announcement) == len(sweep)


def test_names_beyond_ascii_in_a_locale_without_them(tmp_path: Path) -> None:
    (tmp_path / "写é").mkdir()
    (tmp_path / "my" / "track").mkdir(parents=True)
    (tmp_path / "my" / "track" / "x.yaml").write_text(
        "# @package _global_\ntrack: x\ndata: {source: 写é}\n", encoding="utf-8"
    )
    source = str(Path(__file__).parents[2] / "src")
    environment = {
        **os.environ,
        "PYTHONPATH": source,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    script = (
        "import realsr.api; from realsr.api.command import *\n"
        "realsr.api.train = lambda config: print(config.data.source.is_dir())\nrun_command('train')"
    )
    for arguments in (["data.source=写é", "+track=dped"], ["--config-dir", "my", "+track=x"]):
        command = [sys.executable, "-c", script, *arguments]
        outcome = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert outcome.stdout == "True\n", outcome.stderr
    outcome = subprocess.run(
        [sys.executable, "-c", script, "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert b"key=value \\u2026" in outcome.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("track: x\n", "track/x.yaml: sets keys of all groups: add `# @package _global_`"),
        (
            "# @package _global_\nscale: 2\n",
            "track/x.yaml: does not set the track: add `track: x`",
        ),
    ],
)
def test_a_track_that_is_not_whole_is_named(
    content: str, message: str, compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "my" / "track").mkdir(parents=True)
    (tmp_path / "my" / "track" / "x.yaml").write_text(content)
    with pytest.raises(SystemExit):
        compose("config", "--config-dir", "my", "+track=x")
    assert message in caplog.text


def test_a_folder_of_a_config_that_is_not_there_is_named(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        compose("config", "--config-path", "nowhere", "--config-name", "config")
    assert "--config-path nowhere: no such folder: set the folder of a run" in caplog.text
