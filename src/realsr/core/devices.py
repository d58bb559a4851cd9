"""Selection of the device and of the precision of networks on it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.machine import describe_processor

logger = logging.getLogger("realsr")

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, option: str = "device", index: int = 0) -> torch.device:
    """Return the device of a name; `auto` is a GPU of NVIDIA, AMD or Apple if available.

    Args:
        name: auto, cpu, cuda, cuda:n, mps (Apple), or another device of torch.
        option: the config key of the name, for messages.
        index: the GPU that `auto` and `cuda` mean, modulo the number of GPUs.

    Raises:
        UserError: for a device that does not exist or cannot be used.
    """
    if name == "auto":
        has_apple_gpu = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_apple_gpu else "cpu"
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
    """The precision of networks on a device.

    `half` is the dtype of autocast, None for float32. `tf32` allows TF32 for float32 products on a
    GPU. With fp32, products are exact float32. With bf16 (8 bits of mantissa), TF32 (11 bits) is
    precise enough for the operations that stay in float32.
    """

    device: torch.device
    half: torch.dtype | None = None
    tf32: bool = False

    def autocast(self) -> AbstractContextManager[None]:
        """Return the autocast context for networks."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler of a training; it is disabled unless the precision is fp16."""
        return torch.amp.GradScaler(
            self.device.type, init_scale=2.0**13, enabled=self.half == torch.float16
        )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Disable gradients, and set TF32 on a GPU as this precision requires, inside the block."""
        with torch.no_grad():
            if self.device.type != "cuda":
                yield
                return
            settings = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
            allow_tf32(self.tf32)
            try:
                yield
            finally:
                torch.backends.cudnn.allow_tf32 = settings[0]
                torch.set_float32_matmul_precision(settings[1])

    def wrap(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return a network as a function float32 -> float32 that computes in this precision."""

        def run(x: Tensor) -> Tensor:
            with self.computing(), self.autocast():
                return network(x).float()

        return run


def choose_precision(name: str, device: torch.device, training: bool = False) -> Precision:
    """Return the precision of a name: auto, bf16, fp16, fp32 and, for training, tf32.

    For inference, `auto` is bf16 if the hardware supports it (a CPU with AVX512-BF16 or AMX, a GPU
    since Ampere), else fp16 on a GPU with tensor cores (Volta, Turing), where it is several times
    faster, else float32, since emulated half precision is slower. For training, `auto` is bf16 on a
    GPU that supports it, TF32 on an older GPU, and float32 on a CPU. Training also sets the TF32 and
    cuDNN options of the GPU for the whole process.

    Raises UserError for an unknown name, and for bf16 on a GPU that does not support it.
    """
    names = ("auto", "bf16", "fp16", *(("tf32",) if training else ()), "fp32")
    key, on_gpu = "trainer.precision" if training else "precision", device.type == "cuda"
    if name not in names:
        raise UserError(f"{key}={name}: expected one of {', '.join(names)}")
    if name == "auto" and training:
        name = ("bf16" if _gpu_has_bf16() else "tf32") if on_gpu else "fp32"
    elif name == "auto":
        name = _native_precisions(device)[0]
    elif name == "bf16" and on_gpu and not _gpu_has_bf16():
        raise UserError(
            f"{key}=bf16: this GPU does not support bf16: set {', '.join(names[2:])} or auto"
        )
    elif not on_gpu and not training and name not in _native_precisions(device):
        logger.warning("precision=%s: emulated on this %s, slower than auto", name, device.type)
    precision = Precision(device, HALVES.get(name), tf32=on_gpu and name != "fp32")
    if training and on_gpu:
        allow_tf32(precision.tf32)
        torch.backends.cudnn.benchmark = True  # all batches have the same shape
    return precision


def allow_tf32(enable: bool) -> None:
    """Enable or disable TF32 for float32 products on a GPU; torch enables it for convolutions only.

    This uses torch's older options. torch.compile reads them, and fails if the newer ones were set
    (PyTorch issue 166387).
    """
    torch.set_float32_matmul_precision("high" if enable else "highest")
    torch.backends.cudnn.allow_tf32 = enable


def _native_precisions(device: torch.device) -> list[str]:
    """Return the precisions that a device supports; the first is that of `auto` for inference."""
    if device.type == "cpu":
        return ["bf16", "fp32"] if cpu_instruction_set() == "avx512_bf16" else ["fp32"]
    if device.type != "cuda":
        return ["fp32", "fp16"]
    if _gpu_has_bf16():
        return ["bf16", "fp16", "fp32"]
    has_tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
    return ["fp16", "fp32"] if has_tensor_cores else ["fp32", "fp16"]


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_instruction_set() -> str:
    """Return the widest vector instructions that torch uses: avx512_bf16, avx512, avx2 or other."""
    name = torch.backends.cpu.get_cpu_capability()
    if name != "AVX512":
        return "avx2" if name == "AVX2" else "other"
    # oneDNN's query is true for every CPU with AVX-512, but without these two extensions bf16 is
    # emulated and no faster than float32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has_bf16 = any(getattr(torch.cpu, query, bool)() for query in queries)
    return "avx512_bf16" if has_bf16 else "avx512"


def lacks_vnni() -> bool:
    """Return whether the CPU is an x86 without instructions for sums of INT8 products (VNNI).

    False if the system does not list the instructions: only Linux does.
    """
    flags = describe_processor("flags").split()
    return bool(flags) and not {"avx512_vnni", "avx_vnni"} & set(flags)
