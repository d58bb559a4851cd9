"""`--help` of a command: its keys with the values and comments of conf/, and its group options.

Also the list of commands, and `--version`. Neither torch nor Hydra nor a component is imported, so
that the text appears at once.
"""

import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_type_hints

import yaml  # type: ignore[import-untyped]

from realsr import __version__
from realsr.config.options import PLUS_GROUPS, conf_dir, config_dirs, find_option
from realsr.config.schema import COMMANDS

_TERMS = "loss/term"  # the group whose options are added to `loss`, each at an own key

_FLAGS = """\
Options of every command:
  --cfg job          print the composed configuration; --resolve replaces references by values
  --config-dir DIR   add custom groups
  -m, --multirun     one run for each of several values: key=a,b
  --version          print the versions of realsr, torch and Python"""

_COMMANDS_TEXT = """\
Usage: realsr COMMAND key=value …
       python -m realsr.COMMAND key=value …

Commands:
{commands}

Options:
  COMMAND --help     list the keys of a command; after +track=<track>, with the track's values
  --version          print the versions of realsr, torch and Python
  -sc install=bash   print a script for the shell's completion; or fish, zsh
"""


def write_versions() -> None:
    """Print the versions of realsr, torch and Python, which a report of an error should name."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    lines = (f"realsr {__version__}", f"torch {torch}", f"Python {platform.python_version()}")
    sys.stdout.write("\n".join(lines) + "\n")


def write_commands() -> None:
    """Print the usage of the console script, with a line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_describe(name)}" for name in COMMANDS]
    sys.stdout.write(_COMMANDS_TEXT.format(commands="\n".join(lines)))


def _describe(command: str) -> str:
    """Return the first line of a command's docstring."""
    return str(import_module(f"realsr.{command}").__doc__).partition("\n")[0].rstrip(".")


def write_help(command: str, arguments: Sequence[str]) -> None:
    """Print the help of a command with the options in its arguments.

    `group=option` and `+loss/term@loss.<key>=<term>` show that option's keys, `+track=…` and
    `+experiment=…` the values they set.
    """
    specification = COMMANDS[command]
    types = get_type_hints(specification.part)
    overrides = dict(
        argument.lstrip("+").split("=", 1)
        for argument in arguments
        if re.match(r"\+*[\w/]+(@[\w.]+)?=", argument)
    )
    folders = list(config_dirs(arguments))
    defaults = read_defaults(specification.keys_file)
    changes, additions = list[str](), dict[str, str]()
    for group in ("experiment", "track") if "track" in types else ():
        if group in overrides:
            selection, values = _read_changes(folders, group, overrides[group])
            defaults |= {name: selection[name] for name in selection if name in defaults}
            additions |= {name: selection[name] for name in selection if "@" in name}
            changes += _select(values, specification.part)
    groups = {
        group: overrides.get(group, option) for group, option in defaults.items() if group in types
    }
    usage = str(import_module(f"realsr.{command}").__doc__).strip()
    lines = [
        usage,
        "",
        f"Other commands: {', '.join(name for name in COMMANDS if name != command)}",
    ]
    names = [*groups, *([*PLUS_GROUPS] if "track" in types else [])]
    names += [_TERMS] if "loss" in types else []
    lines += ["", "Groups and their options:"] if names else []
    lines += [_list_options(folders, group) for group in sorted(names)]
    lines += ["", _FLAGS, "", "Keys, default values and meanings:"]
    if "track" in types and not {"track", "experiment"} & overrides.keys():
        lines[-1] = "Keys, default values and meanings (+track=<track> --help shows a track's):"
    lines += read_keys(command)
    for group, option in groups.items():
        lines += ["", f"{group}:  # {group}={option}", *_read_group(folders, group, option)]
    additions |= {name: option for name, option in overrides.items() if "@" in name}
    for name, option in additions.items():
        group, _, key = name.partition("@")
        if key.partition(".")[0] in types:
            lines += ["", f"{key}:  # +{name}={option}", *_read_group(folders, group, option)]
    if changes:
        lines += ["", "The track or recipe replaces these values:", *changes]
    sys.stdout.write("\n".join(lines) + "\n")


def read_keys(command: str) -> list[str]:
    """Return the lines of a command's keys outside groups."""
    specification = COMMANDS[command]
    body = _read_body(conf_dir() / f"{specification.keys_file}.yaml")
    return _select(body, specification.part)


def _list_options(folders: Sequence[Path], group: str) -> str:
    """Return the line of a group: how it is set, and its options in conf/ and custom folders."""
    files = [file for folder in folders for file in (folder / group).glob("*.yaml")]
    override = f"{group}=<option>"
    if group == _TERMS:
        override = f"+{group}@loss.<key>=<term>"
    elif group in PLUS_GROUPS:
        override = f"+{group}={PLUS_GROUPS[group]}"
    return f"  {override}: {', '.join(sorted({file.stem for file in files}))}"


def _read_group(folders: Sequence[Path], group: str, option: str) -> list[str]:
    """Return the indented lines of an option; none if there is no such option."""
    file = find_option(folders, group, option)
    return [f"  {line}" for line in _read_option(file)] if file else []


def _read_changes(
    folders: Sequence[Path], group: str, option: str
) -> tuple[dict[str, str], list[str]]:
    """Return the group options and the lines of keys that a track or a recipe sets."""
    file = find_option(folders, group, option)
    if file is None:
        return {}, []
    options, lines = dict[str, str](), list[str]()
    for item in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults", []):
        if item == "_self_":
            continue
        [(key, value)] = item.items() if isinstance(item, dict) else [(group, item)]
        name = key.removeprefix("override ").removeprefix("/")
        if name in ("track", "experiment"):
            base_options, base_lines = _read_changes(folders, name, value)
            options |= base_options
            lines += base_lines
        else:
            options[name] = value
    return options, lines + _read_body(file)


def read_defaults(file: str) -> dict[str, str]:
    """Return the groups of a file of conf/ with their default options."""
    content = yaml.safe_load((conf_dir() / f"{file}.yaml").read_text(encoding="utf-8"))
    return {
        group: option
        for item in content["defaults"]
        if isinstance(item, dict)
        for group, option in item.items()
    }


def _read_body(path: Path) -> list[str]:
    """Return the lines of a YAML file without its header, its defaults list and Hydra's keys."""
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
    """Return the lines of a group's option; those of the options it is based on come first."""
    text = path.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    lines = [line for line in comments if "@package" not in line]
    for base in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            lines += _read_option(path.with_name(f"{base}.yaml"))
    return lines + [line for line in _read_body(path) if not line.startswith("#")]


def _select(lines: Sequence[str], part: type) -> list[str]:
    """Return the lines of a command's keys; of the keys inside `data`, only those it uses."""
    selection, block, hidden = [], "", False
    types = get_type_hints(part)
    for line in lines:
        if key := re.match(r"(\w+):", line):
            block, hidden = key[1], False
        inside = re.match(r"  (\w+):", line)
        kind = types.get(block)
        if inside and is_dataclass(kind):
            hidden = inside[1] not in get_type_hints(kind)
        if block in types and line.strip() and not hidden:
            selection.append(line)
    next_lines = [*selection[1:], ""]
    # A block of which the command uses no key has only its first line.
    return [
        line
        for line, after in zip(selection, next_lines, strict=True)
        if after.startswith(" ") or not re.fullmatch(r"\w+:", line)
    ]
