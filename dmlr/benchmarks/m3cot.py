r"""M3CoT: multi-domain questions whose answer takes several steps over the picture, with a written rationale.

Source: LightChen2333/M3CoT, splits train 7863, validation 1108, test 2318. Licence: CC BY-SA 4.0.

An upstream row looks like this (values of our own):

    {"id": "natural-science-12", "category": "natural-science", "image_id": "natural-science-12",
     "question": "Which animal eats the owl?", "choices": ["snake", "option A in the image"], "context": "Food web.",
     "answer": "B", "rationale": "The arrow starts at the owl.\nSo the answer is (B).", "split": "test",
     "image": {"bytes": ...}, "domain": "science", "topic": "natural-science"}

Traps: `answer` is a letter; an option's text may name another letter; `context` is needed in 1095 test rows; pictures
repeat (1707 for 2318 test rows); the rationale contradicts the gold in about one row of nine, hence
`rationale_agrees` (see `dmlr.benchmarks.rationale`), by which training can filter. Official score: accuracy, by
domain and topic.
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
    choice_fields,
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
    answer = choice_fields(list(row["choices"] or []), row["answer"])
    rationale = text_of(row.get("rationale"))
    return {
        "prompt": with_context(text_of(row.get("context")), question) + options_block(answer["choices"]),
        **answer,
        **rationale_fields(rationale, rationale, answer["choices"], answer["answer_letter"]),
        "category": text_of(row.get("category")),
        "domain": text_of(row.get("domain")),
        "topic": text_of(row.get("topic")),
        "image_name": text_of(row.get("image_id")),
    }


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by domain and by topic, over judged rows (see `scores`)."""
    return {"domain": accuracy_by(scored, "domain"), "topic": accuracy_by(scored, "topic")}


BENCHMARK = Benchmark(
    name="m3cot",
    title="M3CoT",
    licence="CC BY-SA 4.0",
    sources=(Source("LightChen2333/M3CoT"),),
    splits={
        "train": Split("train", {"rows": 7863}),
        "validation": Split("validation", {"rows": 1108}),
        "test": Split(
            "test",
            {
                "rows": 2318,
                "answer_letter=A": 683,
                "answer_letter=B": 688,
                "answer_letter=C": 642,
                "answer_letter=D": 275,
                "answer_letter=E": 30,
                "domain=science": 1622,
                "domain=commonsense": 455,
                "domain=mathematics": 241,
            },
        ),
    },
    default_split="test",
    columns=("id", "question", "choices", "context", "answer", "rationale", "domain", "topic", "image"),
    convert=convert,
    id_columns=("id",),
    metrics=metrics,
)
