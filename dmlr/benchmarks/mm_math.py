r"""MM-Math: Chinese middle-school geometry and functions, worked solutions, open answers.

Source: THU-KEG/MM_Math, the raw files MM_Math/MM_Math.jsonl and MM_Math/MM_Math.zip (loading the repository as a
dataset yields only its pictures). Licence: MIT. The card speaks of 5,929 problems.

A line of the file looks like this (values of our own):

    {"question": "In the figure, $AB=3$. Find $AC$.", "file_name": "12.png",
     "solution": "\\because AB=3 ... so \\boxed{5} or \\boxed{7}", "year": "eight", "difficult": "medium",
     "knowledge": {"level_1": "Geometry", "level_2": "Triangles"}}

Traps: there is no answer column, the gold is what the solution boxes, and there may be several boxes (an unordered
list; the whole solution is kept as rationale); there is no id, so the id is the line's place in the file; pictures
are found in the archive by their base name. Official score: accuracy by an equivalence script; our judge's verdicts
stand in for it, broken down by difficulty and school year.
"""

import re
from collections.abc import Mapping
from typing import Any

from dmlr.benchmarks.rationale import split_steps
from dmlr.benchmarks.schema import (
    BadRow,
    Benchmark,
    Row,
    Source,
    Split,
    boxed_contents,
    free_fields,
    free_type,
    text_of,
)
from dmlr.benchmarks.scores import Scored, accuracy_by

_BOUND = r"\s*[^<>≤≥=,]+\s*"
_INTERVAL = re.compile(
    rf"[(\[]{_BOUND},{_BOUND}[)\]]|{_BOUND}(?:<|≤|\\leq?|\\leqslant){_BOUND}(?:<|≤|\\leq?|\\leqslant){_BOUND}"
)


def convert(row: Mapping[str, Any]) -> Row:
    """Prompt, gold and rationale of one line. Raises `BadRow` when the solution boxes nothing."""
    question, solution = text_of(row["question"]), text_of(row["solution"])
    if not question:
        raise BadRow("question is empty")
    boxes = [box for box in boxed_contents(solution) if box]
    if not boxes:
        raise BadRow("the solution has no box, so there is no gold" if solution else "gold is empty")
    gold = ",".join(boxes)
    knowledge = row.get("knowledge") or {}
    return {
        "prompt": question,
        **free_fields(gold, _answer_type(boxes)),
        "rationale": solution,
        "steps": split_steps(solution),
        "rationale_agrees": True,
        "difficult": text_of(row.get("difficult")),
        "year": text_of(row.get("year")),
        "category": text_of(knowledge.get("level_1")),
        "image_name": text_of(row["file_name"]),
    }


def _answer_type(boxes: list[str]) -> str:
    if len(boxes) > 1:
        return "list"
    # "(2, 3)" may be a point as well as an interval; only chained inequalities and mixed brackets are certain.
    box = boxes[0].strip("$ ")
    certain = "<" in box or "≤" in box or "\\le" in box or (box[:1] + box[-1:]) in ("[)", "(]")
    return "interval" if certain and _INTERVAL.fullmatch(box) else free_type(box)


def metrics(scored: list[Scored]) -> dict[str, Any]:
    """Accuracy by difficulty and school year, over judged rows (see `scores`)."""
    return {"difficulty": accuracy_by(scored, "difficult"), "year": accuracy_by(scored, "year")}


BENCHMARK = Benchmark(
    name="mm_math",
    title="MM-Math",
    licence="MIT",
    sources=(Source("THU-KEG/MM_Math", files=("MM_Math/MM_Math.jsonl", "MM_Math/MM_Math.zip")),),
    splits={"train": Split("train", {"rows": 5929}, raw=("MM_Math.jsonl",))},
    default_split="train",
    columns=("question", "file_name", "solution", "year", "difficult"),
    convert=convert,
    image=lambda row: row.get("file_name"),
    metrics=metrics,
)
