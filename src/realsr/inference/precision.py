"""In which numbers a picture is computed: half precision where the hardware is made for it, else float32."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from realsr.core.errors import UserError

logger = logging.getLogger("realsr")

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TENSOR_CORES = (7, 0)  # the first compute capability with units for fp16


@dataclass(frozen=True)
class Precision:
    """`half`: what most of a network computes in; None for float32 throughout."""

    device: torch.device
    half: torch.dtype | None = None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The context that networks run in: no gradients, and TF32 on a GPU only beside a half precision.

        Float32 means exact here. What stays float32 beside bf16 (8 bits of mantissa) is precise enough in TF32 (11).
        """
        with torch.no_grad():
            if self.device.type != "cuda":
                yield
                return
            before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
            torch.backends.cudnn.allow_tf32 = self.half is not None
            torch.set_float32_matmul_precision("highest" if self.half is None else "high")
            try:
                yield
            finally:
                torch.backends.cudnn.allow_tf32 = before[0]
                torch.set_float32_matmul_precision(before[1])

    def wrap(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return any network as a function float32 -> float32 that runs in this precision (by autocast)."""

        def run(x: Tensor) -> Tensor:
            with self.computing(), torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
                return network(x).float()

        return run


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision of a name: auto, bf16, fp16 or fp32.

    `auto` is bf16 where the hardware has instructions for it (a CPU with AVX512-BF16 or AMX, a GPU from Ampere on);
    on an older GPU fp16 if it has tensor cores (Volta, Turing), where that is several times faster; else float32,
    because elsewhere half precision is emulated and slower. Raises UserError for another name, and for one that a
    GPU does not compute in.
    """
    if name not in PRECISIONS:
        raise UserError(f"precision={name}: expected one of {', '.join(PRECISIONS)}")
    native = native_precisions(device)
    if name == "auto":
        name = native[0]
    elif name not in native:
        if device.type == "cuda":
            raise UserError(f"precision={name}: this GPU does not compute in it; say {', '.join(native)} or auto")
        logger.warning("precision=%s: this %s only emulates it, which is slow; auto is faster", name, device.type)
    return Precision(device, HALVES.get(name))


def native_precisions(device: torch.device) -> list[str]:
    """Return the precisions that a device computes in, the one that `auto` takes first."""
    if device.type == "cpu":
        return ["bf16", "fp32"] if _cpu_has_bf16() else ["fp32"]
    if device.type != "cuda":
        return ["fp32", "fp16"]
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ["bf16", "fp16", "fp32"]
    return ["fp16", "fp32"] if torch.cuda.get_device_capability(device) >= TENSOR_CORES else ["fp32", "fp16"]


def _cpu_has_bf16() -> bool:
    # oneDNN's own query also says yes to every CPU with AVX-512, where bf16 is emulated and no faster than float32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, bool)() for query in queries)
