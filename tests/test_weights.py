import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from realsr.errors import UserError
from realsr.networks import GeneratorConfig, build_generator
from realsr.weights import load_generator, load_generator_state, save_generator

TINY = GeneratorConfig(features=4, blocks=1, growth=4)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    generator = build_generator(TINY, 2)
    save_generator(tmp_path / "generator.safetensors", generator, TINY, 2)
    return generator, tmp_path / "generator.safetensors"


@pytest.mark.parametrize("by", ["file", "run"])
def test_a_saved_generator_comes_back_the_same(by: str, saved: tuple[torch.nn.Module, Path]) -> None:
    generator, path = saved
    back, scale = load_generator(path if by == "file" else path.parent)
    assert scale == 2
    assert not back.training
    x = torch.rand(1, 3, 5, 7)
    assert torch.equal(back(x), generator.eval()(x))


def test_the_file_tells_what_it_is(saved: tuple[torch.nn.Module, Path]) -> None:
    with safe_open(saved[1], framework="pt") as content:
        metadata = content.metadata()
    generator = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    assert json.loads(metadata["realsr"]) == {"generator": generator, "scale": 2}
    assert [path.name for path in saved[1].parent.iterdir()] == ["generator.safetensors"], "nothing temporary is left"


def test_missing_weights_say_what_is_expected(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "x.safetensors"):
        with pytest.raises(UserError, match=r"no such file; expected a run's folder or its generator\.safetensors"):
            load_generator(path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_file_is_named(kept: int, saved: tuple[torch.nn.Module, Path]) -> None:
    path = saved[1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"generator\.safetensors: not the weights of a generator trained here"):
        load_generator(path)
    with pytest.raises(UserError, match=r"generator\.safetensors: weights that cannot be read safely"):
        load_generator_state(build_generator(TINY, 2), path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"other": "{}"},
        {"realsr": '{"scale": 2}'},
        {"realsr": '{"scale": 3, "generator": {}}'},
        {"realsr": '{"scale": "two", "generator": {}}'},
        {"realsr": '{"scale": 2, "generator": {"name": "other"}}'},
        {"realsr": '{"scale": 2, "generator": {"depth": 3}}'},
        {"realsr": "no json"},
        {"realsr": "[]"},
        {"realsr": '{"scale": 2, "generator": {"features": 5, "blocks": 1, "growth": 4}}'},
    ],
)
def test_a_file_of_something_else_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file(build_generator(TINY, 2).state_dict(), tmp_path / "x.safetensors", metadata)
    with pytest.raises(UserError, match=r"x\.safetensors: not the weights of a generator trained here \(.+\)"):
        load_generator(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_plain_state_dict_fills_a_generator(suffix: str, tmp_path: Path) -> None:
    source, generator = build_generator(TINY, 2), build_generator(TINY, 2)
    path = tmp_path / f"psnr{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    load_generator_state(generator, path)
    for name, value in source.state_dict().items():
        assert torch.equal(generator.state_dict()[name], value)


def test_other_weights_name_the_tensors_that_differ(tmp_path: Path) -> None:
    generator = build_generator(TINY, 2)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    other = {"stranger": torch.zeros(1)} | before
    del other["conv_first.weight"]
    torch.save(other, tmp_path / "names.pth")
    with pytest.raises(UserError, match=r"names\.pth: weights of another generator.*: conv_first\.weight, stranger$"):
        load_generator_state(generator, tmp_path / "names.pth")
    torch.save(build_generator(GeneratorConfig(features=6, blocks=1, growth=4), 2).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"wide\.pth: weights of another generator.*: conv_first\.weight, "):
        load_generator_state(generator, tmp_path / "wide.pth")
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), "nothing is changed by weights that do not fit"


def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path) -> None:
    generator = build_generator(TINY, 2)
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        load_generator_state(generator, tmp_path / "nowhere.pth")
    for content in ([torch.zeros(1)], {"params": {"x": torch.zeros(1)}}):
        torch.save(content, tmp_path / "list.pth")
        with pytest.raises(UserError, match=r"list\.pth: expected a state dict"):
            load_generator_state(generator, tmp_path / "list.pth")


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("format", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(format: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    if format == "torch":
        torch.save({"conv_first.weight": Malicious(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"conv_first.weight": Malicious(marker)}, protocol=2))
    with pytest.raises(UserError, match=r"evil\.pth: weights that cannot be read safely"):
        load_generator_state(build_generator(TINY, 2), path)
    assert not marker.exists()
    if format == "torch":  # the trap was a real one
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists()


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    generator = build_generator(TINY, 2)
    contents = set()
    for number in range(8):
        save_generator(tmp_path / f"{number}.safetensors", generator, TINY, 2)
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(contents) == 1
