"""Errors of Hydra, OmegaConf and YAML as one line that states the mistake and what to do."""

import difflib
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from realsr.config.command_line import key_types
from realsr.config.options import choices
from realsr.provenance.migrations import name_replacement

CONFIG_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError)
_TYPES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
}


def explain(error: Exception, schema: type) -> str:
    """Return what is wrong with a configuration, with what was expected. error: one of CONFIG_ERRORS."""
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        return f"a YAML file is not UTF-8 text ({byte}): save it as UTF-8"
    if isinstance(error, OverrideParseException):
        return _explain_override(error)
    if isinstance(error, SearchPathException):
        return f"--config-dir: {str(error).partition(chr(10))[0]}: name a folder with groups of your own"
    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    if merge := re.match(
        r"In '(.*?)': (?:.*\nMerge error|ConfigTypeError raised while composing)", str(error)
    ):
        return f"{merge[1]}.yaml: expected lines of key: value"
    types = key_types(schema)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, (InterpolationResolutionError, GrammarParseError)):
        return _explain_interpolation(cause, types, str(error))
    return _explain_key(error, cause, types)


def _explain_yaml(error: yaml.YAMLError) -> str:
    mark, problem = (
        getattr(error, "problem_mark", None),
        getattr(error, "problem", None) or str(error),
    )
    if mark is None:
        return f"a YAML file cannot be read: {problem}"
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: no valid YAML: {problem}"


def _explain_override(error: OverrideParseException) -> str:
    if "=" not in error.override:
        return f"{error.override}: expected key=value"
    return f"{error.override}: cannot be read as key=value: put the value in quotes inside those of the shell"


def _explain_missing(error: MissingConfigException) -> str:
    message = str(error)
    if primary := re.match(r"Cannot find primary config '(.*?)'", message):
        return f"--config-name {primary[1]}: there is no {primary[1]}.yaml in the folder of --config-path"
    match = re.match(r"In '(.*?)': Could not (?:find|load) '(.*?)'", message)
    if not match:
        return message.partition("Config search path")[0].strip()
    where, (group, _, option) = match[1], match[2].rpartition("/")
    options = re.findall(r"^\t([^=\s]+)$", message, re.MULTILINE)
    expected = (
        f"expected one of {', '.join(options)}" if options else f"there is no {match[2]}.yaml"
    )
    origin = "" if "/" not in where else f"{where}.yaml: "
    return f"{origin}{group}={option}: {expected}" if group else f"{origin}{option}: {expected}"


def _explain_interpolation(
    error: OmegaConfBaseException, types: dict[str, Any], context: str
) -> str:
    message = str(error).partition("\n")[0]
    key = getattr(error, "full_key", None)
    node = getattr(error, "child_node", None)
    raw = getattr(error, "value", None) if node is None else node._value()
    start = f"{key}={raw}" if raw is not None else str(key)
    if variable := re.search(r"Environment variable '(.*)' not found", message):
        return f"{start}: the environment variable {variable[1]} is not set: set it, or write the value itself"
    if isinstance(error, InterpolationKeyError):
        name = re.findall(r"'(.*?)'", message)[0]
        return f"{start}: there is no key {name}.{_near(name, list(types))} --cfg job shows all."
    if isinstance(error, UnsupportedInterpolationType):
        return f"{start}: there is no resolver {message.rpartition(' ')[2]}: expected ${{key}} or ${{oc.env:VARIABLE}}"
    if "Recursive" in message:
        return f"{start}: refers to itself: write the value itself"
    if isinstance(error, GrammarParseError):
        override = re.search(r"override (.*)", context)
        start = override[1] if override else start
        return f"{start}: ${{ begins a reference that cannot be read: expected ${{key}} or ${{oc.env:VARIABLE}}"
    return f"{start}: {re.sub(r'^[A-Za-z]+ raised while resolving interpolation: ', '', message)}"


def _explain_key(error: Exception, cause: BaseException, types: dict[str, Any]) -> str:
    message = str(error)
    if re.search("Multiple values for track|track appears more than once", message):
        return (
            "two tracks are chosen: a recipe (+experiment=…) brings its own, so drop +track=…; without the plus, "
            "track=<track> puts the recipe onto another track"
        )
    match = re.search(
        r"Could not (?:override|append) '([\w.@/]+)'|full_key: ([\w.]+)", f"{message}\n{cause}"
    )
    if not match:
        return message.partition("\n")[0]
    key = str(match[1] or match[2])
    file = re.match(r"In '(.*?)': ", message)
    start = f"{file[1]}.yaml: " if file else ""
    if key in ("track", "experiment") and file:
        return f"{file[1]}.yaml: write `# @package _global_` into its first line, since it sets keys of all groups"
    if key in ("track", "experiment"):
        return f"a {'track' if key == 'track' else 'recipe'} is added with a plus: {choices(key)}"
    if replacement := name_replacement(key):
        return f"{start}{key} was renamed: use {replacement}"
    if key in types:
        override = re.search(rf"override \+*{re.escape(key)}=(.*)", message)
        value = override[1] if override else getattr(cause, "value", None)
        if value is None and (match := re.search(r"Value '(.*)' of type|value: (.*)", message)):
            value = match[1] or match[2]
        hint = (
            "; ./null is a file of that name"
            if value == "null" and types[key] in (str, Path, list[Path])
            else ""
        )
        return f"{start}{key}{'' if value is None else f'={value}'}: expected {_describe_type(key, types)}{hint}"
    return f"{start}there is no key {key}.{_near(key, list(types))}{_siblings(key, list(types))} --cfg job shows all."


def _describe_type(key: str, types: dict[str, Any]) -> str:
    kind = types[key]
    if is_dataclass(kind):
        inside = [name.rpartition(".")[2] for name in types if name.rpartition(".")[0] == key]
        return f"keys inside: {key}.{inside[0]}=… (of {', '.join(inside)})"
    if get_origin(kind) is list:
        return f"a list in brackets, each {_TYPES[get_args(kind)[0]]}"
    return _TYPES.get(kind, "keys and values in braces")


def _near(key: str, keys: list[str]) -> str:
    root, dot, rest = key.partition(".")
    roots = difflib.get_close_matches(root, [k for k in keys if "." not in k], n=1, cutoff=0.75)
    if dot and roots and root not in keys:  # the keys of a component are in no schema
        return f" Did you mean {roots[0]}.{rest}?"
    last = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.75) or [
        k for k in keys if difflib.SequenceMatcher(None, k.rpartition(".")[2], last).ratio() > 0.7
    ]
    return f" Did you mean {' or '.join(near[:3])}?" if near else ""


def _siblings(key: str, keys: list[str]) -> str:
    parent = key.rpartition(".")[0]
    inside = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    if parent and inside:
        return f" In {parent} there is: {', '.join(inside)}."
    return f" There is: {', '.join(k for k in keys if '.' not in k)}."
