from pathlib import Path

import numpy as np
import pytest
import torch
from small_rrdb import make_rrdb
from torch import nn

from official_models import Published
from realsr.core.errors import UserError
from realsr.imaging import resize
from realsr.inference.model import load_model
from realsr.weights import save_generator

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "rrdb_official.npz"
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def save_rrdb(path: Path, scale: int = 4) -> nn.Module:
    network = make_rrdb(scale)
    save_generator(path, network, {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}, scale)
    return network


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@torch.no_grad()
def test_a_generator_of_ours_runs(scale: int, tmp_path: Path) -> None:
    network = save_rrdb(tmp_path / "x.safetensors", scale)
    x = torch.rand(2, 3, 5, 7)
    model = load_model(str(tmp_path / "x.safetensors"), CPU, "fp32", scale=scale)
    assert (model.scale, model.device) == (scale, CPU)
    assert (model.run(x) - network(x)).abs().max() < 1e-5
    half = load_model(tmp_path / "x.safetensors", CPU, "bf16").run(x)
    assert half.dtype == torch.float32
    assert 0 < (half - network(x)).abs().max() < 0.05
    with pytest.raises(UserError, match=rf"trained for scale {scale}, but scale=5 was set"):
        load_model(tmp_path / "x.safetensors", CPU, scale=5)


def test_bicubic_is_a_model_of_any_scale() -> None:
    x = torch.rand(2, 3, 5, 7)
    assert torch.equal(load_model("bicubic", CPU, scale=3).run(x), resize(x, factor=3.0))
    with pytest.raises(
        UserError, match="bicubic has no scale of its own: set scale, for instance scale=4"
    ):
        load_model("bicubic", CPU)


@torch.no_grad()
def test_a_network_of_ones_own_runs(own_modules: Path) -> None:
    (own_modules / "my_network.py").write_text(
        "import torch\ndef make(scale): return torch.nn.Conv2d(3, 3, 1)\n"
    )
    network = nn.Conv2d(3, 3, 1)
    save_generator(Path("x.safetensors"), network, {"name": "my_network.make"}, 1)
    x = torch.rand(1, 3, 4, 4)
    with pytest.raises(UserError, match="set allow_custom_code=true"):
        load_model("x.safetensors", CPU)
    assert torch.equal(
        load_model("x.safetensors", CPU, "fp32", allow_custom_code=True).run(x), network(x)
    )
    half = load_model("x.safetensors", CPU, "bf16", allow_custom_code=True).run(x)
    assert half.dtype == torch.float32
    assert 0 < (half - network(x)).abs().max() < 0.02


@pytest.mark.parametrize("name", ["DF2K", "DF2K_JPEG"])
def test_published_models_give_the_output_of_an_independent_implementation(
    name: str, published: Published
) -> None:
    if not GOLDEN.exists():
        pytest.skip("no shared/golden/rrdb_official.npz beside this checkout")
    skimage_data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    source = published(name.lower())
    lr = torch.from_numpy(
        skimage_data.astronaut()[200:240, 200:248].transpose(2, 0, 1) / 255
    ).float()
    expected = np.load(GOLDEN)[f"output_{name}"]
    exact = load_model(source, CPU, "fp32").run(lr[None])[0].numpy()
    assert np.abs(exact - expected).max() < 1e-4
    # 0.02 dB of a PSNR of 30 dB are 0.5 % of its squared error, which an independent error of 53 dB makes
    half = load_model(source, CPU, "bf16").run(lr[None])[0].numpy()
    assert -10 * np.log10(np.square(half - expected).mean()) > 57
