"""Which dataset row belongs to which results entry: our files, and those of the published code.

`data_idx` is the row's index in the whole dataset, but the published code also wrote indices that count from
`--start_data_idx` (one of its two modes). Questions and images tell which; where they do not, nothing is guessed.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dmlr.errors import UserError

SHOWN = 8  # indices named in one message


@dataclass(frozen=True)
class Joined:
    """Row index per entry (None: the entry has no row), rows of the slice without an entry, and how indices count."""

    rows: tuple[int | None, ...]
    rows_without_entry: tuple[int, ...]
    indices: str  # "global" or "local"


def join_entries(
    entries: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]
) -> Joined:
    """Join results entries with dataset rows; `arguments` are the flags that the results file records.

    Raises `UserError` when the file was made from another dataset, or when it cannot be told how its indices count.
    """
    indices = [_index(entry) for entry in entries]
    repeated = sorted(index for index, count in Counter(indices).items() if count > 1)
    if repeated:
        raise UserError(
            f"results: data_idx {_named(repeated)} occurs more than once; parts of a run that each count from 0 were "
            "put together, and which entry belongs to which row cannot be told"
        )
    start = _int(arguments.get("start_data_idx"))
    end = _int(arguments.get("end_data_idx")) or len(rows)
    offsets = [0] if start == 0 else [0, start]
    wrong = {offset: _disagreements(entries, indices, rows, offset) for offset in offsets}
    fitting = [offset for offset in offsets if not wrong[offset][0]]
    if not fitting:
        offset = min(offsets, key=lambda offset: len(wrong[offset][0]))
        found = wrong[offset][0]
        raise UserError(
            f"results: {len(found)} of {len(entries)} entries hold other questions than their dataset rows "
            f"(data_idx {_named(found)}); the run was made from another dataset, give it with --dataset"
        )
    if len(fitting) > 1:
        offset = _decide(entries, indices, rows, start, end, wrong)
    else:
        offset = fitting[0]
    joined = [index + offset if 0 <= index + offset < len(rows) else None for index in indices]
    wanted = range(min(start, len(rows)), min(end, len(rows)))
    present = set(joined)
    missing = tuple(index for index in wanted if index not in present)
    return Joined(tuple(joined), missing, "local" if offset else "global")


def _decide(
    entries: Sequence[Mapping[str, Any]],
    indices: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
    start: int,
    end: int,
    wrong: Mapping[int, tuple[list[int], int]],
) -> int:
    """Both readings fit the questions: the slice decides where only one reading lies inside it, else nothing does."""
    inside = [offset for offset in wrong if all(start <= index + offset < end for index in indices)]
    if len(inside) == 1:
        return inside[0]
    compared = wrong[0][1]
    why = (
        "its entries hold no question to compare"
        if not compared
        else "the questions of both readings are the same"
    )
    raise UserError(
        f"results: the run began at row {start}, and whether data_idx counts from there or from the beginning of the "
        f"dataset cannot be told ({why}); write global indices into the file, or verify the parts one by one"
    )


def _disagreements(
    entries: Sequence[Mapping[str, Any]],
    indices: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
    offset: int,
) -> tuple[list[int], int]:
    """Indices of entries that hold another question or image than their row, and how many could be compared."""
    wrong: list[int] = []
    compared = 0
    for entry, index in zip(entries, indices):
        if not 0 <= index + offset < len(rows):
            continue
        agrees = _agrees(entry, rows[index + offset])
        compared += agrees is not None
        if agrees is False:
            wrong.append(index)
    return wrong, compared


def _agrees(entry: Mapping[str, Any], row: Mapping[str, Any]) -> bool | None:
    """Whether an entry and a row hold the same question and image; None when nothing can be compared."""
    results = []
    question, prompt = entry.get("question"), row.get("prompt")
    if isinstance(question, str) and question and question == prompt:
        results.append(True)
    elif (asked := _letters(question)) and (wanted := _letters(prompt)):
        # the published code wraps the question in its own texts
        results.append(asked in wanted or wanted in asked)
    shown, image = _file_name(entry.get("image_path")), _file_name(row.get("image_path"))
    if shown and image:
        results.append(shown == image)
    return all(results) if results else None


def _letters(value: Any) -> str:
    """Letters and digits only: quoting, escapes and line ends differ between the files."""
    text = value if isinstance(value, str) else ""
    return _NO_LETTERS.sub("", text.replace("\\n", " ").casefold())


_NO_LETTERS = re.compile(r"[\W_]+")


def _file_name(value: Any) -> str:
    return PurePosixPath(value).name if isinstance(value, str) else ""


def _index(entry: Mapping[str, Any]) -> int:
    value = entry.get("data_idx", entry.get("idx"))
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"results: an entry has data_idx {value!r}, an integer is needed")
    return value


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _named(indices: Sequence[int]) -> str:
    more = f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
    return ", ".join(map(str, indices[:SHOWN])) + more
