"""From photos to an upscaled photo at the scales that the published tracks do not use."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from small_work import TINY, Command, files, write_photos

from realsr.weights import load_generator


@pytest.mark.parametrize(
    ("scale", "kernels", "crop"), [(1, "kernelgan", 16), (3, "spectral", 18), (8, "kernelgan", 32)]
)
def test_photos_become_a_model_of_any_scale(
    scale: int, kernels: str, crop: int, command: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", "abc", (160, 170), block=20)
    settings = [setting for setting in TINY if "crop" not in setting]
    if kernels == "spectral":
        settings = ["kernels.gates=null", *(s for s in settings if not s.startswith("kernels."))]
    arguments = (
        "+track=dped", "data.source=photos", "work_dir=out", *settings, f"kernels={kernels}", f"scale={scale}",
        f"trainer.crop={crop}",
    )  # fmt: skip
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    made = files(tmp_path / "out")
    assert {f"pool/kernels/{n}_kernel_x{s}.mat" for n in "abc" for s in (2, 4, scale)} == {
        name for name in made if name.endswith(".mat")
    }
    sizes = {}
    for kind in ("HR", "LR"):
        with Image.open(tmp_path / f"out/pairs/{kind}/a.png") as image:
            sizes[kind] = image.size
    assert sizes["HR"] == (85 - 85 % scale, 80 - 80 % scale)
    assert sizes["HR"] == tuple(scale * side for side in sizes["LR"])
    if scale == 1:
        hr, lr = ((tmp_path / f"out/pairs/{kind}/a.png").read_bytes() for kind in ("HR", "LR"))
        assert hr != lr, "the kernel blurs, though nothing is left out"
    run = "out/runs/default"
    assert f'"crop": {scale}' in (tmp_path / run / "metrics.json").read_text()
    outcome = command("train", *arguments)
    assert "already trained and evaluated, nothing to do" in outcome.log
    assert files(tmp_path / "out") == made

    outcome = command(
        "upscale", "photos/a.png", "output=a.png", f"weights={run}", "tile=64", "overlap=16"
    )
    assert outcome.code == 0, outcome.log
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (170 * scale, 160 * scale)
    outcome = command(
        "evaluate", f"weights=[{run},bicubic]", "data.hr=out/pairs/HR", "data.lr=out/pairs/LR",
        f"scale={scale}", "device=cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.log

    outcome = command("export", f"weights={run}", "output=x.safetensors")
    assert outcome.code == 0, outcome.log
    generator, found = load_generator(tmp_path / "x.safetensors")
    assert found == scale
    with torch.no_grad():
        assert generator(torch.zeros(1, 3, 5, 4)).shape == (1, 3, 5 * scale, 4 * scale)


def test_scale_1_without_kernels_learns_what_is_added_alone(
    command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = (
        "+track=df2k",
        f"data.source={source}",
        "pairs.hr=[source]",
        "work_dir=out",
        "scale=1",
        *TINY,
    )
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    assert "LR is equal to HR at scale=1 without kernels" in outcome.log
    for name in "abc":
        hr, lr = ((tmp_path / f"out/pairs/{kind}/{name}.png").read_bytes() for kind in ("HR", "LR"))
        assert hr == lr
    outcome = command("evaluate", "weights=[out/runs/default]", f"data.hr={source}", "scale=1")
    assert outcome.code == 1
    assert "scale=1 without data.lr: LR would be equal to HR: set data.lr=DIR" in outcome.log
    outcome = command(
        "upscale", f"input={source}", "output=big", "weights=out/runs/default", "consistency=true"
    )
    assert outcome.code == 1
    assert "consistency=true: at scale 1 the result would be the input" in outcome.log


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("kernels=kernelgan", "trainer.crop=18"),
            "scale=3: kernels.name=kernelgan makes kernels for scales 1, 2, 4 and 8; set kernels=spectral",
        ),
        (("trainer.crop=128",), "trainer.crop=128: expected a multiple of scale=3: set trainer.crop=126"),
        (("discriminator=vgg128", "trainer.crop=126"), "set trainer.crop=128, or use the patch"),
    ],
)  # fmt: skip
def test_scale_3_refuses_what_it_cannot_have_before_any_work(
    settings: tuple[str, ...], message: str, command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = (
        "+track=dped",
        f"data.source={source}",
        "work_dir=out",
        *TINY,
        "scale=3",
        *settings,
    )
    if "vgg128" in " ".join(settings):
        arguments = tuple(a for a in arguments if a != "discriminator=patch_small")
    outcome = command("train", *arguments)
    assert outcome.code == 1
    assert message in outcome.log
    assert not files(tmp_path / "out") or not any(
        "pool" in name for name in files(tmp_path / "out")
    )
