from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_files import config_of, loss_values
from realsr.data.cache import DecodedImages
from realsr.data.degradations.degradation import OnlineDegradation
from realsr.data.degradations.noise_jpeg import NoiseJPEG
from realsr.data.pairs import Pair, list_pairs
from realsr.data.validation_images import ValidationImage
from realsr.imaging import write_uint8
from realsr.training.loop import train
from realsr.training.settings import OptimiserConfig, TrainerConfig, TrainingConfig
from realsr.training.validation import ValidationSet

MakeConfig = Callable[..., TrainingConfig]
Train = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here."""


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    for index in range(4):
        rng = np.random.default_rng(index)
        lr = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        for kind, image in (("LR", lr), ("HR", lr.repeat(2, axis=0).repeat(2, axis=1))):
            (tmp_path / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            write_uint8(tmp_path / "pairs" / kind / f"p{index}.png", image)
    return list_pairs(tmp_path / "pairs", 2)


@pytest.fixture
def make_config() -> MakeConfig:
    """A training of tiny networks at scale 2; keywords are the trainer's, but for the groups."""

    def make(
        loss: dict[str, Any] | None = None,
        optimiser: OptimiserConfig | None = None,
        generator: dict[str, Any] | None = None,
        discriminator: dict[str, Any] | None = None,
        init: str | None = None,
        **trainer: object,
    ) -> TrainingConfig:
        settings = {
            "max_steps": 6,
            "batch": 2,
            "crop": 16,
            "workers": 0,
            "device": "cpu",
            "log_every": 1,
        }
        settings |= {"ema": 0.9, "checkpoint_every": 2, "validate_every": 3, "keep_checkpoints": 2}
        return TrainingConfig(
            generator=generator or {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4},
            discriminator=discriminator or {"name": "patchgan", "features": 4, "layers": 1},
            loss=loss or loss_values(pixel=1.0, gan=0.1),
            optimiser=optimiser
            or config_of(OptimiserConfig, learning_rate=1e-3, milestones=[2, 5]),
            trainer=config_of(TrainerConfig, **{**settings, **trainer}),  # type: ignore[arg-type]
            scale=2,
            seed=0,
            init=init,
            tracker={},
        )

    return make


@pytest.fixture
def trained(pairs: list[Pair], make_config: MakeConfig, tmp_path: Path) -> Train:
    """Trains in a folder, with noise and JPEG, and returns the file of the raw weights."""

    def call(
        run: str = "run",
        images: Sequence[ValidationImage] = (),
        degradation: OnlineDegradation | None = None,
        config: TrainingConfig | None = None,
        **trainer: object,
    ) -> Path:
        degradation = degradation or NoiseJPEG(
            (30, 95), "random", "quality", DecodedImages([pairs[0].lr]), []
        )
        config = config or make_config(**trainer)
        validation = ValidationSet("held_out", images)
        return train(pairs, degradation, validation, tmp_path / run, config, tmp_path / "cache")[0]

    return call
