"""Gates: limits of the numbers that an estimator reports. Kernels beyond a limit are not used."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from realsr.core.components import convert
from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.provenance.sections import StageRecord

REJECTS = "rejected"  # folder in the pool

# Limits by gate: `min_` or `max_` and the name of a reported number. None: no limit.
Gates = Mapping[str, float | None]


def read_gates(values: Any, key: str, numbers: Collection[str]) -> dict[str, float | None]:
    """Return gates from YAML values. Raises UserError for an unknown gate or an invalid limit."""
    gates: dict[str, float | None] = convert(key, values, dict[str, Any] | None) or {}
    for gate, limit in gates.items():
        side, _, name = str(gate).partition("_")
        if side not in ("min", "max") or name not in numbers:
            options = ", ".join(numbers) or "none"
            raise UserError(
                f"{key}.{gate}: expected min_ or max_ and the name of a reported number ({options})"
            )
        convert(f"{key}.{gate}", limit, Annotated[float, Range()] | None)
    return gates


def check_health(numbers: Mapping[str, float | None], gates: Gates) -> list[str]:
    """Return the reasons why a kernel's numbers fail the gates. A missing number passes."""
    reasons = []
    for gate, limit in gates.items():
        side, _, name = gate.partition("_")
        value = numbers.get(name)
        if limit is None or value is None or (value >= limit if side == "min" else value <= limit):
            continue  # nan fails
        reasons.append(
            f"{name} {value:.3g} is {'below' if side == 'min' else 'above'} {gate} {limit:g}"
        )
    return reasons


def apply_gates(record: StageRecord, gates: Gates) -> bool:
    """Apply the gates to the recorded kernels and move their files; return whether any changed."""
    record.notes["gates"] = dict(gates) or None
    has_changes = False
    for name, item in record.items.items():
        if item.get("health") is None or not record.has_item(name):
            continue
        reasons = check_health(item["health"], gates)
        has_changes |= reasons != item["rejected"]
        if bool(reasons) != bool(item["rejected"]):
            record.move(name, REJECTS if reasons else record.stage)
        item["rejected"] = reasons
    return has_changes


def list_failed_gates(record: StageRecord) -> Iterator[str]:
    """Yield each gate that kernels fail, with its limit and the numbers of these kernels."""
    healths = [item["health"] for item in record.items.values() if item.get("health")]
    for gate, limit in (record.notes["gates"] or {}).items():
        number = gate.partition("_")[2]
        values = [health[number] for health in healths if check_health(health, {gate: limit})]
        if values:
            numbers = f"{min(values):.3g} to {max(values):.3g}"
            yield f"{gate}={limit:g} ({number} {numbers} in {len(values)} photos)"
