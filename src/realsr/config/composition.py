"""Composition of the YAML files of conf/ and a user's overrides into a command's dataclass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, wraps
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast, get_type_hints

import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from realsr.config.command_line import (
    key_types,
    localize_paths,
    quote_arguments,
    replace_flags,
)
from realsr.config.messages import CONFIG_ERRORS, explain
from realsr.config.options import choices, conf_dir, config_dirs, find_option, needs_plus
from realsr.config.run_config import choose_file, compose_context, migrate_config, needs_migration
from realsr.config.schema import COMMANDS, COMPONENTS, EvaluateConfig
from realsr.core.components import format_value
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.evaluation.protocol import Protocol
from realsr.provenance.migrations import name_replacement

R = TypeVar("R")

# Otherwise --cfg job and a run's config.yaml would show a path as a Python object.
yaml.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def load_config(command: str, overrides: Sequence[str] = (), /, **values: Any) -> Any:
    """Return the configuration of a command: the dataclass that `realsr.api.<command>` takes.

    Args:
        command: the name of a command, e.g. `train`.
        overrides: overrides as on the command line: `["+track=dped", "trainer.batch=8"]`.
            `--config-dir=DIR` adds custom groups.
        values: overrides as Python values, with mappings for nested keys: `track="dped"`,
            `data={"source": DIR}`. A mapping with `name` for a component or a loss term, such as
            `kernels={"name": "spectral", "border": 10}`, replaces it: its other values are those of
            the option of this name, if there is one.

    Raises:
        UserError: for an unknown command or key, a key of another command, and a value that is
            missing, has the wrong type, or is out of range.
    """
    if command not in COMMANDS:
        raise UserError(f"unknown command {command}: expected one of {', '.join(COMMANDS)}")
    specification = COMMANDS[command]
    schema = specification.schema
    register_schemas()
    if isinstance(overrides, str):
        raise UserError(f'{overrides}: expected a list of overrides: ["{overrides}"]')
    arguments = [*overrides, *_to_overrides(values, list(config_dirs(overrides)))]
    lines = replace_flags(quote_arguments(arguments, schema, specification.photos))
    try:
        with compose_context(schema):
            config = compose(choose_file(command, lines), lines, return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                config.pop("hydra")
            return to_part(config, command, lines)
    except CONFIG_ERRORS as error:
        raise UserError(explain(error, schema, key_types(specification.part))) from error


def takes_keys(command: str) -> Callable[[Callable[[Any], R]], Callable[..., R]]:
    """Decorate a function of a command's configuration so that it also accepts the command's keys.

    Nested keys are mappings: `data={"source": "photos"}`. The defaults are those of conf/.
    """

    part = COMMANDS[command].part

    def decorate(function: Callable[[Any], R]) -> Callable[..., R]:
        @wraps(function)
        def call(config: Any = None, /, **values: Any) -> R:
            if config is not None and values:
                raise TypeError(
                    f"{command}: expected a configuration or keys, not both: "
                    "pass the keys to load_config"
                )
            if config is not None and not isinstance(config, part):
                raise TypeError(
                    f'{command}: expected keys or load_config("{command}", …), not '
                    f"{type(config).__name__}"
                )
            return function(load_config(command, **values) if config is None else config)

        return call

    return decorate


def _to_overrides(
    values: Mapping[str, Any], folders: Sequence[Path], prefix: str = ""
) -> Iterator[str]:
    """Yield Python values as command-line overrides. folders: of the groups' options."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping) or any(not isinstance(item, str) for item in value):
            yield f"{'+' if needs_plus(key) else ''}{key}={format_value(value)}"
            continue
        items = dict(value)
        if key in COMPONENTS and "name" in items:
            has_option = find_option(folders, key, items["name"])
            yield f"{key}={items.pop('name')}" if has_option else f"~{key}"
        elif prefix == "loss." and "name" in items:
            yield f"++{key}=null"  # removes the keys of a term that the loss has under this key
            if option := find_option(folders, "loss/term", items["name"]):
                del items["name"]
                items = yaml.safe_load(option.read_text(encoding="utf-8")) | items
        yield from _to_overrides(items, folders, f"{key}.")


@cache
def register_schemas() -> None:
    """Register the schemas with Hydra, under the names that the files of conf/ refer to."""
    for specification in COMMANDS.values():
        name = f"{specification.keys_file}_schema"
        ConfigStore.instance().store(name, node=_open_schema(specification.schema))


def _open_schema(schema: type) -> DictConfig:
    """Return the schema with components open to any key; their constructors define the keys."""
    node: DictConfig = OmegaConf.structured(schema)
    hints = get_type_hints(schema)
    for role in COMPONENTS:
        if hints.get(role) == dict[str, Any]:
            node[role] = {}
            OmegaConf.set_struct(node[role], False)
    if "pool" in hints:
        node.pool = OmegaConf.structured(hints["pool"])
        node.pool.estimator = {}
        OmegaConf.set_struct(node.pool.estimator, False)
    return node


def to_part(config: DictConfig, command: str, overrides: Sequence[str]) -> Any:
    """Return a command's dataclass from a composed configuration.

    Raises UserError for a missing or unknown key, and for an override of another command's key.
    """
    specification = COMMANDS[command]
    schema, part = specification.schema, specification.part
    refuse_other_keys(command, overrides)
    if needs_migration(config, schema):
        config = migrate_config(config, specification)
    values = to_dataclass(config, schema, key_types(part))
    if isinstance(values, EvaluateConfig):
        values.option_dirs = _list_option_dirs()
    return values if part is schema else extract_part(values, part)


def refuse_other_keys(command: str, overrides: Sequence[str]) -> None:
    """Raise UserError for a key that the command does not use or that was renamed."""
    for override in overrides:
        if replacement := name_replacement(override.lstrip("+~").partition("=")[0]):
            raise UserError(f"{override}: this key was renamed: use {replacement}")
        key = _name_key(override, key_types(COMMANDS[command].schema))
        users = [name for name, other in COMMANDS.items() if key in key_types(other.part)]
        if users and command not in users:
            raise UserError(
                f"{override}: {key} is not a key of realsr.{command}, but of "
                f"{', '.join(f'realsr.{name}' for name in users)}: remove it"
            )


def _name_key(override: str, keys: Mapping[str, Any]) -> str:
    """Return the key that an override sets, or the component's group for a key of a component."""
    key = override.lstrip("+~").partition("=")[0].rpartition("@")[2].replace("/", ".")
    while key not in keys and "." in key:
        key = key.rpartition(".")[0]
    return key


def extract_part(config: Any, part: type[R], **replacements: Any) -> R:
    """Return a dataclass with fields of another configuration, and with other values.

    Fields that are dataclasses are reduced to the type that `part` states.
    """
    values = {}
    for name, kind in get_type_hints(part).items():
        value = replacements[name] if name in replacements else getattr(config, name)
        is_nested = is_dataclass(value) and isinstance(kind, type)
        values[name] = extract_part(value, kind) if is_nested else value
    return part(**values)


def to_dataclass(config: DictConfig, schema: type, required_keys: Mapping[str, Any]) -> Any:
    """Return a composed configuration as its dataclass, in which other keys may have no value.

    Raises UserError for a key that is missing or unknown, and for a value of the wrong type or out
    of range.
    """
    option = HydraConfig.get().runtime.choices.get("track") if HydraConfig.initialized() else None
    if OmegaConf.is_missing(config, "track") and option is not None:
        raise UserError(f"track/{option}.yaml: does not set the track: add `track: {option}`")
    if OmegaConf.is_missing(config, "track"):
        raise UserError(
            f"no track set: add {choices('track')}; or a recipe, which includes its track: "
            f"{choices('experiment')}. The files in conf/track and conf/experiment describe them"
        )
    try:  # Hydra accepts +key=value even for a key that the schema does not have
        empty_keys, keys = sorted(OmegaConf.missing_keys(config)), key_types(schema)
        needs = [key for key in empty_keys if _name_key(key, keys) in required_keys]
        if needs:
            advice = " ".join(f"{key}=…" for key in needs)
            raise UserError(f"{' and '.join(needs)} must be given: set {advice}")
        tree = OmegaConf.merge(_open_schema(schema), OmegaConf.to_container(config))
        for key in empty_keys:
            OmegaConf.update(tree, key, None)
        values = localize_paths(OmegaConf.to_container(tree, resolve=True))
        dataclass = OmegaConf.to_object(OmegaConf.merge(_open_schema(schema), values))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, schema, required_keys)) from error
    check_ranges(dataclass)
    return dataclass


def load_protocol(name: str) -> Protocol:
    """Return the protocol in conf/protocol/<name>.yaml."""
    values = OmegaConf.load(conf_dir() / "protocol" / f"{name}.yaml")
    tree = OmegaConf.merge(OmegaConf.structured(Protocol), values)
    return cast(Protocol, OmegaConf.to_object(tree))


def _list_option_dirs() -> tuple[Path, ...]:
    """Return the folders of the current config search path without conf/, the strongest first."""
    if not HydraConfig.initialized():
        return ()
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path) for source in sources if source.schema == "file"]
    return tuple(folder for folder in folders if folder != conf_dir())


def load_metric_values(folders: Sequence[Path] | None = None) -> dict[str, dict[str, Any]]:
    """Return the values of the files of the group `metric`, by name.

    folders: the folders of options that are read in addition to conf/, the strongest first; None:
    those of the current command.
    """
    folders = _list_option_dirs() if folders is None else folders
    files = {
        path.stem: path
        for folder in (conf_dir(), *reversed(folders))
        for path in sorted((folder / "metric").glob("*.yaml"))
    }
    return {
        name: cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        for name, path in files.items()
    }


def to_yaml(config: Any) -> str:
    """Return a config dataclass as YAML text."""
    return OmegaConf.to_yaml(cast(DictConfig, OmegaConf.structured(config)))


def to_tree(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested values of YAML, with paths as text."""
    return cast(dict[str, Any], yaml.safe_load(to_yaml(config)))
