r"""POPE: does the model see objects that are not there? Yes/no questions on COCO pictures, three ways of asking.

Source: lmms-lab-encoder/POPE (before July 2026 lmms-lab/POPE), config default, split test (9000 rows), or config Full
with the splits random, popular and adversarial (3000 each). Licence: MIT (repository); COCO terms for the pictures.

An upstream row looks like this (values of our own):

    {"id": "4", "question_id": "5", "question": "Is there a kite in the image?", "answer": "no",
     "image_source": "COCO_val2014_000000000042", "image": {"bytes": ...}, "category": "popular"}

Traps: `question_id` restarts in every category, so the id is category and question_id; 500 pictures serve 9000 rows
and are stored once. Official scores: accuracy, precision, recall, F1 with yes as the positive class, and the share
of yes, per category. The authors read "no" from a first sentence that holds no, No or not, and *everything else as
yes*; `default_yes` keeps that reading of the extracted answer, next to the one that follows our verdicts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dmlr.benchmarks.schema import BadRow, Benchmark, Row, Source, Split, text_of, yes_no_fields
from dmlr.benchmarks.scores import Scored, rate

CATEGORIES = ("random", "popular", "adversarial")


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt and answer fields of one upstream row. Raises `BadRow`."""
    question, gold = text_of(row["question"]), text_of(row["answer"]).lower()
    if not question:
        raise BadRow("question is empty")
    if gold not in ("yes", "no"):
        raise BadRow("gold is empty" if not gold else f"gold {gold!r} is neither 'yes' nor 'no'")
    return {
        "prompt": f"{question}\nAnswer yes or no.",
        **yes_no_fields(gold == "yes"),
        "category": text_of(row["category"]),
        "image_name": text_of(row.get("image_source")),
    }


def _predicted(item: Scored) -> str | None:
    """The answer that our verdict stands for: a wrong one is the other word only if the model said that word."""
    gold = item.row["answer_text"]
    if item.correct:
        return gold
    other = "No" if gold == "Yes" else "Yes"
    words = re.findall(r"\b(?:yes|no|not)\b", str((item.entry or {}).get("answer") or "").lower())
    said = {"No" if word != "yes" else "Yes" for word in words[:1]}
    return other if other in said else None


def _predicted_default_yes(item: Scored) -> str:
    answer = str((item.entry or {}).get("answer") or "")
    words = answer.split(".")[0].replace(",", " ").split()
    return "No" if {"No", "no", "not"} & set(words) else "Yes"


def binary_scores(golds: Sequence[str], predictions: Sequence[str | None]) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 (positive: Yes) and yes-ratio. None predicts neither class.

    Precision without a yes, and recall without a gold yes, are None; F1 is 2 TP / (2 TP + FP + FN).
    """
    pairs = list(zip(golds, predictions, strict=True))
    true_yes = sum(gold == said == "Yes" for gold, said in pairs)
    false_yes = sum(gold == "No" and said == "Yes" for gold, said in pairs)
    missed_yes = sum(gold == "Yes" and said != "Yes" for gold, said in pairs)
    return {
        "accuracy": rate(sum(gold == said for gold, said in pairs), len(pairs)),
        "precision": rate(true_yes, true_yes + false_yes),
        "recall": rate(true_yes, true_yes + missed_yes),
        "f1": rate(2 * true_yes, 2 * true_yes + false_yes + missed_yes),
        "yes_ratio": rate(true_yes + false_yes, len(pairs)),
        "judged": len(pairs),
        "neither": sum(said is None for _, said in pairs),
    }


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """The five POPE scores over all rows and per category, and `default_yes`, the same in the authors' reading.

    Rows that are missing or unjudged are left out of all of them. A wrong answer that says neither yes nor no counts
    as wrong and as no prediction (it lowers accuracy and recall, not precision); `neither` counts such answers.
    Under `default_yes` it is a yes.
    """
    judged = [item for item in scored if item.correct is not None]

    def scores(items: list[Scored]) -> dict[str, Any]:
        return binary_scores(
            [item.row["answer_text"] for item in items], [_predicted(item) for item in items]
        )

    overall = scores(judged)
    by_category = {
        name: scores(items)
        for name in CATEGORIES
        if (items := [item for item in judged if item.row["category"] == name])
    }
    golds = [item.row["answer_text"] for item in judged]
    return {
        **{key: overall[key] for key in ("precision", "recall", "f1", "yes_ratio", "neither")},
        "category": by_category,
        "default_yes": binary_scores(golds, [_predicted_default_yes(item) for item in judged]),
    }


_PER_CATEGORY = {"rows": 3000, "answer_text=Yes": 1500, "answer_text=No": 1500}

BENCHMARK = Benchmark(
    name="pope",
    title="POPE",
    licence="MIT (COCO terms for the images)",
    sources=(Source("lmms-lab-encoder/POPE"), Source("lmms-lab/POPE")),
    splits={
        "test": Split(
            "test",
            {"rows": 9000}
            | {f"category={name},answer_text={word}": 1500 for name in CATEGORIES for word in ("Yes", "No")},
        ),
        **{name: Split(name, _PER_CATEGORY, config="Full") for name in CATEGORIES},
    },
    default_split="test",
    columns=("question_id", "question", "answer", "category", "image"),
    convert=convert,
    id_columns=("category", "question_id"),
    metrics=metrics,
)
