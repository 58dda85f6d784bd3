"""Hostile outputs: every verdict comes, soon and in bounded memory, and the next one too."""

import resource
import subprocess
import sys
import time

import pytest

from dmlr.verifier import verify
from dmlr.verifier.math_process import MathProcess

OPTIONS = "Which?\nOptions:\nA. 1\nB. two words\nC. $x^2$"
GOLDS = [
    ("\\boxed{2}", ""),
    ("B. two words", OPTIONS),
    ("\\boxed{No}", ""),
    ("[1, 2]", "a Python list"),
    ("red", ""),
]
MEGABYTE = 1 << 20
HOSTILE = {
    "a megabyte of letters": "a" * MEGABYTE,
    "a megabyte of blanks": " " * MEGABYTE + "x",
    "blanks inside a box": "\\boxed{" + " ~" * 9000 + "^\\circ}",
    "boxes that never close": "\\boxed{" * 100_000,
    "boxes in boxes": "\\boxed{" * 10_000 + "9" + "}" * 10_000,
    "braces 10,000 deep": "\\boxed{" + "{" * 10_000 + "9" + "}" * 10_000 + "}",
    "a tower of powers": "\\boxed{9**9**9**9}",
    "a LaTeX tower": "\\boxed{9^{9^{9^{9}}}}",
    "factorials": "\\boxed{((99!)!)!}",
    "five thousand digits": "\\boxed{" + "9" * 5000 + "}",
    "fractions in fractions": "\\boxed{" + "\\frac{1}{" * 3000 + "9" + "}" * 3000 + "}",
    "a macro that calls itself": "\\boxed{\\def\\a{\\a\\a}\\a}",
    "final phrases": "the answer is " * 20_000,
    "adjectives before a phrase": "final " * 50_000 + "answer is 9",
    "open tags": "<answer>" * 50_000 + "<think>" * 10_000,
    "backslashes": "\\" * 100_000,
    "brackets": "\\boxed{" + "(" * 9000 + "}",
    "letters in a row": "\\boxed{" + "A, " * 5000 + "}",
    "signs": "\\boxed{" + "-" * 5000 + "9}",
    "equations": "\\boxed{" + "x=" * 5000 + "9}",
    "plus minus": "\\boxed{" + "\\pm 9," * 3000 + "9}",
    "a long ligature": "\ufdfa" * 50_000,
    "lone surrogates and nulls": "\ud800\x00" * 1000,
    "choose": "选" * 20_000,
    "withdrawals": "no, wait, " * 5000 + "9",
    "blanks after a no": ("no" + " ," * 3000) * 6,
    "denials": "it is not \\boxed{9} " * 1000 + "not " * 3000,
    "turns": "I first thought two words, but " * 600,
    "units in a row": "\\boxed{" + "1 hour " * 2500 + "}",
    "ratios": "\\boxed{" + "9:" * 9000 + "9}",
    "lead-ins": "so thus hence " * 1400 + "9",
    "fences and tags": "```\n" * 5000 + "<b>" * 5000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_output_is_never_correct_and_never_stops_the_run(name):
    for gold, prompt in GOLDS:
        assert verify(HOSTILE[name], gold, prompt).verdict in ("wrong", "unjudged")
    assert verify("\\boxed{2}", "\\boxed{2}").verdict == "correct"


@pytest.mark.timeout(60)
def test_a_hostile_prompt_and_gold_are_bounded_too():
    for text in ("\n" * 100_000, " " * 100_000, "(A) " * 20_000, "Options:" * 10_000, "{" * 50_000):
        assert verify("\\boxed{3}", "\\boxed{4}", text).verdict == "wrong"
        assert verify("\\boxed{3}", text + "x").verdict != "correct"


def test_memory_stays_bounded():
    script = (
        "import resource, sys\n"
        "from dmlr.verifier import verify\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for text in ('\\\\boxed{' * 150_000, '{' * (1 << 20), ' ' * (1 << 20)):\n"
        "    verify(text, '\\\\boxed{2}')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert grown < 64 << 10  # kilobytes


@pytest.fixture
def slow_worker(tmp_path):
    """A stand-in for math-verify that never answers when it is asked about "sleep"."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys, time\n"
        "print(json.dumps({'ready': True}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    gold, answer = json.loads(line)\n"
        "    if answer == 'sleep': time.sleep(600)\n"
        "    if answer == 'die': sys.exit(3)\n"
        "    if answer == 'noise': print('not json', flush=True); continue\n"
        "    print(json.dumps({'equal': gold == answer}), flush=True)\n"
    )
    process = MathProcess([sys.executable, str(worker)], answer_seconds=1.0)
    yield process
    process.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("trouble", ["sleep", "die", "noise"])
def test_a_late_or_dead_worker_is_replaced(slow_worker, trouble):
    assert slow_worker.equal("1", "1") is True
    assert slow_worker.equal("1", trouble) is None
    assert slow_worker.equal("1", "2") is False
    assert slow_worker.equal("2", "2") is True
    assert slow_worker.starts == 2


def test_the_worker_has_a_memory_limit():
    process = MathProcess()
    try:
        running = process._running()
        assert running is not None
        with open(f"/proc/{running.pid}/limits") as limits:
            line = next(line for line in limits if line.startswith("Max address space"))
        assert int(line.split()[3]) <= 4 << 30
    finally:
        process.close()


def test_the_worker_is_started_only_for_what_needs_it(slow_worker):
    assert slow_worker.starts == 0
    assert slow_worker.equal("1" * 5000, "1") is None
    assert slow_worker.starts == 0


@pytest.mark.timeout(240)
def test_math_verify_decides_what_the_calculator_cannot():
    process = MathProcess(answer_seconds=60)
    try:
        assert process.equal("120", "\\binom{10}{3}") is True
        assert process.equal("121", "\\binom{10}{3}") is False
        assert process.equal("\\frac{a}{b}+\\log_2 8", "\\frac{a+3b}{b}") is True
        assert process.equal("3", "x \\le 3") is None  # math-verify's own "not equal" decides nothing
    finally:
        process.close()


@pytest.mark.timeout(240)
def test_a_bomb_costs_one_worker_and_no_memory_here():
    process = MathProcess(answer_seconds=2)
    try:
        process.equal("2", "2")
        begun = time.monotonic()
        assert process.equal("2", "\\binom{10^{9}}{5 \\cdot 10^{8}}") is None
        assert time.monotonic() - begun < 30
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 << 20
    finally:
        process.close()


def test_the_worker_dies_with_its_parent():
    script = (
        "from dmlr.verifier.math_process import MathProcess\n"
        "process = MathProcess()\n"
        "process._running()\n"
        "print(process._process.pid, flush=True)\n"
        "import os; os._exit(1)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).stdout)
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().split(")")[-1].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")
