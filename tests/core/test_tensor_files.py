import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from realsr.core.tensor_files import describe_tensors, is_counter, strip_prefixes
from realsr.networks import build_discriminator

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_a_counter_is_one_whole_number() -> None:
    assert is_counter(NETWORK.state_dict()["1.num_batches_tracked"])
    assert is_counter(torch.tensor(True))
    for other in (torch.tensor(3.0), torch.zeros(1, dtype=torch.long), 3):
        assert not is_counter(other)


def test_prefixes_that_all_names_share_come_off_one_by_one() -> None:
    state = AveragedModel(nn.ModuleDict({"_orig_mod": NETWORK})).state_dict()
    assert "n_averaged" in state
    assert "module._orig_mod.0.weight" in state
    stripped = list(strip_prefixes(state))
    assert stripped[-1].keys() - {"n_averaged"} == NETWORK.state_dict().keys()
    assert all(
        torch.equal(stripped[-1][name], value) for name, value in NETWORK.state_dict().items()
    )
    assert [len(part) for part in stripped] == [len(state)] * 3
    assert len(list(strip_prefixes({"weight": torch.zeros(3)}))) == 1


def matrix(*shape: int) -> Tensor:
    return torch.zeros(*shape)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            build_discriminator({"name": "patchgan", "features": 4, "layers": 3}).state_dict(),
            "a discriminator",
        ),
        (build_discriminator({"name": "vgg128", "features": 4}).state_dict(), "a discriminator"),
        (
            {"conv0.weight": matrix(8, 3, 3, 3), "conv9.weight": matrix(1, 8, 3, 3)},
            "a discriminator",
        ),
        (
            {"features.0.weight": matrix(8, 3, 3, 3), "classifier.0.weight": matrix(10, 8)},
            "a classifier with 10 classes",
        ),
        ({"down.lora_A.weight": matrix(4, 8), "down.lora_B.weight": matrix(8, 4)}, "a LoRA"),
        ({"body.0.rdb1.conv1.weight": matrix(4, 8, 3, 3)}, "an RRDB generator"),
    ],
)
def test_what_tensors_look_like(state: dict[str, Tensor], expected: str) -> None:
    assert f"It looks like {expected}" in describe_tensors(state)


def test_of_a_generator_nothing_wrong_is_said() -> None:
    for state in (
        {"a.weight": matrix(8, 3, 3, 3), "b.weight": matrix(3, 8, 3, 3)},  # convolutions to RGB
        {"a.weight": matrix(8, 3, 3, 3), "b.weight": matrix(48, 8, 3, 3)},  # pixel-shuffle
        {"a.weight": matrix(8, 1, 3, 3), "b.weight": matrix(1, 8, 3, 3)},  # gray
        {"weight": matrix(3), "step": torch.tensor(3)},
        {},
    ):
        assert describe_tensors(state) == ""
