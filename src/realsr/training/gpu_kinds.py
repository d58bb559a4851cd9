"""Peak rates and memory of GPU kinds, from NVIDIA's data sheets and architecture papers."""

from collections.abc import Mapping
from dataclasses import dataclass

USABLE_MEMORY = 0.9
"""Fraction of a GPU's memory for tensors; the rest is for CUDA, workspaces and fragments."""


@dataclass(frozen=True)
class StepCost:
    """The cost of one training step in one process.

    Attributes:
        parameters: trained parameters by network.
        flop: floating-point operations of convolutions and matrix products, forward and backward,
            for the whole batch; two for a multiplication with its addition, as torch's
            `FlopCounterMode` counts.
        traffic: bytes that the operations read and write. Operations that a compiler joins need
            less.
        weights: bytes of parameters and buffers: networks, averaged generator, loss networks.
        optimiser: bytes of Adam's two moments.
        activations: peak bytes of what a step allocates: images, activations, gradients. Without
            workspaces of libraries and unused memory of allocators.
        gradients: bytes of the gradients, which processes average in each step.
    """

    parameters: dict[str, int]
    flop: float
    traffic: int
    weights: int
    optimiser: int
    activations: int
    gradients: int

    @property
    def memory(self) -> int:
        """Peak memory in bytes."""
        return self.weights + self.optimiser + self.activations


@dataclass(frozen=True)
class GpuKind:
    """Memory in GB, its bandwidth in GB/s, and dense peak rates in TFLOP/s.

    half: fp16 or bf16 products with float32 sums. tf32: None if the kind has no TF32.
    """

    name: str
    memory: int
    bandwidth: int
    half: float
    tf32: float | None
    fp32: float
    has_bf16: bool = True


# Dense rates: data sheets of later kinds print twice the value, for sparse matrices.
GPU_KINDS = (
    # T4 data sheet, 2019
    GpuKind("T4", 16, 320, 65, None, 8.1, has_bf16=False),
    # V100 data sheet, 2020, SXM2
    GpuKind("V100", 32, 900, 125, None, 15.7, has_bf16=False),
    # GA102 architecture paper, 2021, table 9
    GpuKind("RTX 3090", 24, 936, 71, 35.6, 35.6),
    # Ada architecture paper, 2023, appendix A
    GpuKind("RTX 4090", 24, 1008, 165.2, 82.6, 82.6),
    # L40S data sheet, 2023
    GpuKind("L40S", 48, 864, 362, 183, 91.6),
    # A100 data sheet, 2022, 80 GB SXM
    GpuKind("A100", 80, 2039, 312, 156, 19.5),
    # H100 data sheet, 2023, SXM
    GpuKind("H100", 80, 3350, 989, 495, 67),
    # H200 data sheet, 2024, SXM
    GpuKind("H200", 141, 4800, 989, 495, 67),
)


def choose_rate(kind: GpuKind, precision: str) -> tuple[str, float] | None:
    """Return the precision that `trainer.precision` means on a GPU kind, and its peak in TFLOP/s.

    As `choose_precision` in training. None: the kind does not support it.
    """
    if precision == "auto":
        precision = "bf16" if kind.has_bf16 else "tf32"
    if precision == "bf16":
        return ("bf16", kind.half) if kind.has_bf16 else None
    if precision == "fp16":
        return "fp16", kind.half
    if precision == "tf32" and kind.tf32 is not None:
        return "tf32", kind.tf32
    return "fp32", kind.fp32


@dataclass(frozen=True)
class GpuPlan:
    """A step on one GPU of a kind: bytes of memory, peak in TFLOP/s, and seconds.

    Attributes:
        fits: whether the step needs at most `USABLE_MEMORY` of the GPU's memory.
        seconds: max(FLOP / (utilisation * peak rate), memory traffic / bandwidth).
        bound: the larger of the two, `FLOP` or `traffic`.
    """

    kind: str
    precision: str
    needed_memory: int
    fits: bool
    peak: float
    seconds: float
    bound: str


def plan_gpu(
    kind: GpuKind, precision: str, costs: Mapping[str, StepCost], utilisation: float
) -> GpuPlan | None:
    """Return the plan of a step; None if the kind does not support the precision.

    precision: that of `trainer.precision`. costs: of a step in bf16 (also for fp16) and fp32.
    utilisation: fraction of the peak rate.
    """
    rate = choose_rate(kind, precision)
    if rate is None:
        return None
    name, peak = rate
    cost = costs["bf16" if name in ("bf16", "fp16") else "fp32"]
    times = {
        "FLOP": cost.flop / (utilisation * peak * 1e12),
        "traffic": cost.traffic / (kind.bandwidth * 1e9),
    }
    bound = max(times, key=lambda key: times[key])
    fits = cost.memory <= USABLE_MEMORY * kind.memory * 1e9
    return GpuPlan(kind.name, name, cost.memory, fits, peak, times[bound], bound)
