"""A training step as a CUDA graph: hundreds of small GPU kernels for the price of one launch."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("realsr")

WARM_UP = 3  # calls before the capture, in which optimisers make their state and libraries their work space

Step = Callable[..., Any]


def capture(step: Step, device: torch.device) -> Step:
    """Return `step`, on a CUDA device as a form that replays a graph of it from its fourth call on.

    step: takes tensors of the same shapes at each call, keeps its state in place, and reads nothing back from the
    device. Every call is a real step. What it returns lies in memory that the next call overwrites. Where a graph
    cannot be had all steps are ordinary ones, and the log says so.
    """
    return CapturedStep(step, device) if device.type == "cuda" else step


class CapturedStep:
    """A step that is captured at its fourth call; see `capture`."""

    def __init__(self, step: Step, device: torch.device):
        self._step = step
        self._device = device
        self._calls = 0
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Do one step."""
        self._calls += 1
        with torch.cuda.device(self._device):
            if self._calls <= WARM_UP:
                return self._warm_up(*inputs)
            if self._calls == WARM_UP + 1:
                self._capture(*inputs)
            if self._graph is None:
                return self._step(*inputs)
            for static, value in zip(self._inputs, inputs, strict=True):
                static.copy_(value)
            self._graph.replay()
            return self._outputs

    def _warm_up(self, *inputs: Tensor) -> Any:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _capture(self, *inputs: Tensor) -> None:
        self._inputs = [value.clone() for value in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):  # this records, and computes nothing yet
                self._outputs = self._step(*self._inputs)
        except RuntimeError as error:
            logger.warning("no CUDA graph of a training step, so training is slower: %s", error)
        else:
            self._graph = graph
