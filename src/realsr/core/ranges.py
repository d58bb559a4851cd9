"""Valid ranges and choices of config values, declared as `Annotated[int, Range(1)]` in schemas."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import product
from math import inf, isfinite
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from realsr.core.errors import UserError


@dataclass(frozen=True)
class Range:
    """Finite numbers with inclusive (`minimum`, `maximum`) or exclusive bounds (`above`, `below`)."""

    minimum: float = -inf
    maximum: float = inf
    above: float = -inf
    below: float = inf

    def __contains__(self, value: float) -> bool:
        is_inside = self.minimum <= value <= self.maximum and self.above < value < self.below
        return isfinite(value) and is_inside

    def __str__(self) -> str:
        if isfinite(self.minimum) and not isfinite(self.maximum) and not isfinite(self.below):
            return f"{self.minimum} or more"
        words = {"from": self.minimum, "above": self.above, "to": self.maximum, "below": self.below}
        text = " ".join(f"{word} {end}" for word, end in words.items() if isfinite(end))
        return (
            text.replace(" to", ", at most")
            if isfinite(self.above)
            else text.replace(" below", " to below")
        )


class Choice:
    """The valid words of a key."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


def check_ranges(config: Any, prefix: str = "") -> None:
    """Raise UserError for the first value of a dataclass that is out of its range or choice.

    Nested dataclasses are included. prefix: the key of the dataclass, for the message.
    """
    key = f"{prefix}." if prefix else ""
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        name, value = f"{key}{field.name}", getattr(config, field.name)
        parts = value if isinstance(value, dict) else {"": value}
        for part, content in parts.items():
            if is_dataclass(content):
                check_ranges(content, f"{name}.{part}".removesuffix("."))
        check_value(name, value, hints[field.name])


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise UserError if a value, or an item of a list, is out of a type hint's range or choice."""
    items, text = [value], value
    if isinstance(value, list | tuple):
        items, text = list(value), f"[{','.join(map(str, value))}]"
    for item, limits in product(items, _find_ranges(hint)):
        if item is not None and item not in limits:
            raise UserError(f"{key}={text}: expected {_describe(limits, hint, item)}")


def _find_ranges(hint: Any) -> Iterator[Range | Choice]:
    if get_origin(hint) is Annotated:
        yield from (item for item in hint.__metadata__ if isinstance(item, (Range, Choice)))
    else:
        for argument in get_args(hint):
            yield from _find_ranges(argument)


def _describe(limits: Range | Choice, hint: Any, value: float | str) -> str:
    finite = isinstance(value, str) or isfinite(value)
    words = str(limits) if finite else f"a finite number {limits}".strip()
    return f"{words}, or null" if type(None) in get_args(hint) else words
