"""`--help` of a command: its keys with values and comments as conf/ has them, and the options of its groups.

Neither Hydra nor a component is imported, so that it is printed at once.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import yaml  # type: ignore[import-untyped]

from realsr.config.options import conf_dir
from realsr.config.schema import COMMANDS

_ADDED = {"track": "<track>", "experiment": "<recipe>", "layout": "<layout>"}
_FLAGS = """\
Options of every command:
  --cfg job          print the composed configuration; with --resolve the values that others refer to
  --config-dir DIR   add groups of your own
  -m, --multirun     one run for each of several values: key=a,b"""


def ask_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(argument in ("--help", "-h") for argument in arguments)


def write_help(command: str, arguments: Sequence[str]) -> None:
    """Print the help of a command; `group=option` among its arguments shows that option's keys."""
    specification = COMMANDS[command]
    types = get_type_hints(specification.part)
    chosen = dict(
        argument.lstrip("+").split("=", 1)
        for argument in arguments
        if re.match(r"\+?[\w/]+=", argument)
    )
    folders = [conf_dir(), *_config_dirs(arguments)]
    defaults = _read_defaults(specification.file)
    groups = {
        group: chosen.get(group, option) for group, option in defaults.items() if group in types
    }
    others = ", ".join(name for name in COMMANDS if name != command)
    usage = str(import_module(f"realsr.{command}").__doc__).strip()
    lines = [usage, "", f"Other commands: {others}"]
    names = sorted([*groups, *(_ADDED if "track" in types else [])])
    lines += ["", "Groups and their options:"] if names else []
    for group in names:
        options = sorted(
            {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
        )
        lines.append(
            f"  {'+' if group in _ADDED else ''}{group}={_ADDED.get(group, '<option>')}: {', '.join(options)}"
        )
    lines += ["", _FLAGS, "", "Keys, values and what they mean (a track changes some values):"]
    lines += _select(
        _read_body(conf_dir() / f"{_base(specification.file)}.yaml"), specification.part
    )
    for group, option in groups.items():
        files = [folder / group / f"{option}.yaml" for folder in folders[::-1]]
        option_lines = next((_read_option(file) for file in files if file.is_file()), [])
        lines += ["", f"{group}:  # {group}={option}", *(f"  {line}" for line in option_lines)]
    sys.stdout.write("\n".join(lines) + "\n")


def _config_dirs(arguments: Sequence[str]) -> Iterator[Path]:
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            yield Path(value if equals else following)


def _base(file: str) -> str:
    """Return the file that has the keys: the demo's has none of its own."""
    return "config" if file == "demo" else file


def _read_defaults(file: str) -> dict[str, str]:
    """Return the groups of a primary file with their default options."""
    content = yaml.safe_load((conf_dir() / f"{_base(file)}.yaml").read_text(encoding="utf-8"))
    return {
        group: option
        for item in content["defaults"]
        if isinstance(item, dict)
        for group, option in item.items()
    }


def _read_body(path: Path) -> list[str]:
    """Return the lines of a YAML file after its heading and its list of defaults, Hydra's own keys left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    selection: list[str] = []
    block = ""
    for line in lines:
        if key := re.match(r"(\w+):", line):
            block = key[1]
        if block and block not in ("defaults", "hydra", "name"):
            selection.append(line)
    return selection


def _read_option(path: Path) -> list[str]:
    """Return the lines of a group's option, those that it is based on first."""
    text = path.read_text(encoding="utf-8")
    heading = [
        line for line in text.splitlines() if line.startswith("#") and "@package" not in line
    ]
    bases = [
        base for base in (yaml.safe_load(text) or {}).get("defaults", []) if isinstance(base, str)
    ]
    based = [
        line
        for base in bases
        if base != "_self_"
        for line in _read_option(path.with_name(f"{base}.yaml"))
    ]
    return [*heading, *based, *(line for line in _read_body(path) if not line.startswith("#"))]


def _select(lines: Sequence[str], part: type) -> list[str]:
    """Return the lines of a command's keys, and of those inside `data` that it has."""
    selection, block = [], ""
    types = get_type_hints(part)
    names = {field.name for field in fields(part)}
    for line in lines:
        if key := re.match(r"(\w+):", line):
            block = key[1]
        inside = re.match(r"  (\w+):", line)
        kind = types.get(block)
        known = (
            inside is None
            or not is_dataclass(kind)
            or inside[1] in {field.name for field in fields(kind)}
        )
        if block in names and known and line.strip():
            selection.append(line)
    return selection
