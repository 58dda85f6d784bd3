"""What the published statistics say about a split, against what was prepared."""

from collections.abc import Mapping, Sequence
from typing import Any


def count(rows: Sequence[Mapping[str, Any]], name: str) -> int:
    """The count called `name`: "rows", "distinct FIELD", or the rows with "FIELD=VALUE" (several joined by commas)."""
    if name == "rows":
        return len(rows)
    if name.startswith("distinct "):
        field = name.removeprefix("distinct ")
        return len({str(row.get(field)) for row in rows})
    conditions = [condition.split("=", 1) for condition in name.split(",")]
    return sum(all(str(row.get(field)) == value for field, value in conditions) for row in rows)


def differences(rows: Sequence[Mapping[str, Any]], expected: Mapping[str, int]) -> list[str]:
    """One line per expected count that the rows do not have; the hub's copy may have been corrected since."""
    lines = []
    for name, number in expected.items():
        found = count(rows, name)
        if found != number:
            lines.append(f"{name}: {found}, the published split has {number}")
    return lines
