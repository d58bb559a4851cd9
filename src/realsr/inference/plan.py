"""Where the tiles of a photo lie."""

from dataclasses import dataclass

from realsr.core.errors import UserError

OVERLAP = 96
"""LR pixels that neighbouring tiles share unless told otherwise: experiments/tile_overlap says why."""


def smallest_size(overlap: int) -> int:
    """Return the smallest tile that can blend with a neighbour on either side, wherever a plan begins anew."""
    return 2 * overlap + 8


@dataclass
class Tiles:
    """How photos are cut.

    Attributes:
        size: most LR pixels a side of a tile. It is lowered when memory does not suffice, so that the next photo
            begins with what has fitted.
        overlap: least LR pixels that neighbours share.

    Raises:
        UserError: for an overlap below 0, or a size below `smallest_size(overlap)`.
    """

    size: int
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.size < smallest_size(self.overlap):
            raise UserError(
                f"tile={self.size} overlap={self.overlap}: the overlap must not be negative"
                if self.overlap < 0
                else f"tile={self.size} overlap={self.overlap}: a tile has two overlaps and 8 pixels or more: say "
                f"tile={smallest_size(self.overlap)}, or a smaller overlap"
            )


def place_tiles(length: int, tiles: Tiles) -> tuple[list[int], int]:
    """Cut one side of a photo: return where its tiles start, and the size that all of them have.

    As few tiles as the size allows, then as small as their number allows: a side of 260 pixels costs little more than
    one of 256. They are spread evenly, so that neighbours share overlap to overlap + 2 pixels, and none is padded.
    """
    if length <= tiles.size:
        return [0], length
    count = -(-(length - tiles.overlap) // (tiles.size - tiles.overlap))
    size = -(-(length + (count - 1) * tiles.overlap) // count)
    return [i * (length - size) // (count - 1) for i in range(count)], size


def count_tiles(height: int, width: int, tiles: Tiles) -> int:
    """Return the number of tiles that a photo of this size is cut into."""
    return len(place_tiles(height, tiles)[0]) * len(place_tiles(width, tiles)[0])
