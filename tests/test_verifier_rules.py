"""Answers in the formats of the public benchmarks, judged by rules alone."""

import pytest
from answer_cases import CASES, GARDEN, OPEN, R, U, W
from answer_cases_open import MORE_CASES

from dmlr.verifier import verify


@pytest.mark.parametrize(
    ("prompt", "gold", "output", "expected"),
    [
        pytest.param(
            prompt,
            gold,
            output,
            expected,
            id=f"{gold[:24]}|{output[:40]}".encode("ascii", "replace").decode(),
        )
        for prompt, gold, answers in [*CASES, *MORE_CASES]
        for output, expected in answers.items()
    ],
)
def test_the_rules_decide_as_the_formats_demand(prompt, gold, output, expected):
    verdict = verify(output, gold, prompt)
    assert verdict.verdict == expected, verdict
    assert verdict.reason


def test_row_fields_win_over_the_prompt():
    row = {
        "choices": ["a dog", "a cat"],
        "answer_letter": "B",
        "answer_text": "a cat",
        "answer_type": "choice",
    }
    assert verify("\\boxed{a cat}", "B. a cat", "Which animal?", **row).verdict == R
    assert verify("\\boxed{A}", "B. a cat", "Which animal?", **row).verdict == W
    assert verify("\\boxed{A}", "a cat", "Which animal?", choices=["a cat", "a dog"]).verdict == R
    assert verify("\\boxed{2.449}", "2.4", answer_type="float", precision=1.0).verdict == R
    assert verify("\\boxed{2.449}", "2.4", answer_type="float", precision=float("nan")).verdict == W
    assert verify("\\boxed{1.5 kg}", "1500", answer_type="integer", unit="g").verdict == R
    assert verify("\\boxed{1.5 kg}", "1500", answer_type="integer", unit="cm").verdict == W
    assert verify("\\boxed{3}", "3", category="algebra", group="7", evidence=[[1, 2, 3, 4]]).verdict == R


def test_a_gold_without_readable_options_is_judged_by_letter_and_text():
    assert verify("\\boxed{B}", "B. the mill").verdict == R
    assert verify("\\boxed{the mill}", "B. the mill").verdict == R
    assert verify("\\boxed{C}", "B. the mill").verdict == W
    assert verify("\\boxed{19}", "B. 14").verdict == W
    # the prompt announced options that were lost: a text may be the right one, so the rules do not decide
    assert verify("\\boxed{11}", "\\boxed{E}", "How many?\\n Options: A. 6$, $7$, $11$").verdict == U


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("\\boxed{C}", R),
        ("so \\boxed{C", W),
        ("The answer is 5", W),
        ("C", W),
        ("The answer is C. The angle", R),
        ("", W),
    ],
)
def test_a_cut_off_output_counts_only_where_its_answer_is_whole(output, expected):
    gold = "\\boxed{5}" if "5" in output else "C. $58^{\\circ}$"
    assert verify(output, gold, GARDEN if gold[0] == "C" else OPEN, truncated=True).verdict == expected


def test_the_verdict_names_type_reason_and_answer():
    verdict = verify("It must be \\boxed{B}.", "C. $58^{\\circ}$", GARDEN)
    assert (verdict.verdict, verdict.by, verdict.answer) == ("wrong", "rules:choice", "B")
    assert "option B" in verdict.reason
    assert "option C" in verdict.reason
    kinds = {
        "\\boxed{7}": "integer",
        "\\boxed{7.5}": "float",
        "\\boxed{\\sqrt{7}}": "open",
        "[1, 2, 3]": "list",
        "\\boxed{1<x<7}": "interval",
        "\\boxed{No}": "yesno",
    }
    for gold, kind in kinds.items():
        assert verify("\\boxed{7}", gold).by == f"rules:{kind}"
    assert verify("7", "").by == "none"
