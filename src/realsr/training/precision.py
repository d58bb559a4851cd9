"""In which numbers a training computes: bf16 or fp16 where it is safe, float32 for weights, sums and losses."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from realsr.core.errors import UserError


@dataclass(frozen=True)
class Precision:
    """`half`: what networks compute in under autocast, None for float32; `tf32`: whether float32 may be TF32."""

    device: torch.device
    half: torch.dtype | None = None
    tf32: bool = False

    def autocast(self) -> AbstractContextManager:
        """Return the context that networks run in."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the scaler of the losses, which only fp16 needs: without it does nothing."""
        return torch.amp.GradScaler(self.device.type, init_scale=2.0**13, enabled=self.half == torch.float16)


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision of a name, and let the GPU's matrix units follow it.

    `auto` is bf16 on a GPU that computes in it, TF32 on an older one, float32 on a CPU. Raises UserError for one that
    the GPU does not compute in.
    """
    on_gpu = device.type == "cuda"
    has_bf16 = not on_gpu or torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        name = ("bf16" if has_bf16 else "tf32") if on_gpu else "fp32"
    if name == "bf16" and not has_bf16:
        raise UserError("trainer.precision=bf16: this GPU does not compute in bf16; say fp16, tf32 or auto")
    precision = Precision(
        device, half={"bf16": torch.bfloat16, "fp16": torch.float16}.get(name), tf32=on_gpu and name != "fp32"
    )
    if on_gpu:
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
