r"""MMStar: 1500 questions that need their picture, six abilities with 250 each, up to four options.

Source: Lin-Chen/MMStar, split val (mmstar.parquet and MMStar.tsv in the root). Licence: none stated.

An upstream row looks like this (values of our own):

    {"index": 3, "question": "What hangs on the wall?\nOptions: A: A clock, a mirror, B: A lamp, C: Nothing, D: nan",
     "image": {"bytes": ...}, "answer": "A", "category": "coarse perception",
     "l2_category": "image scene and topic", "meta_info": {"source": "...", "split": "val", "image_path": "..."}}

Traps: the options stand inside `question` in two styles ("A: t, B: t" and lines "(A) t", seven without a header) and
their texts hold commas; four questions hold code whose literal backslash-n must stay; 139 rows have an option whose
text was lost upstream ("nan"), in two of them it is the gold (only the letter can be right); two rows hold the
spreadsheet escape `_x000D_`, which is removed; some questions mention `<image 1>`, there is always one picture.
Official score: accuracy, by category and by second-level category.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.options import parse_options
from dmlr.benchmarks.schema import BadRow, Benchmark, Row, Source, Split, choice_fields, text_of
from dmlr.benchmarks.scores import Scored, accuracy_by, mean_accuracy


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt (the question as upstream has it) and answer fields of one row. Raises `BadRow`."""
    question = text_of(row["question"]).replace("_x000D_", "")
    choices = parse_options(question)
    if not choices:
        raise BadRow("no option list in the question")
    return {
        "prompt": question,
        **choice_fields(choices, row["answer"]),
        "category": text_of(row.get("category")),
        "l2_category": text_of(row.get("l2_category")),
    }


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by category and second-level category, and the unweighted mean over each; over judged rows."""
    by_category, by_l2 = accuracy_by(scored, "category"), accuracy_by(scored, "l2_category")
    return {
        "category_mean": mean_accuracy(by_category),
        "l2_category_mean": mean_accuracy(by_l2),
        "category": by_category,
        "l2_category": by_l2,
    }


BENCHMARK = Benchmark(
    name="mmstar",
    title="MMStar",
    licence="none stated",
    sources=(Source("Lin-Chen/MMStar"),),
    splits={
        "val": Split(
            "val",
            {
                "rows": 1500,
                "answer_letter=A": 429,
                "answer_letter=B": 447,
                "answer_letter=C": 309,
                "answer_letter=D": 315,
                "distinct category": 6,
                "distinct l2_category": 18,
            },
            raw=("MMStar.tsv",),
        )
    },
    default_split="val",
    columns=("index", "question", "answer", "category", "l2_category", "image"),
    convert=convert,
    id_columns=("index",),
    metrics=metrics,
)
