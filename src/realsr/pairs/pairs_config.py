"""How pairs are made."""

from dataclasses import dataclass
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range


@dataclass
class PairsConfig:
    """How pairs are made.

    hr: where HR comes from: `source` (cleaned up by shrinking), `target` (as it is), or both.
    clean_up: by what whole number a source photo is shrunk to become clean.
    """

    hr: list[Annotated[str, Choice("source", "target")]]
    clean_up: Annotated[int, Range(1)]

    def __post_init__(self) -> None:
        """Raise UserError where there is nothing to make HR of."""
        if not self.hr:
            raise UserError("pairs.hr=[]: expected [source], [target] or [source,target]")
