"""Building blocks of the official metrics: join, accuracy, accuracy by key, accuracy by group.

Verdicts are three-valued and stay so here. Every rate is taken over what was judged, and stands next to the numbers
of what was not:

- *judged*: the entry's verdict is `correct` or `wrong` and it carries no error;
- *unjudged*: there is an entry, but no usable verdict (judge unavailable, sample failed);
- *missing*: the dataset row has no entry (not in the slice that ran).

A group (MMVP pair, HallusionBench figure, MMBench rotations) is scored only when all of its rows were judged;
otherwise it is *undecided* and left out, whichever way its judged rows went. Counting the groups that already hold
a wrong answer but not those that might still be right would bias the score downwards.

A rate over nothing is None (JSON null), never 0 and never NaN.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scored:
    """One dataset row with its results entry. `correct` is None when the row was not judged."""

    row: dict[str, Any]
    entry: dict[str, Any] | None
    correct: bool | None


def join(rows: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> list[Scored]:
    """One `Scored` per dataset row; `entry["data_idx"]` is the index of the row in `rows`.

    Entries that point outside of `rows` are left out; of two for one row (files of the published code have them
    after a resume) the later one counts.
    """
    by_index = {entry["data_idx"]: entry for entry in entries}
    scored = []
    for index, row in enumerate(rows):
        entry_of_row = by_index.get(index)
        correct = None
        if entry_of_row is not None and not entry_of_row.get("error"):
            correct = {"correct": True, "wrong": False}.get(str(entry_of_row.get("verdict")))
        scored.append(Scored(row, entry_of_row, correct))
    return scored


def rate(part: int, whole: int) -> float | None:
    """`part / whole`, None when there is nothing to divide by."""
    return part / whole if whole else None


def accuracy(scored: Sequence[Scored]) -> dict[str, Any]:
    """Accuracy over the judged rows, with the counts it rests on."""
    judged = [item for item in scored if item.correct is not None]
    correct = sum(item.correct is True for item in judged)
    missing = sum(item.entry is None for item in scored)
    return {
        "accuracy": rate(correct, len(judged)),
        "correct": correct,
        "judged": len(judged),
        "unjudged": len(scored) - len(judged) - missing,
        "missing": missing,
    }


def accuracy_by(
    scored: Sequence[Scored], key: str | Callable[[dict[str, Any]], Any]
) -> dict[str, dict[str, Any]]:
    """`accuracy` for each value of a row field (or of a function of the row), sorted; rows without it are left out.

    Rows that never ran would only fill the table with nulls, so a value none of whose rows has an entry is omitted.
    """
    read = key if callable(key) else lambda row: row.get(key)
    buckets: dict[str, list[Scored]] = {}
    for item in scored:
        value = read(item.row)
        if value is not None and value != "":
            buckets.setdefault(str(value), []).append(item)
    return {
        value: accuracy(bucket)
        for value, bucket in sorted(buckets.items())
        if any(item.entry is not None for item in bucket)
    }


def mean_accuracy(table: dict[str, dict[str, Any]]) -> float | None:
    """Unweighted mean of the defined accuracies of an `accuracy_by` table."""
    values = [line["accuracy"] for line in table.values() if line["accuracy"] is not None]
    return sum(values) / len(values) if values else None


def group_accuracy(
    scored: Sequence[Scored], key: str | Callable[[dict[str, Any]], Hashable]
) -> dict[str, Any]:
    """Fraction of groups whose rows are all correct; rows whose key is None belong to no group.

    Returns `accuracy`, `correct`, `groups` (scored ones) and `undecided` (groups with a row that was not judged).
    """
    read = key if callable(key) else lambda row: row.get(key)
    groups: dict[Hashable, list[bool | None]] = {}
    for item in scored:
        value = read(item.row)
        if value is not None:
            groups.setdefault(value, []).append(item.correct)
    decided = [members for members in groups.values() if None not in members]
    correct = sum(all(members) for members in decided)
    return {
        "accuracy": rate(correct, len(decided)),
        "correct": correct,
        "groups": len(decided),
        "undecided": len(groups) - len(decided),
    }
