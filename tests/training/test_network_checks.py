from pathlib import Path

import pytest
import torch

from realsr.core.errors import UserError
from realsr.training.state import check_networks

CODE = """
import torch
from torch import nn

class Up(nn.ConvTranspose2d):
    # like many networks, it looks at a value while it is built, which is none on the meta device
    def __init__(self, scale, factor=None, extra=0):
        self_rates = [x.item() for x in torch.linspace(0, 1, 3)]
        super().__init__(3, 3 + extra, factor or scale, factor or scale)

class Pair(Up):
    def forward(self, x):
        return x, super().forward(x)

class Failing(Up):
    def forward(self, x):
        return x @ x.flatten()

class Critic(nn.Module):
    def __init__(self, kind="logits"):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 1, 4, 4)

    def forward(self, x):
        y = self.conv(x)
        return {"logits": y, "one": y.mean((1, 2, 3)), "mean": y.mean(), "list": [y], "whole": y.long(),
                "first": y[:1], "none": y[:, :0]}[self.kind]
"""


@pytest.fixture(autouse=True)
def own_nets(own_modules: Path) -> None:
    (own_modules / "checked_nets.py").write_text(CODE)


def check(
    generator: str = "Up",
    critic: str | None = None,
    batch: int = 2,
    crop: int = 16,
    **arguments: object,
) -> None:
    discriminator = critic and {"name": "checked_nets.Critic", "kind": critic}
    config = {"name": f"checked_nets.{generator}", **arguments}
    check_networks(config, discriminator or None, 2, crop, batch)


@pytest.mark.parametrize("critic", [None, "logits", "one"])
def test_networks_that_fit_pass_and_use_up_no_chance(critic: str | None) -> None:
    before = torch.random.get_rng_state()
    check(critic=critic)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("generator", "arguments", "message"),
    [
        (
            "Up",
            {"factor": 4},
            r"Up: it returned a tensor \(2, 3, 32, 32\) .*for images of \(2, 3, 8, 8\); "
            r"at scale=2 expected \(2, 3, 16, 16",
        ),
        ("Up", {"extra": 1}, r"it returned a tensor \(2, 4, 16, 16\)"),
        ("Pair", {}, r"it returned a tuple for images of .*; at scale=2 expected"),
        (
            "Failing",
            {},
            r"Failing: failed on images of \(2, 3, 8, 8\): RuntimeError: .*checked_nets\.py, line 17\)",
        ),
    ],
)
def test_a_generator_that_does_not_fit_is_told(
    generator: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check(generator, **arguments)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "mean",
            r"Critic: it returned a tensor \(\) .*for 2 images; expected logits for each image",
        ),
        ("list", r"returned a list for 2 images; expected logits"),
        ("whole", r"returned a tensor \(2, 1, 4, 4\) of torch.int64 for 2 images; expected"),
        (
            "first",
            r"it returned a tensor \(1, 1, 4, 4\) of torch.float32 for 2 images; expected .* tensor \(2, …\)",
        ),
        ("none", r"it returned a tensor \(2, 0, 4, 4\)"),
    ],
)
def test_a_discriminator_that_gives_no_logits_is_told(kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(critic=kind)


def test_a_generator_without_parameters_and_crops_that_do_not_fit_are_told() -> None:
    identity = {"name": "torch.nn.Identity"}
    with pytest.raises(UserError, match=r"torch\.nn\.Identity: has no trainable parameters"):
        check_networks(identity, None, 2, 16, 2)
    with pytest.raises(UserError, match="needs images of at least 24x24"):
        check_networks(
            {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4},
            {"name": "patchgan", "features": 64, "layers": 3},
            2,
            16,
            2,
        )
