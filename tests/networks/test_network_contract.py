"""What every network of conf/generator and conf/discriminator promises."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch

from config_files import yaml_values
from realsr.config.options import conf_dir
from realsr.core.errors import UserError
from realsr.networks import build_discriminator, build_generator


def options(group: str) -> list[str]:
    """Options of a group that are complete by themselves; those of spandrel where it is installed."""
    names = [path.stem for path in (conf_dir() / group).glob("*.yaml")]
    known = {name: yaml_values(f"{group}/{name}") for name in names}
    return sorted(
        name
        for name, values in known.items()
        if "???" not in values.values()
        and (values["name"] != "spandrel_network" or find_spec("spandrel"))
    )


@pytest.mark.parametrize("option", options("generator"))
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_a_generator_enlarges_by_the_scale(option: str, scale: int) -> None:
    with torch.device("meta"):
        sr = build_generator(yaml_values(f"generator/{option}"), scale)(torch.zeros(2, 3, 8, 12))
    assert sr.shape == (2, 3, 8 * scale, 12 * scale)


@pytest.mark.parametrize("option", options("discriminator"))
def test_a_discriminator_gives_logits_for_each_image(option: str) -> None:
    with torch.device("meta"):
        logits = build_discriminator(yaml_values(f"discriminator/{option}"))(
            torch.zeros(2, 3, 128, 128)
        )
    assert logits.shape[0] == 2
    assert logits.is_floating_point()


@pytest.mark.parametrize("group", ["generator", "discriminator"])
def test_sizes_below_one_are_refused_by_their_keys(group: str) -> None:
    build = partial(build_generator, scale=4) if group == "generator" else build_discriminator
    for option in options(group):
        values = yaml_values(f"{group}/{option}")
        for key in values.keys() - {"name", "architecture", "arguments"}:
            with pytest.raises(UserError, match=rf"{group}\.{key}=0: expected 1 or more"):
                build(values | {key: 0})
