"""A step as a CUDA graph: what a graph asks of the step, checked on the CPU, and that it computes the same."""

from contextlib import contextmanager, nullcontext
from unittest import mock

import pytest
import torch
from skimage import data
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from config_files import config_of
from realsr.kernels import kernelgan_training
from realsr.kernels.kernelgan import prepare_photo
from realsr.kernels.kernelgan_training import GraphStep, KernelGANConfig, _GANs, train_kernelgans

CONFIG = config_of(KernelGANConfig, 12, 2e-4, border=0)
CPU = torch.device("cpu")


@pytest.fixture
def photos():
    images = data.astronaut()[:180, :200].copy(), data.coffee()[:180, 100:300].copy()
    return [prepare_photo(image, CONFIG, [0])[0] for image in images]


class CPUGraph:
    """Records operations with the tensors that they take and give, as a CUDA graph does, and does them again.

    Unlike a CUDA graph it computes while it records, so that the first replay has nothing left to do.
    """

    def __init__(self):
        self._operations = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch.no_grad():
            for function, args, kwargs, results in self._operations:
                for old, new in zip(
                    tree_leaves(results), tree_leaves(function(*args, **kwargs)), strict=True
                ):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def record(self) -> TorchDispatchMode:
        operations = self._operations

        class Recording(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                results = function(*args, **(kwargs or {}))
                operations.append((function, args, kwargs or {}, results))
                return results

        return Recording()


@pytest.fixture
def graphs(monkeypatch):
    """Stands in for torch.cuda's graphs; gives a list of those that are made."""
    made = []

    def make_graph():
        made.append(CPUGraph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make_graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: graph.record())
    monkeypatch.setattr(torch.cuda, "Stream", mock.Mock())
    monkeypatch.setattr(torch.cuda, "current_stream", mock.Mock())
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    return made


def train(photos, make_step) -> tuple[list[dict[str, torch.Tensor]], list[torch.Tensor]]:
    """Return the losses of some steps, and all that training has changed in the end."""
    gans = _GANs(photos, CONFIG, [0, 1], CPU)
    step = make_step(gans.step)
    losses = []
    for number, inputs in enumerate(zip(*gans.draw(0, 8), strict=True)):
        losses.append({name: loss.clone() for name, loss in step(*inputs).items()})
        gans.advance({5: 200, 6: 750}.get(number, 1))
    networks = [*gans.generator.parameters, *gans.discriminator.parameters]
    return losses, [*networks, gans._kernel_loss._streak, gans._kernel_loss.bicubic_weight]


def assert_same(result, expected) -> None:
    for ours, theirs in zip(tree_leaves(result), tree_leaves(expected), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_recorded_once_and_done_again_is_a_step(photos, graphs):
    """All that a step changes, it changes in place, and no number in it comes from outside the tensors."""
    captured = train(photos, lambda step: GraphStep(step, CPU))
    assert [graph.replays for graph in graphs] == [5]
    assert_same(captured, train(photos, lambda step: step))


def test_without_a_graph_steps_are_ordinary_ones(photos, graphs, monkeypatch, caplog):
    @contextmanager
    def fail(graph, stream):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", fail)
    assert_same(train(photos, lambda step: GraphStep(step, CPU)), train(photos, lambda step: step))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not permitted" in caplog.text


def test_on_a_cpu_a_step_is_left_as_it_is(photos, monkeypatch):
    monkeypatch.setattr(kernelgan_training, "GraphStep", mock.Mock(side_effect=AssertionError))
    train_kernelgans(photos, CONFIG, [0, 1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graph_on_a_gpu_finds_the_kernels_that_ordinary_steps_find(photos, caplog):
    graph = train_kernelgans(photos, CONFIG, [0, 1], device="cuda")
    with mock.patch.object(kernelgan_training, "GraphStep", lambda step, device: step):
        eager = train_kernelgans(photos, CONFIG, [0, 1], device="cuda")
    assert not caplog.records
    torch.testing.assert_close(graph.kernels, eager.kernels, rtol=1e-4, atol=1e-7)
    for name, losses in eager.losses.items():
        torch.testing.assert_close(graph.losses[name], losses, rtol=1e-4, atol=1e-6)
