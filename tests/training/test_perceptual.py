import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg16, vgg19, vgg19_bn

from realsr.core.errors import WeightsError
from realsr.training.loss_terms.perceptual import VGGFeatures


@pytest.fixture(scope="module")
def reference() -> nn.Sequential:
    """torchvision's own VGG19 features with seeded weights; its classifier (120 M values) stays on meta."""
    with torch.device("meta"):
        net = vgg19(weights=None, init_weights=False)
    features = net.features.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in features.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 200
        parameter.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return features.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def state(reference: nn.Sequential) -> dict[str, Tensor]:
    """As torchvision's file: prefix and a classifier (small here)."""
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    return state | {"classifier.0.weight": torch.ones(3, 2), "classifier.0.bias": torch.ones(3)}


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_features_are_torchvision_s_layer_34_of_the_normalised_image(
    reference: nn.Sequential, weights: Path
) -> None:
    x = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    kept = x.clone()
    normalised = torch.stack(
        [
            (x[:, 0] - 0.485) / 0.229,
            (x[:, 1] - 0.456) / 0.224,
            (x[:, 2] - 0.406) / 0.225,
        ],
        dim=1,
    )
    net = VGGFeatures("vgg19", weights)
    result = net(x)
    assert result.shape == (2, 512, 3, 2)
    torch.testing.assert_close(result, reference[:35](normalised), rtol=1e-4, atol=1e-5)
    assert result.min() < 0, "the ReLU after conv5_4 must not be applied"
    assert torch.equal(x, kept), "the ReLUs in place must not touch the input"
    assert torch.equal(net(x), result), "nor anything that a second call sees"


def test_frozen_but_the_gradient_reaches_the_image(weights: Path) -> None:
    net = VGGFeatures("vgg19", weights)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


@pytest.mark.parametrize(
    "form", ["features only", "without prefix", "half precision", "safetensors"]
)
def test_other_forms_of_the_same_weights(
    form: str, state: dict[str, Tensor], weights: Path, tmp_path: Path
) -> None:
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    path = tmp_path / ("vgg.safetensors" if form == "safetensors" else "vgg.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "features only":
        torch.save(features, path)
    elif form == "without prefix":
        torch.save({key.removeprefix("features."): value for key, value in features.items()}, path)
    else:
        torch.save({key: value.half() for key, value in state.items()}, path)
    net = VGGFeatures("vgg19", path)
    for key, value in VGGFeatures("vgg19", weights).state_dict().items():
        assert net.state_dict()[key].dtype == torch.float32
        assert torch.equal(
            net.state_dict()[key], value.half().float() if form == "half precision" else value
        )


def test_no_random_number_is_spent(weights: Path) -> None:
    before = torch.random.get_rng_state()
    VGGFeatures("vgg19", weights)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_a_file_the_weights_are_torchvision_s(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]
) -> None:
    asked = []

    def load(url: str, **options: object) -> dict[str, Tensor]:
        asked.append((url, options))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    VGGFeatures("vgg19", None)
    ((url, options),) = asked
    assert url == VGG19_Weights.IMAGENET1K_V1.url
    assert options["weights_only"] is True
    assert options["check_hash"] is True


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (URLError("no route"), "the download fails"),
        (OSError("disk full"), "the download fails"),
        (RuntimeError("invalid hash value"), "the downloaded copy is damaged"),
        (EOFError(), "the downloaded copy is damaged"),
    ],
)
def test_failed_download_names_three_ways_out(
    failure: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as error:
        VGGFeatures("vgg19", None)
    message = str(error.value)
    assert f"put vgg19-dcbb9e9d.pth into {tmp_path / 'hub' / 'checkpoints'}" in message
    assert "loss.perceptual.weights=FILE" in message
    assert "loss.perceptual.weight=0" in message
    assert f"cannot be loaded ({reason})" in message


def test_damaged_cached_download_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    cached = tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth"
    cached.parent.mkdir()
    cached.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match="delete a damaged copy there"):
        VGGFeatures("vgg19", None)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("format", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(format: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    content = {"features.0.weight": Malicious(marker)}
    if format == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match=r"evil\.pth.*refused"):
        VGGFeatures("vgg19", path)
    assert not marker.exists()
    if format == "torch":  # the trap was a real one
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 1000, 100_000])
def test_truncated_file_is_an_error_that_names_it(
    suffix: str, kept: int, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"vgg{suffix}"
    small = {key: value for key, value in state.items() if value.numel() < 100_000}
    if suffix == ".pth":
        torch.save(small, path)
    else:
        save_file(small, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        WeightsError, match=rf"vgg\{suffix}: is (empty|truncated|damaged).* a state dict of VGG19"
    ):
        VGGFeatures("vgg19", path)


def test_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth: there is no such file"):
        VGGFeatures("vgg19", tmp_path / "nowhere.pth")


def shapes_only(net: nn.Module) -> dict[str, Tensor]:
    """A state dict with the net's keys and shapes that costs nothing to save."""
    return {
        key: torch.zeros(()).expand(value.shape)
        for key, value in net.state_dict().items()
        if key.startswith("features.")
    }


def test_another_architecture_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    with torch.device("meta"):
        nets = {"vgg16": vgg16(weights=None), "vgg19_bn": vgg19_bn(weights=None)}
    told = {
        "vgg16": (r"missing: 16\.weight, 16\.bias, 23\.weight", r"not of VGG19: 17\.weight"),
        "vgg19_bn": (r"missing: 2\.weight, 2\.bias, 5\.weight", r"not of VGG19: 1\.weight"),
    }
    for name, net in nets.items():
        path = tmp_path / f"{name}.pth"
        torch.save(shapes_only(net), path)
        with pytest.raises(WeightsError, match=rf"{name}\.pth.*") as error:
            VGGFeatures("vgg19", path)
        for pattern in told[name]:
            assert pattern.replace("\\", "") in str(error.value)


def test_wrong_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    with torch.device("meta"):
        content: dict[str, object] = dict(shapes_only(vgg19(weights=None, init_weights=False)))
    content["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    content["features.2.bias"] = "words"
    path = tmp_path / "gray.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError) as error:
        VGGFeatures("vgg19", path)
    assert "0.weight (64, 1, 3, 3) instead of (64, 3, 3, 3)" in str(error.value)
    assert "2.bias str instead of (64,)" in str(error.value)


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tensor.pth"
    torch.save(torch.zeros(3), path)
    with pytest.raises(
        WeightsError, match=r"tensor\.pth: holds no state dict; expected one of VGG19"
    ):
        VGGFeatures("vgg19", path)
