"""Composition: from the YAML files of conf/ and what a user sets to the dataclass of one command."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast, get_type_hints

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from realsr.config.command_line import (
    key_types,
    localize_paths,
    quote_arguments,
    read_paths_as_text,
)
from realsr.config.messages import CONFIG_ERRORS, explain
from realsr.config.options import choices, conf_dir
from realsr.config.schema import COMMANDS, COMPONENTS, Command
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.evaluation.protocol import Protocol
from realsr.provenance.migrations import migrate_run_config, name_replacement

R = TypeVar("R")
ADDED_GROUPS = ("track", "experiment", "layout")
"""Groups that are added with a plus, since a config has none of them by itself."""

# Otherwise a path is written as a Python object, by --cfg job and in a run's config.yaml.
yaml.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def load_config(command: str, overrides: Sequence[str] = (), /, **values: Any) -> Any:
    """Return the configuration of a command: the dataclass that `realsr.api`'s function of that name takes.

    Args:
        command: a name of `COMMANDS`, e.g. `train`.
        overrides: as on the command line: `["+track=dped", "trainer.batch=8"]`.
        values: the same as Python values, with mappings for keys inside others: `track="dped"`, `data={"source": DIR}`.

    Raises:
        UserError: for an unknown command or key, a key of another command, and for a value that is missing, ill-typed
            or out of its range.
    """
    if command not in COMMANDS:
        raise UserError(f"there is no command {command}: expected one of {', '.join(COMMANDS)}")
    specification = COMMANDS[command]
    register_schemas()
    lines = quote_arguments(
        [*overrides, *_as_overrides(values)], specification.whole, specification.photos
    )
    try:
        with _composing(specification.whole):
            composed = compose(specification.file, lines, return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            with open_dict(composed):
                composed.pop("hydra")
            return to_part(composed, command, lines)
    except CONFIG_ERRORS as error:
        raise UserError(explain(error, specification.whole)) from error


def takes_keys(command: str) -> Callable[[Callable[[Any], R]], Callable[..., R]]:
    """Let a function of a command's configuration take the command's keys by name instead.

    Keys inside others are mappings: `data={"source": "photos"}`. What is not set has conf/'s value.
    """

    def decorate(function: Callable[[Any], R]) -> Callable[..., R]:
        @wraps(function)
        def call(config: Any = None, /, **values: Any) -> R:
            if config is not None and values:
                raise TypeError(
                    f"{command}: expected a configuration or keys, not both: add keys to load_config"
                )
            return function(load_config(command, **values) if config is None else config)

        return call

    return decorate


@contextmanager
def _composing(schema: type) -> Iterator[None]:
    # A command that is being composed by Hydra may compose another configuration.
    before, hydra = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"), read_paths_as_text(schema):
            yield
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = before, hydra


def _as_overrides(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield Python values as overrides of a command line."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _as_overrides(value, f"{key}.")
        else:
            yield f"{'+' if key in ADDED_GROUPS else ''}{key}={_format(value)}"


def _format(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_format(item) for item in value)}]"
    return str(value)


@cache
def register_schemas() -> None:
    """Tell Hydra the types of all keys, under the names that the files of conf/ ask for."""
    for specification in COMMANDS.values():
        name = {"demo": "config"}.get(specification.file, specification.file)
        ConfigStore.instance().store(name=f"{name}_schema", node=_open_schema(specification.whole))


def _open_schema(schema: type) -> DictConfig:
    """The schema, in which a component's values are open for any key, since its constructor names them."""
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

    Raises UserError for what is missing or unknown, and for an override whose key belongs to another command.
    """
    specification = COMMANDS[command]
    refuse_other_keys(command, overrides)
    config = _fill(config, specification)
    whole = to_dataclass(config, specification.whole, key_types(specification.part))
    return whole if specification.part is specification.whole else _take(whole, specification.part)


def _fill(config: DictConfig, specification: Command) -> DictConfig:
    """Return a configuration of an earlier version, such as that of a run, with the keys of this one."""
    if all(_has(config, key) for key in key_types(specification.whole)):
        return config
    options, values = migrate_run_config(cast(dict[str, Any], OmegaConf.to_container(config)))
    with _composing(specification.whole):
        base = compose(
            specification.file, [f"{group}={option}" for group, option in options.items()]
        )
    OmegaConf.set_struct(base, False)
    if options:
        values = _drop_unknown(values, base)
    else:  # a component's values are complete: the default component adds no keys to them
        for role in COMPONENTS:
            base[role] = {} if role in values else base[role]
        if "pool" in values:
            base.pool.estimator = {}
    return cast(DictConfig, OmegaConf.merge(base, values))


def _drop_unknown(values: Mapping[str, Any], base: DictConfig) -> dict[str, Any]:
    """Return the values without keys that a group's option, or the configuration, no longer has."""
    keys = {}
    for key, value in values.items():
        node = base._get_node(key) if key in set(base.keys()) else None
        if isinstance(value, Mapping) and isinstance(node, DictConfig) and set(node.keys()):
            open_keys = key in ("loss", "expected") or OmegaConf.is_missing(node, "name")
            keys[key] = dict(value) if open_keys else _drop_unknown(value, node)
        elif node is not None:
            keys[key] = value
    return keys


def _has(config: DictConfig, key: str) -> bool:
    """Whether a key, or one that it lies in, is there and not empty."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return True
        if name not in set(node.keys()):
            return False
        node = node._get_node(name)
    return True


def refuse_other_keys(command: str, overrides: Sequence[str]) -> None:
    """Raise UserError for a key that a command does not use, or that was renamed inside a component."""
    for override in overrides:
        if replacement := name_replacement(override.lstrip("+~").partition("=")[0]):
            raise UserError(f"{override}: this key was renamed: use {replacement}")
        key = _name_key(override, key_types(COMMANDS[command].whole))
        users = [name for name, other in COMMANDS.items() if key in key_types(other.part)]
        if users and command not in users:
            raise UserError(
                f"{override}: {key} is no key of realsr.{command}, but of "
                f"{', '.join(f'realsr.{name}' for name in users)}: leave it out"
            )


def _name_key(override: str, keys: Mapping[str, Any]) -> str:
    """Return the key that an override sets; of a component's own keys, the group that they are in."""
    key = override.lstrip("+~").partition("=")[0].rpartition("@")[2].replace("/", ".")
    while key not in keys and "." in key:
        key = key.rpartition(".")[0]
    return key


def _take(whole: Any, part: type) -> Any:
    """Return a dataclass of fewer fields with the values of a whole one."""
    values = {}
    for field in fields(part):
        value: Any = getattr(whole, field.name)
        kind: Any = get_type_hints(part)[field.name]
        values[field.name] = (
            _take(value, kind) if is_dataclass(value) and isinstance(kind, type) else value
        )
    return part(**values)


def to_dataclass(config: DictConfig, schema: type, needed: Mapping[str, Any] | None = None) -> Any:
    """Return a composed configuration as its dataclass.

    needed: the keys that must have a value; None: all.

    Raises UserError for what is missing, unknown, ill-typed or out of its range.
    """
    chosen = HydraConfig.get().runtime.choices.get("track") if HydraConfig.initialized() else None
    if OmegaConf.is_missing(config, "track") and chosen is not None:
        raise UserError(f"track/{chosen}.yaml: sets no track: write `track: {chosen}` into it")
    if OmegaConf.is_missing(config, "track"):
        raise UserError(
            f"no track chosen: add {choices('track')}; or a recipe, which brings its own: "
            f"{choices('experiment')}. Each is described in its file in conf/track and conf/experiment"
        )
    try:  # +key=value gets past Hydra even where the schema has no such key
        absent = OmegaConf.missing_keys(config)
        keys = key_types(schema)
        if missing := sorted(
            key for key in absent if needed is None or _name_key(key, keys) in needed
        ):
            raise UserError(
                f"{' and '.join(missing)} must be given: set {' '.join(f'{key}=…' for key in missing)}"
            )
        merged = OmegaConf.merge(_open_schema(schema), OmegaConf.to_container(config))
        for key in absent:
            OmegaConf.update(merged, key, None)
        values = localize_paths(OmegaConf.to_container(merged, resolve=True))
        dataclass = OmegaConf.to_object(OmegaConf.merge(_open_schema(schema), values))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, schema)) from error
    check_ranges(dataclass)
    return dataclass


def load_protocol(name: str) -> Protocol:
    """Return a protocol of conf/protocol by its name."""
    values = OmegaConf.load(conf_dir() / "protocol" / f"{name}.yaml")
    return cast(
        Protocol, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Protocol), values))
    )


def load_metric_values() -> dict[str, dict[str, Any]]:
    """Return what the files of conf/metric say, and those of the same group in --config-dir, by their names."""
    folders = [conf_dir()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        folders += [Path(source.path) for source in sources if source.provider == "command-line"]
    files = {
        path.stem: path for folder in folders for path in sorted((folder / "metric").glob("*.yaml"))
    }
    return {
        name: cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        for name, path in files.items()
    }


def to_yaml(config: Any) -> str:
    """Return a config dataclass as YAML text."""
    return OmegaConf.to_yaml(cast(DictConfig, OmegaConf.structured(config)))
