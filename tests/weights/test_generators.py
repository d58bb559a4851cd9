import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from realsr.core.errors import UserError
from realsr.networks import build_discriminator, build_generator
from realsr.weights import convert_weights, load_generator, load_generator_state, save_generator
from realsr.weights.generators import read_facts
from realsr.weights.state_files import read_weights

TINY = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    generator = build_generator(TINY, 2)
    save_generator(tmp_path / "generator.safetensors", generator, TINY, 2)
    return generator, tmp_path / "generator.safetensors"


@pytest.mark.parametrize("by", ["file", "run"])
def test_a_saved_generator_comes_back_the_same(
    by: str, saved: tuple[torch.nn.Module, Path]
) -> None:
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
    assert [path.name for path in saved[1].parent.iterdir()] == ["generator.safetensors"], (
        "nothing temporary is left"
    )


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_file_is_named(kept: int, saved: tuple[torch.nn.Module, Path]) -> None:
    path = saved[1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"generator\.safetensors: is (empty|truncated|damaged)"):
        load_generator(path)
    with pytest.raises(UserError, match=r"generator\.safetensors: is (empty|truncated|damaged)"):
        load_generator_state(build_generator(TINY, 2), path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ('{"scale": 2}', "do not describe a generator"),
        ('{"scale": "two", "generator": {}}', "do not describe a generator"),
        ('{"scale": 2, "generator": {"depth": 3}}', "do not describe a generator"),
        ('{"scale": 2, "generator": {"name": 3}}', "do not describe a generator"),
        (
            '{"scale": 2, "generator": {"name": "a.B", "arguments": 3}}',
            "do not describe a generator",
        ),
        ("no json", "do not describe a generator"),
        ("[]", "do not describe a generator"),
        (
            '{"scale": 4, "generator": {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}}',
            "its tensors show .* at scale 2, its metadata .* at scale 4",
        ),
        (
            '{"scale": 2, "generator": {"name": "rrdb", "features": 5, "blocks": 1, "growth": 4}}',
            "its tensors.*'features': 4.*'features': 5",
        ),
        (
            '{"scale": 2, "generator": {"name": "rrdb", "features": 4, "blocks": 999999999, "growth": 4}}',
            "'blocks': 999999999",
        ),
        (
            '{"scale": 2, "generator": {"name": "other"}}',
            r"cannot build a generator from it: generator.name=other",
        ),
    ],
)
def test_a_file_that_tells_of_something_else_is_refused(
    told: str, message: str, tmp_path: Path
) -> None:
    save_file(build_generator(TINY, 2).state_dict(), tmp_path / "x.safetensors", {"realsr": told})
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{message}"):
        load_generator(tmp_path / "x.safetensors")


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    told = '{"scale": 2, "generator": {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4, "arguments": {}}}'
    save_file(build_generator(TINY, 2).state_dict(), tmp_path / "x.safetensors", {"realsr": told})
    assert load_generator(tmp_path / "x.safetensors")[1] == 2
    own = {"name": "my.Net", "features": 64, "blocks": 23, "growth": 32, "arguments": {"width": 8}}
    told = json.dumps({"scale": 2, "generator": own})
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors", {"realsr": told})
    assert read_facts(read_weights(tmp_path / "own.safetensors")) == (
        {"name": "my.Net", "width": 8},
        2,
    )


def test_a_network_of_ones_own_is_loaded_only_when_asked(
    own_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = own_modules
    (tmp_path / "own_network.py").write_text(
        "import pathlib, torch\npathlib.Path('imported').touch()\n"
        "def make(scale, width): return torch.nn.ConvTranspose2d(3, 3, width, scale)\n"
    )
    config = {"name": "own_network.make", "width": 2}
    network = torch.nn.ConvTranspose2d(3, 3, 2, 2)
    save_generator(tmp_path / "x.safetensors", network, config, 2)
    with pytest.raises(
        UserError, match=r"x\.safetensors: .*own_network\.make.*set allow_custom_code=true if you"
    ):
        load_generator("x.safetensors")
    assert not Path("imported").exists()
    back, scale = load_generator("x.safetensors", allow_custom_code=True)
    assert Path("imported").exists()
    assert scale == 2
    assert torch.equal(back(torch.ones(1, 3, 4, 4)), network(torch.ones(1, 3, 4, 4)))
    filled = torch.nn.ConvTranspose2d(3, 3, 2, 2)
    load_generator_state(filled, "x.safetensors")  # tensors alone: no code is needed
    assert torch.equal(filled.weight, network.weight)
    with pytest.raises(UserError, match=r"weight \(3, 3, 2, 2\) instead of \(3, 3, 4, 4\)\)$"):
        load_generator_state(torch.nn.ConvTranspose2d(3, 3, 4, 2), "x.safetensors")
    Path("own_network.py").unlink()
    monkeypatch.delitem(sys.modules, "own_network")
    with pytest.raises(UserError, match=r"x\.safetensors: .*no module own_network"):
        load_generator("x.safetensors", allow_custom_code=True)


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], {"epoch": 3, "optimizers": []}, {}, {"params": {}}, "text"]
)
def test_files_that_hold_no_state_dict_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: no network's weights \(.*expected a state dict"):
        load_generator_state(build_generator(TINY, 2), tmp_path / "x.pth")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_pickle_is_named(kept: int, tmp_path: Path) -> None:
    torch.save(build_generator(TINY, 2).state_dict(), tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:kept])
    with pytest.raises(UserError, match=r"x\.pth: .*(damaged|empty)"):
        load_generator(tmp_path / "x.pth")


def test_a_basicsr_state_of_a_training_says_where_its_weights_are(tmp_path: Path) -> None:
    network = build_generator(TINY, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.rand(1, 3, 4, 4)).mean().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2])
    state = {
        "epoch": 1,
        "iter": 5,
        "optimizers": [optimiser.state_dict()],
        "schedulers": [schedule.state_dict()],
    }
    torch.save(state, tmp_path / "5.state")
    with pytest.raises(
        UserError,
        match=r"5\.state: no network's weights .*epoch, iter, .*are in models/net_g_\*\.pth",
    ):
        load_generator(tmp_path / "5.state")
    torch.save(
        {"generator": network.state_dict(), "optimizer": optimiser.state_dict(), **state},
        tmp_path / "whole.pt",
    )
    assert torch.equal(
        load_generator(tmp_path / "whole.pt")[0].conv_last.weight, network.conv_last.weight
    )


@pytest.mark.parametrize(
    "network",
    [
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)),
        build_discriminator({"name": "patchgan", "features": 4, "layers": 3}),
    ],
)
def test_weights_of_another_architecture_name_their_first_keys(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "x.pth")
    first = next(iter(network.state_dict()))
    with pytest.raises(
        UserError, match=rf"x\.pth: .*not an RRDB generator \(first tensors: {first}"
    ):
        load_generator(tmp_path / "x.pth")
    with pytest.raises(UserError, match=rf"x\.pth: .*\(missing: conv_first.*not expected: {first}"):
        load_generator_state(build_generator(TINY, 2), tmp_path / "x.pth")


@pytest.mark.parametrize(
    "name", ["photo.png", "x.onnx", "x.pth", "x.bin", "x.param", "x.safetensors"]
)
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_file_of_something_else_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "x.bin").touch()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{Path(name).stem}\.\w+: "):
        load_generator(tmp_path / name)


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    "where", [lambda trap: trap, lambda trap: {"params": {"x": torch.ones(1)}, "meta": trap}]
)
def test_a_shell_command_in_a_pickle_is_not_run(
    where: Callable[[Command], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(where(Command()), "evil.pth")
    for read in (load_generator, lambda path: convert_weights(path, Path("x.safetensors"))):
        with pytest.raises(
            UserError,
            match=r"evil\.pth: holds Python objects .* \(posix\.system\).* so it is refused",
        ):
            read("evil.pth")
    assert not Path("ran").exists()
    assert not Path("x.safetensors").exists()
    torch.load("evil.pth", weights_only=False)
    assert Path("ran").exists(), "the trap was a real one"


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
    with pytest.raises(
        UserError, match=r"evil\.pth: holds Python objects besides tensors \([\w.]+\).* refused"
    ):
        load_generator_state(build_generator(TINY, 2), path)
    with pytest.raises(UserError, match=r"evil\.pth: holds Python objects"):
        load_generator(path)
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
