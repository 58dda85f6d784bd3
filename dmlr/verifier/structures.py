r"""Answers made of several parts: lists, tuples, sets, intervals, several solutions, equations.

`[2014, 2016]` is ordered, "x = 2 or x = -3" is not, `1<x<3` is the interval (1,3), `y=2x+1` and `2x-y+1=0` are one
equation. Each comparison answers True, False, or None when the text is not of that kind.
"""

import re
from dataclasses import dataclass

from dmlr.verifier import arith
from dmlr.verifier.quantity import Quantity, compare, parse_quantity
from dmlr.verifier.text import compact, plain, trim

MAX_PARTS = 64

_OPEN, _CLOSE = "([{｛", ")]}｝"


def split_top_level(text: str, separators: str = ",;") -> list[str]:
    """Split at separators outside all brackets. Text with unbalanced brackets is one part."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and char in separators:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, text[start:]]] if depth == 0 else [text.strip()]


@dataclass(frozen=True)
class Sequence:
    """Ordered (list, tuple) or unordered (set, several solutions) parts; `bracket` is "", "(", "[" or "｛"."""

    parts: tuple[str, ...]
    bracket: str
    ordered: bool


_CONJUNCTION = re.compile(r"\s*(?:,|;)?\s*(?:\bor\b|\band\b|或者|或|和|与|、)\s*")
_LIST_LABEL = re.compile(
    r"^(?:[A-Za-z]\w{0,20}|\([A-Za-z], ?[A-Za-z](?:, ?[A-Za-z])?\)|[A-Za-z]\(\w+\))\s*(?:=|∈|:)\s*(?=[\[(｛])"
)


def parse_sequence(text: str) -> Sequence | None:
    """Parts of a list, tuple, set or enumeration of at least two parts; None when `text` is a single thing."""
    if len(text) > 4000:
        return None
    text = _LIST_LABEL.sub("", trim(plain(text)))
    # P(3, -4) names a point
    text = re.sub(r"^[A-Z]'*(?=\(.*,.*\)$)", "", text)
    if re.fullmatch(r"\{[^{}]*,[^{}]*\}", text):
        text = "｛" + text[1:-1] + "｝"
    bracket = ""
    if len(text) > 1 and text[0] in "([｛" and text[-1] in ")]｝" and _closes_at_end(text):
        if (text[0], text[-1]) not in (("(", ")"), ("[", "]"), ("｛", "｝")):
            return None
        bracket, text = text[0], text[1:-1].strip()
    parts = split_top_level(_enumerate(text))
    if not bracket:
        parts = [branch for part in parts for branch in _plus_minus(part)]
    if not all(parts) or len(parts) > MAX_PARTS:
        return None
    if len(parts) < 2 and bracket not in ("[", "｛"):
        return None
    return Sequence(tuple(parts), bracket, ordered=bracket in ("(", "["))


def _enumerate(text: str) -> str:
    """Conjunctions as commas; a comma inside a number ("1,507") goes where other separators split the parts."""
    text = _CONJUNCTION.sub(",", text)
    numbers = re.split(r",\s+|;", text)
    if len(numbers) > 1 and all(
        re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[^,]+", part.strip()) for part in numbers
    ):
        return ";".join(part.replace(",", "") for part in numbers)
    return text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for i, char in enumerate(text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0:
            return i == len(text) - 1
    return False


def _plus_minus(part: str) -> list[str]:
    if part.count("±") != 1:
        return [part]
    return [part.replace("±", "+"), part.replace("±", "-")]


def same_part(answer: str, gold: str) -> bool | None:
    """Whether two parts are equal as quantities, sequences, intervals, or as text; None when it cannot be told."""
    if compact(answer) == compact(gold):
        return True
    left, right = parse_quantity(answer), parse_quantity(gold)
    if left is not None and right is not None:
        return compare(left, right)
    for kind in (same_interval, same_sequence):
        result = kind(answer, gold)
        if result is not None:
            return result
    return None


def same_sequence(answer: str, gold: str, drop_brackets: bool = True) -> bool | None:
    """Whether two lists hold the same parts, in order when the gold is ordered.

    Brackets that differ in kind make a difference of two-part golds, because (1,3) and [1,3] may be intervals; an
    answer without brackets is accepted for any gold.
    """
    right = parse_sequence(gold)
    if right is None:
        return None
    left = parse_sequence(answer)
    if left is None:
        # one part of several, when it is a part at all
        single = parse_quantity(answer)
        return False if single is not None else None
    if len(left.parts) != len(right.parts):
        return False
    if left.bracket and right.bracket and left.bracket != right.bracket and not drop_brackets:
        return False
    labels = _labels(right.parts)
    if (
        not labels
        and right.bracket == "("
        and sorted(_labels(left.parts)) == ["x", "y", "z"][: len(left.parts)]
    ):
        # "y=-1, x=4" is the point (4,-1)
        left = Sequence(
            tuple(sorted(left.parts, key=lambda part: part.lstrip()[:1])), left.bracket, ordered=True
        )
    if labels and (answered := _labels(left.parts)):
        if set(labels) != set(answered):
            return None
        by_label = dict(zip(answered, left.parts))
        left = Sequence(tuple(by_label[label] for label in labels), left.bracket, ordered=True)
    elif not right.ordered and not labels:
        return _same_unordered(left.parts, right.parts)
    results = [same_part(a, g) for a, g in zip(left.parts, right.parts)]
    if all(result is True for result in results):
        return None if left.bracket == "｛" else True
    return False if any(result is False for result in results) else None


_ASSIGNED = re.compile(r"^([A-Za-z]|\\[a-z]+)\s*=")


def _labels(parts: tuple[str, ...]) -> list[str]:
    """Names of the parts of "a=7, b=5, c=3", whose order then means something; "x=2, x=-3" has none."""
    found = [_ASSIGNED.match(part) for part in parts]
    labels = [match[1] for match in found if match]
    return labels if len(labels) == len(parts) == len(set(labels)) else []


def _same_unordered(answer: tuple[str, ...], gold: tuple[str, ...]) -> bool | None:
    left = list(answer)
    unknown = False
    for part in gold:
        for i, candidate in enumerate(left):
            result = same_part(candidate, part)
            if result is True:
                del left[i]
                break
            unknown |= result is None
        else:
            return None if unknown else False
    return True


@dataclass(frozen=True)
class Interval:
    """Ends as text ("" for unbounded), whether they belong to it, and the variable when one was written."""

    low: str
    high: str
    closed_low: bool
    closed_high: bool
    variable: str = ""


_BOUND = re.compile(r"^(.{1,120}?)\s*([<≤])\s*([A-Za-z]\w?|\\[a-z]+)\s*([<≤])\s*(.{1,120})$")
_REVERSED = re.compile(r"^(.{1,120}?)\s*([>≥])\s*([A-Za-z]\w?|\\[a-z]+)\s*([>≥])\s*(.{1,120})$")
_ONE_SIDED = re.compile(r"^([A-Za-z]\w?|\\[a-z]+)\s*([<>≤≥])\s*([^<>≤≥]{1,120})$")
_MEMBER = re.compile(r"^([A-Za-z]\w?)\s*∈\s*")
_BRACKETED = re.compile(r"^([(\[])(.*)([)\]])$")


def parse_intervals(text: str) -> tuple[Interval, ...] | None:
    """The interval, or union of intervals, that `text` states; None when it states none."""
    if len(text) > 1000:
        return None
    text = trim(plain(text).replace("<=", "≤").replace(">=", "≥"))
    variable = ""
    if member := _MEMBER.match(text):
        variable, text = member[1], text[member.end() :]
    both = re.split(r"\s*(?:\band\b|,|且|和)\s*", text)
    if (
        len(both) == 2
        and (inner := _intersection(*(_interval(piece, variable) for piece in both))) is not None
    ):
        return (inner,)
    pieces = re.split(r"∪|\bor\b|或", text)
    if len(pieces) > 8:
        return None
    intervals = [_interval(piece.strip(), variable) for piece in pieces]
    return tuple(interval for interval in intervals if interval) if all(intervals) else None


def _intersection(one: Interval | None, other: Interval | None) -> Interval | None:
    """`x>1` and `x<3` as one interval; None unless one bounds the variable from below and the other from above."""
    if one is None or other is None or not one.variable or one.variable != other.variable:
        return None
    if one.high and other.low and not one.low and not other.high:
        one, other = other, one
    if not (one.low and other.high) or one.high or other.low:
        return None
    return Interval(one.low, other.high, one.closed_low, other.closed_high, one.variable)


def same_ratio(answer: str, gold: str) -> bool | None:
    """Whether both are the same ratio when one of them has three terms or more ("3:4:5", "6:8:10"); else None."""
    left, right = _terms(answer), _terms(gold)
    if left is None or right is None or max(len(left), len(right)) < 3:
        return None
    if len(left) != len(right):
        return False
    return all(
        compare(
            Quantity(("mul", a.node, right[0].node)),
            Quantity(("mul", g.node, left[0].node)),
        )
        is True
        for a, g in zip(left, right)
    )


def _terms(text: str) -> list[Quantity] | None:
    parts = trim(plain(text[:400])).split(":")
    if not 2 <= len(parts) <= 8:
        return None
    terms = [parse_quantity(part) if part.strip() else None for part in parts]
    found = [term for term in terms if term is not None and term.constant]
    return found if len(found) == len(parts) else None


def _interval(text: str, variable: str) -> Interval | None:
    if bound := _BOUND.match(text):
        return Interval(bound[1], bound[5], bound[2] == "≤", bound[4] == "≤", bound[3])
    if bound := _REVERSED.match(text):
        return Interval(bound[5], bound[1], bound[4] == "≥", bound[2] == "≥", bound[3])
    if sided := _ONE_SIDED.match(text):
        closed = sided[2] in "≤≥"
        if sided[2] in "<≤":
            return Interval("", sided[3], False, closed, sided[1])
        return Interval(sided[3], "", closed, False, sided[1])
    if bracketed := _BRACKETED.match(text):
        parts = split_top_level(bracketed[2])
        if len(parts) != 2 or not all(parts):
            return None
        low, high = ("" if "∞" in part else part for part in parts)
        return Interval(low, high, bracketed[1] == "[", bracketed[3] == "]", variable)
    return None


def is_inequality(text: str) -> bool:
    """Whether `text` is written as an inequality, a membership or with an unbounded end: surely an interval."""
    stated = plain(text)
    return any(sign in stated for sign in "<>≤≥∈∞∪") and parse_intervals(text) is not None


def same_interval(answer: str, gold: str) -> bool | None:
    """Whether both state the same (union of) interval(s); None unless both are intervals."""
    left, right = parse_intervals(answer), parse_intervals(gold)
    if left is None or right is None:
        return None
    if len(left) != len(right):
        return False
    results = [_same_bounds(a, g) for a, g in zip(left, right)]
    if len(left) > 1 and not all(result is True for result in results):
        results = [_same_bounds(a, g) for a, g in zip(left, reversed(right))]
    if any(result is False for result in results):
        return False
    return True if all(results) else None


def _same_bounds(a: Interval, g: Interval) -> bool | None:
    if a.variable and g.variable and a.variable != g.variable:
        return None
    if (a.closed_low, a.closed_high) != (g.closed_low, g.closed_high):
        return False
    for left, right in ((a.low, g.low), (a.high, g.high)):
        if bool(left) != bool(right):
            return False
        if left:
            result = _same_end(parse_quantity(left), parse_quantity(right))
            if result is not True:
                return result
    return True


def _same_end(left: Quantity | None, right: Quantity | None) -> bool | None:
    return None if left is None or right is None else compare(left, right)


def same_equation(answer: str, gold: str) -> bool | None:
    """Whether both are equations in variables with the same solutions (equal up to a constant factor), else None.

    A bare expression as the answer is read as the right side of a gold such as `y = 2x + 1`.
    """
    right = plain(gold).split("=")
    left = trim(plain(answer)).split("=")
    if len(right) != 2 or len(left) > 2:
        return None
    try:
        gold_sides = [arith.parse(side) for side in right]
        answer_sides = [arith.parse(side) for side in left]
        if len(answer_sides) == 1:
            if gold_sides[0][0] != "var":
                return None
            return arith.equal(answer_sides[0], gold_sides[1])
        answer_zero = ("add", answer_sides[0], ("neg", answer_sides[1]))
        gold_zero = ("add", gold_sides[0], ("neg", gold_sides[1]))
        if not arith.variables(gold_zero):
            return None
        return arith.proportional(answer_zero, gold_zero)
    except arith.NotArithmetic:
        return None
