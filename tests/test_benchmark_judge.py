"""The judge understands what `dmlr prepare` writes: gold answers are right, other options and numbers are wrong."""

from typing import Any

import pytest
from benchmark_rows import upstream

from dmlr.benchmarks import BENCHMARKS
from dmlr.verifier import verify


def converted(name: str, **fields: Any) -> dict[str, Any]:
    return {"benchmark": name, **BENCHMARKS[name].convert(upstream(name, **fields))}


def mm_math(solution: str) -> dict[str, Any]:
    return BENCHMARKS["mm_math"].convert(
        {"question": "Find $x$.", "file_name": "1.png", "solution": solution}
    )


MULTI = {"question_type": "multi_choice", "answer_type": "text"}
# row, right answers, wrong answers
CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    (
        converted("scienceqa", answer=0, choices=["a heron, grey", "an owl"]),
        ["A", "a heron, grey"],
        ["B", "an owl"],
    ),
    (
        converted(
            "mathvista", pid="1", query="q", answer="decrease", choices=["decrease", "increase"], **MULTI
        ),
        ["A", "decrease"],
        ["B", "D"],
    ),
    (converted("mathvista", pid="2", query="q", answer="0"), ["0"], ["10", ""]),
    (
        converted(
            "mathvista", pid="3", query="q", answer="1.2", answer_type="float", precision=1.0, unit="g"
        ),
        ["1.2", "1.23"],
        ["1.3"],
    ),
    (
        converted("mathvista", pid="4", query="q", answer="[2014, 2016]", answer_type="list"),
        ["[2014, 2016]"],
        ["[2014]"],
    ),
    (
        converted(
            "mathvision", id="1", question="q", options=["(-6,0)", "(2,0)", "P", "Q", "none"], answer="A"
        ),
        ["A", "(-6,0)"],
        ["B", "(2,0)"],
    ),
    (converted("mathvision", id="2", question="q", options=list("ABCDE"), answer="B"), ["B", "(B)"], ["A"]),
    (converted("mathvision", id="3", question="q", answer="69{degrees}"), ["69", "69^\\circ"], ["96"]),
    (
        converted("mathvision", id="4", question="q", answer="$\\boxed{\\frac{16}{7}}$"),
        ["\\frac{16}{7}"],
        ["16"],
    ),
    (
        converted("mathvision", id="5", question="q", answer="\x0crac{36}{13}"),
        ["\\frac{36}{13}"],
        ["\\frac{13}{36}"],
    ),
    (converted("mathvision", id="6", question="q", answer="C"), ["C"], ["B"]),
    (converted("mathvision", id="7", question="q", answer="8.0"), ["8", "8.0"], ["80"]),
    (converted("mathvision", id="8", question="q", answer="(3,-4)"), ["(3, -4)"], ["(-4, 3)"]),
    (mm_math("so \\boxed{5} or \\boxed{7}"), ["5, 7", "7, 5"], ["5", "5, 8"]),
    (mm_math("so \\boxed{1<x<3}"), ["1<x<3", "(1,3)"], ["1<x<4"]),
    (mm_math("so \\boxed{\\frac{1}{2}}"), ["\\frac{1}{2}", "0.5"], ["2"]),
    (converted("hallusion", gt_answer="0"), ["No", "no"], ["Yes"]),
    (converted("mmstar", index=1, question="q\nOptions: A: A man, tall, B: B", answer="A"), ["A"], ["B"]),
    (converted("mmstar", index=2, question="q\nOptions: A: nan, B: 2", answer="A"), ["A"], ["B", "2"]),
    (
        BENCHMARKS["mmvp"].convert(
            {"Index": 1, "Question": "q", "Options": "(a) Open (b) Closed", "Correct Answer": "(b)"}
        ),
        ["(b)", "B", "Closed", "(b) Closed"],
        ["(a)", "Open"],
    ),
    (converted("m3cot", id="1", choices=["option B in it", "option A in it"], answer="A"), ["A"], ["B"]),
    (converted("pope", question_id="1", answer="yes"), ["Yes"], ["No"]),
    (
        converted("mmbench", index=1, A="a kite", B="a ball", C="nan", answer="B"),
        ["B", "a ball"],
        ["A", "a kite"],
    ),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_prepared_golds_are_judged_as_meant(case: int) -> None:
    row, right, wrong = CASES[case]
    for answer in right:
        assert verify(f"So the answer is \\boxed{{{answer}}}.", **row).verdict == "correct", answer
    assert verify(f"So the answer is \\boxed{{{row['answer_text']}}}.", **row).verdict == "correct"
    for answer in wrong:
        assert verify(f"So the answer is \\boxed{{{answer}}}.", **row).verdict != "correct", answer
