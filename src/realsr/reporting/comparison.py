"""A figure that sets models side by side on crops of photos, with the kernels true and estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.reporting.canvas import encode_figure, window_kernel


@dataclass(frozen=True)
class ComparisonRow:
    """A photo's crop as each column shows it: title -> (3, h, w) in 0..1; the last is HR."""

    name: str
    images: Mapping[str, Tensor]
    notes: Mapping[str, str]


def write_comparison(path: Path, rows: Sequence[ComparisonRow], kernels: Mapping[str, np.ndarray]) -> None:
    """Draw one row of images a photo, and the kernels in a row below; write a PNG, atomically."""
    from matplotlib.figure import Figure

    columns = max(len(rows[0].images), len(kernels))
    heights = [3.0] * len(rows) + [1.8]
    figure = Figure(figsize=(3 * columns, sum(heights) + 0.5), dpi=110, layout="constrained")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, line in zip(rows, axes, strict=False):
        for (title, image), axis in zip(row.images.items(), line, strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy(), vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(f"{title}\n{row.notes.get(title, printable(row.name))}", fontsize=10, parse_math=False)
    brightest = max(kernel.max() for kernel in kernels.values())
    side = max(max(kernel.shape) for kernel in kernels.values())
    for (title, kernel), axis in zip(kernels.items(), axes[-1], strict=False):
        axis.imshow(window_kernel(kernel, side), vmin=0, vmax=brightest, cmap="magma", interpolation="nearest")
        axis.set_title(printable(title), fontsize=10, parse_math=False)
    write_bytes(path, encode_figure(figure))
