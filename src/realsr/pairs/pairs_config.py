"""Configuration of the pairs."""

from dataclasses import dataclass
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range


@dataclass
class PairsConfig:
    """Origin of the HR images.

    hr: `source` (downscaled photos), `target` (photos at their own size), or both.
    clean_up: integer factor by which source photos are downscaled.
    """

    hr: list[Annotated[str, Choice("source", "target")]]
    clean_up: Annotated[int, Range(1)]

    def __post_init__(self) -> None:
        """Raise UserError if `hr` is empty."""
        if not self.hr:
            raise UserError("pairs.hr=[]: expected [source], [target] or [source,target]")
