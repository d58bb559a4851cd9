"""The device that work is done on, and the precision that networks compute in on it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from realsr.core.errors import UserError

logger = logging.getLogger("realsr")

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TENSOR_CORES = (7, 0)  # the first compute capability with units for fp16


def choose_device(name: str, option: str = "device", index: int = 0) -> torch.device:
    """Return the device of a name; `auto` is a GPU where there is one.

    Args:
        name: auto, cpu, cuda or cuda:n, or another that torch knows.
        option: the key that the name was set by, for messages.
        index: which GPU `auto` and `cuda` stand for, modulo the number of GPUs.

    Raises:
        UserError: for a device that does not exist or cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{index % max(1, torch.cuda.device_count())}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        names = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{option}={name}: cannot be used ({reason}): expected {', '.join(names)}"
        ) from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


@dataclass(frozen=True)
class Precision:
    """`half`: what networks compute in under autocast, None for float32; `tf32`: whether float32 may be TF32 there.

    Float32 alone means exact. What stays float32 beside bf16 (8 bits of mantissa) is precise enough in TF32 (11).
    """

    device: torch.device
    half: torch.dtype | None = None
    tf32: bool = False

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context that networks run in."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the scaler of a training's losses, which does nothing unless the precision is fp16."""
        return torch.amp.GradScaler(
            self.device.type, init_scale=2.0**13, enabled=self.half == torch.float16
        )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The context of inference: no gradients, and TF32 on a GPU as this precision has it."""
        with torch.no_grad():
            if self.device.type != "cuda":
                yield
                return
            before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
            allow_tf32(self.tf32)
            try:
                yield
            finally:
                torch.backends.cudnn.allow_tf32 = before[0]
                torch.set_float32_matmul_precision(before[1])

    def wrap(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return any network as a function float32 -> float32 that runs in this precision, for inference."""

        def run(x: Tensor) -> Tensor:
            with self.computing(), self.autocast():
                return network(x).float()

        return run


def choose_precision(name: str, device: torch.device, training: bool = False) -> Precision:
    """Return the precision of a name: auto, bf16, fp16, fp32, and tf32 for a training.

    `auto` of inference is bf16 where the hardware has instructions for it (a CPU with AVX512-BF16 or AMX, a GPU from
    Ampere on); on an older GPU fp16 if it has tensor cores (Volta, Turing), where that is several times faster; else
    float32, because elsewhere half precision is emulated and slower. `auto` of a training is bf16 on a GPU that
    computes in it, TF32 on an older one, float32 on a CPU; and the GPU's switches are set for the whole training.

    Raises UserError for another name, and for one that a GPU does not compute in.
    """
    names = (
        ("auto", "bf16", "fp16", "tf32", "fp32") if training else ("auto", "bf16", "fp16", "fp32")
    )
    key, on_gpu = "trainer.precision" if training else "precision", device.type == "cuda"
    if name not in names:
        raise UserError(f"{key}={name}: expected one of {', '.join(names)}")
    if name == "auto" and training:
        name = ("bf16" if _gpu_has_bf16() else "tf32") if on_gpu else "fp32"
    elif name == "auto":
        name = _native_precisions(device)[0]
    elif name == "bf16" and on_gpu and not _gpu_has_bf16():
        raise UserError(
            f"{key}=bf16: this GPU does not compute in bf16; set {', '.join(names[2:])} or auto"
        )
    elif not on_gpu and not training and name not in _native_precisions(device):
        logger.warning(
            "precision=%s: this %s only emulates it, which is slow; auto is faster",
            name,
            device.type,
        )
    precision = Precision(device, HALVES.get(name), tf32=on_gpu and name != "fp32")
    if training and on_gpu:
        allow_tf32(precision.tf32)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    return precision


def allow_tf32(allowed: bool) -> None:
    """Let the GPU compute float32 products in TF32, or not; torch's own default lets convolutions and nothing else.

    By torch's older switches: torch.compile reads these, and fails where the newer ones have been used (PyTorch's
    issue 166387).
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def _native_precisions(device: torch.device) -> list[str]:
    """Return the precisions that a device computes in, the one that inference's `auto` takes first."""
    if device.type == "cpu":
        return ["bf16", "fp32"] if _cpu_has_bf16() else ["fp32"]
    if device.type != "cuda":
        return ["fp32", "fp16"]
    if _gpu_has_bf16():
        return ["bf16", "fp16", "fp32"]
    return (
        ["fp16", "fp32"]
        if torch.cuda.get_device_capability(device) >= TENSOR_CORES
        else ["fp32", "fp16"]
    )


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bf16() -> bool:
    # oneDNN's own query is also true for every CPU with AVX-512, where bf16 is emulated and no faster than float32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, bool)() for query in queries)
