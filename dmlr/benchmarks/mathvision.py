r"""MATH-Vision (MATH-V): competition mathematics with a picture, by subject and difficulty level.

Source: MathLLMs/MathVision, splits test (3040 rows: 1532 with options, 1508 free-form) and testmini (304 of them).
Licence: MIT.

An upstream row looks like this (values of our own):

    {"id": "12", "question": "Which point is hit?\n<image1>", "options": ["(-2,0)", "(4, 0)", "P", "Q", "none"],
     "image": "images/12.jpg", "decoded_image": {"bytes": ...}, "answer": "A", "solution": None, "level": 3,
     "subject": "analytic geometry"}

Traps: option texts hold commas and sometimes other options' letters, so the list stays a list; 384 rows have the
options A to E as mere labels of parts of the picture (the prompt then lists none, as in the authors' own prompt);
`<imageN>` marks stay in the text, the one picture is a composite of all of them; 89 questions hold a literal
backslash-n instead of a line break; some free-form golds carry a box, a unit in braces, spaces, or a form feed where
`\f` of `\frac` was. Official score: accuracy, by subject and level. The authors' script rounds both sides to two
decimals; our judge compares exact values.
"""

import re
from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.schema import (
    BadRow,
    Benchmark,
    Row,
    Source,
    Split,
    choice_fields,
    free_fields,
    options_block,
    text_of,
)
from dmlr.benchmarks.scores import Scored, accuracy_by
from dmlr.benchmarks.text import real_newlines

_UNIT_IN_BRACES = re.compile(
    r"\{((?:square|cubic)?\s*(?:degrees?|inches|units?|feet|meters|miles|cm|km|m))\}$"
)


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt and answer fields of one upstream row. Raises `BadRow`."""
    question = real_newlines(text_of(row["question"]))
    if not question:
        raise BadRow("question is empty")
    choices = [real_newlines(str(option)).strip() for option in row.get("options") or []]
    fields: Row = {"prompt": question}
    if choices:
        fields |= choice_fields(choices, row["answer"])
        if choices != ["A", "B", "C", "D", "E"]:
            fields["prompt"] += options_block(choices)
    else:
        fields |= free_form_gold(text_of(row["answer"]))
    if text_of(row.get("solution")):
        fields["rationale"] = text_of(row["solution"])
    return fields | {
        "subject": text_of(row.get("subject")),
        "category": text_of(row.get("subject")),
        "level": row.get("level"),
    }


def free_form_gold(answer: str) -> Row:
    r"""Answer fields of a free-form gold: the form feed of a broken `\frac` mended, a unit in braces taken out."""
    answer = answer.replace("\x0crac", "\\frac")
    unit = _UNIT_IN_BRACES.search(answer)
    if unit:
        return free_fields(answer[: unit.start()]) | {"unit": unit.group(1)}
    return free_fields(answer)


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by subject and by level (1 easy to 5 hard), over judged rows (see `scores`)."""
    return {"subject": accuracy_by(scored, "subject"), "level": accuracy_by(scored, "level")}


BENCHMARK = Benchmark(
    name="mathvision",
    title="MATH-Vision",
    licence="MIT",
    sources=(Source("MathLLMs/MathVision"),),
    splits={
        "test": Split("test", {"rows": 3040, "answer_type=choice": 1532}, raw=("test.jsonl",)),
        "testmini": Split("testmini", {"rows": 304, "answer_type=choice": 190}, raw=("testmini.jsonl",)),
    },
    default_split="test",
    columns=("id", "question", "options", "answer", "level", "subject"),
    convert=convert,
    id_columns=("id",),
    image=lambda row: row.get("decoded_image") or row.get("image"),
    metrics=metrics,
)
