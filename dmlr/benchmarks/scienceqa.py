"""ScienceQA, the questions with a picture: school science, two to five options.

Source: lmms-lab-encoder/ScienceQA (before July 2026 lmms-lab/ScienceQA), config ScienceQA-IMG; otherwise
derek-thomas/ScienceQA, whose questions without a picture are left out. Licence: CC BY-NC-SA 4.0 (the authors' data
licence; one hub card says CC BY-SA). Rows: train 6218, validation 2097, test 2017.

An upstream row looks like this (values of our own):

    {"image": {"bytes": ..., "path": "image.png"}, "question": "Which bird is shown?",
     "choices": ["blue heron", "barn owl"], "answer": 0, "hint": "Look at the picture.", "task": "closed choice",
     "grade": "grade4", "subject": "natural science", "topic": "biology", "category": "Animals",
     "skill": "Identify animals", "lecture": "Birds differ ...", "solution": "The bird is a blue heron."}

Traps: `answer` is an index, and 0 is the first option (read as "no answer" it empties 713 of the 2017 test golds);
`hint` is needed to answer 1257 test questions; `lecture` and `solution` may be empty; there is no id column, so the
id is the row's place in the split. Official score: accuracy, also by subject, grade band and context modality.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.rationale import rationale_fields
from dmlr.benchmarks.schema import (
    BadRow,
    Benchmark,
    Row,
    Source,
    Split,
    indexed_choice_fields,
    options_block,
    text_of,
    with_context,
)
from dmlr.benchmarks.scores import Scored, accuracy_by


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt, answer fields and rationale of one upstream row. Raises `BadRow`."""
    question = text_of(row["question"])
    if not question:
        raise BadRow("question is empty")
    hint, lecture, solution = (
        text_of(row.get("hint")),
        text_of(row.get("lecture")),
        text_of(row.get("solution")),
    )
    answer = indexed_choice_fields(list(row["choices"] or []), row["answer"])
    rationale = "\n".join(part for part in (lecture, solution) if part)
    return {
        "prompt": with_context(hint, question) + options_block(answer["choices"]),
        **answer,
        **rationale_fields(rationale, solution, answer["choices"], answer["answer_letter"]),
        "has_context": bool(hint),
        "category": text_of(row.get("category")),
        **{key: text_of(row.get(key)) for key in ("subject", "topic", "grade", "skill")},
    }


def grade_band(row: Mapping[str, Any]) -> str | None:
    """`G1-6` or `G7-12`, the two bands of the paper's table; None when the row has no grade."""
    digits = "".join(filter(str.isdigit, str(row.get("grade", ""))))
    if not digits:
        return None
    return "G1-6" if int(digits) <= 6 else "G7-12"


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by subject, grade, grade band, and with or without a text context; over judged rows (see `scores`)."""
    return {
        "subject": accuracy_by(scored, "subject"),
        "grade": accuracy_by(scored, "grade"),
        "grade_band": accuracy_by(scored, grade_band),
        "context": accuracy_by(
            scored, lambda row: "text and image" if row.get("has_context") else "image only"
        ),
    }


BENCHMARK = Benchmark(
    name="scienceqa",
    title="ScienceQA (image subset)",
    licence="CC BY-NC-SA 4.0",
    sources=(
        Source("lmms-lab-encoder/ScienceQA", "ScienceQA-IMG"),
        Source("lmms-lab/ScienceQA", "ScienceQA-IMG"),
        Source("derek-thomas/ScienceQA", drop_imageless=True),
    ),
    splits={
        "train": Split("train", {"rows": 6218}),
        "validation": Split("validation", {"rows": 2097}),
        "test": Split(
            "test",
            {
                "rows": 2017,
                "answer_letter=A": 713,
                "answer_letter=B": 726,
                "answer_letter=C": 375,
                "answer_letter=D": 195,
                "answer_letter=E": 8,
            },
        ),
    },
    default_split="test",
    columns=("question", "choices", "answer", "hint", "lecture", "solution", "image"),
    convert=convert,
    metrics=metrics,
)
