"""What files in conf/ say: prerequisites and a command at the head, values below."""

import importlib
import itertools
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

import realsr.api
from realsr.api.command import run_command
from realsr.config.composition import refuse_other_keys
from realsr.config.options import conf_dir
from realsr.core.errors import UserError


def head(path: Path) -> str:
    """The comment that a file begins with."""
    return "\n".join(
        itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    )


def head_command(path: Path) -> tuple[str, list[str]]:
    """The command of a file's head: the module behind `python -m`, which exists, and its arguments."""
    text = head(path).partition("# Command\n")[2].replace("\\\n#", "").lstrip("# ")
    python, dash, module, *overrides = shlex.split(text.splitlines()[0])
    assert (python, dash) == ("python", "-m")
    assert importlib.import_module(module).run_command
    return module.removeprefix("realsr."), overrides


def yaml_values(option: str, **changes: Any) -> dict[str, Any]:
    """Return the values of a file of conf/ (`generator/rrdb`), those it is based on included, with changes."""
    values = yaml.safe_load((conf_dir() / f"{option}.yaml").read_text(encoding="utf-8"))
    group = option.rpartition("/")[0]
    bases = [base for base in values.pop("defaults", []) if base != "_self_"]
    return (
        {key: value for base in bases for key, value in yaml_values(f"{group}/{base}").items()}
        | values
        | changes
    )


def run_stub(command: str, function: Callable[[Any], object]) -> None:
    """Run a command as its main does, with a function in place of `realsr.api`'s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(realsr.api), command, function)
        run_command(command)


def takes(command: str, argument: str) -> bool:
    """Whether an argument is no key of other commands alone."""
    try:
        refuse_other_keys(command, [argument])
    except UserError:
        return False
    return True


def loss_values(**weights: float) -> dict[str, dict[str, Any]]:
    """Return the paper's loss with these terms alone, by these weights."""
    terms = yaml_values("loss/realsr")
    return {key: terms[key] | {"weight": weight} for key, weight in weights.items()}


_FILES = {
    "KernelGANConfig": "kernels/kernelgan",
    "NoiseConfig": "noise/flat_tiles",
    "PairsConfig": "pairs/source",
    "Protocol": "protocol/realsr_release",
    "OptimiserConfig": "optimiser/adam",
    "TrainerConfig": "trainer/realsr",
}
C = TypeVar("C")


def config_of(kind: type[C], *first: Any, **changes: Any) -> C:
    """Return a stage's dataclass with the values of conf/, but for the first fields or those that are named."""
    if kind.__name__ == "Int8Config":
        values = yaml.safe_load((conf_dir() / "export.yaml").read_text(encoding="utf-8"))["int8"]
    else:
        values = yaml_values(_FILES[kind.__name__])
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    own = {key: value for key, value in values.items() if key in names}
    return kind(**own | dict(zip(names, first, strict=False)) | changes)
