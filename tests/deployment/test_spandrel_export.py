import onnxruntime
import pytest
import torch

from realsr.deployment.onnx_graph import to_onnx
from realsr.networks import build_generator
from small_spandrel import SMALL, small_values

pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")

# Torch's exporter takes 10 to 40 s for the small form of a network with attention.
SLOW = ("swinir", "hat_s", "dat_light", "omnisr")


@pytest.mark.parametrize(
    "option",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SMALL],
)
def test_one_onnx_file_is_the_network_at_every_size(option: str) -> None:
    torch.manual_seed(0)
    network = build_generator(small_values(option), 2).eval()
    with torch.no_grad():  # values of a new network are small, and hide errors
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    session = onnxruntime.InferenceSession(to_onnx(network).SerializeToString())
    name = session.get_inputs()[0].name
    for size in ((1, 3, 16, 24), (3, 3, 21, 18), (1, 3, 1, 7), (1, 3, 32, 70)):
        x = torch.rand(size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = network(x)
        sr = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
        torch.testing.assert_close(sr, expected, rtol=1e-4, atol=2e-5)
