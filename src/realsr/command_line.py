"""From what a user types, and writes in YAML, to what Hydra's grammar and YAML's take for the same text."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import omegaconf._utils
import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from realsr.errors import UserError

_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
               "--experimental-rerun", "--info", "-i")  # fmt: skip
_OF_OTHER_CONFIG = ("--config-path", "-cp", "--config-name", "-cn")
# What conf/hydra_quiet.yaml sets, for a config that does not name it, such as that of a run.
_QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null", "hydra.run.dir=.")
_ELEMENT = re.compile(r"""\s*((['"])(?:\\.|(?!\2).)*\2(?=\s*(?:,|$))|[^,]*?)\s*(?:,|$)""", re.DOTALL)


def key_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of each key of a schema by its full name, without `| None`; groups of keys are among them."""
    types: dict[str, Any] = {}
    for name, hint in get_type_hints(schema).items():
        options = [option for option in get_args(hint) if option is not type(None)]
        [kind] = options if get_origin(hint) in (Union, UnionType) else [hint]
        types[prefix + name] = kind
        if is_dataclass(kind):
            types |= key_types(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
    return types


def quote_arguments(arguments: Sequence[str], schema: type, photos: str | None = None) -> list[str]:
    """Return a command line in Hydra's grammar, in which texts and paths stand for themselves.

    A value of a key that holds text, a path, or a list of these is that text, whatever it looks like: `input=2024`,
    `input=[Group] Show`, `weights=[run (1)/g.pth]`. Left to Hydra are null, a value in quotes, `${…}`, and with
    --multirun a list of values; a file of that very name is taken first. A list of one needs no brackets.

    photos: the key that takes the arguments without `key=`. Raises UserError where both are there.
    """
    types = key_types(schema)
    multirun = any(argument in ("-m", "--multirun") or argument.startswith("hydra.mode=") for argument in arguments)
    overrides: list[str] = []
    flags: list[str] = []
    plain: list[str] = []
    takes_value = False
    for argument in arguments:
        if argument.startswith("-") or (takes_value and "=" not in argument):
            takes_value = argument in _WITH_VALUE
            flags.append(argument)
        elif photos is not None and _is_path(argument, types):
            plain.append(argument)
        else:
            overrides.append(_quote_override(argument, types, multirun))
    if plain and any(re.match(rf"\+*{photos}=", override) for override in overrides):
        raise UserError(f"{plain[0]}: photos are named both with {photos}= and without: choose one way for all of them")
    if plain:
        # The shell has replaced a `~` that stands for the home folder.
        paths = [str(Path(path).absolute()) if path.startswith("~") else path for path in plain]
        overrides.insert(0, f"{photos}=[{','.join(map(_quote_text, paths))}]")
    if any(flag.startswith(_OF_OTHER_CONFIG) for flag in flags):
        overrides[:0] = _QUIET
    return [*overrides, *flags]  # argparse takes all overrides in one place


def _is_path(argument: str, types: dict[str, Any]) -> bool:
    key, equals, _ = argument.partition("=")
    return not equals or (key.lstrip("+~") not in types and _exists(argument))


def _quote_override(argument: str, types: dict[str, Any], multirun: bool) -> str:
    match = re.fullmatch(r"([+~]{0,2}[\w.@/]+)=(.*)", argument, re.DOTALL)
    if not match:
        return argument
    key, value = match.groups()
    kind = types.get(key.lstrip("+"))
    override = _parse(argument)
    sweep = override is not None and override.is_sweep_override() and not _exists(value)
    if value == "null" or (multirun and sweep):
        return argument
    if kind in (list[str], list[Path]):
        return f"{key}=[{','.join(map(_quote_text, _split(value)))}]"
    if kind in (str, Path):
        return f"{key}={_quote_text(value)}"
    readable = override is not None and not (sweep and kind is not None)
    return argument if readable or value[:1] in ("[", "{", "'", '"') else f"{key}={_quote(value)}"


def _split(value: str) -> list[str]:
    """Return the elements of a list as typed; a value without brackets is one, as is a file of that name."""
    if not (value.startswith("[") and value.endswith("]")) or _exists(value):
        return [value]
    inner = value[1:-1]
    elements, position = [], 0
    while position < len(inner):
        match = _ELEMENT.match(inner, position)
        assert match is not None
        elements.append(match[1])
        position = match.end()
    return elements


def _quote_text(value: str) -> str:
    """Return a text so that Hydra reads that text."""
    override = _parse(f"key={value}")
    if override is not None and not override.is_sweep_override() and not _exists(value):
        if isinstance(override._value, QuotedString):
            return value
        if isinstance(override.value(), str) and override.value() == value and "\\" not in value:
            return value
    return _quote(value)


def _quote(value: str) -> str:
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), value)
    return f"'{escaped}'"


def _exists(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110, which raises for what is too long for a name


def _parse(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


@contextmanager
def read_paths_as_text(schema: type) -> Iterator[None]:
    """Let YAML files be read so that a value of a key that holds text or a path is that text: `source: 2020_11`.

    YAML would make a number of it (202011), or true of `on`. null stays null. Keys are told by their last name; what
    belongs to a network of the user's own (`arguments`) is left as it is.
    """
    texts = {
        key.rpartition(".")[2] for key, kind in key_types(schema).items() if kind in (str, Path, list[str], list[Path])
    }
    make_loader: Callable[[], Any] = omegaconf._utils.get_yaml_loader

    def make_text_loader() -> Any:
        class TextLoader(make_loader()):  # type: ignore[misc]
            def get_single_node(self) -> Any:
                node = super().get_single_node()
                _keep_text(node, texts)
                return node

        return TextLoader

    omegaconf._utils.get_yaml_loader = make_text_loader
    try:
        yield
    finally:
        omegaconf._utils.get_yaml_loader = make_loader


def _keep_text(node: Any, texts: set[str]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value == "arguments":
            continue
        if key.value in texts:
            for scalar in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(scalar, yaml.ScalarNode) and scalar.tag != "tag:yaml.org,2002:null":
                    scalar.tag = "tag:yaml.org,2002:str"
        _keep_text(value, texts)


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
    with TemporaryDirectory(prefix="realsr_") as folder:
        yield [f"hydra.sweep.dir={folder}", *arguments]


def localize_paths(config: DictConfig | ListConfig) -> None:
    """Spell every text and path of a config, whose references are resolved, as this machine spells paths.

    A `~` at the beginning becomes the home folder: a shell does that only for some spellings of `key=~/folder`, and
    YAML never. Where Python takes file names for another encoding than UTF-8 (an 8-bit locale), text becomes the name
    whose bytes are its UTF-8.
    """
    keys = range(len(config)) if isinstance(config, ListConfig) else list(config)
    for key in keys:
        value = config[key]
        if isinstance(value, (DictConfig, ListConfig)):
            localize_paths(value)
        elif isinstance(value, (str, Path)):
            name = os.fsdecode(str(value).encode("utf-8", "surrogateescape"))
            config[key] = os.path.expanduser(name)  # noqa: PTH111, which raises for a name that is no user's
