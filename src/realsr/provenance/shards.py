"""A stage's items shared out among processes or machines, each of which does one shard of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from realsr.core.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The items index, index + count, index + 2 count, … of a sorted list."""

    index: int
    count: int

    def take(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this shard, in their order."""
        return list(items)[self.index :: self.count]

    def manifest(self, stage: str) -> str:
        """Return the name of the manifest that this shard of a stage alone writes."""
        return f"manifest.{stage}.shard{self.index}of{self.count}.json"


def choose_shard(index: int | None, count: int | None) -> Shard | None:
    """Return the shard that `shard` and `shards` ask for, or None for all items. Raises UserError for half of it."""
    if index is None and count is None:
        return None
    if index is None or count is None:
        given, missing = (f"shards={count}", "shard") if index is None else (f"shard={index}", "shards")
        raise UserError(
            f"{given} is given without {missing}: say which shard of how many, e.g. shard=0 shards=8, or all of them "
            "by -m 'shard=range(8)' shards=8"
        )
    if not 0 <= index < count:
        raise UserError(f"shard={index} shards={count}: shards are counted from 0 to {count - 1}")
    return Shard(index, count)


def list_shard_manifests(folder: Path, stage: str = "*") -> list[Path]:
    """Return the manifests that a stage's shards have left in a folder, sorted."""
    return sorted(folder.glob(f"manifest.{stage}.shard*of*.json"))
