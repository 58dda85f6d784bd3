"""What a benchmark file states about itself, and the answer fields that every prepared row carries.

A prepared row is a plain dict (see `docs/BENCHMARKS.md`). The functions here build its answer fields from gold
values that the benchmark files have already read by position or by label. No gold is guessed: index 0 is an index,
an option list is a list, and an empty gold raises `BadRow`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dmlr.benchmarks.scores import Scored
from dmlr.verifier.extract import find_boxes

Row = dict[str, Any]
LETTERS = "ABCDEFGHIJ"
# Not all of Unicode's white space: a form feed at the front of a gold is the "\\f" of a broken "\\frac".
BLANKS = " \t\r\n"


class BadRow(ValueError):
    """One upstream row that cannot become a sample; the message says why, without the row's id."""


@dataclass(frozen=True)
class Source:
    """One repository on the hub. `files`: raw files fetched as they are (no parquet there), as glob patterns."""

    repo: str
    config: str = "default"
    files: tuple[str, ...] = ()
    # The repository mixes questions without a picture into an image benchmark; they are left out, not reported.
    drop_imageless: bool = False


@dataclass(frozen=True)
class Split:
    """One split. `expected` maps a count's name to its value, see `dmlr.benchmarks.counts`.

    `raw` holds glob patterns of the files in which the authors publish this split outside of parquet; `select` picks
    its rows when those files hold other splits too.
    """

    upstream: str
    expected: Mapping[str, int] = field(default_factory=dict)
    config: str | None = None
    raw: tuple[str, ...] = ()
    select: Callable[[Mapping[str, Any]], bool] | None = None
    answers_hidden: bool = False
    text_only: bool = False


@dataclass(frozen=True)
class Benchmark:
    """All that `dmlr prepare` needs to know about one public benchmark.

    `convert` is pure: upstream row -> answer fields, prompt and metric keys (no image). It raises `BadRow`.
    `columns` must all be there; `id_columns`, joined, identify a row (none: its place in the split does).
    `image` picks the picture out of the upstream row: bytes, a {"bytes", "path"} struct, base64 text or a file name.
    `metrics` computes the official scores next to plain accuracy, from joined rows.
    """

    name: str
    title: str
    licence: str
    sources: tuple[Source, ...]
    splits: Mapping[str, Split]
    default_split: str
    columns: tuple[str, ...]
    convert: Callable[[Mapping[str, Any]], Row]
    id_columns: tuple[str, ...] = ()
    image: Callable[[Mapping[str, Any]], Any] = lambda row: row.get("image")
    metrics: Callable[[list[Scored]], dict[str, Any]] | None = None
    structure: Callable[[list[Row]], list[str]] | None = None
    keep: Callable[[Mapping[str, Any]], bool] | None = None


def upstream_id(benchmark: Benchmark, row: Mapping[str, Any], fallback: str) -> str:
    """The row's id by `id_columns`; `fallback` when the benchmark has none or one of them is empty."""
    parts = [_plain(row.get(column)) for column in benchmark.id_columns]
    return "-".join(parts) if parts and all(parts) else fallback


def _plain(value: Any) -> str:
    # An integer column that holds an empty cell somewhere is read as floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else text_of(value)


def absent(value: Any) -> bool:
    """True for what tables write when there is nothing: None, NaN, an empty string, or the string "nan"."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and value.strip().lower() in ("", "nan")


def text_of(value: Any) -> str:
    """`value` without surrounding blanks, "" when it is absent."""
    return "" if absent(value) else str(value).strip(BLANKS)


def whole_number(value: Any, what: str) -> int:
    """An int from an int, a float without fraction, or digits. Raises `BadRow` naming `what` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.0+)?", value.strip()):
        return int(float(value))
    raise BadRow(f"{what} is empty" if absent(value) else f"{what} is not a whole number: {value!r}")


def options_block(choices: Sequence[str]) -> str:
    """The options as the prompt shows them, one per line. Texts may hold commas, other letters or line breaks."""
    lines = "\n".join(f"{LETTERS[i]}. {text}" for i, text in enumerate(choices))
    return f"\n\nOptions:\n{lines}"


def with_context(context: str, question: str) -> str:
    """The question, preceded by its context (ScienceQA's hint, M3CoT's passage) when there is one."""
    return f"Context: {context}\n{question}" if context else question


def choice_fields(choices: Sequence[str], letter: Any) -> Row:
    """Answer fields of a multiple-choice row: `letter` is a label ("C"), not an index.

    Raises `BadRow` when there are fewer than two options, the gold is empty, or it lies outside the options.
    """
    if not 2 <= len(choices) <= len(LETTERS):
        raise BadRow(f"{len(choices)} options, 2 to {len(LETTERS)} are needed")
    label = text_of(letter).upper()
    if not label:
        raise BadRow("gold is empty")
    if label not in LETTERS[: len(choices)]:
        raise BadRow(f"gold {label!r} is outside the options A-{LETTERS[len(choices) - 1]}")
    text = str(choices[LETTERS.index(label)]).strip()
    if not text:
        raise BadRow("the gold option has no text")
    return {
        "solution": f"{label}. {text}",
        "choices": [str(choice).strip() for choice in choices],
        "answer_letter": label,
        "answer_text": text,
        "answer_type": "choice",
    }


def indexed_choice_fields(choices: Sequence[str], index: Any) -> Row:
    """`choice_fields` for a gold that is a position in `choices`. 0 is the first option, not a missing answer."""
    position = whole_number(index, "gold")
    if not 0 <= position < len(choices):
        raise BadRow(f"gold index {position} is outside the {len(choices)} options")
    return choice_fields(choices, LETTERS[position])


def yes_no_fields(answer: bool) -> Row:
    """Answer fields of a yes/no row."""
    word = "Yes" if answer else "No"
    return {"solution": f"\\boxed{{{word}}}", "answer_text": word, "answer_type": "yesno"}


def free_fields(answer: Any, answer_type: str | None = None) -> Row:
    """Answer fields of a free-form row; the type is read from the gold when `answer_type` is None.

    `solution` is the gold in a box, or the gold as it is when upstream boxed it. Raises `BadRow` on an empty gold.
    """
    text = text_of(answer)
    if not text:
        raise BadRow("gold is empty")
    boxes = boxed_contents(text)
    value = ",".join(boxes) if boxes else text
    if not value.strip():
        raise BadRow("gold is empty")
    return {
        "solution": text if boxes else f"\\boxed{{{text}}}",
        "answer_text": value,
        "answer_type": answer_type or free_type(value),
    }


def free_type(text: str) -> str:
    """`integer`, `float` or `free` by the form of a free-form gold."""
    if re.fullmatch(r"[-+]?\d+", text):
        return "integer"
    return "float" if re.fullmatch(r"[-+]?\d*\.\d+", text) else "free"


def boxed_contents(text: str) -> list[str]:
    r"""Contents of the balanced `\boxed{...}` of a gold, outermost ones, in reading order."""
    return [box.content.strip(BLANKS) for box in find_boxes(text) if box.closed]
