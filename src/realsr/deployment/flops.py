"""How much work a network is."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_gflop(network: nn.Module, side: int) -> float:
    """Return 10^9 floating-point operations for a picture of side x side LR pixels, by torch's own counter.

    It counts two for each weight that meets a pixel, and neither biases nor activations.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            copy.deepcopy(network).to("meta")(torch.empty(1, 3, side, side, device="meta"))
        except (NotImplementedError, RuntimeError):  # a network that looks at values has to compute them
            counter.flop_counts.clear()
            network(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9
