"""HallusionBench: yes/no questions asked of an original figure and of edited versions of it.

Source: lmms-lab-encoder/HallusionBench (before July 2026 lmms-lab/HallusionBench), splits image (951) and non_image
(178 questions without a figure). Licence: BSD 3-Clause.

An upstream row looks like this (values of our own):

    {"category": "VS", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": "1",
     "sample_note": "imports", "question_id": "2", "question": "Is bar A the tallest?",
     "gt_answer_details": "Bar B is the tallest.", "gt_answer": "0", "filename": "./VS/chart/0_1.png", "image": ...}

Traps: `gt_answer` is the string "0" or "1", and "0" is true as a string; question ids restart in every set; three
rows ask one question of one figure with golds Yes, No, No (VD math set 5), so no model scores 1.0 on them, yet a
row-by-row perfect answer set does. Official scores: aAcc per question, qAcc per question over all its figures, fAcc
per figure over all its questions. The published table uses GPT-4 as judge and all 1129 rows; on the image split alone
the three scores are those of the tool kits that read yes or no.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.schema import BadRow, Benchmark, Row, Source, Split, text_of, yes_no_fields
from dmlr.benchmarks.scores import Scored, accuracy, accuracy_by, group_accuracy

_KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt, answer fields and the two group keys of one upstream row. Raises `BadRow`."""
    question, gold = text_of(row["question"]), text_of(row["gt_answer"])
    if not question:
        raise BadRow("question is empty")
    if gold not in ("0", "1"):
        raise BadRow("gold is empty" if not gold else f"gold {gold!r} is neither '0' nor '1'")
    category, subcategory, set_id, figure_id, question_id = (text_of(row[key]) for key in _KEYS)
    in_set = f"{category}_{subcategory}_{set_id}"
    return {
        "prompt": question if "yes or no" in question.lower() else f"{question}\nAnswer yes or no.",
        **yes_no_fields(gold == "1"),
        "answer_details": text_of(row.get("gt_answer_details")),
        "group": f"{in_set}_q{question_id}",
        "figure_group": f"{in_set}_f{figure_id}",
        "category": category,
        "subcategory": subcategory,
        "image_name": f"{in_set}_{figure_id}",
    }


def _figure(row: Mapping[str, Any]) -> Any:
    # The authors leave figure 0 of the "VS" half out of fAcc: those questions are asked without a figure.
    return None if row["category"] == "VS" and row["figure_group"].endswith("_f0") else row["figure_group"]


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """aAcc, qAcc and fAcc with the numbers of questions and groups behind them, and aAcc by category.

    aAcc is over judged rows; a question or figure counts only when all of its rows were judged (see `scores`).
    """
    by_question, by_figure = group_accuracy(scored, "group"), group_accuracy(scored, _figure)
    return {
        "aAcc": accuracy(scored)["accuracy"],
        "qAcc": by_question["accuracy"],
        "fAcc": by_figure["accuracy"],
        "questions": by_question,
        "figures": by_figure,
        "category": accuracy_by(scored, "category"),
    }


BENCHMARK = Benchmark(
    name="hallusion",
    title="HallusionBench",
    licence="BSD-3-Clause",
    sources=(Source("lmms-lab-encoder/HallusionBench"), Source("lmms-lab/HallusionBench")),
    splits={
        "image": Split(
            "image",
            {
                "rows": 951,
                "answer_text=Yes": 401,
                "answer_text=No": 550,
                "distinct group": 455,
                "distinct figure_group": 346,
            },
            raw=("HallusionBench.json",),
            select=lambda row: row.get("visual_input") != "0",
        ),
        "non_image": Split(
            "non_image",
            {"rows": 178},
            raw=("HallusionBench.json",),
            select=lambda row: row.get("visual_input") == "0",
            text_only=True,
        ),
    },
    default_split="image",
    columns=(*_KEYS, "question", "gt_answer"),
    convert=convert,
    id_columns=_KEYS,
    image=lambda row: row.get("image") or row.get("filename"),
    metrics=metrics,
)
