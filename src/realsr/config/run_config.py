"""The config.yaml of a run as a configuration: its repetition, and runs of earlier versions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from realsr.config.command_line import key_types, read_paths_as_text
from realsr.config.help import read_defaults
from realsr.config.options import conf_dir
from realsr.config.pipeline import Config
from realsr.config.schema import COMMANDS, COMPONENTS, Command
from realsr.core.errors import UserError
from realsr.provenance.manifest import is_foreign
from realsr.provenance.migrations import migrate_run_config

RERUN = "rerun"
"""Name of the configuration that repeats a run, and of its options of each group."""


@contextmanager
def compose_context(schema: type) -> Iterator[None]:
    """Compose configurations of conf/ inside the block."""
    # A command that Hydra runs may compose another configuration, so the state is restored.
    before, hydra = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"), read_paths_as_text(schema):
            yield
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = before, hydra


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
        config = migrate_config(cast(DictConfig, OmegaConf.load(file)), specification)
    values = cast(dict[str, Any], OmegaConf.to_container(config))
    values |= _move_folders(values) | {"work_dir": "???", "overwrite": False}
    values["trainer"]["allow_changes"] = False
    groups = read_defaults(specification.keys_file)
    store = ConfigStore.instance()
    for group in groups:
        store.store(RERUN, values.pop(group), group=group)
    options = [{group: RERUN} for group in groups]
    defaults = ["config_schema", *options, "_self_"]
    store.store(RERUN, {"defaults": defaults, **values})


def _move_folders(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders of a run's results with references to a new `work_dir`."""
    folders = {"run": f"${{work_dir}}/runs/{_escape(PurePath(values['run']).name)}"}
    folders["cache_dir"] = "${pairs_dir}/cache"
    stages = {
        "pool_dir": ("kernels", "noise"),
        "noise_pool_dir": ("noise",),
        "pairs_dir": ("pairs",),
    }
    for key in ("pool_dir", "noise_pool_dir", "pairs_dir", "cache_dir", "run"):
        path = Path(values[key])
        foreign = any(is_foreign(path, stage) for stage in stages.get(key, ()))
        if path.is_relative_to(values["work_dir"]) and not foreign:
            relative = path.relative_to(values["work_dir"]).as_posix()
            folders[key] = f"${{work_dir}}/{_escape(relative)}"
    return folders


def _escape(name: str) -> str:
    return name.replace("${", "\\${")


def needs_migration(config: DictConfig, schema: type) -> bool:
    """Return whether a composed configuration is that of a run, without groups, or lacks keys."""
    groups = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {"trainer": None}
    if schema is Config and "trainer" not in groups:
        return True
    return not all(_has_key(config, key) for key in key_types(schema))


def migrate_config(config: DictConfig, specification: Command) -> DictConfig:
    """Return a configuration of an earlier version, such as a run's, with the current keys."""
    options, values = migrate_run_config(cast(dict[str, Any], OmegaConf.to_container(config)))
    lines = [f"{group}={option}" for group, option in options.items()]
    with compose_context(specification.schema):
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
