"""Composition of the YAML files of conf/ and a user's overrides into a command's dataclass."""

import re
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
from hydra.core.override_parser.overrides_parser import OverridesParser
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
from realsr.config.schema import COMMANDS, COMPONENTS, Command, Config
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.evaluation.protocol import Protocol
from realsr.provenance.manifest import is_foreign
from realsr.provenance.migrations import migrate_run_config, name_replacement

R = TypeVar("R")
RERUN = "rerun"
"""Name of the configuration that repeats a run, and of its options of each group."""
ADDED_GROUPS = ("track", "experiment", "layout")
"""Groups without a default option; an override adds one with a plus, as in `+track=dped`."""

# Otherwise --cfg job and a run's config.yaml would show a path as a Python object.
yaml.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


def load_config(command: str, overrides: Sequence[str] = (), /, **values: Any) -> Any:
    """Return the configuration of a command: the dataclass that `realsr.api.<command>` takes.

    Args:
        command: the name of a command, e.g. `train`.
        overrides: overrides as on the command line: `["+track=dped", "trainer.batch=8"]`.
        values: overrides as Python values, with mappings for nested keys: `track="dped"`,
            `data={"source": DIR}`.

    Raises:
        UserError: for an unknown command or key, a key of another command, and a value that is
            missing, has the wrong type, or is out of range.
    """
    if command not in COMMANDS:
        raise UserError(f"unknown command {command}: expected one of {', '.join(COMMANDS)}")
    specification = COMMANDS[command]
    schema = specification.schema
    register_schemas()
    lines = quote_arguments([*overrides, *_to_overrides(values)], schema, specification.photos)
    try:
        with _compose_context(schema):
            config = compose(choose_file(command, lines), lines, return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                config.pop("hydra")
            return to_part(config, command, lines)
    except CONFIG_ERRORS as error:
        raise UserError(explain(error, schema)) from error


def takes_keys(command: str) -> Callable[[Callable[[Any], R]], Callable[..., R]]:
    """Decorate a function of a command's configuration so that it also accepts the command's keys.

    Nested keys are mappings: `data={"source": "photos"}`. The defaults are those of conf/.
    """

    def decorate(function: Callable[[Any], R]) -> Callable[..., R]:
        @wraps(function)
        def call(config: Any = None, /, **values: Any) -> R:
            if config is not None and values:
                raise TypeError(
                    f"{command}: expected a configuration or keys, not both: "
                    "pass the keys to load_config"
                )
            return function(load_config(command, **values) if config is None else config)

        return call

    return decorate


@contextmanager
def _compose_context(schema: type) -> Iterator[None]:
    # A command that Hydra runs may compose another configuration, so the state is restored.
    before, hydra = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"), read_paths_as_text(schema):
            yield
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = before, hydra


def _to_overrides(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield Python values as command-line overrides."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _to_overrides(value, f"{key}.")
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
    """Register the schemas with Hydra, under the names that the files of conf/ refer to."""
    for specification in COMMANDS.values():
        name = {"demo": "config"}.get(specification.file, specification.file)
        ConfigStore.instance().store(name=f"{name}_schema", node=_open_schema(specification.schema))


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


def choose_file(command: str, overrides: Sequence[str]) -> str:
    """Return the name of a command's primary config file.

    With `from_run=RUN` it is the configuration of the run, see `register_rerun`.
    """
    values = [text.partition("=")[2] for text in overrides if text.startswith("from_run=")]
    if not values or values == ["null"]:
        return COMMANDS[command].file
    if command != "train":
        raise UserError(f"from_run={values[-1]}: is a key of realsr.train only: remove it")
    register_rerun(values[-1], overrides)
    return RERUN


def register_rerun(value: str, overrides: Sequence[str]) -> None:
    """Register the configuration of a run as a primary config file that repeats the run.

    Each group of conf/config.yaml has the run's values as its option, so that overrides can select
    another one. The folders that the run's work_dir contained are in the new work_dir; those of
    pools and pairs made elsewhere remain.

    value: of `from_run` in Hydra's grammar.

    Raises UserError if it is not the folder of one run, and for a track, which the run has.
    """
    run = Path(str(OverridesParser.create().parse_override(f"from_run={value}").value()))
    file = run.expanduser() / "config.yaml"
    for override in overrides:
        if re.match(r"\+*(track|experiment)=", override):
            raise UserError(f"{override}: from_run={run} has its own track: remove it")
    if not any(re.match(r"\+*work_dir=", override) for override in overrides):
        raise UserError(f"from_run={run}: set work_dir=FOLDER for the results of the repetition")
    if not file.is_file():
        raise UserError(f"from_run={run}: has no config.yaml: set the folder of one training")
    specification = COMMANDS["train"]
    with read_paths_as_text(specification.schema):
        config = _migrate(cast(DictConfig, OmegaConf.load(file)), specification)
    values = cast(dict[str, Any], OmegaConf.to_container(config))
    values |= _move_folders(values) | {"work_dir": "???", "overwrite": False}
    values["trainer"]["allow_changes"] = False
    groups = [item for item in _read_defaults() if isinstance(item, dict)]
    store = ConfigStore.instance()
    for [group] in groups:
        store.store(RERUN, values.pop(group), group=group)
    options = [{group: RERUN} for [group] in groups]
    defaults = ["config_schema", *options, "hydra_quiet", "_self_"]
    store.store(RERUN, {"defaults": defaults, **values})


def _read_defaults() -> list[Any]:
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(text)["defaults"])


def _move_folders(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders of a run's results with references to a new `work_dir`."""
    folders = {"run": f"${{work_dir}}/runs/{_escape(PurePath(values['run']).name)}"}
    folders["cache_dir"] = "${pairs_dir}/cache"
    made_elsewhere = {
        "pool_dir": [("kernels", "kernels/**/*.mat"), ("noise", "noise/**/*.png")],
        "noise_pool_dir": [("noise", "noise/**/*.png")],
        "pairs_dir": [("pairs", "HR/*")],
    }
    for key in ("pool_dir", "noise_pool_dir", "pairs_dir", "cache_dir", "run"):
        path = Path(values[key])
        foreign = any(is_foreign(path, *stage) for stage in made_elsewhere.get(key, []))
        if path.is_relative_to(values["work_dir"]) and not foreign:
            relative = path.relative_to(values["work_dir"]).as_posix()
            folders[key] = f"${{work_dir}}/{_escape(relative)}"
    return folders


def _escape(name: str) -> str:
    return name.replace("${", "\\${")


def to_part(config: DictConfig, command: str, overrides: Sequence[str]) -> Any:
    """Return a command's dataclass from a composed configuration.

    Raises UserError for a missing or unknown key, and for an override of another command's key.
    """
    specification = COMMANDS[command]
    schema, part = specification.schema, specification.part
    refuse_other_keys(command, overrides)
    has_all_keys = all(_has_key(config, key) for key in key_types(schema))
    if _is_run_config(schema) or not has_all_keys:
        config = _migrate(config, specification)
    values = to_dataclass(config, schema, key_types(part))
    return values if part is schema else _extract_part(values, part)


def _is_run_config(schema: type) -> bool:
    """Return whether the configuration was composed from a run's config.yaml, without groups."""
    groups = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {"kernels": None}
    return schema is Config and "kernels" not in groups


def _migrate(config: DictConfig, specification: Command) -> DictConfig:
    """Return a configuration of an earlier version, such as a run's, with the current keys."""
    options, values = migrate_run_config(cast(dict[str, Any], OmegaConf.to_container(config)))
    lines = [f"{group}={option}" for group, option in options.items()]
    with _compose_context(specification.schema):
        base = compose(specification.file, lines)
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
    """Return the values without the keys that no longer exist in the configuration."""
    keys = {}
    for key, value in values.items():
        node = base._get_node(key) if key in set(base.keys()) else None
        if isinstance(value, Mapping) and isinstance(node, DictConfig) and set(node.keys()):
            open_keys = key in ("loss", "expected") or OmegaConf.is_missing(node, "name")
            keys[key] = dict(value) if open_keys else _drop_unknown(value, node)
        elif node is not None:
            keys[key] = value
    return keys


def _has_key(config: DictConfig, key: str) -> bool:
    """Return whether a configuration has a key, or one of its parents is null or missing."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return True
        if name not in set(node.keys()):
            return False
        node = node._get_node(name)
    return True


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


def _extract_part(config: Any, part: type) -> Any:
    """Return a dataclass that has some of the fields of another, with its values."""
    values = {}
    for field in fields(part):
        value: Any = getattr(config, field.name)
        kind: Any = get_type_hints(part)[field.name]
        is_nested = is_dataclass(value) and isinstance(kind, type)
        values[field.name] = _extract_part(value, kind) if is_nested else value
    return part(**values)


def to_dataclass(
    config: DictConfig, schema: type, required_keys: Mapping[str, Any] | None = None
) -> Any:
    """Return a composed configuration as its dataclass.

    required_keys: the keys that must have a value; None: all.

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
        unset = OmegaConf.missing_keys(config)
        keys = key_types(schema)
        missing = sorted(
            key for key in unset if required_keys is None or _name_key(key, keys) in required_keys
        )
        if missing:
            advice = " ".join(f"{key}=…" for key in missing)
            raise UserError(f"{' and '.join(missing)} must be given: set {advice}")
        tree = OmegaConf.merge(_open_schema(schema), OmegaConf.to_container(config))
        for key in unset:
            OmegaConf.update(tree, key, None)
        values = localize_paths(OmegaConf.to_container(tree, resolve=True))
        dataclass = OmegaConf.to_object(OmegaConf.merge(_open_schema(schema), values))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, schema)) from error
    check_ranges(dataclass)
    return dataclass


def load_protocol(name: str) -> Protocol:
    """Return the protocol in conf/protocol/<name>.yaml."""
    values = OmegaConf.load(conf_dir() / "protocol" / f"{name}.yaml")
    tree = OmegaConf.merge(OmegaConf.structured(Protocol), values)
    return cast(Protocol, OmegaConf.to_object(tree))


def load_metric_values() -> dict[str, dict[str, Any]]:
    """Return the values of the files of the group `metric`, in conf/ and --config-dir, by name."""
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


def to_tree(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested values of YAML, with paths as text."""
    return cast(dict[str, Any], yaml.safe_load(to_yaml(config)))
