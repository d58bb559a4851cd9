"""Sites of trials: separate folders, with sentinel files that must not be touched."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_hook import Fault
from judge import Failure
from product import TIMEOUT, Run, RunningCommand

SENTINELS = (
    "here/sentinel.txt",
    "here/work/sentinel.txt",
    "outside/sentinel.txt",
    "home/sentinel.txt",
    "sentinel.txt",
)
Tree = dict[str, tuple[str, int, str]]


def snapshot(folder: Path) -> Tree:
    """Return kind, size and SHA-256 (or link target) of all entries, by relative path."""
    tree: Tree = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place, name)
            status = path.lstat()
            relative = path.relative_to(folder).as_posix()
            if stat.S_ISLNK(status.st_mode):
                tree[relative] = ("link", 0, str(path.readlink()))
            elif stat.S_ISREG(status.st_mode):
                tree[relative] = (
                    "file",
                    status.st_size,
                    hashlib.sha256(path.read_bytes()).hexdigest(),
                )
            else:
                tree[relative] = ("folder" if stat.S_ISDIR(status.st_mode) else "other", 0, "")
    return tree


def tell_changes(before: Tree, after: Tree) -> list[str]:
    """Describe the differences between two snapshots."""
    losses = [f"{name} is gone" for name in sorted(before.keys() - after.keys())]
    new = [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    changes = [
        f"{name} is another"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    return losses + new + changes


@dataclass
class Site:
    """A trial's folders: `here`, where commands are started, `home`, `tmp`, and `outside`.

    writable: the output paths of the commands below `here`; other changes count as outside.
    """

    root: Path
    writable: tuple[str, ...]
    _before: Tree = field(default_factory=dict)
    _count: int = 0

    @property
    def here(self) -> Path:
        return self.root / "here"

    def fill(self, template: Path | None) -> None:
        """Make the folders, `here` with the content of `template`, and the sentinels."""
        self.root.mkdir(parents=True)
        if template is None:
            self.here.mkdir()
        else:
            shutil.copytree(template, self.here, symlinks=True)
        for name in ("home", "tmp", "outside"):
            (self.root / name).mkdir()
        for name in SENTINELS:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"the only copy of {name}\n")
        self.remember()

    def remember(self) -> None:
        """Record the current state, which must not change."""
        self._before = self._see()

    def find_violations(self, runs: list[Run]) -> list[Failure]:
        """Return the changes and reads outside of the writable paths since `remember`."""
        changes = tell_changes(self._before, self._see())
        for line in (line for run in runs for line in run.log):
            if line["kind"] == "outside":
                changes.append(f"{line['path']}: {line['event']} outside of the trial")
            elif line["kind"] == "sentinel":
                changes.append(f"{line['path']}: read, although outside of the stage's folder")
        return [Failure("outside", words) for words in dict.fromkeys(changes)]

    def _see(self) -> Tree:
        tree: Tree = {}
        for part in ("home", "outside", "here"):
            tree |= {f"{part}/{name}": value for name, value in snapshot(self.root / part).items()}
        for name in [name for name in tree if self._is_writable(name)]:
            del tree[name]
        return tree

    def _is_writable(self, name: str) -> bool:
        if name in SENTINELS:
            return False
        return any(
            name == f"here/{path}" or name.startswith(f"here/{path}/") for path in self.writable
        )

    def start(
        self,
        command: str,
        *arguments: str,
        fault: Fault | None = None,
        prelude: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
        here: Path | None = None,
    ) -> RunningCommand:
        """Start a command in this trial's folder."""
        self._count += 1
        variables = {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp")} | dict(
            environment or {}
        )
        variables |= {
            "TORCHINDUCTOR_CACHE_DIR": str(self.root / "tmp"),
            "XDG_CACHE_HOME": str(self.root / "tmp/cache"),
        }
        sentinels = frozenset(str((self.root / name).resolve()) for name in SENTINELS)
        return RunningCommand(
            command, arguments, here or self.here, self.root / f"run{self._count}", self.root, variables, sentinels,
            fault, prelude,
        )  # fmt: skip

    def run(self, command: str, *arguments: str, timeout: float = TIMEOUT, **options: Any) -> Run:
        """Run a command in this trial's folder, to its end."""
        return self.start(command, *arguments, **options).wait(timeout)

    def backup(self, number: int) -> Path:
        """Return the backup of the file that a rename of the newest command replaced."""
        return self.root / f"run{self._count}" / "old" / str(number)
