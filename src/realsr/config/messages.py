"""Translation of errors of Hydra, OmegaConf and YAML into one line that says what to do."""

import difflib
import re
from collections.abc import Collection
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

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
from realsr.config.options import PLUS_GROUPS, choices, needs_plus
from realsr.core.components import describe_type
from realsr.provenance.migrations import name_replacement

CONFIG_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError)
_REFERENCE_FORMS = "expected ${key} or ${oc.env:VARIABLE}"
_SHOW_KEYS = " --cfg job shows all keys."


def explain(error: Exception, schema: type, command_keys: Collection[str]) -> str:
    """Return a one-line message for an error of CONFIG_ERRORS, with the expected value.

    schema: the dataclass of all keys of the configuration. command_keys: those of the command.
    """
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        return f"a YAML file is not UTF-8 text ({byte}): save it as UTF-8"
    if isinstance(error, OverrideParseException):
        return _explain_override(error)
    if isinstance(error, SearchPathException):
        reason = str(error).partition("\n")[0]
        return f"--config-dir: {reason}: set a folder with custom groups"
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
    return _explain_key(error, cause, types, [key for key in types if key in command_keys])


def _explain_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"a YAML file cannot be read: {problem}"
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: invalid YAML: {problem}"


def _explain_override(error: OverrideParseException) -> str:
    if "=" not in error.override:
        return f"{error.override}: expected key=value"
    return f"{error.override}: invalid key=value: quote the value again inside the shell's quotes"


def _explain_missing(error: MissingConfigException) -> str:
    message = str(error)
    if primary := re.match(r"Cannot find primary config '(.*?)'", message):
        return f"--config-name {primary[1]}: no {primary[1]}.yaml in the folder of --config-path"
    match = re.match(r"In '(.*?)': Could not (?:find|load) '(.*?)'", message)
    if not match:
        return message.partition("Config search path")[0].strip()
    file, (group, _, option) = match[1], match[2].rpartition("/")
    options = re.findall(r"^\t([^=\s]+)$", message, re.MULTILINE)
    advice = f"expected one of {', '.join(options)}" if options else f"no file {match[2]}.yaml"
    origin = f"{file}.yaml: " if "/" in file else ""
    return f"{origin}{group}={option}: {advice}" if group else f"{origin}{option}: {advice}"


def _explain_interpolation(
    error: OmegaConfBaseException, types: dict[str, Any], context: str
) -> str:
    message = str(error).partition("\n")[0]
    key = getattr(error, "full_key", None)
    node = getattr(error, "child_node", None)
    raw = getattr(error, "value", None) if node is None else node._value()
    start = f"{key}={raw}" if raw is not None else str(key)
    if variable := re.search(r"Environment variable '(.*)' not found", message):
        return f"{start}: the environment variable {variable[1]} is not set: set it or the value"
    if isinstance(error, InterpolationKeyError):
        name = re.findall(r"'(.*?)'", message)[0]
        return f"{start}: unknown key {name}.{_suggest_keys(name, list(types))}{_SHOW_KEYS}"
    if isinstance(error, UnsupportedInterpolationType):
        return f"{start}: unknown resolver {message.rpartition(' ')[2]}: {_REFERENCE_FORMS}"
    if "Recursive" in message:
        return f"{start}: refers to itself: set a value without a reference to it"
    if isinstance(error, GrammarParseError):
        override = re.search(r"override (.*)", context)
        start = override[1] if override else start
        return f"{start}: ${{ starts an invalid reference: {_REFERENCE_FORMS}"
    return f"{start}: {re.sub(r'^[A-Za-z]+ raised while resolving interpolation: ', '', message)}"


def _explain_key(
    error: Exception, cause: BaseException, types: dict[str, Any], command_keys: list[str]
) -> str:
    message = str(error)
    if re.search("Multiple values for track|track appears more than once", message):
        return (
            "two tracks are set: a recipe (+experiment=…) sets its own track, so remove +track=…, "
            "or use track=<track> without the plus to apply the recipe to another track"
        )
    match = re.search(
        r"Could not (?:override|append|delete) '([\w.@/]+)'|full_key: ([\w.]+)",
        f"{message}\n{cause}",
    )
    if not match:
        return message.partition("\n")[0]
    key = str(match[1] or match[2])
    file = re.match(r"In '(.*?)': ", message)
    start = f"{file[1]}.yaml: " if file else ""
    if key in ("track", "experiment") and file:
        return (
            f"{file[1]}.yaml: sets keys of all groups: add `# @package _global_` as the first line"
        )
    if needs_plus(key) and not file:
        option = f"a {PLUS_GROUPS[key].strip('<>')}" if key in PLUS_GROUPS else key
        return f"{option} needs a plus: {choices(key)}"
    if replacement := name_replacement(key):
        return f"{start}{key} was renamed: use {replacement}"
    if key in types:
        override = re.search(rf"override \+*{re.escape(key)}=(.*)", message)
        value = override[1] if override else getattr(cause, "value", None)
        if value is None and (match := re.search(r"Value '(.*)' of type|value: (.*)", message)):
            value = match[1] or match[2]
        is_null = value == "null" and types[key] in (str, Path, list[Path])
        hint = "; use ./null for a file of that name" if is_null else ""
        setting = key if value is None else f"{key}={value}"
        return f"{start}{setting}: expected {_describe_type(key, types)}{hint}"
    advice = _suggest_keys(key, command_keys) + _list_siblings(key, command_keys)
    return f"{start}unknown key {key}.{advice}{_SHOW_KEYS}"


def _describe_type(key: str, types: dict[str, Any]) -> str:
    kind = types[key]
    if is_dataclass(kind):
        inside = [name.rpartition(".")[2] for name in types if name.rpartition(".")[0] == key]
        return f"a nested key, {key}.{inside[0]}=… (one of {', '.join(inside)})"
    return describe_type(kind)


def _suggest_keys(key: str, keys: list[str]) -> str:
    root, dot, rest = key.partition(".")
    roots = difflib.get_close_matches(root, [k for k in keys if "." not in k], n=1, cutoff=0.75)
    if dot and roots and root not in keys:  # a component's keys are not in the schema
        return f" Did you mean {roots[0]}.{rest}?"
    last = key.rpartition(".")[2]
    matches = difflib.get_close_matches(key, keys, n=3, cutoff=0.75) or [
        k for k in keys if difflib.SequenceMatcher(None, k.rpartition(".")[2], last).ratio() > 0.7
    ]
    return f" Did you mean {' or '.join(matches[:3])}?" if matches else ""


def _list_siblings(key: str, keys: list[str]) -> str:
    parent = key.rpartition(".")[0]
    inside = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    if parent and inside:
        return f" Valid keys of {parent}: {', '.join(inside)}."
    return f" Valid keys: {', '.join(k for k in keys if '.' not in k)}."
