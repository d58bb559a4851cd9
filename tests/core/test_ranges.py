from dataclasses import dataclass, field, fields, is_dataclass
from math import inf, nan
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest

from realsr.config.schema import COMMANDS
from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range, check_ranges


@dataclass
class Inner:
    part: Annotated[float, Range(0, below=1)] = 0.5


@dataclass
class Outer:
    count: Annotated[int, Range(1)] = 1
    side: Annotated[int, Range(1, 64)] | None = None
    rate: Annotated[float, Range(above=0)] = 0.1
    decay: Annotated[float, Range(above=0, maximum=1)] = 1.0
    limit: Annotated[float, Range()] = 0.0
    method: Annotated[str, Choice("mean", "medoid")] = "mean"
    roles: list[Annotated[str, Choice("source", "target")]] = field(default_factory=list)
    ends: list[Annotated[int, Range(1, 100)]] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    parts: dict[str, Inner] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "outer.count=0: expected 1 or more"),
        ({"side": 65}, "outer.side=65: expected from 1 to 64, or null"),
        ({"rate": 0.0}, "outer.rate=0.0: expected above 0"),
        ({"rate": nan}, "outer.rate=nan: expected a finite number above 0"),
        ({"decay": 0.0}, "outer.decay=0.0: expected above 0, at most 1"),
        ({"method": "mode"}, "outer.method=mode: expected one of mean, medoid"),
        ({"roles": ["target", "hr"]}, "outer.roles=[target,hr]: expected one of source, target"),
        ({"limit": inf}, "outer.limit=inf: expected a finite number"),
        ({"ends": [1, 101]}, "outer.ends=[1,101]: expected from 1 to 100"),
        ({"inner": Inner(1.0)}, "outer.inner.part=1.0: expected from 0 to below 1"),
        (
            {"parts": {"a": Inner(), "b": Inner(-0.1)}},
            "outer.parts.b.part=-0.1: expected from 0 to below 1",
        ),
    ],
)
def test_a_number_out_of_its_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_ranges(Outer(**values), "outer")
    assert str(error.value) == message


def test_the_ends_of_a_range_belong_to_it_where_it_says_so() -> None:
    check_ranges(Outer(side=1, rate=1e-300, limit=-1e300, ends=[1, 100], inner=Inner(0.0)))
    check_ranges(Outer(side=64))


def _numbers_without_range(schema: type, prefix: str = "") -> list[str]:
    hints = get_type_hints(schema, include_extras=True)
    missing = []
    for name in (item.name for item in fields(schema)):
        for hint in _parts(hints[name]):
            if is_dataclass(hint):
                missing += _numbers_without_range(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
            elif hint in (int, float):
                missing.append(prefix + name)
    return missing


def _parts(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return (
            []
            if any(isinstance(item, Range) for item in hint.__metadata__)
            else _parts(get_args(hint)[0])
        )
    if get_origin(hint) in (list, dict, Union, UnionType):
        return [part for argument in get_args(hint) for part in _parts(argument)]
    return [hint]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_every_schema_has_a_range(name: str) -> None:
    assert _numbers_without_range(COMMANDS[name].schema) == []
