"""Components: classes that a config group selects by name, built from YAML values.

A short name is that of a file in the role's package. The file defines a class of the same name,
ignoring case and underscores (`rrdb.py`: `RRDB`, `noise_jpeg.py`: `NoiseJPEG`). A name with a dot,
`module.Class`, refers to custom code. The constructor's signature defines the names and types of the
values, and YAML sets them:

    class UNet(nn.Module):                                          # realsr/networks/unet.py
        def __init__(self, features: Annotated[int, Range(1)]): ...

    {name: unet, features: 64}                                      # conf/discriminator/unet.yaml
"""

import contextlib
import difflib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from realsr.core.errors import UserError
from realsr.core.ranges import check_value

Values = Mapping[str, Any]
"""A component in YAML: its `name` and the arguments of its constructor."""


def build_component(
    room: str, key: str, values: Values, other_keys: Sequence[str] = (), **extra: Any
) -> Any:
    """Return the component described by YAML values.

    Args:
        room: the package that has a file for each short name, e.g. `realsr.networks`.
        key: the config group, for messages: `generator`, `loss.pixel`.
        values: `name` and the constructor's arguments by name.
        other_keys: keys of the component that its caller reads, e.g. `weight`, for messages.
        extra: arguments from the program, e.g. `scale`, passed if the constructor has them.

    Raises:
        UserError: for an unknown name, for values that are unknown, missing or of the wrong type, and
            if custom code fails.
    """
    factory = find_component(room, key, values)
    arguments = bind(factory, key, values, extra, other_keys)
    try:
        return factory(**arguments)
    except Exception as error:
        is_custom = "." in values["name"]
        if isinstance(error, UserError) or not (is_custom or isinstance(error, ValueError)):
            raise
        text = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(
            f"{key}.name={values['name']}: calling it with ({text}) failed: {locate_error(error)}"
        ) from error


def find_component(room: str, key: str, values: Values) -> Callable[..., Any]:
    """Return the class, or custom function, named by `values["name"]`. Raises UserError if missing.

    A custom module is imported from the current folder or the installed packages, which runs its
    code. Never use such a name from an untrusted file.
    """
    name = values.get("name")
    if isinstance(name, str) and "." in name:
        return _import_custom(f"{key}.name={name}", name)
    names = list_components(room)
    if name not in names:
        raise UserError(
            f"{key}.name={name}: expected one of {', '.join(names)}, or a custom module.Class"
        )
    module = importlib.import_module(f"{room}.{name}")
    classes = inspect.getmembers(module, inspect.isclass)
    return next(item for key, item in classes if key.lower() == name.replace("_", ""))


def list_components(room: str) -> list[str]:
    """Return the short names of a package: its files with a class of the same name.

    The files are read, not imported.
    """
    names = []
    for file in sorted(Path(importlib.import_module(room).__path__[0]).glob("*.py")):
        definition = rf"^class {file.stem.replace('_', '')}\b"
        if re.search(definition, file.read_text(encoding="utf-8"), re.IGNORECASE | re.MULTILINE):
            names.append(file.stem)
    return names


def _import_custom(text: str, name: str) -> Callable[..., Any]:
    """Return what `module.name` names; text: its config key and value, for messages."""
    module_name, _, attribute = name.rpartition(".")
    folder = str(Path.cwd())
    # `python -m` adds the current folder; a notebook or a launcher may not.
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()  # a notebook may have just written the file
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        message = f"importing {module_name} failed: {locate_error(error)}"
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            message = f"no module {error.name} in the current folder {folder} or installed packages"
        raise UserError(f"{text}: {message}") from error
    component = getattr(module, attribute, None)
    if callable(component):
        return component
    reason = f"has no {attribute}"
    if component is not None:
        reason = f"has {attribute}, which is a {type(component).__name__}"
    names = [
        key
        for key, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
    ]
    raise UserError(
        f"{text}: {module.__file__} {reason}; it defines {', '.join(names) or 'no class'}"
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their full keys, such as `trainer.batch`; an empty mapping is a value."""
    keys: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            keys |= flatten(value, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = value
    return keys


def format_value(value: Any) -> str:
    """Return a value as it stands in YAML and on a command line: null, true, [1, 2]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        items = ", ".join(f"{key}: {format_value(item)}" for key, item in value.items())
        return f"{{{items}}}"
    return str(value)


def locate_error(error: Exception) -> str:
    """Return an error as text, with the last line of custom code in its traceback."""
    libraries = (str(Path(__file__).parents[1]), importlib.__file__, "<frozen", inspect.__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries)
        and "/torch/" not in frame.filename.replace("\\", "/")
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def bind(
    factory: Callable[..., Any],
    key: str,
    values: Values,
    extra: Values,
    other_keys: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a constructor's arguments from YAML values and arguments from the program.

    Text is converted to Path, integers to float, and mappings to dataclasses as the signature
    requires. Raises UserError as `build_component` does.
    """
    parameters = inspect.signature(factory).parameters
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = get_type_hints(target, include_extras=True)
    except (NameError, TypeError):  # the hints of custom code may not be importable
        hints = {}
    # nn.Module's own constructor has **kwargs, but refuses all.
    is_open = getattr(target, "__module__", None) != "torch.nn.modules.module" and any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
    arguments = {name: value for name, value in extra.items() if name in parameters}
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in arguments
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    for name, value in values.items():
        if name == "name":
            continue
        if name in defaults:
            arguments[name] = convert(f"{key}.{name}", value, hints.get(name, Any))
        elif is_open:
            arguments[name] = value
        else:
            options = [*defaults, *other_keys]
            matches = difflib.get_close_matches(name, options, n=1)
            advice = f" Did you mean {key}.{matches[0]}?" if matches else ""
            valid_keys = ", ".join(options) or "none"
            raise UserError(
                f"unknown key {key}.{name}.{advice} {values['name']} has: {valid_keys}."
            )
    unset = inspect.Parameter.empty
    absent = [name for name in defaults if name not in arguments and defaults[name] is unset]
    if absent:
        text = " ".join(f"{key}.{name}=…" for name in absent)
        raise UserError(f"{key}: {values['name']} needs {', '.join(absent)}: set {text}")
    return arguments


def convert(key: str, value: Any, hint: Any) -> Any:
    """Return a YAML value converted to a type hint. Raises UserError for a wrong type or range."""
    result = _convert_type(key, value, hint)
    check_value(key, result, hint)
    return result


def _convert_type(key: str, value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _convert_type(key, value, arguments[0])
    if hint is Any or (origin is Literal and value in arguments):
        return value
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        *kinds, last = (kind for kind in arguments if kind is not type(None))
        for kind in kinds:
            with contextlib.suppress(UserError):
                return _convert_type(key, value, kind)
        return _convert_type(key, value, last)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        is_uniform = origin is list or arguments[-1] is ...
        kinds = [arguments[0]] * len(value) if is_uniform else list(arguments)
        if len(kinds) == len(value):
            return origin(map(_convert_type, [key] * len(value), value, kinds))
    if origin is dict and isinstance(value, Mapping):
        return {
            name: _convert_type(f"{key}.{name}", item, arguments[1]) for name, item in value.items()
        }
    if inspect.isclass(hint) and is_dataclass(hint) and isinstance(value, Mapping):
        return hint(**bind(hint, key, {**value, "name": key}, {}))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (hint is float and is_number) or (hint is Path and isinstance(value, str)):
        return hint(value)
    if inspect.isclass(hint) and isinstance(value, hint) and (hint is not int or is_number):
        return value
    raise UserError(f"{key}={value}: expected {describe_type(hint)}")


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
}


def describe_type(hint: Any) -> str:
    """Return a type hint in words, for messages: `a number`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is list:
        return f"a list in brackets, each {describe_type(arguments[0])}"
    if origin is tuple:
        kinds = ", ".join(map(describe_type, arguments))
        return f"a list in brackets of {len(arguments)}: {kinds}"
    return "keys and values in braces" if origin is dict else _TYPE_NAMES.get(hint, str(hint))
