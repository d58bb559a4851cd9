"""The stage that trains: one run, in its own folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from realsr.data.look import Look, LookConfig
from realsr.data.pairs import Pair
from realsr.data.validation import ValidationImage
from realsr.errors import UserError
from realsr.imaging import write_bytes
from realsr.manifest import open_stage
from realsr.training.checkpoints import list_checkpoints
from realsr.training.loop import TrainingConfig, train

STAGE = "training"
# What may change between two calls of one training: how it is watched, where it runs, how long it goes on.
FREE = ("max_steps", "workers", "device", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints",
        "validation_crop", "validation_images")  # fmt: skip


def train_run(
    run: Path,
    pairs: Sequence[Pair],
    noise: Sequence[Path],
    look: LookConfig,
    validation: Sequence[ValidationImage],
    config: TrainingConfig,
    config_yaml: str,
    overwrite: bool = False,
) -> bool:
    """Train a run in its folder, or go on with it, and return whether anything was left to do.

    `run` gets config.yaml, checkpoints/, tensorboard/, metrics.jsonl, generator.safetensors and manifest.json.
    Raises UserError where the folder holds a training of another config or of other pairs.
    """
    steps = config.trainer.max_steps
    inputs = {f"{kind}/{file.name}": file for pair in pairs for kind, file in (("HR", pair.hr), ("LR", pair.lr))}
    inputs |= {f"noise/{path.name}": path for path in noise}
    facts = _facts(config, look, bool(noise))
    with open_stage(
        run,
        STAGE,
        config=facts,
        seed=config.seed,
        inputs=inputs,
        overwrite=overwrite,
        growing=False,
        belongings=("checkpoints", "tensorboard", "metrics.jsonl", "metrics.json"),
    ) as record:
        done = record.items.get("generator", {}).get("steps", 0)
        if done == steps and record.is_done("generator"):
            return False
        _check_steps(run, steps)
        (run / "metrics.json").unlink(missing_ok=True)  # of a training that was shorter
        write_bytes(run / "config.yaml", config_yaml.encode())
        record.add("config", [run / "config.yaml"])
        try:
            weights = train(pairs, Look(noise, look.jpeg_quality), validation, run, config)
        except BaseException:
            if not list_checkpoints(run / "checkpoints"):  # nothing to lose: the next run may have another config
                record.forget()
            raise
        record.add("generator", [weights], steps=steps)
        record.finish()
    return True


def _check_steps(run: Path, steps: int) -> None:
    newest = list_checkpoints(run / "checkpoints")[-1:]
    if newest and int(newest[0].stem.removeprefix("step_")) > steps:
        raise UserError(
            f"{run}: has been trained further ({newest[0].name}) than trainer.max_steps={steps}; raise it, or say "
            "overwrite=true to begin anew"
        )


def _facts(config: TrainingConfig, look: LookConfig, noise: bool) -> Mapping[str, Any]:
    facts = asdict(config) | {"look": {"noise": noise, **asdict(look)}}
    del facts["seed"]
    facts["trainer"] = {key: value for key, value in facts["trainer"].items() if key not in FREE}
    return facts
