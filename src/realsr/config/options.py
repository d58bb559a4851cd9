"""The folder conf/ and the options of its groups."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PLUS_GROUPS = {"track": "<track>", "experiment": "<recipe>", "layout": "<layout>"}
"""Groups without a default option; an override adds one with a plus, as in `+track=dped`."""


def conf_dir() -> Path:
    """Return the folder conf/: in the package if installed, else at the root of the checkout."""
    package = Path(__file__).parents[1]
    inside, checkout = package / "conf", package.parents[1] / "conf"
    return inside if inside.is_dir() else checkout


def config_dirs(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield conf/ and the folders of `--config-dir` and `hydra.searchpath` in a command line."""
    yield conf_dir()
    for argument, next_argument in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            yield Path(value if equals else next_argument)
        elif flag == "hydra.searchpath":
            yield from map(Path, re.findall(r"file://([^,'\"\]]+)", value))


def list_options(group: str) -> list[str]:
    """Return the options of a config group, e.g. the tracks."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def find_option(folders: Sequence[Path], group: str, name: str) -> Path | None:
    """Return the file of an option of a group; of several, that of the last folder."""
    files = [folder / group / f"{name}.yaml" for folder in reversed(folders)]
    return next((file for file in files if file.is_file()), None)


def needs_plus(key: str) -> bool:
    """Return whether a key is a group that an override must append: `track`, `loss/term@loss.x`."""
    group, at, _ = key.partition("@")
    return group in PLUS_GROUPS or (bool(at) and (conf_dir() / group).is_dir())


def choices(key: str) -> str:
    """Return the override that appends an option of a group, with the list of options, as text."""
    group = key.partition("@")[0]
    options = ", ".join(list_options(group))
    return f"+{key}={PLUS_GROUPS.get(group, '<option>')}, one of {options}"
