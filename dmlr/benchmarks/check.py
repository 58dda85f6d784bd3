"""`dmlr prepare --check FILE`: everything that is wrong, or looks wrong, with a dataset file, by row.

*Errors* are what a run would refuse (found by the loader itself, `dmlr.data`) and golds that cannot be right;
*warnings* are what a run accepts but a careful person would look at: a literal backslash-n where a line break was
meant, options whose text was lost or cut, a gold that is only a letter, the same question with two golds.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlr.benchmarks.options import parse_options
from dmlr.benchmarks.schema import LETTERS, boxed_contents, free_type
from dmlr.benchmarks.text import LITERAL_NEWLINE
from dmlr.config import RunConfig
from dmlr.data import load_dataset
from dmlr.verifier.options import has_option_header, split_letter

ANSWER_TYPES = ("choice", "yesno", "integer", "float", "list", "interval", "free")
Finding = tuple[str, str]  # severity ("error" or "warning"), what is wrong


@dataclass
class Report:
    """Findings about one file: rows (indices) by problem, errors and warnings apart, and rows by answer type."""

    path: Path
    rows: int = 0
    errors: dict[str, list[int]] = field(default_factory=dict)
    warnings: dict[str, list[int]] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The report for people: one line per problem, naming every row that has it."""
        types = ", ".join(f"{name} {number}" for name, number in self.types.most_common())
        lines = [f"{self.path}: {self.rows} rows ({types})"]
        for severity, found in (("error", self.errors), ("warning", self.warnings)):
            lines += [f"{severity}: {what}: {_rows_text(rows)}" for what, rows in found.items()]
        return lines

    def summary(self) -> dict[str, Any]:
        """The same as one JSON object: row numbers by problem."""
        return {
            "path": str(self.path),
            "rows": self.rows,
            "answer_types": dict(self.types),
            "errors": self.errors,
            "warnings": self.warnings,
        }


def check_file(path: Path) -> Report:
    """Examine a dataset file, ours or a user's own. Raises `UserError` when it is missing or no JSON list."""
    # The loader's own checks, on all rows: whatever a run would stop at is an error here, in the same words.
    dataset = load_dataset(RunConfig(dataset=str(path), end_data_idx=2**62, skip_bad_rows=True))
    report = Report(dataset.path or path, len(dataset.rows))
    for sample, row in zip(dataset.samples, dataset.rows, strict=True):
        index = sample.data_idx
        for problem in (sample.problem or "").split("; "):
            if problem:
                _note(report.errors, re.sub(r"^image .+?: ", "image: ", problem), index)
        report.types[answer_type(row)] += 1
        for severity, what in (*_text_findings(row), *_answer_findings(row)):
            _note(report.errors if severity == "error" else report.warnings, what, index)
    _across_rows(dataset.rows, report)
    return report


def answer_type(row: Mapping[str, Any]) -> str:
    """The row's `answer_type`, or what its solution looks like; "none" when there is no solution."""
    if row.get("answer_type"):
        return str(row["answer_type"])
    solution = str(row.get("solution") or "").strip()
    if not solution:
        return "none"
    boxes = boxed_contents(solution)
    content = boxes[-1] if boxes else solution
    if content.lower() in ("yes", "no"):
        return "yesno"
    if split_letter(solution) and _options(row):
        return "choice"
    return free_type(content)


def _note(found: dict[str, list[int]], what: str, index: int) -> None:
    rows = found.setdefault(what, [])
    if not rows or rows[-1] != index:
        rows.append(index)


def _options(row: Mapping[str, Any]) -> list[str]:
    choices = row.get("choices")
    if isinstance(choices, list) and choices:
        return [str(choice) for choice in choices]
    return parse_options(str(row.get("prompt") or ""))


def _text_findings(row: Mapping[str, Any]) -> Iterator[Finding]:
    prompt = str(row.get("prompt") or "")
    if LITERAL_NEWLINE.search(prompt):
        yield "warning", "prompt has a literal backslash-n (two characters), not a line break"
    if "_x000D_" in prompt:
        yield "warning", "prompt has the spreadsheet escape _x000D_"
    kind = row.get("answer_type")
    if kind is not None and kind not in ANSWER_TYPES:
        yield "error", f"answer_type {kind!r} is none of {', '.join(ANSWER_TYPES)}"
    idx = row.get("idx")
    if "idx" not in row:
        yield "warning", "no idx (the row's number will be used)"
    elif not isinstance(idx, int) or isinstance(idx, bool) or idx < 0:
        yield "error", f"idx {idx!r} is not a row number"


def _answer_findings(row: Mapping[str, Any]) -> Iterator[Finding]:
    options = _options(row)
    solution = str(row.get("solution") or "").strip()
    if not options and has_option_header(str(row.get("prompt") or "")):
        yield "warning", "the prompt announces options, but none can be read"
    if not options or not solution or answer_type(row) != "choice":
        return
    folded = [_fold(option) for option in options]
    if "nan" in folded:
        yield "warning", 'an option is "nan" (its text was lost upstream)'
    known = [option for option in folded if option != "nan"]
    if len(set(known)) < len(known):
        yield "warning", "two options have the same text"
    if any(_brackets_open(option) for option in options):
        yield "warning", "an option has unbalanced brackets (was the list cut at its commas?)"
    letter, text = split_letter(solution) or ("", solution)
    letter = str(row.get("answer_letter") or letter).strip(" ().").upper()
    if not letter:
        return
    if letter not in LETTERS[: len(options)]:
        yield "error", f"gold {letter} is outside the options A-{LETTERS[len(options) - 1]}"
    elif not text:
        yield "warning", "gold is a letter without the option's text"
    elif _fold(text) != folded[LETTERS.index(letter)]:
        yield "error", "gold text is not the text of the option with the gold letter"
    elif _fold(text) == "nan":
        yield "warning", 'the gold option is "nan"'


def _across_rows(rows: list[dict[str, Any]], report: Report) -> None:
    seen: dict[tuple[str, Any], int] = {}
    golds: dict[tuple[str, str], set[str]] = {}
    for index, row in enumerate(rows):
        for key in ("idx", "id"):
            value = row.get(key)
            if value is None or isinstance(value, list | dict):
                continue
            if (key, value) in seen:
                _note(report.errors, f"{key} is used twice", index)
            seen.setdefault((key, value), index)
        golds.setdefault(_question_key(row), set()).add(str(row.get("solution")))
    for index, number in _too_many_options(rows):
        _note(
            report.warnings,
            f"{number} options, more than usual here (was the list cut at its commas?)",
            index,
        )
    for index, row in enumerate(rows):
        if row.get("image_path") and len(golds[_question_key(row)]) > 1:
            _note(report.warnings, "the same question about the same image has different golds", index)


def _too_many_options(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Rows (index, number of options) with more options than the number that nine rows in ten have."""
    numbers = {index: len(options) for index, row in enumerate(rows) if (options := _options(row))}
    if not numbers:
        return []
    usual, times = Counter(numbers.values()).most_common(1)[0]
    if times < 0.9 * len(numbers):
        return []
    return [(index, number) for index, number in numbers.items() if number > usual]


def _question_key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("image_path")), str(row.get("prompt"))


def _fold(text: str) -> str:
    return re.sub(r"\s+", "", text).casefold()


def _brackets_open(text: str) -> bool:
    plain = re.sub(r"\\[{}()\[\]]", "", text)
    # "[0, 2)" is a whole interval, so round and square brackets are counted together.
    return plain.count("{") != plain.count("}") or sum(map(plain.count, "([")) != sum(map(plain.count, ")]"))


def _rows_text(rows: list[int]) -> str:
    """Row numbers with runs shortened: "4 rows (0-2, 7)"."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{len(rows)} row{'' if len(rows) == 1 else 's'} ({text})"
