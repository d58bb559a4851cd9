"""Where conf/ is, what it offers, and what to say of a key that it does not have."""

import contextlib
import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from realsr.errors import UserError


def conf_dir() -> Path:
    """Return where conf/ is: inside an installed package, at the top of a checkout."""
    package = Path(__file__).parent
    inside, checkout = package / "conf", package.parents[1] / "conf"
    return inside if inside.is_dir() else checkout


def list_options(group: str) -> list[str]:
    """Return the options of a config group, e.g. the tracks."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def choices(group: str) -> str:
    """Return how an option of a group is added, and which there are."""
    name = {"experiment": "recipe"}.get(group, group)
    return f"+{group}=<{name}>, one of {', '.join(list_options(group))}"


def quote_values(arguments: Sequence[str]) -> list[str]:
    """Return a command line on which values that Hydra's grammar has no place for are quoted: `input=IMG (1).jpg`."""
    return [_quote(argument) for argument in arguments]


def _quote(argument: str) -> str:
    found = re.fullmatch(r"([+~]{0,2}[\w.@/]+)=([^\[{'\"].*)", argument, re.DOTALL)
    if not found:
        return argument
    with contextlib.suppress(HydraException):
        # A value with commas is a sweep, if it is not a file.
        sweeps = OverridesParser.create().parse_override(argument).is_sweep_override()
        if not (sweeps and Path(found[2]).exists()):
            return argument
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), found[2])
    return f"{found[1]}='{escaped}'"


@contextmanager
def sweep_into_temporary(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Give the command line with which Hydra writes what it keeps of a sweep into a temporary folder.

    Else it would be the current one. What matters of a sweep is in the folder of each run. Raises UserError for a
    launcher whose files are needed longer.
    """
    if not {"-m", "--multirun"}.intersection(arguments):
        yield list(arguments)
        return
    launcher = [argument for argument in arguments if argument.startswith("hydra/launcher=submitit")]
    if launcher and not any("hydra.launcher.submitit_folder=" in argument for argument in arguments):
        raise UserError(f"{launcher[0]}: set hydra.launcher.submitit_folder=FOLDER, where the jobs keep their files")
    if any("hydra.sweep.dir=" in argument for argument in arguments):
        yield list(arguments)
        return
    # argparse takes all overrides in one place, before or after -m.
    overrides = [place for place, argument in enumerate(arguments) if "=" in argument and argument[0] != "-"]
    place = overrides[0] if overrides else len(arguments)
    with TemporaryDirectory(prefix="realsr_") as folder:
        yield [*arguments[:place], f"hydra.sweep.dir={folder}", *arguments[place:]]


def explain(error: Exception, schema: type) -> str:
    """Add to Hydra's message what there is instead of a misspelt key."""
    message = str(error).partition("Config search path")[0].partition("\n    full_key")[0].strip()
    if error.__cause__ is not None and str(error.__cause__) not in message:
        message += f": {str(error.__cause__).splitlines()[0]}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be understood as key=value ({message.splitlines()[0]})"
    if single := re.search(r"override (\S+?)=(.*): Invalid value assigned: \w+ is not a ListConfig", message):
        return f"{single[1]}={single[2]}: a list is expected: say {single[1]}=[{single[2]}]"
    if re.search("Multiple values for track|track appears more than once", message):
        return (
            "two tracks are chosen: a recipe (+experiment=…) brings its own, so drop +track=…; without the plus, "
            "track=<track> puts the recipe onto another track"
        )
    found = re.search(r"Could not (?:override|append) '([\w.@/]+)'|full_key: ([\w.]+)", str(error))
    if not found or "could not be converted" in message:
        return message
    key = str(found[1] or found[2])
    if key == "track":
        return f"a track is added with a plus: {choices('track')}"
    if key == "experiment":
        return f"a recipe is added with a plus: {choices('experiment')}"
    keys = _all_keys(OmegaConf.structured(schema))
    parent, _, last = key.rpartition(".")
    siblings = [k for k in keys if k.rpartition(".")[0] == parent] or [k for k in keys if "." not in k]
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.75) or [
        k for k in keys if difflib.SequenceMatcher(None, k.rpartition(".")[2], last).ratio() > 0.7
    ]
    hint = f"Did you mean {' or '.join(near[:3])}? " if near else ""
    where = f"In {parent} there is" if parent and siblings[0].startswith(parent) else "There is"
    names = ", ".join(k.rpartition(".")[2] for k in siblings)
    return f"{message.splitlines()[0]}\nThere is no key {key}. {hint}{where}: {names}. --cfg job shows all."


def _all_keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in map(str, node):
        keys.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _all_keys(child, f"{prefix}{key}.")
    return keys
