"""MMVP: 150 pairs of pictures that CLIP takes for alike; the same question has opposite answers in a pair.

Source: lmms-lab-eval/MMVP (split train, 300 rows, labels corrected), or the authors' MMVP/MMVP (Questions.csv and a
folder of pictures, joined by Index: loaded as a dataset its pictures come in the order 1, 10, 100). Licence: MIT.

An upstream row looks like this (values of our own):

    {"Index": 17, "Question": "Is the cup full or empty?", "Options": "(a) Full (b) Empty", "Correct Answer": "(b)",
     "image": {"bytes": ...}}

Traps: "cup(s)" in a question is no option mark; `Index` counts from 1, rows 2k-1 and 2k are a pair; the labels of 99,
100, 279 and 280 are disputed: the corrected copy exchanges both pairs. `--mmvp_labels original|corrected` sets these
four rows whatever the source says. Official score: pairs with both answers right; plain accuracy stands next to it.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.options import parse_options
from dmlr.benchmarks.schema import BadRow, Benchmark, Row, Source, Split, choice_fields, text_of, whole_number
from dmlr.benchmarks.scores import Scored, group_accuracy

# Index -> (a word of that question, the authors' label). The word guards against another file's numbering.
DISPUTED = {99: ("tusks", "A"), 100: ("tusks", "B"), 279: ("elderly", "A"), 280: ("elderly", "B")}


def convert(row: Mapping[str, Any], labels: str = "corrected") -> Row:
    """Prompt, answer fields and pair of one upstream row; `labels` decides the four disputed rows. Raises `BadRow`."""
    index = whole_number(row["Index"], "Index")
    question, options = text_of(row["Question"]), text_of(row["Options"])
    if not question:
        raise BadRow("question is empty")
    choices = parse_options(f"Options: {options}")
    letter = text_of(row["Correct Answer"])[:3].strip("() ").upper()
    word, original = DISPUTED.get(index, ("", ""))
    if word and word in question:
        letter = original if labels == "original" else {"A": "B", "B": "A"}[original]
    return {
        "prompt": f"{question}\nOptions: {options}",
        **choice_fields(choices, letter),
        "group": str((index + 1) // 2),
    }


def structure(rows: list[Row]) -> list[str]:
    """Pairs that are not two rows with one question and opposite answers, one line each."""
    pairs: dict[str, list[Row]] = {}
    for row in rows:
        pairs.setdefault(row["group"], []).append(row)
    lines = []
    for pair, members in pairs.items():
        questions = {row["prompt"].partition("\nOptions:")[0] for row in members}
        answers = {row["answer_letter"] for row in members}
        if len(members) != 2:
            lines.append(f"pair {pair} has {len(members)} rows, not 2")
        elif len(questions) != 1 or len(answers) != 2:
            lines.append(f"pair {pair} is not one question with opposite answers")
    return lines


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Pair accuracy. A pair counts only when both rows were judged (see `scores`)."""
    pairs = group_accuracy(scored, "group")
    return {"pair_accuracy": pairs["accuracy"], "pairs": pairs}


BENCHMARK = Benchmark(
    name="mmvp",
    title="MMVP",
    licence="MIT",
    sources=(Source("lmms-lab-eval/MMVP"), Source("MMVP/MMVP", files=("Questions.csv", "MMVP Images/*"))),
    splits={
        "train": Split(
            "train",
            {"rows": 300, "answer_letter=A": 150, "answer_letter=B": 150, "distinct group": 150},
            raw=("Questions.csv",),
        )
    },
    default_split="train",
    columns=("Index", "Question", "Options", "Correct Answer"),
    convert=convert,
    id_columns=("Index",),
    image=lambda row: row.get("image") or f"MMVP Images/{row['Index']}.jpg",
    metrics=metrics,
    structure=structure,
)
