"""Networks of the user's own, named by a dotted path."""

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


def build_own(role: str, name: str, fixed: Mapping[str, Any], arguments: Mapping[str, Any]) -> nn.Module:
    """Import `module.Class` (or a function that returns a network) and call it with the arguments by name.

    The module is searched in the current folder and among what is installed. Its code is run: never take the name from
    a file that is not trusted. Raises ValueError that tells what was found instead, or where the code failed.
    """
    said = f"{role}.name={name}"
    factory = _import(said, name)
    try:
        made = factory(**fixed, **arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in {**fixed, **arguments}.items())
        raise ValueError(f"{said}: calling it with ({given}) failed: {tell_error(error)}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{said}: calling it gave a {type(made).__name__}; expected a torch.nn.Module")
    return made


def _import(said: str, name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.rpartition(".")
    here = str(Path.cwd())
    # `python -m` puts it there; a notebook or a launcher's process may not.
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()  # in a notebook the file may have been written a moment ago
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{said}: importing {module_name} failed: {tell_error(error)}") from error
        raise ValueError(
            f"{said}: there is no module {error.name}; searched: the current folder {here} and what is installed"
        ) from error
    except Exception as error:
        raise ValueError(f"{said}: importing {module_name} failed: {tell_error(error)}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        what = f"has no {attribute}" if found is None else f"has {attribute}, which is a {type(found).__name__}"
        raise ValueError(f"{said}: {module.__file__} {what}; it defines {', '.join(own) or 'no class'}")
    return found


def tell_error(error: Exception) -> str:
    """Return the error in words, with the last line of the user's code on its way."""
    ours = (str(Path(torch.__file__).parent), __file__, importlib.__file__, "<frozen")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
