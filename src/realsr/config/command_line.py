"""Rewriting of command lines and YAML files so that paths and texts are read literally."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import omegaconf._utils
import yaml  # type: ignore[import-untyped]
from hydra.conf import HydraConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from realsr.config.options import config_dirs
from realsr.config.schema import COMPONENTS
from realsr.core.errors import UserError

_VALUE_FLAGS = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
                "--config-dir", "-cd", "--experimental-rerun", "--info", "-i")  # fmt: skip
_SWITCHES = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun",
             "-m", "--shell-completion", "-sc")  # fmt: skip
COMPONENT_TEXTS = {"folder", "key", "weights"}
"""Keys of components whose value is text or a path."""
_ELEMENT = re.compile(
    r"""\s*((['"])(?:\\.|(?!\2).)*\2(?=\s*(?:,|$))|[^,]*?)\s*(?:,|$)""", re.DOTALL
)


def key_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of each key of a schema, and of each group of keys, by its full name.

    Optional types are returned without `| None`.
    """
    types: dict[str, Any] = {}
    for name, hint in get_type_hints(schema).items():
        options = [option for option in get_args(hint) if option is not type(None)]
        [kind] = options if get_origin(hint) in (Union, UnionType) else [hint]
        types[prefix + name] = kind
        if is_dataclass(kind):
            types |= key_types(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
    return types


def quote_arguments(arguments: Sequence[str], schema: type, photos: str | None = None) -> list[str]:
    """Return a command line in Hydra's grammar, in which texts and paths are quoted.

    The value of a key of type text, path, or list of these is taken literally: `input=2024`,
    `input=[Group] Show`, `weights=[run (1)/g.pth]`. Hydra still interprets null, a value in quotes,
    `${…}`, and, with --multirun, several values, unless a file of exactly that name exists. A list
    needs no brackets.

    photos: the key that receives the arguments without `key=`.

    Raises UserError for an unknown flag, an empty value, and an argument that could be
    either a file or a key or flag.
    """
    types = key_types(schema)
    multirun = _is_sweep(arguments)
    folders = list(config_dirs(arguments))
    overrides: list[str] = []
    flags: list[str] = []
    plain: list[str] = []
    for argument in arguments:
        last = flags[-1] if flags else ""
        if argument.startswith("-"):
            flags.append(_check_flag(argument, types))
        elif last in _VALUE_FLAGS and "=" not in argument:
            flags.append(f"{flags.pop()}={argument}")
        elif photos is not None and _is_path(argument, types):
            plain.append(argument)
        else:
            override = _quote_override(argument, types, multirun)
            group = argument.lstrip("+").partition("=")[0].partition("@")[0]
            is_group = any((folder / group).is_dir() for folder in folders)
            overrides.append(_quote_option(override) if is_group else override)
    if plain and any(re.match(rf"\+*{photos}=", override) for override in overrides):
        raise UserError(
            f"{plain[0]}: photos are set both with {photos}= and without: use one form for all"
        )
    if plain:
        overrides.insert(0, f"{photos}=[{','.join(map(_quote_photo, plain))}]")
    return [*overrides, *map(_complete_path, flags)]  # argparse needs all overrides in sequence


def replace_flags(arguments: Sequence[str]) -> list[str]:
    """Return quoted arguments as overrides, in which `hydra.searchpath` replaces --config-dir.

    Raises UserError for another flag and for a folder that does not exist.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    folders = []
    for flag in arguments[len(overrides) :]:
        name, _, value = flag.partition("=")
        if name not in ("--config-dir", "-cd"):
            raise UserError(f"{flag}: only the command line has this flag: remove it")
        if not Path(value).is_dir():
            raise UserError(f"{flag}: no such folder: set a folder with custom groups")
        folders.append(_quote(_escape_references(f"file://{Path(value).absolute()}")))
    if not folders:
        return overrides
    if any(override.startswith("hydra.searchpath=") for override in overrides):
        raise UserError("--config-dir and hydra.searchpath are set: set one of them")
    return [*overrides, f"hydra.searchpath=[{','.join(folders)}]"]


def _check_flag(flag: str, types: dict[str, Any]) -> str:
    """Return a flag of Hydra. Raises UserError for a key or a file that looks like a flag."""
    name, _, value = flag.partition("=")
    if name in (*_VALUE_FLAGS, *_SWITCHES):
        return flag
    if _exists(flag):
        raise UserError(f"{flag}: looks like a flag: type ./{flag} for the file")
    key = name.lstrip("-")
    advice = (
        f"set {key}={value or '…'}" if key in types else "expected key=value; --help shows the keys"
    )
    raise UserError(f"{flag}: unknown flag: {advice}")


def _complete_path(flag: str) -> str:
    """Return a flag with its config folder absolute: Hydra resolves it relative to this package."""
    name, equals, value = flag.partition("=")
    if name not in ("--config-path", "-cp") or not equals:
        return flag
    if not Path(value).is_dir():
        raise UserError(f"{name} {value}: no such folder: set the folder of a run")
    return f"{name}={Path(value).absolute()}"


def _quote_photo(path: str) -> str:
    """Return a path from the shell, quoted so that nothing in it is interpreted."""
    path = str(Path(path).absolute()) if path.startswith("~") and _exists(path) else path
    return _quote(_escape_references(path)) if "${" in path else _quote_text(path)


def _is_path(argument: str, types: dict[str, Any]) -> bool:
    """Return whether an argument is a photo's path. Raises UserError if it could also set a key."""
    key, equals, _ = argument.partition("=")
    if equals and key in types and _exists(argument):
        raise UserError(
            f"{argument}: could be a file or set the key {key}: type ./{argument} for the file"
        )
    return not equals or (key.lstrip("+~") not in types and _exists(argument))


def _quote_override(argument: str, types: dict[str, Any], multirun: bool) -> str:
    """Return `key=value` in Hydra's grammar. Raises UserError for an empty path or text."""
    match = re.fullmatch(r"([+~]{0,2}[\w.@/]+)=(.*)", argument, re.DOTALL)
    if not match:
        if argument.startswith("="):
            raise UserError(f"{argument}: expected key=value, without spaces around =")
        return argument
    key, value = match.groups()
    group, _, _ = key.lstrip("+").rpartition(".")
    # The keys of such a group are not in the schema, but in evaluate.yaml.
    kind = Path if types.get(group) == dict[str, Path | None] else types.get(key.lstrip("+"))
    if kind is None and key.rpartition(".")[2] in COMPONENT_TEXTS:
        kind = str
    override = _parse(argument)
    sweep = override is not None and override.is_sweep_override() and not _exists(value)
    if value == "null" or (multirun and sweep):
        return argument
    if kind in (list[str], list[Path], str, Path) and not value:
        raise UserError(
            f"{key}=: has no value (an unset variable?): set {key}=…, "
            f"or {key}=. for the current folder"
        )
    if kind in (list[str], list[Path]):
        return f"{key}=[{','.join(map(_quote_text, _split(value)))}]"
    if kind in (str, Path):
        return f"{key}={_quote_text(value)}"
    is_valid = override is not None and not (sweep and kind is not None)
    return argument if is_valid or value[:1] in ("[", "{", "'", '"') else f"{key}={_quote(value)}"


def _quote_option(override: str) -> str:
    """Return `group=option` with quotes around names such as `true` and `1`, which are no text."""
    key, _, names = override.partition("=")
    if not re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", names):
        return override
    return f"{key}={','.join(map(_quote_text, names.split(',')))}"


def _split(value: str) -> list[str]:
    """Return the elements of a list with or without brackets; the name of a file is one element."""
    if _exists(value):
        return [value]
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    elements, position = [], 0
    while position < len(inner):
        match = _ELEMENT.match(inner, position)
        assert match is not None
        elements.append(match[1])
        position = match.end()
    return elements


def _quote_text(value: str) -> str:
    """Return a text in quotes where Hydra would otherwise change it."""
    override = _parse(f"key={value}")
    if override is not None and not override.is_sweep_override() and not _exists(value):
        if isinstance(override._value, QuotedString):
            return value
        if isinstance(override.value(), str) and override.value() == value and "\\" not in value:
            return value
    return _quote(value)


def _quote(value: str) -> str:
    content = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), value)
    return f"'{content}'"


def _exists(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110 (Path.exists raises an error for a name too long)


def _parse(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


@contextmanager
def read_paths_as_text(schema: type) -> Iterator[None]:
    """Read the values of text and path keys in YAML files literally inside the block.

    YAML would read `source: 2020_11` as the number 202011, and `on` as true. null stays null. Keys
    are matched by the last part of their name. A component has no schema; its keys in
    `COMPONENT_TEXTS` are text.
    """
    texts = {
        key.rpartition(".")[2]
        for key, kind in key_types(schema).items()
        if kind in (str, Path, list[str], list[Path])
    }
    make_loader: Callable[[], Any] = omegaconf._utils.get_yaml_loader

    def make_text_loader() -> Any:
        class TextLoader(make_loader()):  # type: ignore[misc]
            def get_single_node(self) -> Any:
                """Return the parsed file before PyYAML resolves the types of its values."""
                node = super().get_single_node()
                _mark_text(node, texts)
                return node

        return TextLoader

    omegaconf._utils.get_yaml_loader = make_text_loader
    try:
        yield
    finally:
        omegaconf._utils.get_yaml_loader = make_loader


def _mark_text(node: Any, texts: set[str]) -> None:
    """Give the values of text keys the YAML type `str`, also inside nested mappings."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inside = COMPONENT_TEXTS if key.value in (*COMPONENTS, "estimator") else texts
        if key.value in texts:
            for scalar in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(scalar, yaml.ScalarNode) and scalar.tag != "tag:yaml.org,2002:null":
                    scalar.tag = "tag:yaml.org,2002:str"
        if key.value == "defaults":  # a list of `group: option`
            for item in value.value:
                if isinstance(item, yaml.MappingNode):
                    _mark_text(item, {group.value for group, _ in item.value})
        _mark_text(value, inside)


@contextmanager
def keep_hydra_quiet(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra write no log and no files inside the block, unless the command or YAML sets them.

    In a sweep Hydra always writes files; by default they are in a temporary folder. The results of
    a sweep are in the folder of each run. Raises UserError for a launcher whose files must outlive
    the command.
    """
    launchers = [text for text in arguments if text.startswith("hydra/launcher=submitit")]
    has_folder = any("hydra.launcher.submitit_folder=" in text for text in arguments)
    if launchers and not has_folder and _is_sweep(arguments):
        raise UserError(
            f"{launchers[0]}: set hydra.launcher.submitit_folder=FOLDER for the files of the jobs"
        )
    # Hydra's own defaults are replaced, so that every file and override is stronger.
    groups = {next(iter(item)): item for item in HydraConf().defaults if isinstance(item, dict)}
    quiet = {name: {name: "none"} for name in ("hydra_logging", "job_logging")}
    node = HydraConf(defaults=[*(groups | quiet).values(), "_self_"], run=RunDir("."))
    node.output_subdir, node.job.chdir = None, False
    store = partial(ConfigStore.instance().store, "config", group="hydra", provider="hydra")
    with (
        TemporaryDirectory(prefix="realsr_") if _is_sweep(arguments) else nullcontext(".") as folder
    ):
        node.sweep = SweepDir(folder, subdir=".")
        store(node)
        try:
            yield
        finally:
            store(HydraConf())


def _is_sweep(arguments: Sequence[str]) -> bool:
    return any(
        argument in ("-m", "--multirun") or argument.startswith("hydra.mode=")
        for argument in arguments
    )


def localize_paths(value: Any) -> Any:
    """Return the resolved values of a config with every text in the form of this machine's paths.

    A leading `~` becomes the home folder: a shell expands `key=~/folder` only in some cases, and
    YAML never. If the locale's encoding of file names is not UTF-8, text becomes the name whose
    bytes are its UTF-8. `${` is escaped, since after resolution it can only be part of a name.
    """
    if isinstance(value, dict):
        return {key: localize_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [localize_paths(item) for item in value]
    if not isinstance(value, (str, Path)):
        return value
    name = os.fsdecode(str(value).encode("utf-8", "surrogateescape"))
    # Path.expanduser raises an error for an unknown user.
    return _escape_references(os.path.expanduser(name))  # noqa: PTH111


def _escape_references(text: str) -> str:
    return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", text)
