import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

import stages
from config_files import yaml_values
from realsr import api
from realsr.config.command_line import key_types
from realsr.config.composition import load_config, load_metric_values
from realsr.config.options import conf_dir
from realsr.config.pipeline import CollectNoiseConfig
from realsr.config.schema import COMMANDS
from realsr.core.components import find_component, list_components
from realsr.core.errors import UserError
from realsr.kernels.estimator import make_estimator
from realsr.provenance.migrations import RENAMED_KEYS
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.settings import TrainingConfig


@pytest.mark.parametrize(
    ("command", "override", "users"),
    [
        ("estimate_kernels", "trainer.batch=4", "of realsr.plan, realsr.train"),
        ("collect_noise", "loss=pixel", "of realsr.check_data, realsr.plan, realsr.train"),
        ("collect_noise", "data.target=x", "of realsr.check_data, realsr.make_pairs"),
        ("train", "shards=4", "of realsr.estimate_kernels"),
        ("make_pairs", "pair=a", "of realsr.rebuild_pair"),
    ],
)
def test_a_key_of_another_command_is_refused(command: str, override: str, users: str) -> None:
    with pytest.raises(
        UserError, match=rf"is not a key of realsr.{command}, but {users}.*: remove it"
    ):
        load_config(command, ["+track=dped", override])


def test_a_command_takes_its_part_of_what_a_track_says() -> None:
    config = load_config(
        "collect_noise", track="dped", data={"source": "a,b [1]"}, noise={"size": 64}
    )
    assert type(config) is CollectNoiseConfig
    assert (config.data.source, config.noise.size, config.noise.min_mean) == (
        Path("a,b [1]"),
        64,
        50,
    )
    assert [field.name for field in fields(config.data)] == ["source"]


def test_python_values_are_the_command_line_s() -> None:
    values = load_config(
        "upscale", input=["a b.png", Path("c.png")], output=Path("o"), tile=None, ensemble=True
    )
    line = load_config(
        "upscale", ["input=[a b.png,c.png]", "output=o", "tile=null", "ensemble=true"]
    )
    assert values == line
    with pytest.raises(UserError, match="unknown command trian: expected one of check_data"):
        load_config("trian")


def test_a_name_of_a_recipe_that_is_missing_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"pair must be given: set pair=…"):
        load_config("rebuild_pair", track="dped")


def test_help_and_import_load_no_torch() -> None:
    code = (
        "import sys, realsr.api; from realsr.config.help import write_help\n"
        "write_help('train', []); write_help('train', ['+loss/term@loss.ldl=ldl'])\n"
        "assert not {'torch', 'cv2', 'hydra'} & set(sys.modules), sys.modules.keys() & {'torch', 'cv2', 'hydra'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def _stages(kind: type) -> Iterator[type]:
    """A dataclass and those inside it."""
    yield kind
    for hint in get_type_hints(kind).values():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and is_dataclass(part):
                yield from _stages(part)


@pytest.mark.parametrize(
    "schema", [*(command.schema for command in COMMANDS.values()), TrainingConfig]
)
def test_yaml_is_the_one_source_of_values(schema: type) -> None:
    for stage in _stages(schema):
        second = [
            field.name
            for field in fields(stage)
            if (field.default, field.default_factory) != (MISSING, MISSING)
        ]
        assert not second, f"{stage.__name__} gives values that conf/ gives: {second}"


def test_stage_functions_have_no_values_of_their_own() -> None:
    keys = {field.name for command in COMMANDS.values() for field in fields(command.part)}
    names = [name for name, value in vars(stages).items() if hasattr(value, "__wrapped__")]
    assert len(names) == 15
    for name in names:
        parameters = inspect.signature(getattr(stages, name)).parameters.values()
        assert [
            parameter.name
            for parameter in parameters
            if parameter.name in keys and parameter.default is not parameter.empty
        ] == [], name


def test_functions_of_arrays_take_the_values_of_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[tuple[Any, ...]]()
    monkeypatch.setattr("realsr.inference.model.load_model", lambda *values: calls.append(values))
    api.load_model()
    values = load_config("upscale", input=[], output="o")
    assert calls[0][:1] + calls[0][2:] == (
        values.weights,
        values.precision,
        values.allow_custom_code,
        values.scale,
        values.weights_b,
        values.interpolate,
    )
    for function in (api.load_model, api.upscale):
        parameters = inspect.signature(function).parameters.values()
        assert {parameter.default for parameter in parameters} <= {inspect._empty, None, False}


@pytest.mark.parametrize(
    "room",
    ["realsr.networks", "realsr.kernels", "realsr.data.degradations", "realsr.training.loss_terms"],
)
def test_components_have_no_values_of_their_own(room: str) -> None:
    for name in list_components(room):
        parameters = inspect.signature(find_component(room, "", {"name": name})).parameters.values()
        assert [
            parameter.name for parameter in parameters if parameter.default is not parameter.empty
        ] == [], name


@pytest.mark.parametrize(
    ("command", "override", "replacement"),
    [
        (
            "train",
            "look.jpeg_quality=[30,95]",
            "online_degradation.quality, with online_degradation=noise_jpeg",
        ),
        ("train", "look=noise_jpeg", "online_degradation"),
        ("train", "look.noise=true", "pool.noise"),
        ("train", "kernels.method=spectral", "kernels"),
        ("train", "kernels.spectral.width=2", "kernels.width"),
        ("train", "pool.count=5", "pool.estimator.count"),
        ("train", "discriminator.arguments.width=1", "discriminator.width"),
        ("collect_noise", "survey=true", "the command realsr.survey_noise"),
        ("make_pairs", "pairs.rebuild=a", "the command realsr.rebuild_pair"),
        ("upscale", "own_code=true", "allow_custom_code"),
    ],
)
def test_an_error_names_what_replaced_a_key(command: str, override: str, replacement: str) -> None:
    track = [] if command == "upscale" else ["+track=dped"]
    with pytest.raises(UserError, match=rf"renamed: use {re.escape(replacement)}$"):
        load_config(command, [*track, override])


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_what_replaced_a_key_exists(old: str) -> None:
    new = RENAMED_KEYS[old]
    if new.startswith("the command realsr."):
        assert new.removeprefix("the command realsr.") in COMMANDS
        return
    key = new.partition(",")[0]
    types = {name for command in COMMANDS.values() for name in key_types(command.schema)}
    group, _, name = key.removeprefix("pool.estimator.").rpartition(".")
    # The keys of a component are those of the files of its group.
    files = (conf_dir() / ("kernels" if "pool.estimator." in key else group)).glob("*.yaml")
    assert key in types or any(name in yaml.safe_load(file.read_text()) for file in files)


def test_an_unknown_key_of_a_component_lists_the_keys_that_its_caller_reads() -> None:
    with pytest.raises(UserError, match=r"Did you mean loss.pull.weight\? l1 has: weight\."):
        GeneratorLoss({"pull": {"name": "l1", "weight": 1.0, "weigth": 1}})
    values = yaml_values("kernels/spectral", gate={"min_sum": 0.1})
    with pytest.raises(UserError, match=r"Did you mean kernels.gates\? .* noise_weight, gates\."):
        make_estimator(values, "kernels", 2, None, None)


def test_a_mapping_with_a_name_replaces_a_component() -> None:
    spectral = yaml_values("kernels/spectral")
    config = load_config("train", track="dped", kernels={"name": "spectral", "border": 3})
    assert config.kernels == spectral | {"border": 3}
    own = {"name": "own.Kernels", "sizes": [1, 2], "gates": {"max_width": 3}}
    assert load_config("estimate_kernels", track="dped", kernels=own).kernels == own
    patch = {"name": "patchgan", "features": 8, "layers": 2}
    assert load_config("train", track="dped", discriminator=patch).discriminator == patch
    assert load_config("train", track="dped", kernels=config.kernels).kernels == config.kernels
    changed = load_config("train", track="dped", kernels={"border": 3}).kernels
    assert (changed["name"], changed["border"]) == ("kernelgan", 3)


def test_a_mapping_with_a_name_replaces_a_loss_term() -> None:
    own = {"name": "own.Pull", "weight": 2.0, "power": 1}
    terms = {"pixel": own, "perceptual": {"name": "l1", "weight": 0.5}, "gan": {"weight": 0.1}}
    terms["layers"] = {"name": "perceptual_layers", "network": "vgg16"}
    loss = load_config("train", track="dped", loss=terms).loss
    assert loss == {
        "pixel": own,
        "perceptual": yaml_values("loss/term/l1", weight=0.5),
        "gan": {"name": "ragan", "weight": 0.1},
        "layers": yaml_values("loss/term/perceptual_layers", network="vgg16"),
    }


def test_a_configuration_of_another_command_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r'train: expected keys or load_config\("train", …\), not str'
    ):
        api.train("out")
    with pytest.raises(TypeError, match=r"load_config\(\"evaluate\", …\), not str"):
        api.evaluate("x")
    with pytest.raises(TypeError, match=r"train: .*, not MakePairsConfig"):
        api.train(load_config("make_pairs", track="dped"))
    with pytest.raises(UserError, match=r'expected a list of overrides: \["\+track=dped"\]'):
        load_config("train", "+track=dped")


def test_metrics_of_one_s_own_are_in_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own, x/metric").mkdir(parents=True)
    (tmp_path / "own, x/metric/brightness.yaml").write_text("name: own.Brightness\n")
    for arguments in (
        ["--config-dir=own, x"],
        ["--config-dir", "own, x"],
        [f"hydra.searchpath=['file://{tmp_path}/own, x']"],
    ):
        config = load_config("evaluate", arguments)
        assert load_metric_values(config.option_dirs)["brightness"] == {"name": "own.Brightness"}
        assert load_metric_values(config.option_dirs)["psnr"] == yaml_values("metric/psnr")
    assert "brightness" not in load_metric_values(load_config("evaluate").option_dirs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-dir=nowhere"], "--config-dir=nowhere: no such folder"),
        (["-m"], "-m: only the command line has this flag: remove it"),
        (["--config-dir=.", "hydra.searchpath=[file:///x]"], "set one of them"),
    ],
)
def test_other_flags_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("evaluate", arguments)
