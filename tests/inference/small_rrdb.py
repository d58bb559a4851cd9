"""A small generator for the tests here."""

import torch

from realsr.networks.rrdb import RRDB


def make_rrdb(scale: int = 4, features: int = 6, blocks: int = 2, growth: int = 4) -> RRDB:
    """Return an RRDB whose every parameter shows in its output, which is about 0..1 wide."""
    torch.manual_seed(0)
    network = RRDB(scale, features, blocks, growth).eval()
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data = spread * torch.randn(parameter.shape)
    return network
