import io
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from realsr.deployment.onnx_graph import layers, to_onnx
from realsr.deployment.quantise import (
    FLOAT32_COUNTS,
    choose_ranges,
    collect_histograms,
    measure_sensitivity,
)
from realsr.deployment.table import Float32Choice, SensitivityReport
from realsr.reporting.figures import draw_sensitivity


def make_network() -> nn.Module:
    """Five convolutions; the third's weights for a channel that is always 0 are huge and take all of INT8's range."""
    torch.manual_seed(2)
    widths = (3, 8, 8, 8, 8, 3)
    convs = [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths)]
    for conv in convs:
        nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
    with torch.no_grad():
        convs[1].weight[5].zero_()
        convs[1].bias[5] = 0
        convs[2].weight[:, 5] = 60 * convs[2].weight.abs().amax()
    return nn.Sequential(
        *(part for conv in convs for part in (conv, nn.LeakyReLU(0.2)))
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def report(lrs: list[Tensor]) -> SensitivityReport:
    model = to_onnx(make_network())
    ranges = choose_ranges(collect_histograms(model, [lr.numpy() for lr in lrs]), "minmax")
    return measure_sensitivity(model, layers(model), ranges, "minmax", lrs)


def test_a_layer_that_is_hard_to_quantise_is_the_most_costly(report: SensitivityReport) -> None:
    assert list(report.alone) == ["0", "2", "4", "6", "8"]
    ranked = sorted(report.alone, key=report.alone.__getitem__)
    assert ranked[0] == "4"
    assert report.alone["4"] < report.alone[ranked[1]] - 5
    assert all(20 < value < 90 for name, value in report.alone.items() if name != "4")


def test_keeping_it_gains_the_most(report: SensitivityReport) -> None:
    ranked = sorted(report.alone, key=report.alone.__getitem__)
    assert [choice.kept for choice in report.choices] == [
        ranked[:count] for count in FLOAT32_COUNTS if count < 5
    ]
    found = [choice.similarity for choice in report.choices]
    assert found[1] > found[0] + 3
    assert found == sorted(found)
    assert all(choice.time > 0 for choice in report.choices)
    assert report.method == "minmax"


def test_the_picture_shows_each_layer(report: SensitivityReport) -> None:
    content = draw_sensitivity(report)
    assert content.startswith(b"\x89PNG")
    picture = matplotlib.image.imread(io.BytesIO(content))
    assert picture.std() > 0.05
    blue = (picture[..., 2] > picture[..., 0] + 0.2).sum(1)  # of the bars
    starts = np.flatnonzero(np.diff((blue > 0).astype(int)) == 1)
    assert len(starts) >= 5


@pytest.mark.parametrize("layers", [1, 40])
def test_pictures_of_few_and_many_layers(layers: int) -> None:
    alone = {f"layer.{index}": 30.0 + index for index in range(layers)}
    report = SensitivityReport("entropy", alone, [Float32Choice([], 30.0, 0.5)])
    assert draw_sensitivity(report).startswith(b"\x89PNG")
