"""The fault campaign runs, its judge sees what is wrong, and lost power takes what was not synced."""

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from realsr.imaging import write_uint8

FOLDER = Path(__file__).parents[2] / "experiments/faults"
MODULES = [path.stem for path in FOLDER.glob("*.py")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the campaign reads /proc and forks")


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the campaign's folder."""
    before = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture
def states(tmp_path):
    """Two equal folders that a training may have left: the reference, and one to damage."""
    folders = tmp_path / "reference", tmp_path / "state"
    for folder in folders:
        run = folder / "work"
        (run / "checkpoints").mkdir(parents=True)
        torch.save({"step": 2, "weight": torch.ones(3)}, run / "checkpoints/step_00000002.pt")
        write_uint8(run / "a.png", np.full((4, 4, 3), 7, np.uint8))
        (run / "metrics.jsonl").write_text(
            "".join(f'{{"step": {k}, "validation": "v", "psnr": 1}}\n' for k in (1, 2))
        )
        (run / "manifest.json").write_text(
            json.dumps({"a": {"size": 3, "mtime_ns": len(str(folder))}})
        )
        with SummaryWriter(str(run / "tensorboard")) as writer:
            for step in (1, 2):
                writer.add_scalar("loss", 0.5 / step, step)
                writer.add_scalar("speed/images", len(str(folder)), step)
    return folders


def judge(load, states) -> set[str]:
    """The kinds of failures that the judge finds, of paths of which at most one checkpoint is kept."""
    return {failure.kind for failure in load("judge").judge_state(*states, ("work",), keep=1)}


def test_equal_states_are_right(load, states):
    assert judge(load, states) == set()


def zero(run: Path) -> None:
    (run / "a.png").write_bytes(bytes((run / "a.png").stat().st_size))


def double(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "validation": "v", "psnr": 1}\n')


def alter_checkpoint(run: Path) -> None:
    torch.save({"step": 2, "weight": torch.zeros(3)}, run / "checkpoints/step_00000002.pt")


DAMAGES = {
    "zeros": (zero, {"deviation"}),
    "empty": (lambda run: (run / "a.png").write_bytes(b""), {"deviation"}),
    "missing": (lambda run: (run / "a.png").unlink(), {"deviation"}),
    "surplus": (lambda run: (run / "b.png").write_bytes(b"x"), {"deviation"}),
    "surplus checkpoint": (
        lambda run: (run / "checkpoints/step_00000001.pt").touch(),
        {"deviation", "keep"},
    ),
    "other checkpoint": (alter_checkpoint, {"deviation"}),
    "doubled line": (double, {"deviation", "lines twice"}),
    "temporary file": (lambda run: (run / ".a.png.tmp").touch(), {"leftover"}),
    "other manifest": (
        lambda run: (run / "manifest.json").write_text('{"a": {"size": 4}}'),
        {"deviation"},
    ),
    "scalars lost": (lambda run: next(run.glob("tensorboard/*")).write_bytes(b""), {"deviation"}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_judge_sees_what_is_wrong(load, states, name):
    damage, kinds = DAMAGES[name]
    damage(states[1] / "work")
    assert judge(load, states) == kinds


ENDS = {
    "done": (0, "done", set()),
    "error": (1, "error: work/a.png is damaged", set()),
    "another file": (1, "error: something is damaged", {"message"}),
    "no message": (1, "a.png\nsomething", {"message"}),
    "traceback": (
        1,
        "Traceback (most recent call last):\n  File a.png\nValueError: x",
        {"traceback"},
    ),
    "killed": (-9, "", {"message"}),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_judge_reads_how_a_command_ended(load, name):
    code, text, kinds = ENDS[name]
    run = load("product").Run("realsr.train", code, text, 1.0)
    assert {failure.kind for failure in load("judge").judge_run(run, (0, 1), ["a.png"])} == kinds


def test_a_hang_is_a_failure(load):
    run = load("product").Run("realsr.train", None, "", 60.0, hung=True)
    assert [failure.kind for failure in load("judge").judge_run(run)] == ["hang"]


def test_torn_files_are_seen(load, states):
    (states[1] / "work/manifest.json").write_text('{"a": ')
    (states[1] / "work/a.png").write_bytes((states[1] / "work/a.png").read_bytes()[:-9])
    assert len(load("judge").find_torn(states[1] / "work")) == 2
    assert load("judge").find_torn(states[0] / "work") == []


def test_what_is_touched_outside_is_seen(load, tmp_path):
    site = load("sites").Site(tmp_path / "trial", ("work",))
    site.fill(None)
    (site.here / "work/new.txt").touch()
    assert site.find_violations([]) == []
    (site.here / "multirun.yaml").touch()
    (site.here / "work/sentinel.txt").unlink()
    (site.root / "home/sentinel.txt").write_text("other")
    line = {"kind": "outside", "path": "/etc/passwd", "event": "open"}
    run = load("product").Run("realsr.train", 0, "", 1.0, log=[line])
    assert len(site.find_violations([run])) == 4


class AllDrawn(random.Random):
    """Draws all that may be lost."""

    def random(self) -> float:
        return 0.0


@linux
def test_lost_power_takes_what_was_not_synced(load, tmp_path):
    """Of two files one is synced, and of two renames one is followed by a sync of the folder."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\n"
        "from pathlib import Path\n"
        "from file_hook import FileHook\n"
        "root = Path(sys.argv[1])\n"
        "(root / 'old').mkdir()\n"
        "FileHook(root / 'here', root, root / 'log', root / 'old', frozenset(), None).install()\n"
        "for name, synced in (('safe', True), ('lost', False)):\n"
        "    path = root / 'here/work' / name\n"
        "    with open(f'{path}.tmp', 'wb') as file:\n"
        "        file.write(b'new content')\n"
        "        file.flush()\n"
        "        synced and os.fsync(file.fileno())\n"
        "    os.replace(f'{path}.tmp', path)\n"
        "    if synced:\n"
        "        folder = os.open(path.parent, os.O_RDONLY)\n"
        "        os.fsync(folder)\n"
    )
    power, product = load("power"), load("product")
    for variant, expected in {
        "zeros": bytes(11),
        "half": b"new c",
        "empty": b"",
        "undone": b"old",
    }.items():
        site = load("sites").Site(tmp_path / variant, ("work",))
        site.fill(None)
        for name in ("safe", "lost"):
            (site.here / "work" / name).write_bytes(b"old")
        before = {power._identify(path) for path in power._list_files(site)}
        subprocess.run([sys.executable, script, site.root], check=True)
        site.root.joinpath("run0").mkdir()
        (site.root / "old").rename(site.root / "run0/old")
        log = [json.loads(line) for line in (site.root / "log").read_text().splitlines()]
        damage = power.lose_power(
            site, product.Run("x", 0, "", 1.0, log=log), before, variant, AllDrawn()
        )
        assert (site.here / "work/safe").read_bytes() == b"new content"
        assert (site.here / "work/lost").read_bytes() == expected
        assert [name for name in damage if not name.endswith(".tmp")] == ["work/lost"]


@linux
@pytest.mark.slow
def test_trials_of_three_campaigns(tmp_path):
    """Kills are survived; each result has what is needed to repeat it."""
    output = tmp_path / "faults.json"
    command = [
        sys.executable,
        FOLDER / "campaign.py",
        "--output",
        output,
        "--scratch",
        tmp_path,
        "--limit",
        "3",
    ]
    trials = "kills/kernels/,power/kernels/,manifests/kernels/again/unknown"
    run = subprocess.run([*command, "--trial", trials], capture_output=True, text=True)
    assert "| all | 7 |" in run.stdout, run.stdout + run.stderr
    results = json.loads(output.read_text())["trials"]
    assert {result["trial"].split("/")[0] for result in results} == {"kills", "power", "manifests"}
    assert all(result["commands"] and result["fault"] for result in results)
    assert not any(result["failures"] for result in results if result["trial"].startswith("kills/"))
    assert list(tmp_path.iterdir()) == [output]
