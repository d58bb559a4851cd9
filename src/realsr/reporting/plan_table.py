"""The plan of a training as text."""

from realsr.training.gpu_kinds import StepCost
from realsr.training.plan import TrainingPlan


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
