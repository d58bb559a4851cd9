"""KernelGAN's terms on the kernel and their schedule (Bell-Kligler et al., NeurIPS 2019, section 4), photo by photo."""

import torch
from torch import Tensor

from realsr.kernels.kernelgan_networks import KERNEL_SIZE

CENTRE = KERNEL_SIZE // 2 + 0.5
BICUBIC_WEIGHT, BICUBIC_WEIGHT_MIN, BICUBIC_DECAY = 5.0, 5e-6, 100.0
DECAY_INTERVAL = 200


class KernelLoss:
    """The terms on the kernels of B photos. The weight of the MSE to bicubic is `bicubic_weight` (B,)."""

    def __init__(self, batch: int, device: torch.device):
        offsets = torch.arange(KERNEL_SIZE, device=device) - KERNEL_SIZE // 2
        gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 13.0**2))
        self._boundary = 30 * (1 - gaussian / gaussian.max())
        self._boundary[2:-2, 2:-2] = 0
        self._grid = torch.arange(float(KERNEL_SIZE), device=device)
        self.bicubic_weight = torch.full((batch,), BICUBIC_WEIGHT, device=device)
        self._streak = torch.zeros(batch, device=device)
        self._decaying = torch.zeros(batch, dtype=torch.bool, device=device)
        self._late = torch.zeros(batch, device=device)

    def __call__(self, kernel: Tensor) -> Tensor:
        """Return the loss (B,) of kernels (B, 13, 13), without the MSE to bicubic."""
        total = kernel.sum(dim=(1, 2))
        boundary = (kernel * self._boundary).abs().mean(dim=(1, 2))
        rows = (kernel.sum(2) * self._grid).sum(1) / total
        columns = (kernel.sum(1) * self._grid).sum(1) / total
        centre = ((rows - CENTRE) ** 2 + (columns - CENTRE) ** 2) / 2
        # The slope of |k|^0.2 has no bound at 0, where one value would drown the rest. In float64, since vector units
        # and their leftovers differ in the last bit of float32's power.
        sparsity = kernel.double().abs().clamp_min(1e-10).pow(0.2).to(kernel.dtype).mean(dim=(1, 2))
        return 0.5 * (1 - total).abs() + 0.5 * boundary + self._late * (centre + 5 * sparsity)

    def watch(self, bicubic_loss: Tensor) -> None:
        """Take note of each photo's MSE to the bicubic /2 (B,), once an iteration."""
        self._streak.add_(1).mul_(bicubic_loss < 0.4)
        self._decaying |= self._streak >= 3

    def decay(self) -> None:
        """Lower the weights of the photos that are near to bicubic, once in `DECAY_INTERVAL` iterations."""
        lower = (self.bicubic_weight / BICUBIC_DECAY).clamp_min(BICUBIC_WEIGHT_MIN)
        self.bicubic_weight.copy_(torch.where(self._decaying, lower, self.bicubic_weight))
        self._late.copy_(self.bicubic_weight < 5e-3)
