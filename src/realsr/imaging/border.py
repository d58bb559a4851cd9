"""The symmetric border: the image mirrored with its edge pixel repeated, as often as needed."""

from torch import Tensor


def symmetric_index(index: Tensor, length: int) -> Tensor:
    """Map integer positions outside 0..length-1 to the pixels that they mirror (… 1 0 | 0 1 2 … | n-1 …)."""
    index = index.remainder(2 * length)
    return index.where(index < length, 2 * length - 1 - index)
