"""`realsr COMMAND`, as the installed script runs it, against `python -m realsr.COMMAND`."""

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from small_work import write_photos

import realsr
from realsr.config.schema import COMMANDS

ROOT = Path(__file__).parents[2]
VERSIONS = (
    f"realsr {realsr.__version__}\ntorch {version('torch')}\nPython {sys.version.split()[0]}\n"
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script that pip writes for the entry point."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["realsr"]
    module, function = entry.split(":")
    file = tmp_path / "bin" / "realsr"
    file.parent.mkdir()
    file.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    file.chmod(0o755)
    return file


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
        **variables,
    }
    return subprocess.run(
        [*command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        # A job in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_has_one_short_line_for_each_command(script: Path) -> None:
    outcome = run(script, "--help")
    lines = outcome.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(len(line.split()) > 3 and len(line) <= 90 for line in lines)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert run(*module("realsr"), "-h").stdout == outcome.stdout
    bare = run(script)
    assert (bare.returncode, bare.stdout) == (2, outcome.stdout)


def test_help_of_a_command_is_that_of_its_module(script: Path) -> None:
    outcome = run(script, "upscale", "--help")
    assert outcome.returncode == 0
    assert "Usage: realsr upscale PHOTO output=FILE" in outcome.stdout
    assert run(*module("realsr.upscale"), "--help").stdout == outcome.stdout


def test_versions_are_the_same_for_all_forms(script: Path) -> None:
    forms = ([script], [script, "upscale"], module("realsr"), module("realsr.upscale"))
    for form in forms:
        outcome = run(*form, "--version")
        assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, VERSIONS, "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--version"]])
def test_texts_need_no_large_import(arguments: list[str], tmp_path: Path) -> None:
    for name in ("torch", "cv2", "hydra", "omegaconf", "numpy"):
        (tmp_path / "stub").mkdir(exist_ok=True)
        (tmp_path / "stub" / f"{name}.py").write_text("raise SystemExit('imported')")
    path = f"{tmp_path / 'stub'}{os.pathsep}{ROOT / 'src'}"
    assert run(*module("realsr"), *arguments, PYTHONPATH=path).returncode == 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("uspcale", "did you mean upscale? "),
        ("check-data", "did you mean check_data? "),
        ("photo.jpg", ""),
    ],
)
def test_an_unknown_command_ends_in_one_line(name: str, advice: str, script: Path) -> None:
    outcome = run(script, name, "output=x.png")
    message = f"error: unknown command {name}: {advice}realsr --help lists the commands\n"
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (2, "", message)


def test_photos_are_upscaled_as_by_the_module(script: Path, tmp_path: Path) -> None:
    write_photos(tmp_path, "ab", (24, 24))
    keys = ["a.png", "b.png", "output=out", "weights=bicubic", "scale=2"]
    results = []
    for form in ([script, "upscale"], module("realsr.upscale")):
        outcome = run(*form, *keys)
        images = [(tmp_path / "out" / f"{name}.png").read_bytes() for name in "ab"]
        results.append((outcome.returncode, outcome.stdout, outcome.stderr, images))
        shutil.rmtree(tmp_path / "out")
    assert results[0] == results[1]
    assert results[0][0] == 0


def test_an_error_is_that_of_the_module(script: Path) -> None:
    outcome = run(script, "upscale", "none.png", "output=x.png")
    same = run(*module("realsr.upscale"), "none.png", "output=x.png")
    assert (outcome.returncode, outcome.stderr) == (1, same.stderr)
    assert outcome.stderr.startswith("error: none.png")
    assert len(outcome.stderr.splitlines()) == 1


def test_files_of_the_folder_do_not_replace_modules(script: Path, tmp_path: Path) -> None:
    (tmp_path / "hydra.py").write_text("raise SystemExit('imported')")
    assert "error: none.png" in run(script, "upscale", "none.png", "output=x.png").stderr


def test_ctrl_c_while_it_imports_leaves_no_traceback(script: Path, tmp_path: Path) -> None:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "yaml.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    path = f"{tmp_path / 'stub'}{os.pathsep}{ROOT / 'src'}"
    for form in ([script, "upscale"], module("realsr.upscale")):
        outcome = run(*form, "a.png", "output=b.png", PYTHONPATH=path)
        assert (outcome.returncode, outcome.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_at_work_and_custom_modules_of_the_folder(script: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "a")
    (tmp_path / "mine.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    keys = ["+track=psnr", "data.target=photos", "generator.name=mine.Net", "trainer.device=cpu"]
    for form in ([script, "train"], module("realsr.train")):
        outcome = run(*form, *keys)
        assert outcome.returncode == 130, outcome.stderr
        assert (
            outcome.stderr == "interrupted; finished work is kept; repeat the command to continue\n"
        )


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("realsr ups", "upscale"),
        ("realsr upscale wei", "weights= weights_b="),
        ("realsr train +track=df2k_", "+track=df2k_jpeg"),
        ("realsr nothing x", ""),
    ],
)
def test_bash_completes_commands_groups_and_keys(line: str, completions: str, script: Path) -> None:
    shell = (
        'eval "$(realsr -sc install=bash)"; complete -p realsr >/dev/null || exit 3; '
        "words=($COMP_LINE); COMP_CWORD=$(( ${#words[@]} - 1 )); hydra_bash_completion; "
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    outcome = run("bash", "-c", shell, PATH=path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, f"{completions}\n", "")


def test_an_unknown_shell_is_named(script: Path) -> None:
    outcome = run(script, "-sc", "install=tcsh")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: -sc: expected install=SHELL")
