import pytest

from config_files import config_of, head
from realsr.config.composition import load_config, load_protocol
from realsr.config.options import conf_dir, list_options
from realsr.config.schema import EvaluateConfig
from realsr.core.errors import UserError
from realsr.evaluation.protocol import Protocol, list_changes, resolve
from realsr.evaluation.report import Setting

NAMES = ["basicsr", "ntire2020", "ntire2020_track2", "realsr_release", "vacc"]


def composed(*overrides: str) -> EvaluateConfig:
    return load_config("evaluate", overrides)


def test_the_named_protocols() -> None:
    assert list_options("protocol") == NAMES
    release, basicsr, ntire, track2, vacc = (
        resolve(load_protocol(name), 4)
        for name in ("realsr_release", "basicsr", "ntire2020", "ntire2020_track2", "vacc")
    )
    assert (release.crop, release.metrics) == (4, ["psnr", "ssim", "psnr_y", "ssim_y"])
    assert (basicsr.crop, basicsr.metrics) == (4, ["psnr", "ssim"])
    assert (ntire.crop, ntire.metrics) == (0, ["psnr", "ssim_uniform", "lpips_alex"])
    assert (track2.crop, track2.metrics) == (0, ["niqe", "brisque", "piqe", "nrqm", "pi"])
    assert (vacc.crop, vacc.metrics, vacc.hr_side, vacc.lr) == (0, ["psnr", "ssim"], 512, "area")
    assert resolve(load_protocol("realsr_release"), 2).crop == 2, "that of the scale"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_says_what_it_is(name: str) -> None:
    assert load_protocol(name).name == name
    assert load_protocol(name).note
    text = head(conf_dir() / "protocol" / f"{name}.yaml")
    for word in ("crop ", "rounding ", "colour ", "SSIM window ", "resizing "):
        assert f"\n# {word}" in text


def test_a_protocol_is_chosen_and_changed_on_the_command_line() -> None:
    assert composed("data.hr=x").protocol == load_protocol("realsr_release")
    for name in NAMES:
        assert composed(f"protocol={name}").protocol == load_protocol(name)
    protocol = resolve(
        composed("protocol.crop=0", "protocol.metrics=[psnr,lpips_alex]").protocol, 4
    )
    changes = list_changes(protocol, resolve(load_protocol("realsr_release"), 4))
    assert changes == ["crop=0", "metrics=[psnr,lpips_alex]"]
    assert (
        "protocol realsr_release, changed: crop=0 metrics=[psnr,lpips_alex]: x4"
        in Setting(protocol, changes, 4, "fp32", "cpu").describe()
    )
    same = resolve(composed("protocol.crop=4").protocol, 4)
    assert not list_changes(same, resolve(load_protocol("realsr_release"), 4)), (
        "the scale's, said in another way"
    )


def describe(protocol: Protocol, *options: object, **more: object) -> str:
    return Setting(protocol, [], *options, "fp32", "cpu", **more).describe().splitlines()[0]  # type: ignore[arg-type]


def test_the_line_tells_how_images_were_made() -> None:
    line = describe(resolve(load_protocol("vacc"), 4), 4)
    assert line == (
        "protocol vacc: x4, 8 bit, 0 border pixels cropped; HR: original resized to 512x512 by INTER_AREA; "
        "LR the original resized by INTER_AREA, in 8 bit"
    )
    plain = config_of(Protocol, crop=1)
    assert describe(plain, 2, lr="folder", hr=False).endswith(
        "1 border pixels cropped; no HR; LR from folder"
    )
    assert describe(plain, 2, lr="folder").endswith("HR cropped to a multiple of 2; LR from folder")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": []}, "name at least one metric"),
        ({"metrics": ["psnr", "psnr"]}, "expected each metric once"),
        ({"lr": "nearest"}, "protocol.lr=nearest: expected one of bicubic, area"),
        ({"hr_side": 510}, "protocol.hr_side=510: expected a multiple of scale=4"),
        ({"hr_side": 0}, "protocol.hr_side=0"),
        ({"crop": -1}, "protocol.crop=-1: expected 0 or more"),
    ],
)
def test_values_that_cannot_be_used(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        resolve(config_of(Protocol, **{"metrics": ["psnr"], **values}), 4)  # type: ignore[arg-type]
