import numpy as np
import pytest
import torch

from realsr.kernels.kernelgan_training import DECAY_INTERVAL
from realsr.kernels.kernelgan_training import KernelLoss as DeviceKernelLoss


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class KernelLoss(DeviceKernelLoss):
    """On the CPU, with the iterations counted as the training does."""

    def __init__(self, batch: int, check_start: bool = False):
        super().__init__(batch, torch.device("cpu"), check_start)

    def advance(self, iteration: int, bicubic_loss: torch.Tensor, total: float = 1.0) -> None:
        self.update(bicubic_loss, torch.full_like(bicubic_loss, total))
        if iteration % DECAY_INTERVAL == 0:
            self.decay()


def plain_terms(k: np.ndarray) -> dict[str, float]:
    terms = {"sum": abs(1 - k.sum()), "boundary": 0.0, "sparsity": (np.abs(k) ** 0.2).mean()}
    rows = columns = 0.0
    for r in range(13):
        for c in range(13):
            mask = 30 * (1 - np.exp(-((r - 6) ** 2 + (c - 6) ** 2) / (2 * 13**2)))
            if 2 <= r <= 10 and 2 <= c <= 10:
                mask = 0
            terms["boundary"] += abs(k[r, c] * mask) / 169
            rows, columns = rows + r * k[r, c] / k.sum(), columns + c * k[r, c] / k.sum()
    terms["centre"] = ((rows - 6.5) ** 2 + (columns - 6.5) ** 2) / 2
    return terms


def some_kernels(batch: int = 3) -> torch.Tensor:
    return 0.02 * (noise(batch, 13, 13) + 1)


def test_boundary_mask():
    corner, edge, loss = torch.zeros(1, 13, 13), torch.zeros(1, 13, 13), KernelLoss(1)
    corner[0, 0, 12], edge[0, 6, 0] = 1, 1
    boundary = [float(loss(kernel)) * 2 * 169 for kernel in (corner, edge)]  # all of sum 1
    assert boundary[0] == pytest.approx(5.8, abs=0.05)
    assert boundary[1] == pytest.approx(3, abs=0.1)
    for row in range(13):
        for column in range(13):
            kernel = torch.zeros(1, 13, 13)
            kernel[0, row, column] = 1
            central = 2 <= row <= 10 and 2 <= column <= 10
            assert (float(loss(kernel)) == 0) == central


def test_early_terms_written_plainly():
    kernels, loss = some_kernels(), KernelLoss(3)
    assert loss.bicubic_weight.tolist() == [5, 5, 5]
    for kernel, value in zip(kernels.double().numpy(), loss(kernels).tolist(), strict=True):
        terms = plain_terms(kernel)
        assert value == pytest.approx(0.5 * terms["sum"] + 0.5 * terms["boundary"], rel=1e-5)


def test_late_terms_written_plainly():
    loss = KernelLoss(3)
    for iteration in range(1, 401):
        loss.advance(iteration, torch.zeros(3))
    torch.testing.assert_close(loss.bicubic_weight, torch.full((3,), 5e-4))
    kernels = some_kernels()
    for kernel, value in zip(kernels.double().numpy(), loss(kernels).tolist(), strict=True):
        t = plain_terms(kernel)
        early = 0.5 * t["sum"] + 0.5 * t["boundary"]
        assert value == pytest.approx(early + t["centre"] + 5 * t["sparsity"], rel=1e-5)


def test_the_slope_of_sparsity_stays_finite_at_zero():
    loss = KernelLoss(1)
    for iteration in range(1, 401):
        loss.advance(iteration, torch.zeros(1))
    kernel = torch.zeros(1, 13, 13)
    kernel[0, 6, 6] = 1
    kernel.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(kernel).sum(), kernel)
    assert gradient.isfinite().all()


def has_late_terms(loss: KernelLoss) -> list[bool]:
    """Whether each photo's loss has a price on being off centre and on many values."""
    batch = loss.bicubic_weight.shape[0]
    flat = torch.zeros(batch, 13, 13)
    flat[:, 2:11, 2:11] = 1 / 81  # of sum 1 and within the boundary, so that the early terms are 0
    return (loss(flat) > 1e-3).tolist()


def test_schedule_of_a_photo():
    loss, weights, late = KernelLoss(1), {}, {}
    for iteration in range(1, 1401):
        loss.advance(iteration, torch.tensor([0.3999]))
        weights[iteration], late[iteration] = loss.bicubic_weight.item(), has_late_terms(loss)[0]
    for iteration, weight in weights.items():
        expected = max(5 / 100 ** (iteration // 200), 5e-6)
        assert weight == pytest.approx(expected, rel=1e-5)
        assert late[iteration] == (iteration >= 400)  # 5e-2 from 200 on, 5e-4 < 5e-3 from 400 on


@pytest.mark.parametrize(
    ("losses", "decays"),
    [
        ([0.3, 0.3, 0.3], True),
        ([0.3, 0.3, 0.5, 0.3, 0.3], False),
        ([0.4, 0.4, 0.4], False),
        ([0.3, 0.3, 0.3, 9.0, 9.0], True),  # once begun it goes on
    ],
)
def test_decay_begins_after_three_in_a_row_below(losses, decays):
    loss = KernelLoss(1)
    for iteration in range(1, 201):
        loss.advance(
            iteration, torch.tensor([losses[iteration - 1] if iteration <= len(losses) else 1.0])
        )
        assert iteration == 200 or loss.bicubic_weight.item() == 5
    assert loss.bicubic_weight.item() == pytest.approx(0.05 if decays else 5)


def test_each_photo_has_its_own_pace():
    loss = KernelLoss(3)
    for iteration in range(1, 801):
        loss.advance(iteration, torch.tensor([0.1, 0.1 if iteration > 450 else 1.0, 1.0]))
        if iteration == 500:
            assert has_late_terms(loss) == [True, False, False]
    torch.testing.assert_close(loss.bicubic_weight, torch.tensor([5e-6, 5e-2 / 100, 5.0]))
    assert has_late_terms(loss) == [True, True, False]


def test_the_schedule_waits_for_a_kernel_that_has_left_0():
    weights = {False: [], True: []}
    for check_start, values in weights.items():
        loss = KernelLoss(1, check_start)
        for iteration in range(1, 601):
            # The MSE of a photo of medium brightness, at first with the kernel 0.
            loss.advance(iteration, torch.tensor([0.3]), 0.0 if iteration < 300 else 0.9)
            if iteration % 200 == 0:
                values.append(round(loss.bicubic_weight.item(), 6))
    assert weights == {False: [0.05, 5e-4, 5e-6], True: [5, 0.05, 5e-4]}
