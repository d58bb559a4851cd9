import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.models import vgg19

from realsr.data.look import Look
from realsr.data.pairs import Pair
from realsr.data.validation import load_validation
from realsr.errors import UserError
from realsr.networks import DiscriminatorConfig, GeneratorConfig, WeightsError, build_generator
from realsr.training.checkpoints import list_checkpoints
from realsr.training.loop import TrainingConfig, choose_device, train
from realsr.training.losses import LossConfig, PerceptualConfig

MakeConfig = Callable[..., TrainingConfig]
Weights = dict[str, torch.Tensor]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_resuming_gives_the_weights_of_a_training_in_one_go(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path
) -> None:
    look = Look([pairs[0].lr], [30, 95])
    whole = load_file(train(pairs, look, [], tmp_path / "whole", make_config()))
    four = load_file(train(pairs, look, [], tmp_path / "parts", make_config(max_steps=4)))
    assert not same(whole, four)
    parts = load_file(train(pairs, look, [], tmp_path / "parts", make_config()))
    assert same(whole, parts)
    # a newest checkpoint that a crash has torn costs its steps, and changes nothing
    newest = list_checkpoints(tmp_path / "parts" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert same(whole, load_file(train(pairs, look, [], tmp_path / "parts", make_config())))


def test_the_run_holds_what_can_be_watched(pairs: list[Pair], make_config: MakeConfig, tmp_path: Path) -> None:
    images = load_validation(pairs, 2, Look(), seed=0, largest=32, most=2)
    run = tmp_path / "run"
    train(pairs, Look(), images, run, make_config())
    events = EventAccumulator(str(run / "tensorboard"), {"images": 0, "scalars": 0}).Reload()
    names = ("pixel", "gan", "generator", "discriminator", "D(real)", "D(fake)")
    assert set(events.Tags()["scalars"]) == {f"loss/{name}" for name in names} | {
        "learning_rate", "validation/psnr", "validation/ssim",
    }  # fmt: skip
    assert [event.step for event in events.Scalars("loss/pixel")] == [1, 2, 3, 4, 5, 6]
    # halved at 2 and 5
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4])
    assert set(events.Tags()["images"]) == {f"LR, bicubic, SR, HR/{image.name}" for image in images}
    strip = events.Images(f"LR, bicubic, SR, HR/{images[0].name}")[0]
    assert (strip.width, strip.height) == (4 * 32, 32)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[-1]["psnr"] == pytest.approx(events.Scalars("validation/psnr")[-1].value, rel=1e-5)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step_00000004.pt", "step_00000006.pt"]


def test_validations_after_the_checkpoint_are_told_once(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path
) -> None:
    images = load_validation(pairs, 2, Look(), seed=0, largest=32, most=1)
    train(pairs, Look(), images, tmp_path, make_config(validate_every=1))
    before = (tmp_path / "metrics.jsonl").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ps')
    list_checkpoints(tmp_path / "checkpoints")[-1].unlink()  # as killed after step 6's validation
    train(pairs, Look(), images, tmp_path, make_config(validate_every=1))
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_a_loss_that_is_not_finite_stops_and_leaves_good_checkpoints(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def loss(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return (sr - hr).abs().mean() * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr("realsr.training.loop.pixel_loss", loss)
    with pytest.raises(UserError, match=r"step 3: the loss term `pixel` is nan.*optimiser\.learning_rate"):
        train(pairs, Look(), [], tmp_path, make_config(log_every=100, checkpoint_every=1))
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert newest.name == "step_00000002.pt"
    assert all(value.isfinite().all() for value in torch.load(newest)["generator"].values())
    assert not (tmp_path / "generator.safetensors").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_init_is_where_training_starts(suffix: str, pairs: list[Pair], make_config: MakeConfig, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from realsr.training.config import OptimiserConfig

    start = build_generator(GeneratorConfig(features=4, blocks=1, growth=4), 2).state_dict()
    path = tmp_path / f"psnr{suffix}"
    torch.save(start, path) if suffix == ".pth" else save_file(start, path)
    still = make_config(optimiser=OptimiserConfig(learning_rate=0.0), max_steps=1, init=str(path))
    assert same(load_file(train(pairs, Look(), [], tmp_path / "run", still)), start)
    other = make_config(generator=GeneratorConfig(features=6, blocks=1, growth=4), init=str(path))
    with pytest.raises(UserError, match=r"weights of another generator .*conv_first\.weight.*generator\.features=4"):
        train(pairs, Look(), [], tmp_path / "other", other)


def test_without_init_it_says_that_it_starts_from_scratch(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(pairs, Look(), [], tmp_path, make_config(max_steps=1))
    assert "starts from scratch" in caplog.text
    assert "init=" in caplog.text


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG19 feature weights, seeded and random."""
    with torch.device("meta"):
        features = vgg19(weights=None, init_weights=False).features
    chance = torch.Generator().manual_seed(0)
    state = {
        f"features.{key}": torch.randn(value.shape, generator=chance) * (2 / max(1, value[0].numel())) ** 0.5
        for key, value in features.state_dict().items()
    }
    torch.save(state, path := tmp_path_factory.mktemp("vgg") / "vgg19.pth")
    return path


def test_the_perceptual_loss_trains_with_a_file_of_weights(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path, vgg_file: Path
) -> None:
    losses = LossConfig(perceptual=PerceptualConfig(weight=1.0, weights=vgg_file))
    train(pairs, Look(), [], tmp_path, make_config(losses, max_steps=2))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("loss/perceptual")[-1].value > 0


def test_missing_vgg_weights_name_three_ways_out(
    pairs: list[Pair], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(
        WeightsError, match=r"(?s)\(1\).*\(2\) loss\.perceptual\.weights=.*\(3\) loss\.perceptual\.weight=0"
    ):
        train(pairs, Look(), [], tmp_path, make_config(LossConfig()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 15}, r"trainer\.crop=15: expected a multiple of scale=2"),
        ({"crop": 4}, r"the patch discriminator was given 4x4.*at least 6x6"),
        ({"discriminator": DiscriminatorConfig("vgg128", 2)}, r"given 16x16 images and takes 128x128 only"),
        ({"discriminator": DiscriminatorConfig("other")}, r"discriminator\.name=other: expected patch or vgg128"),
        ({"generator": GeneratorConfig("other")}, r"generator\.name=other: expected rrdb"),
        ({"batch": 0}, r"trainer\.batch=0: expected 1 or more"),
        ({"log_every": 0}, r"trainer\.log_every=0: expected 1 or more"),
        ({"keep_checkpoints": 0}, r"trainer\.keep_checkpoints=0: expected 1 or more"),
        ({"workers": -1}, r"trainer\.workers=-1: expected 0 or more"),
        ({"device": "cuda:99"}, r"device=cuda:99 cannot be used \(.+\): say auto, cpu or cuda"),
        ({"device": "toaster"}, r"device=toaster cannot be used"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_told(
    settings: dict[str, object], message: str, pairs: list[Pair], make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(pairs, Look(), [], tmp_path / "run", make_config(**settings))
    assert not (tmp_path / "run").exists()


def test_auto_is_a_device_that_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
