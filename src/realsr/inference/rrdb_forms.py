"""Choice between the forms of an RRDB on a CPU, by its instruction set and measured times.

Nothing is measured at run time: the same processor always computes the same values.
"""

import logging
from dataclasses import dataclass

import torch

from realsr.core.devices import Precision, cpu_instruction_set
from realsr.inference.fast_rrdb import FastRRDB
from realsr.networks.rrdb import RRDB

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Form:
    """Arguments of `FastRRDB`."""

    half: torch.dtype | None
    winograd: bool

    def __str__(self) -> str:
        dtype = str(self.half or torch.float32).removeprefix("torch.")
        blocks = "dense blocks in float32 by Winograd F(4x4, 3x3)" if self.winograd else ""
        return ", ".join(filter(None, (dtype, blocks)))


DIRECT, WINOGRAD = Form(None, False), Form(None, True)
DIRECT_BF16, WINOGRAD_BF16 = Form(torch.bfloat16, False), Form(torch.bfloat16, True)

# CPU time relative to `DIRECT`, measured by experiments/benchmarks/rrdb_times.py with the published
# DF2K on 2026-11-28. In all forms, PSNR to HR is within 0.01 dB of float32.
TIMES: dict[str, dict[Form, float]] = {
    "avx2": {DIRECT: 1.0, WINOGRAD: 0.42},
    "avx512": {DIRECT: 1.0, WINOGRAD: 0.44},
    "avx512_bf16": {DIRECT: 1.0, WINOGRAD: 0.44, DIRECT_BF16: 0.54, WINOGRAD_BF16: 0.41},
}


def make_fast(network: RRDB, precision: Precision, automatic: bool) -> tuple[FastRRDB, Form]:
    """Return the fastest form of a network.

    precision: bf16 or float32 on a CPU. automatic: allow float32 instead of bf16.
    """
    form = choose_form(network, precision, automatic)
    return FastRRDB(network, form.half, winograd=form.winograd), form


def choose_form(network: RRDB, precision: Precision, automatic: bool) -> Form:
    """Return the fastest form by `TIMES`, see `make_fast`."""
    direct = Form(precision.half, False)
    if precision.device.type != "cpu":
        return direct
    times = TIMES.get(cpu_instruction_set(), {})
    forms = [form for form in times if automatic or form.half == precision.half]
    form = min(forms, key=times.__getitem__, default=direct)
    if form.winograd and not _can_use_winograd(network):
        others = [other for other in forms if not other.winograd]
        return min(others, key=times.__getitem__, default=direct)
    return form


def _can_use_winograd(network: RRDB) -> bool:
    try:
        from realsr.inference.winograd import suits
    except ImportError as error:
        logger.info("%s: to upscale faster, pip install 'realsr[fast]'", error)
        return False
    return suits(network)
