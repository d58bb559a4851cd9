"""Estimate of the cost of a training, without training, and the time of its steps."""

import json
import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from realsr.config.composition import extract_part, takes_keys
from realsr.config.pipeline import PlanConfig, TrainConfig
from realsr.core.errors import ImageError, UserError
from realsr.core.files import write_bytes
from realsr.data.pairs import image_size, list_pairs
from realsr.imaging import list_images
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.plan import StepCost, TrainingPlan, make_plan
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings, make_state
from realsr.training.step import TrainStep

logger = logging.getLogger("realsr")

TIMED_STEPS = 5  # at least


@takes_keys("plan")
def plan(config: PlanConfig) -> TrainingPlan:
    """Count the operations and the memory of one step, and return and log the training's cost.

    Raises UserError for settings that training would refuse.
    """
    output = config.output
    if output is not None and output.suffix != ".json":
        raise UserError(f"output={output}: expected the name of a JSON file: set output=plan.json")
    training = extract_part(config, TrainingConfig)
    check_settings(training)
    result = make_plan(training, config.utilisation, config.rate, count_cache(config))
    logger.info("%s", format_plan(result))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        memory = {precision: cost.memory for precision, cost in result.costs.items()}
        content = asdict(result) | {"flop": result.flop, "memory": memory}
        write_bytes(output, (json.dumps(content, indent=1) + "\n").encode())
        logger.info("numbers: %s", output)
    return result


def time_steps(config: TrainConfig, device: torch.device) -> Iterator[float]:
    """Yield the seconds of one training step on random images after the other, without end."""
    trainer = config.trainer
    state = make_state(extract_part(config, TrainingConfig), device)
    sides = [trainer.crop // config.scale, trainer.crop]
    lr, hr = (torch.rand(trainer.batch, 3, side, side, device=device) for side in sides)
    step = TrainStep(state, GeneratorLoss(config.loss).to(device), trainer, lr.shape)
    while True:
        start = time.monotonic()
        step(lr, hr, rate=0.0, decay=0.0).values.cpu()  # waits for a GPU
        yield time.monotonic() - start


def measure_step(config: TrainConfig, device: torch.device, duration: float) -> float:
    """Return the median seconds of a training step, by a copy on random images for `duration`."""
    times, start = list[float](), time.monotonic()
    for seconds in time_steps(config, device):
        times.append(seconds)
        if len(times) > TIMED_STEPS and time.monotonic() - start >= duration:
            break
    return max(statistics.median(times[1:]), 1e-4)  # the first allocates memory


def count_cache(config: PlanConfig) -> int | None:
    """Return the bytes of the cache of decoded pairs: 3 per pixel of HR and LR.

    The sizes are those of the pairs, or, before these are made, follow from the photos. None: there
    are neither, or a file cannot be read.
    """
    scale = config.scale
    try:
        if (config.pairs_dir / "HR").is_dir():
            pairs = list_pairs(config.pairs_dir, scale, config.data.lr_name)
            sizes: list[tuple[int, ...]] = [image_size(pair.hr) for pair in pairs]
        else:
            sizes = [size for role in config.pairs.hr for size in _hr_sizes(config, role)]
    except (UserError, ImageError):
        return None
    return sum(3 * width * height * (scale**2 + 1) // scale**2 for width, height in sizes)


def _hr_sizes(config: PlanConfig, role: str) -> list[tuple[int, ...]]:
    """Return (width, height) of the HR images that `make_pairs` makes of the photos of a role."""
    folder: Path | None = getattr(config.data, role)
    if folder is None:
        raise UserError(f"data.{role} is not given")
    factor, scale = config.pairs.clean_up if role == "source" else 1, config.scale
    sizes = [image_size(path) for path in list_images(folder)]
    return [tuple(-(-side // factor) // scale * scale for side in size) for size in sizes]


def format_plan(plan: TrainingPlan) -> str:
    """Return the cost of a step, and a table of GPU kinds."""
    cost = next(iter(plan.costs.values()))
    networks = ", ".join(f"{name} {count:,}" for name, count in cost.parameters.items())
    lines = [
        f"parameters: {networks}",
        f"FLOP of a step: {plan.flop:.4g} (batch of {plan.batch} crops of {plan.crop}x{plan.crop}); "
        f"of {plan.steps:,} steps: {plan.steps * plan.flop:.4g}",
        *(f"memory in {name}: {_format_memory(cost)}" for name, cost in plan.costs.items()),
        f"gradients, averaged in each step by several processes: {_format_size(cost.gradients)}",
        "cache of decoded pairs: "
        + ("unknown, without photos or pairs" if plan.cache is None else _format_size(plan.cache)),
        "",
        f"{'one GPU':10} {'precision':9} {'peak TFLOP/s':>12} {'hours':>8}  limit "
        f"({100 * plan.utilisation:g} % of the peak, utilisation={plan.utilisation:g})",
    ]
    for gpu in plan.gpus:
        note = "" if gpu.fits else ", too little memory"
        hours = plan.steps * gpu.seconds / 3600
        row = f"{gpu.kind:10} {gpu.precision:9} {gpu.peak:12g} {hours:8.2f}  {gpu.bound}{note}"
        lines.append(row)
    if plan.measured is not None:
        rate = plan.measured
        lines += [
            "",
            f"at rate={rate.rate:g} images per second: {rate.hours:.2f} hours, "
            f"{rate.tflops:.3g} TFLOP/s",
        ]
    return "\n".join(lines)


def _format_memory(cost: StepCost) -> str:
    return (
        f"{_format_size(cost.memory)} (weights {_format_size(cost.weights)}, Adam "
        f"{_format_size(cost.optimiser)}, activations and gradients "
        f"{_format_size(cost.activations)})"
    )


def _format_size(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
