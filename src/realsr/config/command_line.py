"""Command lines and YAML files of users, changed so that Hydra and YAML read paths and texts literally."""

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

from realsr.config.schema import COMPONENTS
from realsr.core.errors import UserError

_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
               "--experimental-rerun", "--info", "-i")  # fmt: skip
_WITHOUT_VALUE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
                  "--shell-completion", "-sc")  # fmt: skip
_OF_OTHER_CONFIG = ("--config-path", "-cp", "--config-name", "-cn")
# What conf/hydra_quiet.yaml sets, for a config that does not name it, such as that of a run.
_QUIET = (
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
)
COMPONENT_TEXTS = {"folder", "key", "weights"}
"""Keys of components that hold a text or a path."""
_ELEMENT = re.compile(
    r"""\s*((['"])(?:\\.|(?!\2).)*\2(?=\s*(?:,|$))|[^,]*?)\s*(?:,|$)""", re.DOTALL
)


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
    --multirun several values; a file of exactly that name comes first. A list needs no brackets.

    photos: the key that takes the arguments without `key=`.

    Raises UserError for an unknown flag, an empty value, and an argument that can be a file as well as a key or a flag.
    """
    types = key_types(schema)
    multirun = any(
        argument in ("-m", "--multirun") or argument.startswith("hydra.mode=")
        for argument in arguments
    )
    overrides: list[str] = []
    flags: list[str] = []
    plain: list[str] = []
    for argument in arguments:
        last = flags[-1] if flags else ""
        if argument.startswith("-"):
            flags.append(_check_flag(argument, types))
        elif last in _WITH_VALUE and "=" not in argument:
            flags.append(f"{flags.pop()}={argument}")
        elif photos is not None and _is_path(argument, types):
            plain.append(argument)
        else:
            overrides.append(_quote_override(argument, types, multirun))
    if plain and any(re.match(rf"\+*{photos}=", override) for override in overrides):
        raise UserError(
            f"{plain[0]}: photos are named both with {photos}= and without: choose one way for all of them"
        )
    if plain:
        overrides.insert(0, f"{photos}=[{','.join(map(_quote_photo, plain))}]")
    if any(flag.startswith(_OF_OTHER_CONFIG) for flag in flags):
        overrides[:0] = _QUIET
    return [*overrides, *map(_complete_path, flags)]  # argparse takes all overrides in one place


def _check_flag(flag: str, types: dict[str, Any]) -> str:
    """Return a flag that Hydra knows. Raises UserError for others, which are keys or files in the form of one."""
    name, _, value = flag.partition("=")
    if name in (*_WITH_VALUE, *_WITHOUT_VALUE):
        return flag
    if _exists(flag):
        raise UserError(f"{flag}: begins as a flag does: type ./{flag} for the file")
    key = name.lstrip("-")
    advice = (
        f"set {key}={value or '…'}" if key in types else "expected key=value; --help shows the keys"
    )
    raise UserError(f"{flag}: there is no such flag: {advice}")


def _complete_path(flag: str) -> str:
    """Return a flag with an absolute folder of configs: Hydra takes a relative one for a folder of this package."""
    name, equals, value = flag.partition("=")
    if name not in ("--config-path", "-cp") or not equals:
        return flag
    if not Path(value).is_dir():
        raise UserError(f"{name} {value}: there is no such folder: name the folder of a run")
    return f"{name}={Path(value).absolute()}"


def _quote_photo(path: str) -> str:
    """Return a path that a shell has given, which is nothing but a path."""
    path = str(Path(path).absolute()) if path.startswith("~") and _exists(path) else path
    return _quote(_escape_references(path)) if "${" in path else _quote_text(path)


def _is_path(argument: str, types: dict[str, Any]) -> bool:
    """Whether an argument is the path of a photo. Raises UserError where it can be a key as well."""
    key, equals, _ = argument.partition("=")
    if equals and key in types and _exists(argument):
        raise UserError(
            f"{argument}: is a file, and sets the key {key}: type ./{argument} for the file"
        )
    return not equals or (key.lstrip("+~") not in types and _exists(argument))


def _quote_override(argument: str, types: dict[str, Any], multirun: bool) -> str:
    """Return `key=value` in Hydra's grammar. Raises UserError where the value of a path or a text is empty."""
    match = re.fullmatch(r"([+~]{0,2}[\w.@/]+)=(.*)", argument, re.DOTALL)
    if not match:
        if argument.startswith("="):
            raise UserError(f"{argument}: expected key=value, without blanks around =")
        return argument
    key, value = match.groups()
    group, _, _ = key.lstrip("+").rpartition(".")
    # The keys of such a group are not in the schema: evaluate.yaml names them.
    kind = Path if types.get(group) == dict[str, Path | None] else types.get(key.lstrip("+"))
    if kind is None and key.rpartition(".")[2] in COMPONENT_TEXTS:
        kind = str
    override = _parse(argument)
    sweep = override is not None and override.is_sweep_override() and not _exists(value)
    if value == "null" or (multirun and sweep):
        return argument
    if kind in (list[str], list[Path], str, Path) and not value:
        raise UserError(
            f"{key}=: has no value (an unset variable?): set {key}=…, or {key}=. for the current folder"
        )
    if kind in (list[str], list[Path]):
        return f"{key}=[{','.join(map(_quote_text, _split(value)))}]"
    if kind in (str, Path):
        return f"{key}={_quote_text(value)}"
    readable = override is not None and not (sweep and kind is not None)
    return argument if readable or value[:1] in ("[", "{", "'", '"') else f"{key}={_quote(value)}"


def _split(value: str) -> list[str]:
    """Return the elements of a list as typed, with brackets or without; a file of that very name is one."""
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
    """Make YAML files keep the value of a key that holds text or a path as it is written: `source: 2020_11`.

    YAML would read a number (202011), or true for `on`. null stays null. Keys are recognised by their last name. Of a
    component's keys, whose types no schema has, those of `COMPONENT_TEXTS` are text.
    """
    texts = {
        key.rpartition(".")[2]
        for key, kind in key_types(schema).items()
        if kind in (str, Path, list[str], list[Path])
    }
    make_loader: Callable[[], Any] = omegaconf._utils.get_yaml_loader

    def make_text_loader() -> Any:
        class TextLoader(make_loader()):  # type: ignore[misc]
            def get_single_node(
                self,
            ) -> Any:  # PyYAML's name for the content of a file before types are chosen
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
        inside = COMPONENT_TEXTS if key.value in (*COMPONENTS, "estimator") else texts
        if key.value in texts:
            for scalar in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(scalar, yaml.ScalarNode) and scalar.tag != "tag:yaml.org,2002:null":
                    scalar.tag = "tag:yaml.org,2002:str"
        _keep_text(value, inside)


@contextmanager
def sweep_into_temporary(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Give the command line with which Hydra writes what it keeps of a sweep into a temporary folder.

    Else it would be the current one. What matters of a sweep is in the folder of each run. Raises UserError for a
    launcher whose files are needed longer.
    """
    if not {"-m", "--multirun"}.intersection(arguments):
        yield list(arguments)
        return
    launcher = [
        argument for argument in arguments if argument.startswith("hydra/launcher=submitit")
    ]
    if launcher and not any(
        "hydra.launcher.submitit_folder=" in argument for argument in arguments
    ):
        raise UserError(
            f"{launcher[0]}: set hydra.launcher.submitit_folder=FOLDER, where the jobs keep their files"
        )
    if any("hydra.sweep.dir=" in argument for argument in arguments):
        yield list(arguments)
        return
    with TemporaryDirectory(prefix="realsr_") as folder:
        yield [f"hydra.sweep.dir={folder}", *arguments]


def localize_paths(value: Any) -> Any:
    """Return the values of a config, references resolved, in which every text is spelled as this machine spells paths.

    A `~` at the beginning becomes the home folder: a shell does that only for some spellings of `key=~/folder`, and
    YAML never. Where Python takes file names for another encoding than UTF-8 (an 8-bit locale), text becomes the name
    whose bytes are its UTF-8. `${` is escaped: what is left of it belongs to a name.
    """
    if isinstance(value, dict):
        return {key: localize_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [localize_paths(item) for item in value]
    if not isinstance(value, (str, Path)):
        return value
    name = os.fsdecode(str(value).encode("utf-8", "surrogateescape"))
    return _escape_references(os.path.expanduser(name))  # noqa: PTH111, which raises for a name that is no user's


def _escape_references(text: str) -> str:
    return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", text)
