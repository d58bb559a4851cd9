"""What users install: the archives of `make dist`, and the container."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_ARCHIVED = (
    ".ci/*",
    ".git*",
    ".pre-commit-config.yaml",
)  # of the repository, not of its content
MAX_BYTES = 2**20  # of a file in the archives


def run(*command: str | Path, **variables: str) -> str:
    outcome = subprocess.run(
        [*command],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
    return outcome.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that its content builds."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def sizes(archive: Path) -> dict[str, int]:
    """The files of an archive by path, without the source archive's folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as content:
            return {entry.filename: entry.file_size for entry in content.infolist()}
    with tarfile.open(archive) as content:
        return {entry.name.partition("/")[2]: entry.size for entry in content}


@pytest.mark.slow
def test_archives_are_complete_and_small(archives: tuple[Path, Path]) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *archives)
    for archive in archives:
        files = sizes(archive)
        assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
        assert {name: size for name, size in files.items() if size > MAX_BYTES} == {}
        assert archive.stat().st_size < 10 * MAX_BYTES
    source, wheel = map(sizes, archives)
    own = {path for path in wheel if not path.startswith("realsr-")}
    expected = {
        f"realsr/{path.relative_to(folder)}"
        for folder in (ROOT / "src/realsr", ROOT)
        for path in (folder if folder != ROOT else ROOT / "conf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert own == expected, "the package, its configuration and nothing else"
    assert "realsr/reporting/page/img-comparison-slider/LICENSE" in own
    assert len([name for name in wheel if name.endswith("LICENSE") and "/licenses/" in name]) == 2
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: the source archive is not compared with it")
    tracked = run("git", "-C", ROOT, "ls-files", "-z").split("\0")[:-1]
    missing = [
        name
        for name in tracked
        if name not in source and not any(fnmatch.fnmatch(name, part) for part in NOT_ARCHIVED)
    ]
    assert missing == []


@pytest.mark.slow
def test_the_wheel_works_outside_a_checkout(archives: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", target, archives[1])
    script = target / "bin/realsr"
    variables = {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    assert "upscale" in run(script, "--help", **variables)
    place = run(sys.executable, "-c", "import realsr; print(realsr.__file__)", **variables)
    assert Path(place.strip()).is_relative_to(target)
    assert "consistency: false" in run(script, "upscale", "x.png", "--cfg", "job", **variables)


@pytest.mark.slow
def test_the_description_has_no_link_into_the_repository(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        description = wheel.read(name).decode().partition("\n\n")[2]
    assert "realsr upscale PHOTO.jpg output=BIG.png" in description
    assert "- `docs/use/adapt.md`: adapt a published model to your camera" in description
    assert "`docs/use/adapt_cameras.png`" in description
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert [link for link in links if not link.startswith("https://")] == []


def test_each_extra_is_documented_and_measured() -> None:
    text = (ROOT / "docs/use/install.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    extras = PROJECT["optional-dependencies"].keys() - {"dev"}
    assert extras - rows == set(), "add a row to docs/use/install.md"
    script = (ROOT / "experiments/install/measure.py").read_text()
    unmeasured = [name for name in extras if not re.search(rf'"(onnx,)?{name}": ', script)]
    assert unmeasured == [], "add code that uses the extra to experiments/install/measure.py"


def instructions(file: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined."""
    lines = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2]) for line in lines.splitlines() if line]


def test_the_container_copies_files_that_exist() -> None:
    ignored, *allowed = (ROOT / ".dockerignore").read_text().split()
    allowed = [name[1:] for name in allowed if name.startswith("!")]
    copied = [
        source
        for name, arguments in instructions(ROOT / "Dockerfile")
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert ignored == "*"
    assert sorted(copied) == sorted(allowed)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    needed = {PROJECT["license-files"][0], "pyproject.toml", "README.md", "src", "conf"}
    assert needed <= set(copied), "what a build of the wheel reads"


def test_the_container_has_a_chosen_base_and_no_root() -> None:
    steps = instructions(ROOT / "Dockerfile")
    values = dict(text.split("=", 1) for name, text in steps if name == "ARG")
    assert {"PYTHON", "EXTRAS", "TORCH_INDEX"} <= values.keys()
    assert f"Programming Language :: Python :: {values['PYTHON']}" in PROJECT["classifiers"]
    assert set(values["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    assert {text.split()[0] for name, text in steps if name == "FROM"} == {"python:${PYTHON}-slim"}
    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    final = dict(steps[last:])
    assert final["ENTRYPOINT"] == '["realsr"]'
    assert final["USER"] not in ("root", "0")
    pips = [
        text for name, text in steps if name == "RUN" for text in text.split("&&") if "pip" in text
    ]
    assert pips
    assert all(text.count("pip install") == text.count("--no-cache-dir") for text in pips)
