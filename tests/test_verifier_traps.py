"""Self-corrections, denials, hedges, units and notations: a table of answers that trip judges up."""

import json
from pathlib import Path

import pytest

from dmlr.verifier import verify

VERDICTS = {"R": "correct", "W": "wrong", "U": "unjudged"}


def read_table():
    """(prompt, gold, answer, verdict) for every line of the table."""
    prompt = gold = ""
    for line in (Path(__file__).parent / "answer_traps.txt").read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "prompt":
            prompt = json.loads(rest)
        elif kind == "gold":
            gold = json.loads(rest)
        elif kind in VERDICTS and prompt:
            yield prompt, gold, rest, VERDICTS[kind]


CASES = list(read_table())


@pytest.mark.parametrize(("prompt", "gold"), dict.fromkeys((prompt, gold) for prompt, gold, _, _ in CASES))
def test_the_rules_see_through_the_traps(prompt, gold):
    failed = []
    for case_prompt, case_gold, answer, expected in CASES:
        if (case_prompt, case_gold) == (prompt, gold):
            verdict = verify(answer, gold, prompt)
            if verdict.verdict != expected:
                failed.append((answer, expected, verdict))
    assert not failed, failed


def test_the_table_is_read_whole():
    assert len(CASES) > 1000
    assert {expected for *_, expected in CASES} == set(VERDICTS.values())


STAR = "What colour is the boat?\nOptions:\nA. blue\nB. red\nC. dark green\nD. white"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("The answer is B\n\nThe answer is C", "wrong"),
        ("Step 1: A. blue is wrong.\nStep 2: B. red fits.\nAnswer: B", "correct"),
        ("A. blue\nB. red\nC. dark green\nD. white", "wrong"),
        ("B.\nred", "correct"),
        ("```\nB\n```", "correct"),
        ("The hull is red.\nWait, it is white.\nSo the answer is D.", "wrong"),
        ("I look at it closely. " * 30 + "The answer is C. No wait, B.", "correct"),
        ("<think>C</think>\n\nIt is not \\boxed{C}, it is \\boxed{B}", "correct"),
        ("It is \\boxed{B}, not \\boxed{C}", "correct"),
    ],
)
def test_answers_of_several_lines(output, expected):
    assert verify(output, "B. red", STAR).verdict == expected


def test_a_fenced_list_is_read():
    assert verify("```python\n[3, 5]\n```", "[3, 5]", "Give a Python list.").verdict == "correct"


def test_words_are_never_given_to_the_algebra(monkeypatch):
    """math-verify reads the part of a text that it understands: it takes "3, not 2" for 2."""

    def refuse():
        raise AssertionError("started for words")

    monkeypatch.setattr("dmlr.verifier.rules.shared_math_process", refuse)
    for answer in ("The answer is 3, not 2.", "\\boxed{1 hour and 2 parts}", "\\boxed{2 of three}"):
        assert verify(answer, "\\boxed{2}").verdict != "correct"
    assert verify("\\boxed{1,3}", "\\boxed{1<x<3}").verdict == "unjudged"
