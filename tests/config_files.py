"""What the head of a file in conf/ says: prerequisites, and a command that can be run."""

import importlib
import itertools
import shlex
from pathlib import Path


def head(path: Path) -> str:
    """The comment that a file begins with."""
    return "\n".join(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))


def head_command(path: Path) -> tuple[str, list[str]]:
    """The command of a file's head: the module behind `python -m`, which exists, and its arguments."""
    text = head(path).partition("# Command\n")[2].replace("\\\n#", "").lstrip("# ")
    python, dash, module, *overrides = shlex.split(text.splitlines()[0])
    assert (python, dash) == ("python", "-m")
    assert hasattr(importlib.import_module(module), "main")
    return module.removeprefix("realsr."), overrides
