"""torch.compile, with a trial before the training relies on it."""

import logging
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

logger = logging.getLogger("realsr")


def compile_network(net: nn.Module, trial: Callable[[nn.Module], Tensor]) -> nn.Module:
    """Return a compiled form of a network, which shares its parameters, or the network itself where that fails.

    trial: runs what it is given as the training will, and returns a scalar to go back from; compiling happens in it.
    It leaves no trace in the network.
    """
    device = next(net.parameters()).device
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    start = time.monotonic()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            compiled = cast(nn.Module, torch.compile(net, dynamic=False))
            trial(compiled).backward()
    except Exception as error:  # compilers fail in many ways, and training does not need one
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        logger.warning(
            "%s cannot be compiled (%s: %s); training goes on without, as with trainer.compile=false",
            type(net).__name__, type(error).__name__, reason,
        )  # fmt: skip
        compiled = net
    else:
        logger.info("%s is compiled, in %.0f s", type(net).__name__, time.monotonic() - start)
    net.zero_grad(set_to_none=True)
    for name, buffer in net.named_buffers():
        buffer.copy_(buffers[name])
    return compiled
