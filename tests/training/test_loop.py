import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config_files import config_of, loss_values, yaml_values
from realsr.core.errors import Interrupted, UserError, WeightsError
from realsr.data.degradations.identity import Identity
from realsr.data.loading import LoadingError
from realsr.data.pairs import Pair
from realsr.data.validation_images import ValidationImage, load_validation
from realsr.evaluation.metrics.lpips import LPIPS
from realsr.networks import build_generator
from realsr.networks.rrdb import RRDB
from realsr.training import loop, monitor
from realsr.training.checkpoints import CheckpointWriter, list_checkpoints
from realsr.training.settings import OptimiserConfig, TrainingConfig
from realsr.weights import load_generator

MakeConfig = Callable[..., TrainingConfig]
Train = Callable[..., Path]
Weights = dict[str, torch.Tensor]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def images(pairs: list[Pair]) -> list[ValidationImage]:
    return load_validation(pairs, 2, Identity(), seed=0, largest=32, most=2)


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), {"images": 0, "scalars": 0}).Reload()


def test_the_run_holds_what_can_be_watched(
    trained: Train, images: list[ValidationImage], tmp_path: Path
) -> None:
    run = trained(images=images).parent
    seen = events(run)
    assert set(seen.Tags()["scalars"]) >= {
        "loss/pixel", "loss/gan", "loss/generator", "loss/discriminator",
        "discriminator/real", "discriminator/fake", "discriminator/accuracy",
        "gradient/generator", "gradient/discriminator", "variance/SR", "variance/HR",
        "learning_rate", "speed/images_per_second", "speed/waiting_for_data", "memory/process_gb",
        "validation held_out/psnr", "validation held_out/ssim", "validation held_out/ema_psnr",
    }  # fmt: skip
    assert [event.step for event in seen.Scalars("loss/pixel")] == [1, 2, 3, 4, 5, 6]
    # the rate that each step was taken at: halved after 2 and 5
    rates = [event.value for event in seen.Scalars("learning_rate")]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 2.5e-4])
    assert all(0 <= event.value <= 1 for event in seen.Scalars("speed/waiting_for_data"))
    assert all(event.value > 0 for event in seen.Scalars("speed/images_per_second"))
    assert set(seen.Tags()["images"]) == {f"LR, bicubic, SR, HR/{image.name}" for image in images}
    strip = seen.Images(f"LR, bicubic, SR, HR/{images[0].name}")[0]
    assert (strip.width, strip.height) == (4 * 32, 32)
    samples = sorted(str(path.relative_to(run / "samples")) for path in run.glob("samples/*/*.png"))
    assert samples == [f"{image.name}/step_{step:08d}.png" for image in images for step in (3, 6)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[-1]["psnr"] == pytest.approx(
        seen.Scalars("validation held_out/psnr")[-1].value, rel=1e-5
    )
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == [
        "step_00000004.pt",
        "step_00000006.pt",
    ]


def test_averaged_weights_are_written_and_the_best_are_kept(
    trained: Train, images: list[ValidationImage], tmp_path: Path
) -> None:
    run = trained(images=images, validate_every=1, ema=0.5).parent
    raw, averaged = (
        load_file(run / f"{name}.safetensors") for name in ("generator", "generator_ema")
    )
    assert raw.keys() == averaged.keys()
    assert not same(raw, averaged)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(max(line["psnr"], line["ema_psnr"]) for line in lines)
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert state["selection"]["score"] == best
    assert state["selection"]["step"] == state["step"]
    kept = load_file(run / "best.safetensors")
    assert same(kept, state["ema" if state["selection"]["averaged"] else "generator"])


def test_ssim_can_say_what_is_best(trained: Train, images: list[ValidationImage]) -> None:
    run = trained(images=images, validate_every=1, best_by="ssim", ema=None).parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert state["selection"]["score"] == max(line["ssim"] for line in lines)
    assert "ema_psnr" not in lines[0]
    assert not (run / "generator_ema.safetensors").exists()


def test_best_by_lpips_without_its_weights_is_refused_before_any_step(
    trained: Train, images: list[ValidationImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"trainer\.best_by=lpips.*trainer\.lpips_weights=FILE"):
        trained(images=images, best_by="lpips")


def test_the_best_by_lpips_with_its_real_weights(
    trained: Train, images: list[ValidationImage], shared: Callable[[str], Path]
) -> None:
    weights = shared("weights/alexnet_features.pth")
    options = {"best_by": "lpips", "lpips_weights": weights, "validate_every": 1}
    run = trained(images=images, max_steps=6, **options).parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lowest = min(min(line["lpips"], line["ema_lpips"]) for line in lines)
    selection = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["selection"]
    assert (selection["by"], selection["score"]) == ("lpips", lowest)
    assert 0 < lowest < max(line["lpips"] for line in lines) < 2
    metric = LPIPS("alex", torch.device("cpu"), {"alexnet": weights})
    best, _ = load_generator(run / "best.safetensors")
    with torch.no_grad():
        values = [metric.compute(best.eval()(image.lr[None])[0], image.hr) for image in images]
    assert sum(values) / len(values) == pytest.approx(lowest, abs=1e-5)


def test_validations_after_the_checkpoint_are_told_once(
    trained: Train, images: list[ValidationImage], tmp_path: Path
) -> None:
    run = trained(images=images, validate_every=1).parent
    before = (run / "metrics.jsonl").read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ps')
    list_checkpoints(run / "checkpoints")[-1].unlink()  # as killed after step 6's validation
    trained(images=images, validate_every=1)
    assert (run / "metrics.jsonl").read_text() == before
    steps = [event.step for event in events(run).Scalars("loss/pixel")]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("gone", ["tensorboard", "checkpoints", "samples"])
def test_a_folder_that_vanishes_is_made_again(
    gone: str, trained: Train, images: list[ValidationImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    straight = trained("straight", images=images)
    remove_at(4, tmp_path / "run" / gone, monkeypatch)
    weights = trained(images=images)
    assert same(load_file(weights), load_file(straight))
    assert list(weights.parent.joinpath(gone).iterdir())
    if gone == "tensorboard":
        assert "was removed with its curves" in caplog.text
        assert [event.step for event in events(weights.parent).Scalars("loss/pixel")] == [5, 6]


def test_a_run_folder_that_vanishes_is_an_error_that_names_it(
    trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_at(2, tmp_path / "run", monkeypatch)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "run")):
        trained()
    assert not (tmp_path / "run").exists()


def remove_at(step: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove a folder once the checkpoint of a step is written."""
    save = CheckpointWriter.save

    def save_and_remove(
        writer: CheckpointWriter, state: dict[str, Any], best: bool = False
    ) -> None:
        save(writer, state, best)
        if state["step"] == step:
            writer.wait()
            shutil.rmtree(folder)

    monkeypatch.setattr(CheckpointWriter, "save", save_and_remove)


def test_a_kill_between_a_checkpoint_and_the_removal_of_older_ones_leaves_none_too_many(
    trained: Train, tmp_path: Path
) -> None:
    run = trained().parent
    newest = list_checkpoints(run / "checkpoints")
    (run / "checkpoints" / "step_00000001.pt").write_bytes(newest[0].read_bytes())
    trained()
    assert list_checkpoints(run / "checkpoints") == newest


def test_a_result_that_is_not_finite_is_an_error(
    trained: Train, images: list[ValidationImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = forward(self, x)
        return y if self.training else y * float("inf")

    forward = RRDB.forward
    monkeypatch.setattr(RRDB, "forward", overflow)
    with pytest.raises(
        UserError,
        match="validation image p0: the generator's output is not finite",
    ):
        trained(images=images)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_a_stop_signal_is_heeded_while_a_batch_does_not_come(
    sent: signal.Signals, trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loop.load_batches

    def hang(*args: Any, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(load(*args, **options)):
            if number == 3:
                os.kill(os.getpid(), sent)
                time.sleep(60)
            yield batch

    straight = trained("straight")
    monkeypatch.setattr(monitor, "PATIENCE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "load_batches", hang)
        with pytest.raises(
            Interrupted, match=rf"stopped after step 3 by {sent.name}; its state is saved"
        ) as stop:
            trained()
    assert stop.value.code == 128 + sent
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step_00000003.pt"
    assert same(load_file(trained()), load_file(straight))


def test_what_was_trained_is_saved_when_no_batch_comes(
    trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loop.load_batches

    def fail(*args: Any, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(load(*args, **options)):
            if number == 3:
                raise LoadingError("no batch")
            yield batch

    monkeypatch.setattr(loop, "load_batches", fail)
    with pytest.raises(LoadingError):
        trained()
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step_00000003.pt"


def test_the_cache_changes_nothing(trained: Train, tmp_path: Path) -> None:
    assert same(load_file(trained("a", cache=True)), load_file(trained("b", cache=False)))


def test_a_profile_is_a_trace_of_steps(trained: Train, tmp_path: Path) -> None:
    run = trained(profile=True, max_steps=13).parent
    trace = json.loads((run / "profile" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {f"ProfilerStep#{step}" for step in range(7, 12)} <= names
    assert "convolution" in (run / "profile" / "operations.txt").read_text()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_init_is_where_training_starts(
    suffix: str, trained: Train, make_config: MakeConfig, tmp_path: Path
) -> None:
    start = build_generator(
        {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}, 2
    ).state_dict()
    path = tmp_path / f"psnr{suffix}"
    torch.save(start, path) if suffix == ".pth" else save_file(start, path)
    still = make_config(
        optimiser=config_of(OptimiserConfig, learning_rate=0.0), max_steps=1, init=str(path)
    )
    weights = trained(config=still)
    assert same(load_file(weights), start)
    averaged = load_file(weights.with_name("generator_ema.safetensors"))
    assert all(torch.allclose(averaged[name], start[name]) for name in start)
    other = make_config(
        generator={"name": "rrdb", "features": 6, "blocks": 1, "growth": 4}, init=str(path)
    )
    with pytest.raises(UserError, match=r"conv_first\.weight"):
        trained("other", config=other)


def test_without_init_it_says_that_it_starts_from_scratch(
    trained: Train, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        trained(max_steps=1)
    assert "starts from scratch" in caplog.text
    assert "init=" in caplog.text
    assert "RRDB of " in caplog.text
    assert (
        "million parameters at scale 2, 4 pairs, batches of 2 crops of 16x16; on cpu in float32"
        in caplog.text
    )


OWN_PIXELS = """
from realsr.training.loss_terms.term import LossTerm

class Squares(LossTerm):
    def forward(self, x):
        return (x.sr - x.hr).square().mean()
"""


def test_a_training_by_pixels_alone_starts_from_scratch_as_it_should(
    trained: Train,
    make_config: MakeConfig,
    own_modules: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (own_modules / "own_pixels.py").write_text(OWN_PIXELS)
    own = {"name": "own_pixels.Squares", "weight": 1.0}
    losses = [loss_values(pixel=1.0), {"x": yaml_values("loss/term/charbonnier")}, {"x": own}]
    with caplog.at_level(logging.INFO):
        for index, loss in enumerate(losses):
            trained(f"run{index}", config=make_config(loss, max_steps=1))
    assert "scratch" not in caplog.text


def test_the_perceptual_loss_trains_with_a_file_of_weights(
    trained: Train, make_config: MakeConfig, vgg_file: Path
) -> None:
    losses = yaml_values("loss/realsr")
    losses["perceptual"]["weights"] = str(vgg_file)
    run = trained(config=make_config(losses, max_steps=2)).parent
    assert events(run).Scalars("loss/perceptual")[-1].value > 0


def test_missing_vgg_weights_name_three_ways_out(
    trained: Train, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(
        WeightsError,
        match=r"(?s)\(1\).*\(2\) set loss\.perceptual\.weights=.*\(3\) set loss\.perceptual\.weight=0",
    ):
        trained(config=make_config(yaml_values("loss/realsr")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 15}, r"trainer\.crop=15: expected a multiple of scale=2"),
        ({"crop": 4}, r"the patch discriminator needs .*at least 6x6 pixels, got 4x4"),
        (
            {"discriminator": {"name": "vgg128", "features": 64}},
            r"needs images of 128x128 pixels, got 16x16",
        ),
        (
            {"discriminator": {"name": "other"}},
            r"discriminator\.name=other: expected one of patchgan, .*vgg128",
        ),
        (
            {"generator": {"name": "other"}},
            r"generator\.name=other: expected one of .*rrdb",
        ),
        ({"batch": 0}, r"trainer\.batch=0: expected 1 or more"),
        ({"log_every": 0}, r"trainer\.log_every=0: expected 1 or more"),
        ({"keep_checkpoints": 0}, r"trainer\.keep_checkpoints=0: expected 1 or more"),
        ({"workers": -1}, r"trainer\.workers=-1: expected 0 or more"),
        (
            {"accumulate": 3},
            r"trainer\.batch=2 cannot be divided among trainer\.accumulate=3 parts",
        ),
        (
            {"precision": "int8"},
            r"trainer\.precision=int8: expected one of auto, bf16, fp16, tf32, fp32",
        ),
        ({"best_by": "niqe"}, r"trainer\.best_by=niqe: expected one of psnr, ssim, lpips"),
        ({"ema": 1.0}, r"trainer\.ema=1\.0: expected from 0 to below 1, or null"),
        (
            {"optimiser": config_of(OptimiserConfig, schedule="linear")},
            r"optimiser\.schedule=linear: expected one of step, cos",
        ),
        ({"device": "cuda:99"}, r"device=cuda:99: cannot be used"),
        ({"device": "toaster"}, r"device=toaster: cannot be used"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_told(
    settings: dict[str, object],
    message: str,
    trained: Train,
    make_config: MakeConfig,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=message):
        trained(config=make_config(**settings))
    assert not (tmp_path / "run").exists()
