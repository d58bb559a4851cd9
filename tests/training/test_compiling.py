import logging

import pytest
import torch
from torch import Tensor, nn

from realsr.networks.rrdb import RRDB
from realsr.training.step import compile_network


def trial(net: nn.Module) -> Tensor:
    return net(torch.rand(1, 3, 8, 8)).mean()


def test_a_failure_is_told_and_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(net: nn.Module, **options: object) -> nn.Module:
        raise RuntimeError("no compiler found\nlong story")

    monkeypatch.setattr(torch, "compile", fail)
    net = nn.Conv2d(3, 3, 3)
    assert compile_network(net, trial) is net
    assert (
        "Conv2d cannot be compiled (RuntimeError: no compiler found); training continues as with"
        in caplog.text
    )
    assert "long story" not in caplog.text


def test_a_trial_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda net, **options: net)
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Dropout())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    compile_network(net, trial)
    assert torch.equal(torch.rand(3), expected), "the generator of randomness"
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.slow
def test_a_compiled_generator_computes_the_same(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    net = RRDB(2, features=8, blocks=1, growth=4)
    lr = torch.rand(2, 3, 8, 8)
    with caplog.at_level(logging.INFO, logger="realsr"):
        compiled = compile_network(net, lambda net: net(lr).mean())
    assert "RRDB compiled in" in caplog.text
    assert compiled is not net
    gradients = []
    for form in (net, compiled):
        net.zero_grad()
        form(lr).square().mean().backward()
        gradients.append(
            {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        )
    torch.testing.assert_close(compiled(lr), net(lr), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)
