"""Models side by side on a detail of a photo, as papers print them: the photo with a box, and the detail enlarged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import torch
from torch import Tensor

from realsr.imaging import to_uint8
from realsr.reporting.canvas import FAINT, INK, Block, Colour, below, beside, framed, label

BOX: Colour = (224, 49, 49)
PANEL = 256  # pixels of a detail's longer side, at most
LARGEST = 512  # the same of a detail that is larger by itself
WIDEST = 1.5  # the photo's width / the grid's height
GAP = 12


@dataclass(frozen=True)
class Window:
    """A place in an image, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, image: Tensor) -> Tensor:
        """Return the part of (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def shrunk(self, factor: int) -> "Window":
        """Return the same place in an image shrunk by a whole number, of which all four are multiples."""
        return Window(*(value // factor for value in (self.left, self.top, self.width, self.height)))

    def widened(self, grid: int) -> "Window":
        """Return the smallest window around it whose corners lie on multiples of `grid`."""
        left, top = self.left // grid * grid, self.top // grid * grid
        right, bottom = (-(-end // grid) * grid for end in (self.left + self.width, self.top + self.height))
        return Window(left, top, right - left, bottom - top)


def choose_window(images: Sequence[Tensor], size: int, grid: int = 1) -> Window:
    """Return where images differ most: the square with the largest sum of squared differences over all pairs.

    images: (3, H, W) in 0..1 of one size, a multiple of `grid`; two or more. size: side in pixels, less where the
    image is smaller. Its corners lie on multiples of `grid`.
    """
    height, width = images[0].shape[1:]
    spread = torch.stack([(one - other).square().sum(dim=0) for one, other in combinations(images, 2)]).sum(dim=0)
    cells = spread.double().reshape(height // grid, grid, width // grid, grid).sum(dim=(1, 3)).numpy()
    rows, columns = (max(1, min(size // grid, count)) for count in cells.shape)
    total = cv2.integral(cells)
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(*(int(value) * grid for value in (column, row, columns, rows)))


def draw_crops(
    name: str, photo: Tensor, window: Window, details: Mapping[str, Tensor], notes: Mapping[str, str]
) -> Block:
    """Draw a photo with a box around the window, and beside it the details, each with its title and note below.

    Args:
        name: the photo's title.
        photo: (3, H, W) in 0..1.
        window: of the photo.
        details: title -> the window's content, (3, h, w); all of the window's shape, at any whole number of pixels for
            one of the photo's. They are brought to one size by
            repeating pixels.
        notes: title -> a line below the title, e.g. "27.17 dB".
    """
    rows = 1 if len(details) <= 2 else 2 if len(details) <= 8 else 3
    columns = -(-len(details) // rows)
    longest = max(window.width, window.height)
    factor = max(1, PANEL // longest) if longest <= LARGEST else LARGEST / longest
    height, width = (max(1, round(side * factor)) for side in (window.height, window.width))
    panels = [_panel(title, image, (height, width), notes.get(title, "")) for title, image in details.items()]
    grid = below([beside(panels[at : at + columns], GAP) for at in range(0, len(panels), columns)], GAP)
    caption = label(name, max(width, 160), 15)
    room = len(grid) - len(caption)
    return framed(beside([below([_boxed(photo, window, room), caption], 0), grid], GAP + 4), 18)


def _panel(title: str, image: Tensor, size: tuple[int, int], note: str) -> Block:
    pixels = cv2.resize(to_uint8(image), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    room = max(size[1], 120)
    if room > size[1]:
        pixels = np.pad(pixels, ((0, 0), (0, room - size[1]), (0, 0)), constant_values=255)
    return below([pixels, label(title, room, 15, INK), label(note, room, 14, FAINT)], 0)


def _boxed(photo: Tensor, window: Window, room: int) -> Block:
    """The photo, fit into `room` pixels of height, with the window's box."""
    height, width = photo.shape[1:]
    factor = min(room / height, WIDEST * room / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    block = np.ascontiguousarray(cv2.resize(to_uint8(photo), size, interpolation=method))
    left, top = window.left * factor, window.top * factor
    right, bottom = left + window.width * factor, top + window.height * factor
    corners = (
        (round(left), round(top)),
        (max(round(left) + 4, round(right) - 1), max(round(top) + 4, round(bottom) - 1)),
    )
    cv2.rectangle(block, *corners, (255, 255, 255), 5)
    cv2.rectangle(block, *corners, BOX, 3)
    return block
