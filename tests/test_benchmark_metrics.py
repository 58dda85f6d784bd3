"""Official scores: perfect answers score 1.0 everywhere; constant and empty answers what the formulas say."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from benchmark_rows import upstream

from dmlr.benchmarks import BENCHMARKS, official_metrics
from dmlr.benchmarks.pope import binary_scores

SCORES = {
    *("accuracy", "pair_accuracy", "aAcc", "qAcc", "fAcc", "precision", "recall", "f1", "circular_accuracy"),
    *("base_accuracy", "category_mean", "l2_category_mean"),
}


def rows_of(name: str, *fields: dict[str, Any]) -> list[dict[str, Any]]:
    convert = BENCHMARKS[name].convert
    return [{"benchmark": name, **convert(upstream(name, **each))} for each in fields]


def gold_of(row: dict[str, Any]) -> str:
    return row.get("answer_letter") or row["answer_text"]


def entries_for(rows: list[dict[str, Any]], answer: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """Entries as a run writes them; the verdict compares with the gold letter, or the gold where there is none."""
    entries = []
    for index, row in enumerate(rows):
        said = answer(row)
        verdict = "correct" if said == gold_of(row) else "wrong"
        entries.append(
            {"data_idx": index, "verdict": verdict, "answer": said, "model_output": said, "error": None}
        )
    return entries


def mm_math(solution: str, **labels: str) -> dict[str, Any]:
    fields = {"question": "Find $x$.", "file_name": "1.png", "year": "eight", "difficult": "easy", **labels}
    return {"benchmark": "mm_math", **BENCHMARKS["mm_math"].convert({**fields, "solution": solution})}


def question(figure: int, number: int, gold: str, **fields: str) -> dict[str, Any]:
    return {"figure_id": str(figure), "question_id": str(number), "gt_answer": gold, **fields}


ROWS: dict[str, list[dict[str, Any]]] = {
    "scienceqa": rows_of(
        "scienceqa",
        {"answer": 0, "subject": "natural science", "grade": "grade2"},
        {"answer": 1, "subject": "natural science", "grade": "grade6", "hint": "h"},
        {"answer": 1, "subject": "social science", "grade": "grade7"},
    ),
    "mathvista": rows_of(
        "mathvista",
        {
            "pid": "1",
            "query": "q",
            "choices": ["yes", "no"],
            "answer": "yes",
            "question_type": "multi_choice",
            "answer_type": "text",
        },
        {
            "pid": "2",
            "query": "q",
            "choices": ["yes", "no"],
            "answer": "no",
            "question_type": "multi_choice",
            "answer_type": "text",
        },
        {"pid": "3", "query": "q", "answer": "7"},
        {"pid": "4", "query": "q", "answer": "1.5", "answer_type": "float", "precision": 1.0},
    ),
    "mathvision": rows_of(
        "mathvision",
        {"id": "1", "question": "q", "options": ["1", "2"], "answer": "A", "level": 1},
        {"id": "2", "question": "q", "answer": "5", "level": 5, "subject": "counting"},
    ),
    "mm_math": [mm_math("\\boxed{5}"), mm_math("\\boxed{7}", difficult="hard")],
    # Two questions asked of two figures, one more of the second figure: golds N Y / Y Y Y
    "hallusion": rows_of(
        "hallusion",
        question(1, 0, "0"),
        question(1, 1, "1"),
        question(2, 0, "1"),
        question(2, 1, "1"),
        question(2, 2, "1"),
    ),
    "mmstar": rows_of(
        "mmstar",
        {"index": 0, "question": "q\nOptions: A: x, B: y", "answer": "A"},
        {"index": 1, "question": "q\nOptions: A: x, B: y", "answer": "B"},
        {
            "index": 2,
            "question": "q\nOptions: A: x, B: y",
            "answer": "B",
            "category": "logic",
            "l2_category": "l",
        },
    ),
    "mmvp": rows_of(
        "mmvp",
        *[
            {"Index": index, "Question": "q", "Options": "(a) x (b) y", "Correct Answer": gold}
            for index, gold in enumerate(["(a)", "(b)", "(b)", "(a)"], 1)
        ],
    ),
    "m3cot": rows_of(
        "m3cot",
        {"id": "1", "answer": "A"},
        {"id": "2", "answer": "B", "domain": "commonsense", "topic": "social-commonsense"},
    ),
    # random: 1 yes 2 no; popular: 1 yes
    "pope": rows_of(
        "pope",
        {"question_id": "1", "answer": "yes"},
        {"question_id": "2", "answer": "no"},
        {"question_id": "3", "answer": "no"},
        {"question_id": "1", "answer": "yes", "category": "popular"},
    ),
    # question 5 in two rotations (gold A, then B), question 6 in two rotations (gold A, A: texts differ)
    "mmbench": rows_of(
        "mmbench",
        {"index": 5, "A": "x", "B": "y", "answer": "A"},
        {"index": 1_000_005, "A": "y", "B": "x", "answer": "B"},
        {"index": 6, "A": "x", "B": "y", "answer": "A"},
        {"index": 1_000_006, "A": "y", "B": "x", "answer": "A"},
    ),
}


def leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, name)]
    return [(key, value)]


@pytest.mark.parametrize("name", ROWS)
def test_a_perfect_answer_set_scores_one_everywhere(name: str) -> None:
    metrics = official_metrics(ROWS[name], entries_for(ROWS[name], gold_of))
    scores = [(key, value) for key, value in leaves(metrics) if key in SCORES]
    assert len(scores) >= 3, "the official scores are there"
    assert {value for _, value in scores} == {1.0}
    assert metrics["benchmark"] == name


@pytest.mark.parametrize("name", ROWS)
def test_an_empty_answer_set_scores_zero_or_nothing(name: str) -> None:
    """Every row answered with nothing, judged wrong: 0, except where nothing is defined, and POPE's own reading."""
    metrics = official_metrics(ROWS[name], entries_for(ROWS[name], lambda row: ""))
    metrics.pop("default_yes", None)
    for key, value in leaves(metrics):
        if key in SCORES:
            assert value == 0.0 or (name == "pope" and key == "precision" and value is None), key


def always(word: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: word


def all_a(name: str) -> dict[str, Any]:
    return official_metrics(ROWS[name], entries_for(ROWS[name], always("A")))


def test_all_a_on_mmvp() -> None:
    metrics = all_a("mmvp")
    assert (metrics["accuracy"], metrics["pair_accuracy"], metrics["pairs"]["groups"]) == (0.5, 0.0, 2)


def test_all_a_on_mmbench() -> None:
    metrics = all_a("mmbench")
    assert metrics["accuracy"] == 0.75
    assert metrics["circular_accuracy"] == 0.5, "question 6 is right in both rotations, question 5 in one"
    assert metrics["base_accuracy"] == 1.0
    assert metrics["circular_by_category"]["perception"]["accuracy"] == 0.5


def test_all_a_on_the_benchmarks_scored_by_category() -> None:
    metrics = all_a("scienceqa")
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["subject"]["natural science"]["accuracy"] == 0.5
    assert metrics["subject"]["social science"]["accuracy"] == 0.0
    assert {key: value["accuracy"] for key, value in metrics["grade_band"].items()} == {
        "G1-6": 0.5,
        "G7-12": 0.0,
    }
    assert metrics["context"]["text and image"]["accuracy"] == 0.0
    metrics = all_a("mmstar")
    assert metrics["category"]["math"]["accuracy"] == 0.5
    assert (metrics["category_mean"], metrics["accuracy"]) == (0.25, pytest.approx(1 / 3))
    metrics = all_a("m3cot")
    assert {key: value["accuracy"] for key, value in metrics["domain"].items()} == {
        "science": 1.0,
        "commonsense": 0.0,
    }
    metrics = all_a("mathvista")
    assert metrics["question_type"]["multi_choice"]["accuracy"] == 0.5
    assert metrics["answer_type"]["float"]["accuracy"] == 0.0
    metrics = all_a("mathvision")
    assert [metrics["level"][level]["accuracy"] for level in ("1", "5")] == [1.0, 0.0]
    metrics = all_a("mm_math")
    assert [metrics["difficulty"][key]["accuracy"] for key in ("easy", "hard")] == [0.0, 0.0]


def test_all_yes_on_hallusion() -> None:
    metrics = official_metrics(ROWS["hallusion"], entries_for(ROWS["hallusion"], always("Yes")))
    assert metrics["aAcc"] == 0.8, "four of five golds are yes"
    assert metrics["qAcc"] == pytest.approx(2 / 3), "question 0 is no for figure 1"
    assert metrics["fAcc"] == 0.5
    assert (metrics["questions"]["groups"], metrics["figures"]["groups"]) == (3, 2)


def test_hallusion_questions_without_figure_are_no_figure() -> None:
    rows = rows_of("hallusion", question(0, 0, "1"), question(1, 0, "1"))
    metrics = official_metrics(rows, entries_for(rows, gold_of))
    assert (metrics["figures"]["groups"], metrics["questions"]["groups"]) == (1, 1)


def test_all_yes_on_pope() -> None:
    metrics = official_metrics(ROWS["pope"], entries_for(ROWS["pope"], always("Yes")))
    for scores in (metrics, metrics["default_yes"]):
        assert (scores["accuracy"], scores["precision"], scores["recall"]) == (0.5, 0.5, 1.0)
        assert (scores["f1"], scores["yes_ratio"]) == (pytest.approx(2 / 3), 1.0)
    random = metrics["category"]["random"]
    assert (random["precision"], random["f1"], random["judged"]) == (pytest.approx(1 / 3), 0.5, 3)
    assert metrics["category"]["popular"]["f1"] == 1.0


def test_empty_answers_on_pope_in_both_readings() -> None:
    metrics = official_metrics(ROWS["pope"], entries_for(ROWS["pope"], always("")))
    assert (metrics["accuracy"], metrics["precision"], metrics["recall"], metrics["f1"]) == (
        0.0,
        None,
        0.0,
        0.0,
    )
    assert (metrics["yes_ratio"], metrics["neither"]) == (0.0, 4)
    authors = metrics["default_yes"]
    assert (authors["accuracy"], authors["recall"], authors["yes_ratio"]) == (0.5, 1.0, 1.0)


def test_all_no_on_pope() -> None:
    metrics = official_metrics(ROWS["pope"], entries_for(ROWS["pope"], always("No")))
    assert (metrics["accuracy"], metrics["precision"], metrics["recall"], metrics["f1"]) == (
        0.5,
        None,
        0.0,
        0.0,
    )


def test_pope_formulas_on_a_mixed_table() -> None:
    scores = binary_scores(["Yes", "Yes", "Yes", "No", "No"], ["Yes", "No", None, "Yes", "No"])
    assert scores["precision"] == 0.5
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(2 / 5)
    assert (scores["accuracy"], scores["yes_ratio"]) == (0.4, 0.4)


def test_unjudged_and_missing_rows_leave_every_rate_and_their_group() -> None:
    rows = ROWS["mmvp"]
    entries = entries_for(rows, gold_of)[:3]
    entries[1] = {**entries[1], "verdict": "unjudged"}
    entries[2] = {**entries[2], "error": "image is broken"}
    metrics = official_metrics(rows, entries)
    assert (metrics["accuracy"], metrics["judged"], metrics["unjudged"], metrics["missing"]) == (1.0, 1, 2, 1)
    assert metrics["pair_accuracy"] is None
    assert (metrics["pairs"]["groups"], metrics["pairs"]["undecided"]) == (0, 2)


def test_a_pair_with_one_wrong_and_one_open_row_is_undecided() -> None:
    rows = ROWS["mmvp"]
    entries = entries_for(rows, always("A"))
    del entries[0]
    pairs = official_metrics(rows, entries)["pairs"]
    assert (pairs["groups"], pairs["undecided"], pairs["correct"]) == (1, 1, 0)


def test_entries_are_joined_by_position_not_by_idx() -> None:
    rows = [{**row, "idx": 2 - index} for index, row in enumerate(ROWS["scienceqa"])]
    entries = entries_for(rows, gold_of)
    metrics = official_metrics(rows, [entries[0]])
    assert list(metrics["subject"]) == ["natural science"], "row 0; the row with idx 0 is of social science"
    twice = official_metrics(rows, [{**entries[0], "verdict": "wrong"}, entries[0]])
    assert (twice["judged"], twice["correct"]) == (1, 1), "of two entries for one row the later counts"


def test_base_rows_alone_have_no_circular_score() -> None:
    rows = [row for row in ROWS["mmbench"] if row["rotation"] == 0]
    metrics = official_metrics(rows, entries_for(rows, gold_of))
    assert metrics["circular_accuracy"] is None
    assert metrics["base_accuracy"] == 1.0


def test_other_datasets_have_no_official_metrics() -> None:
    assert official_metrics([{"prompt": "q", "solution": "a"}], []) == {}
    assert official_metrics([], []) == {}
    assert official_metrics([{"benchmark": "unknown"}], []) == {}
    assert official_metrics([ROWS["mmvp"][0], ROWS["pope"][0]], []) == {}


def test_importing_the_metrics_loads_no_heavy_library() -> None:
    code = "import sys, dmlr.benchmarks; print([m for m in ('torch', 'datasets', 'pyarrow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
