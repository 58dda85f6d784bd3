"""MMBench (English, dev): every question is asked once per rotation of its options.

Source: lmms-lab-encoder/MMBench (before July 2026 lmms-lab/MMBench), config en, split dev: 4329 rows, which are 1164
questions in all rotations; the answers of `test` are hidden. Licence: Apache-2.0 (repository).

An upstream row looks like this (values of our own):

    {"index": 1000241, "question": "What is the boy holding?", "hint": "nan", "answer": "B", "A": "a kite",
     "B": "a ball", "C": "nan", "D": None, "category": "object_localization", "image": {"bytes": ...}, "source": "...",
     "L2-category": "finegrained_perception (instance-level)", "comment": "nan", "split": "dev"}

Traps: a missing hint or option is the string "nan" or null; `index` may be a string; the rotations of a question share
index modulo one million, and the row below one million is the base; in the authors' table file the picture column of
a rotation may hold the index of the base row instead of a picture. Official score: CircularEval, a question counts
only when all its rotations are right; accuracy on the base rows stands next to it. `--base_only` prepares base rows
alone, which has no circular score. The authors draw an option at random when no letter is found; we do not.
"""

from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.schema import (
    BadRow,
    Benchmark,
    Row,
    Source,
    Split,
    absent,
    choice_fields,
    options_block,
    text_of,
    whole_number,
    with_context,
)
from dmlr.benchmarks.scores import Scored, accuracy, accuracy_by, group_accuracy

ROTATION_STRIDE = 1_000_000


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt, answer fields and rotation group of one upstream row. Raises `BadRow`."""
    index = whole_number(row["index"], "index")
    question = text_of(row["question"])
    if not question:
        raise BadRow("question is empty")
    present = [letter for letter in "ABCDEFGHIJ" if not absent(row.get(letter))]
    if present != list("ABCDEFGHIJ"[: len(present)]):
        raise BadRow(f"the options have a gap (only {', '.join(present)})")
    answer = choice_fields([text_of(row[letter]) for letter in present], row["answer"])
    return {
        "prompt": with_context(text_of(row.get("hint")), question) + options_block(answer["choices"]),
        **answer,
        "group": str(index % ROTATION_STRIDE),
        "rotation": index // ROTATION_STRIDE,
        "category": text_of(row.get("category")),
        "l2_category": text_of(row.get("L2-category")),
    }


def is_base(row: Mapping[str, Any]) -> bool:
    """True for the upstream row that is not a rotation."""
    return whole_number(row["index"], "index") < ROTATION_STRIDE


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Circular accuracy over questions and accuracy over base rows, both also by second-level category.

    A question counts only when all of its rotations in the dataset were judged (see `scores`). Without a single
    rotated row `circular_accuracy` is None: it would be plain accuracy under another name.
    """
    base = [item for item in scored if item.row["rotation"] == 0]
    circular = group_accuracy(scored, "group") if len(base) < len(scored) else None
    categories = sorted({item.row["l2_category"] for item in scored})
    return {
        "circular_accuracy": circular["accuracy"] if circular else None,
        "circular": circular,
        "circular_by_category": {
            name: group_accuracy([item for item in scored if item.row["l2_category"] == name], "group")
            for name in (categories if circular else [])
        },
        "base_accuracy": accuracy(base)["accuracy"],
        "base": accuracy(base),
        "base_by_category": accuracy_by(base, "l2_category"),
    }


BENCHMARK = Benchmark(
    name="mmbench",
    title="MMBench (en)",
    licence="Apache-2.0 (repository)",
    sources=(Source("lmms-lab-encoder/MMBench", "en"), Source("lmms-lab/MMBench", "en")),
    splits={
        "dev": Split("dev", {"rows": 4329, "distinct group": 1164}, raw=("MMBench_DEV_EN*.tsv",)),
        "test": Split("test", {"rows": 6666}, answers_hidden=True),
    },
    default_split="dev",
    columns=("index", "question", "hint", "answer", "A", "B", "image"),
    convert=convert,
    id_columns=("index",),
    metrics=metrics,
)
