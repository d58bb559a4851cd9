"""Figures of an evaluation: for chosen images, the models side by side on a detail."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from realsr.core.errors import UserError
from realsr.evaluation.images import EvaluationImage
from realsr.evaluation.metric import ImageMetric
from realsr.evaluation.scoring import bicubic_model
from realsr.imaging import write_uint8
from realsr.reporting.crops import Window, choose_window, draw_crops

ALL = "all"


def parse_figures(asked: Sequence[str], images: Collection[str]) -> dict[str, Window | None]:
    """Return the window, if one is given, of each image to be shown.

    asked: `NAME`, `NAME:LEFT,TOP,WIDTH,HEIGHT` (HR pixels; colons will do for commas), or `all` for all images. Raises
    UserError for what is none of these.
    """
    figures: dict[str, Window | None] = {}
    for text in asked:
        found = re.fullmatch(r"(.+?):(\d+)[,:](\d+)[,:](\d+)[,:](\d+)", text)
        name, window = (found[1], Window(*map(int, found.groups()[1:]))) if found else (text, None)
        if name == ALL and window is None and ALL not in images:
            figures |= {image: figures.get(image) for image in images}
        elif name not in images or (window is not None and 0 in (window.width, window.height)):
            listed = ", ".join(sorted(images)[:10]) + (" …" if len(images) > 10 else "")
            raise UserError(
                f"figures: {text}: expected NAME or NAME:LEFT:TOP:WIDTH:HEIGHT in HR pixels, or {ALL}; the images are "
                f"{listed}"
            )
        else:
            figures[name] = window
    return figures


class Figures:
    """Collects results of chosen images, and writes a figure of each once the last model's is there.

    Args:
        folder: gets NAME.png.
        figures: what `parse_figures` returns.
        names: model -> its title, in the order of evaluation.
        metrics: of which the first two are printed below each detail, as scores of the whole image.
        scale: HR pixels for one of LR.
    """

    def __init__(
        self,
        folder: Path,
        figures: Mapping[str, Window | None],
        names: Mapping[str, str],
        metrics: Mapping[str, ImageMetric],
        scale: int,
    ) -> None:
        self.failed: dict[str, str] = {}
        self._folder, self._figures, self._names = folder, figures, names
        self._metrics, self._scale = dict(list(metrics.items())[:2]), scale
        self._results: dict[str, Tensor] = {}
        self._notes: dict[str, str] = {}

    def add(self, image: EvaluationImage, model: str, sr: Tensor, scores: Mapping[str, float]) -> None:
        """Take a result in; the last model's writes the figure. What cannot be drawn is told in `failed`."""
        if image.name not in self._figures:
            return
        if model == next(iter(self._names)):
            self._results, self._notes = {}, {}
        self._results[self._names[model]] = sr.clamp(0, 1)
        self._notes[self._names[model]] = " / ".join(_note(name, scores[name], m) for name, m in self._metrics.items())
        if len(self._results) == len(self._names):
            try:
                self._write(image)
            except ValueError as error:
                self.failed[f"figure of {image.name}"] = str(error)

    def _write(self, image: EvaluationImage) -> None:
        window = self._window(image)
        details = {"LR": window.shrunk(self._scale).cut(image.lr)}
        details |= {name: window.cut(sr) for name, sr in self._results.items()}
        notes = {"LR": " / ".join(self._metrics)} | self._notes
        photo, box = image.lr, window.shrunk(self._scale)
        if image.hr is not None:
            details["HR"] = window.cut(image.hr)
            photo, box = image.hr, window
        self._folder.mkdir(parents=True, exist_ok=True)
        write_uint8(self._folder / f"{image.name}.png", draw_crops(image.name, photo, box, details, notes))

    def _window(self, image: EvaluationImage) -> Window:
        height, width = (side * self._scale for side in image.lr.shape[1:])
        asked = self._figures[image.name]
        if asked is not None:
            window = asked.widened(self._scale)
            if window.left + window.width > width or window.top + window.height > height:
                raise ValueError(
                    f"{asked.left},{asked.top},{asked.width},{asked.height} reaches beyond its {width}x{height} pixels"
                )
            return window
        shown = list(self._results.values())
        if len(shown) == 1:
            shown.append(image.hr if image.hr is not None else bicubic_model(self._scale)(image.lr))
        size = min(128, max(32, min(height, width) // 6))
        return choose_window(shown, size, self._scale)


def _note(name: str, value: float, metric: ImageMetric) -> str:
    return f"{value:.{metric.digits}f}" + (" dB" if name.startswith("psnr") else "")
