import re
from pathlib import Path

import pytest
import torch
from torch import nn

from realsr.core.errors import UserError
from realsr.networks import build_discriminator, build_generator
from realsr.networks.patchgan import PatchGAN
from realsr.networks.rrdb import RRDB
from realsr.networks.vgg128 import VGG128

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, scale, width=3):
        super().__init__()
        self.scale, self.width = scale, width
        if width < 0:
            raise ValueError("the width is negative")

class Critic(nn.Module):
    def __init__(self, width, *, slope=0.2):
        super().__init__()
        self.width, self.slope = width, slope

def make(scale):
    return nn.Conv2d(3, 3, scale)

def give_text(scale):
    return "text"

NUMBER = 3
"""


@pytest.fixture(autouse=True)
def folder(own_modules: Path) -> Path:
    (own_modules / "own").mkdir()
    (own_modules / "own" / "nets.py").write_text(CODE)
    (own_modules / "lacking.py").write_text("import torch\nimport surely_not_there\n")
    (own_modules / "wrong.py").write_text("x = 1\nclass Net(:\n")
    (own_modules / "failing.py").write_text("x = 1\n\ny = 1 / 0\n")
    return own_modules


def test_names_of_the_package() -> None:
    assert isinstance(
        build_generator({"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}, 2), RRDB
    )
    assert isinstance(
        build_discriminator({"name": "patchgan", "features": 4, "layers": 3}), PatchGAN
    )
    assert isinstance(build_discriminator({"name": "vgg128", "features": 4}), VGG128)


def test_a_dotted_name_is_called_with_its_arguments() -> None:
    net = build_generator({"name": "own.nets.Net", "width": 7}, 2)
    assert (net.scale, net.width) == (2, 7)
    assert build_generator({"name": "own.nets.Net"}, 4).width == 3
    critic = build_discriminator({"name": "own.nets.Critic", "width": 5, "slope": 0.1})
    assert (critic.width, critic.slope) == (5, 0.1)
    assert isinstance(build_generator({"name": "own.nets.make"}, 4), nn.Conv2d)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("other", {}, "expected one of patchgan, rrdb, spandrel_network, unet, vgg128, or a custom module.Class"),
        ("rrdb", {"width": 3}, "unknown key generator.width. rrdb has: features, blocks, growth."),
        ("nowhere.Net", {}, "no module nowhere in the current folder {folder} or installed packages"),
        ("own.nowhere.Net", {}, "no module own.nowhere in"),
        ("own.nets.Net.Inner", {}, "no module own.nets.Net"),
        (".nets.Net", {}, "importing .nets failed: TypeError"),
        ("lacking.Net", {}, "importing lacking failed: ModuleNotFoundError: No module named 'surely_not_there' "
                            "({folder}/lacking.py, line 2)"),
        ("wrong.Net", {}, "importing wrong failed: SyntaxError: invalid syntax (wrong.py, line 2)"),
        ("failing.Net", {}, "importing failing failed: ZeroDivisionError: division by zero "
                            "({folder}/failing.py, line 3)"),
        ("own.nets.net", {}, "own/nets.py has no net; it defines Net, Critic, make, give_text"),
        ("own.nets.NUMBER", {}, "has NUMBER, which is a int"),
        ("own.nets.give_text", {}, "it returned a str; expected a torch.nn.Module"),
        ("own.nets.Net", {"abc": 1}, "unknown key generator.abc. own.nets.Net has: width."),
        ("own.nets.Net", {"scale": 1}, "unknown key generator.scale. own.nets.Net has: width."),
        ("own.nets.Net", {"width": -1}, "failed: ValueError: the width is negative ({folder}/own/nets.py, line 9)"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_told(
    name: str, arguments: dict[str, object], message: str, folder: Path
) -> None:
    with pytest.raises(
        UserError, match=rf"^generator\.name={re.escape(name)}: |^unknown key generator\."
    ) as caught:
        build_generator({"name": name, **arguments}, 2)
    assert message.replace("{folder}", str(folder)) in str(caught.value)


def test_discriminators_are_told_by_their_role() -> None:
    with pytest.raises(UserError, match=r"discriminator\.name=a\.B: no module a"):
        build_discriminator({"name": "a.B"})
    with pytest.raises(
        UserError,
        match=r"discriminator\.name=other: expected one of patchgan, .*or a custom module\.Class",
    ):
        build_discriminator({"name": "other", "features": 64, "layers": 3})
    with pytest.raises(
        UserError, match=r"unknown key discriminator\.k\. patchgan has: features, layers\."
    ):
        build_discriminator({"name": "patchgan", "features": 64, "layers": 3, "k": 1})


def test_a_failure_within_torch_is_told_with_the_users_line(folder: Path) -> None:
    (folder / "within.py").write_text(
        "from torch import nn\n\ndef make(scale):\n    return nn.Conv2d(3, 5, 3, groups=2)\n"
    )
    with pytest.raises(
        UserError, match=r"in_channels must be divisible by groups \(\S+/within\.py, line 4\)$"
    ):
        build_generator({"name": "within.make"}, 2)


def test_the_networks_of_the_package_are_found_by_their_paths() -> None:
    name, arguments = "realsr.networks.rrdb.RRDB", {"features": 4, "blocks": 1, "growth": 2}
    with torch.device("meta"):
        assert isinstance(build_generator({"name": name, **arguments}, 2), RRDB)
