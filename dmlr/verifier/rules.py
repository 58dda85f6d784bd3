"""The rules: from an output, a gold and a row to a verdict, without a model and without a network.

`verify` infers the type of the answer, lets the rule of that type decide, and says `unjudged` when the rule cannot.
What each rule does, and the decision on every contested kind of answer, is in docs/JUDGING.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dmlr.verifier.choice import judge_choice
from dmlr.verifier.extract import Extraction, extract, find_boxes, is_refusal, short, unbox
from dmlr.verifier.math_process import shared_math_process
from dmlr.verifier.options import Options, find_gold, has_option_header, parse_options, split_letter
from dmlr.verifier.quantity import Quantity, compare, is_range, parse_quantity, stated_part, stated_quantity
from dmlr.verifier.structures import (
    is_inequality,
    parse_intervals,
    parse_sequence,
    same_equation,
    same_interval,
    same_ratio,
    same_sequence,
)
from dmlr.verifier.text import compact, plain, repair_commands, trim, word_set, words
from dmlr.verifier.units import Unit, parse_unit
from dmlr.verifier.verdict import Verdict, VerdictValue
from dmlr.verifier.yesno import gold_decision, judge_yesno

Outcome = tuple[VerdictValue, str]
RULE_TYPES = ("choice", "yesno", "integer", "float", "list", "interval", "open")
_ROW_TYPES = {"choice", "yesno", "integer", "float", "list", "interval", "free"}
_PLACES = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_PLACES_HINT = re.compile(r"floating-point number with (\w+) decimal place", re.I)
_UNIT_HINT = re.compile(r"\(Unit:\s*([^()]{1,40})\)", re.I)
MAX_GOLD = 20_000


@dataclass(frozen=True)
class Question:
    """What the row says about the expected answer."""

    solution: str
    prompt: str
    options: Options
    answer_letter: str | None
    answer_text: str | None
    answer_type: str | None
    precision: int | None
    unit: Unit | None


def verify(
    output: str,
    solution: str,
    prompt: str = "",
    *,
    truncated: bool = False,
    choices: Sequence[str] | None = None,
    answer_letter: str | None = None,
    answer_text: str | None = None,
    answer_type: str | None = None,
    precision: float | None = None,
    unit: str | None = None,
    **ignored: Any,
) -> Verdict:
    """Judge `output` against the gold `solution` by rules alone (ours).

    `prompt` is the question as the model saw it (options and format hints are read from it); the keyword arguments
    are the optional fields of a dataset row and win over what the prompt says, any other field is ignored.
    `truncated` marks an output that was cut off at the token limit: only an answer that is surely whole counts.
    Never raises for any text; each call is bounded in time and memory.
    """
    del ignored
    solution = repair_commands(solution or "")[:MAX_GOLD]
    if not trim(plain(unbox(solution))):
        return Verdict("unjudged", "none", "the gold is empty: the row is an error")
    question = Question(
        solution=solution,
        prompt=prompt or "",
        options=Options(tuple(str(choice) for choice in choices)) if choices else parse_options(prompt or ""),
        answer_letter=answer_letter or None,
        answer_text=answer_text or None,
        answer_type=answer_type if answer_type in _ROW_TYPES else None,
        precision=_precision(precision, prompt or ""),
        unit=_asked_unit(unit, prompt or ""),
    )
    extraction = extract(output or "", truncated)
    kind, (verdict, reason) = _judge(extraction, question)
    if extraction.answer and extraction.source != "box":
        reason = f"{reason} ({extraction.source})"
    return Verdict(verdict, f"rules:{kind}", reason, extraction.answer)


def _precision(value: float | None, prompt: str) -> int | None:
    if value is not None and value == value:  # a missing precision is NaN in some exports
        return int(value)
    hint = _PLACES_HINT.search(prompt)
    return _PLACES.get(hint[1].casefold()) if hint else None


def _asked_unit(value: str | None, prompt: str) -> Unit | None:
    if not value and (hint := _UNIT_HINT.search(prompt)):
        value = hint[1]
    return parse_unit(plain(value)) if value else None


def _judge(extraction: Extraction, question: Question) -> tuple[str, Outcome]:
    """The type of the answer and what its rule says."""
    kind = question.answer_type
    if kind in (None, "choice", "free"):
        gold = find_gold(question.solution, question.options, question.answer_letter, question.answer_text)
        is_choice = gold is not None and (
            kind == "choice"
            or bool(question.options.texts)
            or has_option_header(question.prompt)
            or split_letter(question.solution) is not None
        )
        if gold is not None and is_choice:
            return "choice", judge_choice(extraction, question.options, gold, question.prompt)
    gold_text = unbox(question.solution).strip()
    yes_no = gold_decision(gold_text)
    if yes_no is not None and kind in (None, "yesno", "choice", "free"):
        return "yesno", judge_yesno(extraction, yes_no, question.prompt)
    golds = _gold_parts(question.solution)
    if len(golds) > 1:
        gold_text = ", ".join(golds)
    quantity = parse_quantity(gold_text)
    inferred = _infer(kind, gold_text, quantity, question)
    if extraction.source == "none":
        return inferred, ("wrong", f"no final answer; the gold is {short(gold_text)}")
    outcome = _judge_open(extraction, gold_text, quantity, inferred, question)
    return inferred, outcome


def _gold_parts(solution: str) -> list[str]:
    """All boxes of a worked solution as the gold answers (MM-Math joins them)."""
    boxes = [unbox(box.content).strip() for box in find_boxes(solution) if box.closed and box.content.strip()]
    return boxes or [solution.strip()]


def _infer(kind: str | None, gold: str, quantity: Quantity | None, question: Question) -> str:
    if kind in ("integer", "float", "list", "interval"):
        return kind
    if "python list" in question.prompt.casefold():
        return "list"
    if quantity is not None and quantity.decimals is not None:
        return "integer" if quantity.decimals == 0 else "float"
    if is_inequality(gold):
        return "interval"
    text = plain(gold)
    if parse_intervals(gold) is not None and text[:1] + text[-1:] in ("[]", "[)", "(]"):
        return "interval"
    if parse_sequence(gold) is not None:
        return "list"
    return "open"


def _judge_open(
    extraction: Extraction, gold: str, quantity: Quantity | None, kind: str, question: Question
) -> Outcome:
    """Numbers, lists, intervals, expressions, words."""
    several = kind == "list" and quantity is None
    answers = [extraction.answer]
    if several and len(extraction.boxes) > 1:
        answers.insert(0, ", ".join(extraction.boxes))
    if extraction.source == "final phrase":
        head = re.split(
            r"(?<!\d)[.。]\s|[.。]\s+(?=[A-Z])|,?\s(?:because|since|as|which|where)\s"
            r"|,?\s(?:and not|but not|rather than|instead of)\s|,\s*not\s",
            extraction.answer,
        )[0]
        answers.append(head)
    results = [_judge_one(answer, gold, quantity, kind, question) for answer in answers]
    for wanted in ("correct", "wrong"):
        for result in results:
            if result is not None and result[0] == wanted:
                return result
    if not extraction.explicit and extraction.source == "last line":
        return "unjudged", "a long output without a marked final answer"
    if is_refusal(extraction.answer):
        return "wrong", f"no answer given; the gold is {short(gold)}"
    return _leftover(extraction, gold, quantity)


def _judge_one(
    answer: str, gold: str, quantity: Quantity | None, kind: str, question: Question
) -> Outcome | None:
    """What can be said about one spelling of the answer; None leaves it open."""
    shown = f"{short(answer)} against the gold {short(gold)}"
    if _CLOCK.match(gold):
        answer = _HALF_OF_DAY.sub("", answer)
    if _same_letters(answer, gold):
        return "correct", f"the same text: {shown}"
    if quantity is not None:
        stated = parse_quantity(answer) or stated_quantity(answer)
        if stated is not None:
            precision = question.precision if kind == "float" else None
            equal = compare(stated, quantity, precision, question.unit)
            if equal is not None:
                rounded = f" at {precision} decimals" if precision is not None else ""
                return (
                    ("correct", f"equal values{rounded}: {shown}")
                    if equal
                    else ("wrong", f"other value: {shown}")
                )
            return None
        several = parse_sequence(answer)
        if several is not None and all(parse_quantity(part) is not None for part in several.parts):
            return "wrong", f"more than one value: {shown}"
    stated_text = stated_part(answer)
    if quantity is None and stated_text and len(words(gold)) and _same_letters(stated_text, gold):
        return "correct", f"the same text: {shown}"
    if kind == "interval" and (value := parse_quantity(answer)) is not None and value.constant:
        return "wrong", f"one value is no interval: {shown}"
    if kind == "list" and re.fullmatch(r"\[\s*\]|\(\s*\)|｛\s*｝", plain(answer)):
        return "wrong", f"an empty list: {shown}"
    for part in (answer, stated_text):
        for rule in (
            (same_sequence,) if kind == "list" else (same_interval, same_ratio, same_sequence, same_equation)
        ):
            equal = rule(part, gold) if part else None
            if equal is not None:
                return ("correct", f"equal: {shown}") if equal else ("wrong", f"not equal: {shown}")
    return None


_CLOCK = re.compile(r"^\s*\d{1,2}[:.]\d{2}\s*$")
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*(?:\\text\{\s*)?[ap]\.?m\.?\s*\}?\s*$", re.I)


def _same_letters(answer: str, gold: str) -> bool:
    left, right = compact(answer), compact(gold)
    if left == right:
        return True
    if _SYMBOLS.search(left) or _SYMBOLS.search(right):
        return False
    return words(gold) != () and words(answer) == words(gold)


_SYMBOLS = re.compile(r"[\d\\√π^_=+*/<>≤≥()\[\]{}｛|-]")
_MATHS = re.compile(r"[\d^_=+*/<>≤≥π√∞∈|\\]|^[A-Za-z]$")


def _leftover(extraction: Extraction, gold: str, quantity: Quantity | None) -> Outcome:
    """What the quick rules leave: mathematics for math-verify, words for the judge."""
    answer = extraction.answer
    shown = f"{short(answer)} against the gold {short(gold)}"
    gold_is_maths, answer_is_maths = (
        bool(_MATHS.search(plain(gold))),
        bool(_MATHS.search(plain(answer[:2000]))),
    )
    if extraction.explicit and not re.search(r"\w|[∞∅]", plain(answer[:200])):
        return "wrong", f"no answer given; the gold is {short(gold)}"
    if quantity is not None and quantity.constant and _bounds_only(answer):
        return "wrong", f"a bound or a range is no value: {shown}"
    if gold_is_maths and not answer_is_maths:
        spelled = words(answer)
        if quantity is not None and spelled and not set(spelled) & _NUMERALS and extraction.explicit:
            return "wrong", f"no number: {shown}"
        return "unjudged", f"words against mathematics: {shown}"
    if len(trim(plain(gold))) == 1 and len(trim(plain(answer[:200]))) == 1:
        return "wrong", f"another letter: {shown}"
    if not gold_is_maths or _PROSE.search(plain(answer[:2000])):
        return "unjudged", f"not decidable by rules: {shown}"
    if is_inequality(gold) and not is_inequality(answer):
        return "unjudged", f"not decidable by rules: {shown}"
    if (quantity is not None and parse_quantity(answer) is not None) or _not_one_expression(answer, gold):
        return "unjudged", f"not decidable by rules: {shown}"
    equal = shared_math_process().equal(gold, answer)
    if equal is None:
        return "unjudged", f"not decidable by rules: {shown}"
    return (
        ("correct", f"equal by math-verify: {shown}")
        if equal
        else ("wrong", f"not equal by math-verify: {shown}")
    )


# a word, not a function of mathematics
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:arc)?(?:sin|cos|tan|cot|sec|csc)|log|lim|max|min|exp|sqrt|mod|gcd|lcm|det|frac|binom|begin|end|"
    r"pmatrix|bmatrix|vmatrix|cases|array|sum|int)[A-Za-z]{3,}(?![A-Za-z])"
)


_BOUND = re.compile(
    r"^(?:[a-z]\s*)?(?:[<>≤≥]|less than|more than|fewer than|greater than|at (?:least|most)|up to|over|under|"
    r"above|below|between)\s*[-\d.,]+(?:\s*(?:and|to|-)\s*[\d.,]+)?$|^\d[\d.,]*\s*(?:\+|or (?:more|less|fewer))$",
    re.I,
)


def _bounds_only(answer: str) -> bool:
    """Whether the answer only bounds a number: "6-10", "at least 2" and "> 2" are no value."""
    text = trim(plain(answer[:200]))
    return _BOUND.match(text) is not None or is_range(text)


# math-verify reads the part of a text that it understands and would take "2:1" or "2)" for 2
_NOT_ONE_EXPRESSION = re.compile(
    r"[:;?~≈%\"']|\.\s|\.\.|\b(?:or|and)\b|\d\s*_|overline|[-+*/^=_,]\s*$|\{\s*\}"
)


def _not_one_expression(answer: str, gold: str) -> bool:
    """Whether one of them is surely more, or less, than a whole expression, or only one of them is an equation."""
    sides = [plain(answer), plain(gold)]
    for text in sides:
        unbalanced = any(text.count(a) != text.count(b) for a, b in ("()", "{}"))
        if unbalanced or _NOT_ONE_EXPRESSION.search(text):
            return True
    equations = ["=" in re.sub(r"\{[^{}]*\}", "", text) for text in sides]
    return equations[0] != equations[1]


_NUMERALS = word_set(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half third "
    "quarter dozen zero once twice double single pair couple 一 二 三 四 五 六 七 八 九 十 百 千 万 半 两 零"
)
