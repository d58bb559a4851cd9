"""The stage that trains: one run, in its own folder."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from realsr.core.components import Values
from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.data.cache import DecodedImages, cache_images
from realsr.data.degradations.degradation import build_degradation
from realsr.data.pairs import Pair
from realsr.provenance.fingerprints import fingerprint_file, fingerprint_inputs
from realsr.provenance.manifest import StageRecord, StageRules, compare_value, open_stage, read_manifest
from realsr.training.checkpoints import checkpoint_step, list_checkpoints
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext
from realsr.training.generator_loss import active_terms, needs_discriminator
from realsr.training.loop import train
from realsr.training.selection import ValidationSet
from realsr.training.settings import TrainingConfig
from realsr.weights.sources import find_weights

STAGE = "training"
# What may change between two calls of one training: how it is watched, where it runs, how long it goes on.
RUNTIME_ONLY_KEYS = (
    "max_steps", "workers", "data_timeout", "cache", "device", "checkpoint_activations", "profile", "max_skipped",
    "log_every", "validate_every", "checkpoint_every", "keep_checkpoints", "validation_crop", "validation_images",
    "best_by", "lpips_weights", "allow_changes",
)  # fmt: skip
RUN_ARTIFACTS = (
    "checkpoints",
    "tensorboard",
    "samples",
    "profile",
    "metrics.jsonl",
    "metrics.json",
    "best.safetensors",
)


def train_run(
    run: Path,
    pairs: Sequence[Pair],
    noise: Sequence[Path],
    degradation: Values,
    validation: ValidationSet,
    config: TrainingConfig,
    config_yaml: str,
    cache: Path,
    overwrite: bool = False,
    processes: DistributedContext = SINGLE_PROCESS,
) -> bool:
    """Train a run in its folder, or go on with it, and return whether anything was left to do.

    `run` gets config.yaml, checkpoints/, tensorboard/, samples/, metrics.jsonl, generator.safetensors and
    manifest.json; `cache` the pairs decoded. Raises UserError where the folder holds a training of another config or
    of other pairs, unless `trainer.allow_changes`; what differs is shown in any case.
    """
    steps = config.trainer.max_steps
    with ExitStack() as stack:
        records: list[StageRecord] = []

        def open_record() -> bool:
            record = stack.enter_context(_open(run, pairs, noise, degradation, config, overwrite))
            if record.items.get("generator", {}).get("steps", 0) == steps and record.is_done("generator"):
                return False
            _check_steps(run, steps)
            (run / "metrics.json").unlink(missing_ok=True)  # of a training that was shorter
            if not list_checkpoints(run / "checkpoints"):
                record.notes["threads"] = torch.get_num_threads()
            records.append(stack.enter_context(_taken_back_if_lost(record, config_yaml)))
            if config.init is not None and not list_checkpoints(run / "checkpoints"):
                record.notes["init"] = fingerprint_file(find_weights(config.init))
            return True

        if not processes.run_on_main(open_record):
            return False
        stack.callback(torch.set_num_threads, torch.get_num_threads())  # which a run that goes on may change
        patches = (
            cache_images(cache / "noise.u8", noise, None) if noise and config.trainer.cache else DecodedImages(noise)
        )
        online = build_degradation(degradation, config.scale, patches)
        try:
            weights = train(pairs, online, validation, run, config, cache, processes)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU's memory is too small ({str(error).splitlines()[0]}). trainer.checkpoint_activations=true "
                "computes the same with less; trainer.accumulate=2 and a smaller trainer.batch save more, and train "
                "another way, see docs/training.md. The checkpoints are kept"
            ) from error
        for record in records:  # the first process has one
            record.notes["threads"] = torch.get_num_threads()
            record.add("generator", weights, steps=steps)
            record.finish()
    return True


@contextmanager
def _open(
    run: Path,
    pairs: Sequence[Pair],
    noise: Sequence[Path],
    degradation: Values,
    config: TrainingConfig,
    overwrite: bool,
) -> Iterator[StageRecord]:
    facts = _facts(config, degradation, bool(noise))
    files = _list_files(facts)
    if not overwrite:
        _check_init(run, config.init, files)
    inputs = {f"{kind}/{file.name}": file for pair in pairs for kind, file in (("HR", pair.hr), ("LR", pair.lr))}
    inputs |= {f"noise/{path.name}": path for path in noise}
    with open_stage(
        run,
        STAGE,
        config=facts,
        seed=config.seed,
        inputs=inputs,
        files=files,
        overwrite=overwrite,
        rules=StageRules(
            allow_new_inputs=False,
            owned_paths=RUN_ARTIFACTS,
            changes_key="trainer.allow_changes",
            allow_changes=config.trainer.allow_changes,
            wait=False,
        ),
    ) as record:
        yield record


@contextmanager
def _taken_back_if_lost(record: StageRecord, config_yaml: str) -> Iterator[StageRecord]:
    """Write the config, and take it back with the record where a training fails before it has saved anything."""
    checkpoints, file = record.folder / "checkpoints", record.folder / "config.yaml"
    saved, before = list_checkpoints(checkpoints), file.read_bytes() if file.exists() else None
    write_bytes(file, config_yaml.encode())
    record.add("config", [file])
    record.save()  # at once: a section without items is none, and what it records would not be compared
    try:
        yield record
    except BaseException:
        if list_checkpoints(checkpoints) == saved:  # the next may have another config
            record.rollback()
            if before is None:
                file.unlink()
            else:
                write_bytes(file, before)
        raise


def _list_files(facts: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that values of a training's config name, by key, of arguments too."""
    files = {}
    for key, value in facts.items():
        if key == "init" and value is not None:
            with contextlib.suppress(UserError):  # what has begun goes on without that file
                path = find_weights(value)
                files[key] = path.with_suffix(".bin") if path.suffix == ".param" else path
        elif isinstance(value, str | Path) and len(Path(value).suffix) > 1 and os.path.isfile(value):  # noqa: PTH113 (False for any text)
            files[key] = Path(value)
    return files


def _check_init(run: Path, init: str | None, files: Mapping[str, Path]) -> None:
    known = read_manifest(run).get(STAGE)
    if known is None or not list_checkpoints(run / "checkpoints"):
        return
    contents = fingerprint_inputs({key: files[key] for key in files if key == "init"}, known.get("files", {}))
    if difference := compare_value(known, "init", init, contents):
        raise UserError(
            f"{run}: has begun with init={known['config'].get('init') or 'null'}, and a beginning cannot be changed to "
            f"init={init or 'null'} ({difference}): set init to the weights that it began with, choose another "
            "run=FOLDER, or restart with overwrite=true"
        )


def _check_steps(run: Path, steps: int) -> None:
    newest = list_checkpoints(run / "checkpoints")[-1:]
    if newest and checkpoint_step(newest[0]) > steps:
        raise UserError(
            f"{run}: has been trained further ({newest[0].name}) than trainer.max_steps={steps}: raise it, choose "
            "another run=FOLDER, or delete this one to begin anew"
        )


def _facts(config: TrainingConfig, degradation: Values, noise: bool) -> Mapping[str, Any]:
    facts = asdict(config) | {"online_degradation": degradation, "pool": {"noise": noise}}
    facts |= {"loss": active_terms(config.loss)}
    del facts["seed"]
    if not needs_discriminator(config.loss):
        del facts["discriminator"]
    facts["trainer"] = {key: value for key, value in facts["trainer"].items() if key not in RUNTIME_ONLY_KEYS}
    return dict(_flatten(facts))


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values by dotted keys, as they are given on the command line."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
