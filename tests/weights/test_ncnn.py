import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from official_models import Published
from realsr.core.errors import UserError
from realsr.networks import build_generator
from realsr.weights import load_generator, load_generator_state

MakeNetwork = Callable[..., nn.Module]
GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "rrdb_official.npz"


def write_ncnn(folder: Path, state: Mapping[str, Tensor], half: bool) -> Path:
    """A .param with the layers that matter, and a .bin, as ncnn's description has them."""
    lines, content = ["Input data 0 1 data"], b""
    for name, value in state.items():
        if name.endswith(".bias"):
            content += value.numpy().astype("<f4").tobytes()
            continue
        if name.startswith("upconv"):
            lines.append(f"Interp Resize_{name} 1 1 {len(lines)} u{len(lines)} 0=1 1=2.0 2=2.0")
        lines.append(f"Convolution {name} 1 1 a b 0={len(value)} 1=3 4=1 5=1 6={value.numel()} 9=2")
        data = value.numpy().astype("<f2" if half else "<f4").tobytes()
        content += struct.pack("<I", 0x01306B47 if half else 0) + data + bytes(-len(data) % 4)
    (folder / "x4.param").write_text("\n".join(["7767517", f"{len(lines)} 99", *lines]) + "\n")
    (folder / "x4.bin").write_bytes(content)
    return folder / "x4.param"


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_an_ncnn_model_is_the_network_it_was_written_from(
    half: bool, scale: int, make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    # 5 features and growth 1: 45 float16 numbers, which need padding.
    network = make_network(scale, features=5, growth=1)
    param = write_ncnn(tmp_path, network.state_dict(), half)
    if half:
        network.load_state_dict(
            {
                name: v.half().float() if v.ndim == 4 else v
                for name, v in network.state_dict().items()
            }
        )
    for source in (param, param.with_suffix(".bin"), str(tmp_path)):
        generator, found = load_generator(source)
        assert found == scale
        assert same_output(generator, network)
    filled = make_network(scale, features=5, growth=1)
    nn.init.zeros_(filled.conv_first.weight)
    load_generator_state(filled, tmp_path)
    assert same_output(filled, network)
    with pytest.raises(UserError, match=r"they fit generator\.blocks=2 generator\.growth=1$"):
        load_generator_state(make_network(scale, features=5, blocks=1), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c[:-1],
            r"x4\.bin: damaged, or not the weights of x4\.param \(the file ends within conv_last\.bias",
        ),
        (
            lambda c: c[: len(c) // 2],
            r"x4\.bin: damaged.* ends within RRDB_trunk\.\d\.RDB\d\.conv\d\.\w+, after \d+ bytes",
        ),
        (lambda c: b"", "ends within conv_first.weight, after 0 bytes"),
        (lambda c: c + b"\0\0\0\0", "4 bytes are missing, or left over"),
        (
            lambda c: b"\x83\x8b\x34\x01" + c[4:],
            r"conv_first\.weight is neither float32 nor float16: the network is quantised",
        ),
    ],
)
def test_a_damaged_bin_is_told(
    change: Callable[[bytes], bytes], message: str, make_network: MakeNetwork, tmp_path: Path
) -> None:
    param = write_ncnn(tmp_path, make_network().state_dict(), half=True)
    binary = param.with_suffix(".bin")
    binary.write_bytes(change(binary.read_bytes()))
    with pytest.raises(UserError, match=message):
        load_generator(param)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517\n", "7767517\n1", "the header states 1"),
        (
            "Input data 0 1 data",
            "BatchNorm bn 1 1 a b 0=6",
            "layer bn is of type BatchNorm",
        ),
        (
            "HRconv.weight 1 1 a b 0=6 1=3",
            "HRconv.weight 1 1 a b 0=6 1=5",
            "HRconv.weight is not a 3x3",
        ),
        (
            "HRconv.weight 1 1 a b 0=6 1=3",
            "HRconv.weight 1 1 a b 0=6 1=3 3=2",
            "HRconv.weight is not a 3x3",
        ),
        ("HRconv.weight 1 1 a b 0=6 1=3 4=1 5=1", "HRconv.weight 1 1 a b 0=6 1=3 4=1", "with bias"),
        (
            "HRconv.weight 1 1 a b 0=6",
            "HRconv.weight 1 1 a b 0=7",
            "HRconv.weight has 7 outputs and 324",
        ),
        ("HRconv.weight 1 1", "HRconv.weight 9 9", "the line of HRconv.weight is incomplete"),
        (
            "Interp Resize_upconv2.weight",
            "Split x",
            "no RRDB has 36 convolutions and 1 upsampling stages",
        ),
        ("conv_first.weight 1 1 a b 0=6", "conv_first.weight 1 1 a b 0=999999999", ""),
    ],
)
def test_a_foreign_param_is_told(
    old: str, new: str, message: str, make_network: MakeNetwork, tmp_path: Path
) -> None:
    param = write_ncnn(tmp_path, make_network().state_dict(), half=False)
    text = param.read_text()
    assert old in text
    param.write_text(text.replace(old, new))
    with pytest.raises(
        UserError, match=rf"x4\.param: not an RRDB generator in ncnn's text form \(.*{message}"
    ):
        load_generator(param)


def test_a_binary_param_and_a_missing_half_are_told(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    param = write_ncnn(tmp_path, make_network().state_dict(), half=False)
    param.write_bytes(b"\xdd\x85\x76\x00\xff\xfe")
    with pytest.raises(UserError, match=r"x4\.param: is a binary ncnn .param file"):
        load_generator(param)
    param.unlink()
    with pytest.raises(
        UserError, match=r"x4\.param: no such file; an ncnn model is a \.param and a \.bin"
    ):
        load_generator(param.with_suffix(".bin"))


def test_the_published_sizes_have_351_convolutions() -> None:
    with torch.device("meta"):
        state = build_generator(
            {"name": "rrdb", "features": 64, "blocks": 23, "growth": 32}, 4
        ).state_dict()
    assert sum(name.endswith(".weight") for name in state) == 351


@pytest.mark.parametrize("name", ["DF2K", "DF2K_JPEG"])
@torch.no_grad()
def test_published_models_give_the_output_of_an_independent_implementation(
    name: str, published: Published
) -> None:
    if not GOLDEN.exists():
        pytest.skip("no shared/golden/rrdb_official.npz beside this checkout")
    skimage_data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    generator, scale = load_generator(published(name.lower()))
    lr = torch.from_numpy(
        skimage_data.astronaut()[200:240, 200:248].transpose(2, 0, 1) / 255
    ).float()
    expected = np.load(GOLDEN)[f"output_{name}"]
    assert scale == 4
    assert np.abs(generator(lr[None])[0].numpy() - expected).max() < 1e-4
