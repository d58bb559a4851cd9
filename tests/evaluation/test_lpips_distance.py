import logging
import warnings
from pathlib import Path

import lpips
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from config_files import config_of
from realsr.core.errors import WeightsError
from realsr.evaluation.metrics.lpips import LPIPS
from realsr.training.settings import TrainerConfig
from realsr.training.validation import make_lpips

CPU = torch.device("cpu")


def load_lpips(weights: Path) -> LPIPS:
    return LPIPS("alex", CPU, {"alexnet": weights})


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """The library's own network, with a seeded AlexNet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    generator = torch.Generator().manual_seed(0)
    for parameter in net.net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 200
        parameter.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return net


@pytest.fixture(scope="module")
def state(reference: nn.Module) -> dict[str, Tensor]:
    """As torchvision's file: prefix and a classifier (small here)."""
    state = {
        f"features.{key.partition('.')[2]}": value
        for key, value in reference.net.state_dict().items()
    }
    return state | {"classifier.1.weight": torch.ones(3, 2)}


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(state, path)
    return path


def images() -> tuple[Tensor, Tensor]:
    """Two images on the 8-bit grid."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randint(0, 256, (3, 40, 52), generator=generator) for _ in range(2))
    return a / 255, (0.8 * a + 0.2 * b).round() / 255


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_it_is_the_library_s_number(
    suffix: str, reference: nn.Module, state: dict[str, Tensor], weights: Path, tmp_path: Path
) -> None:
    if suffix == ".safetensors":
        weights = tmp_path / "alexnet.safetensors"
        save_file(state, weights)
    distance = load_lpips(weights).compute
    a, b = images()
    with torch.no_grad():
        expected = float(reference(a[None] * 2 - 1, b[None] * 2 - 1))
    assert expected > 0.001
    assert distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert distance(a, a) == 0


def test_images_are_clamped_and_rounded_to_8_bit(weights: Path) -> None:
    distance = load_lpips(weights).compute
    a, b = images()
    assert distance(a + 0.4 / 255, b) == distance(a, b)
    assert distance(a + 0.6 / 255, b) != distance(a, b)
    assert distance(torch.full_like(a, 1.7), torch.ones_like(a)) == 0


def test_other_images_are_refused_with_their_shapes(weights: Path) -> None:
    distance = load_lpips(weights).compute
    assert distance(torch.zeros(3, 31, 31), torch.zeros(3, 31, 31)) == 0
    with pytest.raises(ValueError, match="LPIPS needs at least 31x31 pixels, got 31x30"):
        distance(torch.zeros(3, 30, 31), torch.zeros(3, 30, 31))
    for shape in ((1, 40, 40), (1, 3, 40, 40)):
        with pytest.raises(ValueError, match=r"LPIPS: expected .*\(3, H, W\).* got \("):
            distance(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ValueError, match=r"of one shape.*\(3, 40, 40\) and \(3, 40, 41\)"):
        distance(torch.zeros(3, 40, 40), torch.zeros(3, 40, 41))


def test_loading_says_nothing_and_spends_no_random_number(
    weights: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    before = torch.random.get_rng_state()
    load_lpips(weights)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


def test_torchvision_s_cached_copy_is_found_and_nothing_is_downloaded(
    state: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def download(*args: object, **options: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with caplog.at_level(logging.INFO, logger="realsr"):
        assert make_lpips(config_of(TrainerConfig), [], CPU) is None
    (record,) = caplog.records
    folder = tmp_path / "checkpoints"
    assert "run python -m realsr.fetch what=[alexnet]" in record.getMessage()
    assert "trainer.lpips_weights=FILE" in record.getMessage()
    folder.mkdir()
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")
    assert make_lpips(config_of(TrainerConfig), [], CPU) is not None


def test_wrong_files_are_errors_that_name_them(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"nowhere\.pth: there is no such file \(trainer\.lpips_weights\)"
    ):
        make_lpips(config_of(TrainerConfig, lpips_weights=tmp_path / "nowhere.pth"), [], CPU)
    path = tmp_path / "broken.pth"
    path.write_bytes(b"half a file")
    with pytest.raises(
        WeightsError, match=r"broken\.pth: is a text .*Expected: a state dict of AlexNet"
    ):
        load_lpips(path)
    torch.save({key: value for key, value in state.items() if "10" not in key}, path)
    with pytest.raises(
        WeightsError, match=r"AlexNet's feature layers \(missing: 10\.weight, 10\.bias\)"
    ):
        load_lpips(path)
    torch.save(state | {"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(
        WeightsError, match=r"0\.weight \(64, 3, 3, 3\) instead of \(64, 3, 11, 11\)"
    ):
        load_lpips(path)
