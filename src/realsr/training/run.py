"""The training stage: one run in its own folder."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from realsr.core.components import Values, flatten
from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.data.cache import Images, cache_images
from realsr.data.degradations.degradation import build_degradation
from realsr.data.pairs import Pair
from realsr.data.pool_files import NOISE_INPUTS, list_patches, name_input
from realsr.provenance.fingerprints import fingerprint_file, fingerprint_inputs
from realsr.provenance.manifest import StageRules, compare_value, open_stage, read_manifest
from realsr.provenance.sections import StageRecord
from realsr.training.checkpoints import MAX_THREADS, list_checkpoints
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext
from realsr.training.generator_loss import active_terms, needs_discriminator
from realsr.training.loop import train
from realsr.training.settings import TrainingConfig
from realsr.training.trackers.tracker import NO_TRACKER, open_tracker
from realsr.training.validation import ValidationSet
from realsr.weights.sources import find_weights

STAGE = "training"
# Trainer keys that do not change the result, and may change when a training is resumed.
RUNTIME_ONLY_KEYS = (
    "max_steps", "workers", "data_timeout", "cache", "device", "checkpoint_activations", "profile",
    "max_skipped", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints",
    "validation_crop", "validation_images", "best_by", "lpips_weights", "allow_changes",
)  # fmt: skip
RUN_ARTIFACTS = (
    "checkpoints", "tensorboard", "samples", "profile", "metrics.jsonl", "metrics.json",
    "best.safetensors", "tracker",
)  # fmt: skip


def train_run(
    run: Path,
    pairs: Sequence[Pair],
    pool_files: Sequence[Path],
    degradation: Values,
    validation: ValidationSet,
    config: TrainingConfig,
    config_yaml: str,
    cache: Path,
    overwrite: bool,
    processes: DistributedContext = SINGLE_PROCESS,
) -> bool:
    """Train or resume a run in its folder; return False if it was already complete.

    pool_files: those of the pool that the online degradation reads: noise patches or a noise model,
        JPEG tables, and kernels.

    Written to `run`: config.yaml, manifest.json, generator.safetensors and the `RUN_ARTIFACTS`; to
    `cache`: the decoded pairs. Raises UserError if the folder holds a training of another config or
    other pairs, unless `trainer.allow_changes` is set; the differences are reported in any case.
    """
    facts = _list_facts(config, degradation, pool_files)
    records: list[StageRecord] = []  # in the first process
    with ExitStack() as stack:

        def open_record() -> bool:
            inputs = _name_inputs(pairs, pool_files)
            manager = _open_record(run, config, config_yaml, facts, inputs, overwrite)
            records.extend(stack.enter_context(manager))
            return bool(records)

        if not processes.run_on_main(open_record):
            return False
        stack.enter_context(use_threads(None))  # a resumed run may change the number of threads
        patches: Images | None = None
        if config.trainer.cache and (paths := list_patches(pool_files)):
            patches = cache_images(cache / "noise.u8", paths)
        online = build_degradation(degradation, config.scale, pool_files, patches)
        is_main = processes.is_main
        tracker = open_tracker(config.tracker, run, facts) if is_main else NO_TRACKER
        try:
            weights = train(pairs, online, validation, run, config, cache, processes, tracker)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"GPU out of memory ({str(error).splitlines()[0]}). Set "
                "trainer.checkpoint_activations=true, which does not change the result. To save "
                "more, set trainer.accumulate=2 or a smaller trainer.batch, which change it (see "
                "docs/train/training.md). The checkpoints are kept"
            ) from error
        for record in records:
            record.notes["threads"] = torch.get_num_threads()
            record.add("generator", weights, steps=config.trainer.max_steps)
            record.finish()
    return True


def recorded_threads(run: Path) -> int | None:
    """Return the number of threads that a run was computed with, None if it is not recorded."""
    threads = read_manifest(run).get(STAGE, {}).get("notes", {}).get("threads")
    return threads if isinstance(threads, int) and 0 < threads <= MAX_THREADS else None


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Compute the block with a number of threads, on which the last bits of sums depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _open_record(
    run: Path,
    config: TrainingConfig,
    config_yaml: str,
    facts: Mapping[str, Any],
    inputs: Mapping[str, Path],
    overwrite: bool,
) -> Iterator[list[StageRecord]]:
    """Open the run's record and write config.yaml; yield [record], or [] if training is complete."""
    files = _list_files(facts)
    if not overwrite:
        _check_init(run, config.init, files)
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
        steps = config.trainer.max_steps
        last = record.items.get("generator", {}).get("steps", 0)
        if last == steps and record.has_item("generator"):
            yield []
            return
        checkpoints = list_checkpoints(run / "checkpoints")
        if checkpoints and int(checkpoints[-1].stem.removeprefix("step_")) > steps:
            raise UserError(
                f"{run}: already trained beyond trainer.max_steps={steps} "
                f"({checkpoints[-1].name}): raise it, choose another run=FOLDER, or delete this "
                "folder to restart"
            )
        (run / "metrics.json").unlink(missing_ok=True)  # of a shorter training
        if not checkpoints:
            record.notes["threads"] = torch.get_num_threads()
        with _write_config(run, config_yaml, record):
            if config.init is not None and not checkpoints:
                record.notes["init"] = fingerprint_file(find_weights(config.init))
            yield [record]


@contextmanager
def _write_config(run: Path, config_yaml: str, record: StageRecord) -> Iterator[None]:
    """Write and record config.yaml; undo both if the block fails before its first checkpoint.

    The next attempt may then use another config.
    """
    file, checkpoints = run / "config.yaml", list_checkpoints(run / "checkpoints")
    before = file.read_bytes() if file.exists() else None
    write_bytes(file, config_yaml.encode())
    record.add("config", [file])
    record.save()  # now, since a section without items is not compared
    try:
        yield
    except BaseException:
        if list_checkpoints(run / "checkpoints") == checkpoints:
            record.rollback()
            if before is None:
                file.unlink()
            else:
                write_bytes(file, before)
        raise


def _name_inputs(pairs: Sequence[Pair], pool_files: Sequence[Path]) -> dict[str, Path]:
    inputs = dict[str, Path]()
    for pair in pairs:
        inputs |= {f"HR/{pair.hr.name}": pair.hr, f"LR/{pair.lr.name}": pair.lr}
    for path in pool_files:
        kind = "kernels" if name_input(path) == "kernels" else "noise"
        inputs[f"{kind}/{path.name}"] = path
    return inputs


def _list_facts(
    config: TrainingConfig, degradation: Values, pool_files: Sequence[Path]
) -> dict[str, Any]:
    """Return the settings that the result depends on, by command-line key."""
    noise = any(name_input(path) in NOISE_INPUTS for path in pool_files)
    facts = asdict(config) | {"online_degradation": degradation, "pool": {"noise": noise}}
    facts["loss"] = active_terms(config.loss)
    free_keys = (
        "seed",
        "tracker",
        *(() if needs_discriminator(config.loss) else ("discriminator",)),
    )
    for key in free_keys:
        del facts[key]
    for key in RUNTIME_ONLY_KEYS:
        del facts["trainer"][key]
    return {key: value for key, value in flatten(facts).items() if value != {}}


def _list_files(facts: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that a training's config names, by key."""
    files = {}
    for key, value in facts.items():
        if key == "init" and value is not None:
            with contextlib.suppress(UserError):  # a resumed training does not need it
                path = find_weights(value)
                files[key] = path.with_suffix(".bin") if path.suffix == ".param" else path
        # isfile of os.path is False for any text, that of pathlib raises OSError for some.
        elif isinstance(value, str | Path) and Path(value).suffix and os.path.isfile(value):  # noqa: PTH113
            files[key] = Path(value)
    return files


def _check_init(run: Path, init: str | None, files: Mapping[str, Path]) -> None:
    """Raise UserError if a training with checkpoints started from other weights than `init`."""
    section = read_manifest(run).get(STAGE)
    if section is None or not list_checkpoints(run / "checkpoints"):
        return
    init_files = {"init": files["init"]} if "init" in files else {}
    contents = fingerprint_inputs(init_files, section.get("files", {}))
    if difference := compare_value(section, "init", init, contents):
        raise UserError(
            f"{run}: the training started with init={section['config'].get('init') or 'null'}, "
            f"which cannot be changed to init={init or 'null'} ({difference}): set the original "
            "init, choose another run=FOLDER, or set overwrite=true to restart"
        )
