r"""MathVista testmini: mathematics in charts, figures, photographs and documents.

Source: AI4Math/MathVista, split testmini (1000 rows; the 5141 golds of `test` are hidden). Licence: CC BY-SA 4.0, not
to be used as training data; the images keep the licences of their 28 sources.

An upstream row looks like this (values of our own):

    {"pid": "7", "question": "How long is the bar?", "image": "images/7.jpg", "decoded_image": {"bytes": ...},
     "choices": None, "unit": "g", "precision": 1.0, "answer": "1.2", "question_type": "free_form",
     "answer_type": "float", "metadata": {"task": "figure question answering", "category": "math-targeted-vqa", ...},
     "query": "Hint: ...\nQuestion: How long is the bar? (Unit: g)"}

Traps: `answer` is the option's *text*, whose first character says nothing about its letter ("decrease" is not D);
two options may have the same text (the first counts); `precision` is a float and must become an int before it goes to
`round`. The prompt is the authors' ready `query`. Official score: accuracy after an extraction by GPT-4, reported
by question type, answer type and task; here the verdict of our judge takes the place of that extraction, and a free
choice text is *not* matched to the nearest option by edit distance, as the authors' script does.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.schema import (
    LETTERS,
    BadRow,
    Benchmark,
    Row,
    Source,
    Split,
    absent,
    choice_fields,
    free_fields,
    text_of,
    whole_number,
)
from dmlr.benchmarks.scores import Scored, accuracy_by

ANSWER_TYPES = {"integer": "integer", "float": "float", "list": "list", "text": "free"}


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt and answer fields of one upstream row. Raises `BadRow`."""
    prompt = text_of(row["query"])
    if not prompt:
        raise BadRow("query (the ready prompt) is empty")
    metadata = row.get("metadata") or {}
    fields: Row = {"prompt": prompt}
    if row["question_type"] == "multi_choice":
        fields |= choice_fields(
            row.get("choices") or [], _letter_of_text(row["answer"], row.get("choices") or [])
        )
    else:
        if row["answer_type"] not in ANSWER_TYPES:
            raise BadRow(f"unknown answer_type {row['answer_type']!r}")
        fields |= free_fields(row["answer"], ANSWER_TYPES[row["answer_type"]])
        if not absent(row.get("precision")):
            fields["precision"] = whole_number(row.get("precision"), "precision")
    if text_of(row.get("unit")):
        fields["unit"] = text_of(row.get("unit"))
    return fields | {
        "question_type": row["question_type"],
        "upstream_answer_type": row["answer_type"],
        "category": text_of(metadata.get("category")),
        "task": text_of(metadata.get("task")),
    }


def _letter_of_text(answer: Any, choices: list[str]) -> str:
    # Not `text_of`: an option may really be called "nan", and an empty gold is found by `choice_fields`.
    text = "" if answer is None else str(answer).strip()
    options = [str(choice).strip() for choice in choices]
    if text and text not in options:
        raise BadRow(f"gold text {text!r} is none of the options")
    return LETTERS[options.index(text)] if text else ""


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by question type, answer type and task, over judged rows (see `scores`)."""
    return {
        "question_type": accuracy_by(scored, "question_type"),
        "answer_type": accuracy_by(scored, "upstream_answer_type"),
        "task": accuracy_by(scored, "task"),
    }


BENCHMARK = Benchmark(
    name="mathvista",
    title="MathVista",
    licence="CC BY-SA 4.0 (not for training)",
    sources=(Source("AI4Math/MathVista"),),
    splits={
        "testmini": Split(
            "testmini",
            {
                "rows": 1000,
                "question_type=multi_choice": 540,
                "upstream_answer_type=integer": 418,
                "upstream_answer_type=float": 40,
                "upstream_answer_type=list": 2,
            },
            raw=("annot_testmini.json", "testmini.json"),
        ),
        "test": Split("test", {"rows": 5141}, answers_hidden=True),
    },
    default_split="testmini",
    columns=(
        "pid",
        "query",
        "choices",
        "unit",
        "precision",
        "answer",
        "question_type",
        "answer_type",
        "metadata",
    ),
    convert=convert,
    id_columns=("pid",),
    image=lambda row: row.get("decoded_image") or row.get("image"),
    metrics=metrics,
)
