"""Files that declare what no file should: one line that names them, little memory, no code run."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from realsr.core.errors import UserError, WeightsError
from realsr.core.machine import limited_memory
from realsr.inference import onnx_files
from realsr.networks import build_generator
from realsr.weights import load_generator, load_generator_state, save_generator
from realsr.weights.state_files import read_checked, read_weights, select_features

FAULTS = Path(__file__).parents[2] / "experiments/faults"
TINY = {"name": "rrdb", "features": 6, "blocks": 1, "growth": 4}
SOUND = {  # the crafted files that hold what can be used
    "mat": {"cells.mat", "numbers.mat", "h5_cell_numbers.mat", "h5_class_array.mat", "h5_class_number.mat",
            "h5_class_empty.mat", "h5_class_text.mat", "number.mat"},
    "onnx": {"whole.onnx"},
}  # fmt: skip


@pytest.fixture
def malformed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FAULTS)
    return importlib.import_module("malformed_files")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:Sparse")
@pytest.mark.parametrize("kind", ["safetensors", "pickle", "ncnn", "other networks", "mat", "onnx"])
def test_a_file_that_declares_too_much_is_refused_in_one_line(
    kind: str, malformed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_files, "PROBE_LIMIT", 0.5)
    paths = malformed.write(tmp_path, malformed.KINDS[kind]())
    ends = {path.name: malformed.classify(path) for path in paths}
    wrong = {
        name: end
        for name, end in ends.items()
        if end[0] != "refused" and name not in SOUND.get(kind, ())
    }
    assert not wrong
    assert not any(outcome in ("unclear", "traceback") for outcome, _ in ends.values())
    assert not (tmp_path / "touched").exists()


def test_a_mutated_file_ends_in_one_line_or_is_read(malformed: ModuleType, tmp_path: Path) -> None:
    import numpy as np

    for kind, files in malformed.whole_files().items():
        name, content = next(iter(files.items()))
        malformed.write(tmp_path, files)
        assert malformed.classify(tmp_path / name)[0] == "loaded", kind
        for number in range(3):
            rng = np.random.default_rng([number, *kind.encode()])
            (tmp_path / name).write_bytes(malformed.mutate(content, rng))
            assert malformed.classify(tmp_path / name)[0] in ("refused", "loaded"), (kind, number)


def broken_state() -> dict[str, torch.Tensor]:
    state = dict(build_generator(TINY, 2).state_dict())
    for name, value in list(state.items())[3:8]:
        state[name] = value.clone()
        state[name].view(-1)[0] = torch.inf if name.endswith("bias") else torch.nan
    return state


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.pt"])
def test_weights_that_are_not_finite_are_named(name: str, tmp_path: Path) -> None:
    path, state = tmp_path / name, broken_state()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:  # a checkpoint of a training keeps its generator under this key
        torch.save({"generator": state, "step": 3} if path.suffix == ".pt" else state, path)
    name = r"RRDB_trunk\.0\.RDB1\.conv\d\.\w+"
    log = (
        rf"{path.name}: 5 of its {len(state)} tensors hold values that are not finite .*: "
        rf"{name}, {name}, {name}, …; "
    )
    for load in (load_generator, lambda path: load_generator_state(build_generator(TINY, 2), path)):
        with pytest.raises(UserError, match=log):
            load(path)


def test_weights_for_the_loss_that_are_not_finite_are_named(tmp_path: Path) -> None:
    torch.save((torch.full((4,), torch.nan), torch.ones(4, 36)), tmp_path / "x.pth")
    for check in (
        lambda path: read_checked(path, "x", "BRISQUE"),
        lambda path: select_features(
            {"0.weight": torch.full((4,), torch.nan)}, {"0.weight": (4,)}, "x.pth", "VGG19"
        ),
    ):
        with pytest.raises(
            WeightsError, match=r"x\.pth: 1 of its \d tensors hold values that are not finite .*: 0"
        ):
            check(tmp_path / "x.pth")


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    generator = build_generator(TINY, 2)
    torch.nn.init.constant_(generator.conv_last.bias, torch.nan)
    with pytest.raises(
        UserError, match=r"x\.safetensors is not written: 1 of its .*conv_last\.bias"
    ):
        save_generator(tmp_path / "x.safetensors", generator, TINY, 2)
    assert not list(tmp_path.iterdir())


def test_what_a_pickle_attaches_to_a_tensor_is_left_behind(tmp_path: Path) -> None:
    state = dict(build_generator(TINY, 2).state_dict())
    state["conv_first.bias"] = torch.nn.Parameter(state["conv_first.bias"].clone())
    state["conv_first.bias"].clone = 3
    torch.save(state, tmp_path / "x.pth")
    assert all(
        type(value) is torch.Tensor for value in read_weights(tmp_path / "x.pth").state.values()
    )


def test_the_limit_of_memory_holds_inside_the_block_alone() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(MemoryError), limited_memory(0):
        bytearray(3 * 2**30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
