"""A number or expression with its unit, read from an answer or a gold, and when two of them are the same."""

import functools
import math
import re
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from dmlr.verifier import arith
from dmlr.verifier.text import plain, trim, word_list
from dmlr.verifier.units import Unit, parse_unit, split_unit


@dataclass(frozen=True)
class Quantity:
    """`node` is the expression; `decimals` counts the decimals of a literal such as "3.57" (None: not a literal)."""

    node: arith.Node
    unit: Unit | None = None
    percent: bool = False
    decimals: int | None = None
    ratio: bool = False

    @property
    def constant(self) -> bool:
        """Whether it holds no variable."""
        return not arith.variables(self.node)


_NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        word_list(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
} | {
    word: 10 * (i + 2)
    for i, word in enumerate(word_list("twenty thirty forty fifty sixty seventy eighty ninety"))
}
_MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "dozen": 12,
    "万": 10**4,
    "亿": 10**8,
}
_CHINESE_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九十")} | {"两": 2}

_HEDGE = re.compile(
    r"^(?:(?:is|are|about|approximately|approx\.?|around|roughly|exactly|equals?|equal to|only|a total of|"
    r"total of|so|thus|therefore|hence|then|we get|we have|约|大约|所以|因此|得)[\s,，]+|[≈~=:]\s*|约\s*)+",
    re.I,
)
# What may stand left of "=": a name (AB, x_1, ∠ABC, Area of the triangle, S_{ABC}, f(3)), never a coefficient.
_LABEL = re.compile(r"^[^\d=+*/^√\-](?:[^=+*/^√-]|(?<=[A-Za-z]{2})-|(?<=[A-Z])-(?=[A-Z])){0,60}$")
_LITERAL = re.compile(r"^[-+]?(?:\d{1,3}(?:[, ]\d{3})+|\d+)?(?:\.(\d*))?$")
_MULTIPLIER = re.compile(r"^(.*\d)\s*(hundred|thousand|million|billion|dozen|万|亿)\b(.*)$", re.I)
_RATIO = re.compile(r"^\(?\s*([^:]{1,60}?)\s*(?::|\bto\b)\s*([^:]{1,60}?)\s*\)?$")
_AFTERTHOUGHT = re.compile(r"\s+\(\s*[A-Za-z][A-Za-z ,.'-]{2,60}\)\s*$")
# "11-15" and "43.2%-63.6%" are ranges of values, not differences
_BRACKETED_LIST = re.compile(r"^[(\[｛][^()\[\]]*,[^()\[\]]*[)\]｝]$")
_TRIGONOMETRY = re.compile(r"sin|cos|tan|cot|sec|csc")
_RANGE = re.compile(r"^[-+]?([\d.,]*\d)\s*%?\s*-\s*([\d.,]*\d)\s*%?$")


def is_range(text: str) -> bool:
    """Whether the text is a range such as "11-15"; "15-11" is a difference."""
    ends = _RANGE.match(text)
    if ends is None:
        return False
    try:
        low, high = (Fraction(end.replace(",", "")) for end in ends.groups())
    except ValueError:
        return True
    return low <= high


def parse_quantity(text: str) -> Quantity | None:
    r"""The quantity that the whole of `text` states, or None: "AB = 6 \text{ cm}" is 6 cm, "2 or 3" is nothing."""
    return None if len(text) > 4 * arith.MAX_LENGTH else _parse(text)


@functools.lru_cache(maxsize=2048)  # the same options are read a dozen times for one verdict
def _parse(text: str) -> Quantity | None:
    text = trim(plain(text))
    if _BRACKETED_LIST.match(text):
        return None
    stated = _after_equals(text)
    return None if stated is None else _read(stated)


def _after_equals(text: str) -> str | None:
    """What stands right of the last = or ≈ when everything left of it only names it or has the same value."""
    parts = re.split(r"=|≈", text)
    last = parts[-1].strip()
    if len(parts) == 1:
        return text
    if not last:
        return None
    for part in parts[:-1]:
        part = part.strip()
        if not part or _LABEL.match(part):
            continue
        left, right = _read(part), _read(last)
        if left is None or right is None or not left.constant or compare(left, right) is not True:
            return None
    return last


def _read(text: str) -> Quantity | None:
    text = _HEDGE.sub("", text.strip())
    if is_range(text):
        return None
    if (ratio := _RATIO.match(text)) and _is_ratio(ratio):
        return _ratio(ratio)
    word = text.casefold()
    spelled = _spelled(word)
    if spelled is not None:
        return spelled
    if negative := _NEGATIVE.match(text):
        quantity = _read(negative[1])
        return None if quantity is None else replace(quantity, node=("neg", quantity.node))
    compound = _compound(text)
    if compound is not None:
        return compound
    return _plain_quantity(_AFTERTHOUGHT.sub("", text))


_NEGATIVE = re.compile(r"^(?:minus|negative|负)\s*(?=[\w√\\])(.+)$", re.I)
_COMPOUND = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z一-鿿]+\.?)")


def _compound(text: str) -> Quantity | None:
    """One size in several units, the smaller after the larger: "1 hour 30 minutes", "5 ft 3 in"."""
    if len(text) > 60:
        return None
    parts = _COMPOUND.findall(text)
    if len(parts) < 2 or re.sub(r"\band\b|[\s,]", "", _COMPOUND.sub("", text)):
        return None
    units = [parse_unit(name) for _, name in parts]
    node: arith.Node | None = None
    for i, ((number, _), unit) in enumerate(zip(parts, units)):
        first = units[0]
        if unit is None or first is None or not unit.known or unit.dimension != first.dimension:
            return None
        if i and (previous := units[i - 1]) is not None and unit.factor >= previous.factor:
            return None
        term: arith.Node = ("num", Fraction(number) * unit.factor / first.factor)
        node = term if node is None else ("add", node, term)
    return None if node is None else Quantity(node, units[0])


def _is_ratio(match: re.Match[str]) -> bool:
    return all(_constant(side) is not None for side in match.groups())


def _constant(text: str) -> arith.Node | None:
    """The expression when it has a value without knowing any variable."""
    try:
        node = arith.parse(text)
        arith.evaluate(node)
    except arith.NotArithmetic:
        return None
    return node


def _ratio(match: re.Match[str]) -> Quantity | None:
    above, below = _constant(match[1]), _constant(match[2])
    if above is None or below is None or arith.evaluate(below) == 0:
        return None
    return Quantity(("div", above, below), ratio=True)


def _plain_quantity(text: str) -> Quantity | None:
    percent = False
    if multiplied := _MULTIPLIER.match(text):
        rest = _plain_quantity(multiplied[1])
        unit = parse_unit(multiplied[3]) if multiplied[3].strip() else None
        if rest is None or (multiplied[3].strip() and unit is None):
            return None
        factor = Fraction(_MULTIPLIERS[multiplied[2].casefold()])
        return Quantity(("mul", rest.node, ("num", factor)), unit)
    expression, unit = split_unit(text)
    if unit is not None and unit.dimension in ("percent", "per cent"):
        percent, unit = True, None
    if expression.endswith("%"):
        percent, expression = True, expression[:-1].rstrip()
    elif re.search(r"\bper ?cent$", expression, re.I):
        percent, expression = True, re.sub(r"\s*per ?cent$", "", expression, flags=re.I)
    expression = expression.strip()
    if not _TRIGONOMETRY.search(expression):
        expression = expression.replace("°", "")  # 60°-k: every number of it is in degrees
    try:
        node = arith.parse(expression)
    except arith.NotArithmetic:
        return None
    if unit is not None and not unit.known and arith.variables(node):
        return None  # "A cat" is no quantity of cats
    literal = _LITERAL.match(expression)
    decimals = len(literal[1] or "") if literal else None
    return Quantity(node, unit, percent, decimals)


def _spelled(text: str) -> Quantity | None:
    """A number word, alone or before a unit: "twelve", "twenty-one people", "三"."""
    if text in _CHINESE_DIGITS:
        return Quantity(("num", Fraction(_CHINESE_DIGITS[text])), decimals=0)
    if counted := re.fullmatch(r"([零一二三四五六七八九十两半])\s*[个只条张本人位块次支名件辆]", text):
        text = counted[1]
        if text in _CHINESE_DIGITS:
            return Quantity(("num", Fraction(_CHINESE_DIGITS[text])), decimals=0)
    if text in ("a dozen", "one dozen"):
        return Quantity(("num", Fraction(12)), decimals=0)
    if fraction := _PART.fullmatch(text):
        above = _NUMBER_WORDS.get(fraction[1] or "one", 1)
        return Quantity(("num", Fraction(above, _PARTS[fraction[2]])))
    if mixed := re.fullmatch(r"(\S+) and a half", text):
        whole = _spelled(mixed[1]) or _plain_quantity(mixed[1])
        half: arith.Node = ("num", Fraction(1, 2))
        return None if whole is None else replace(whole, node=("add", whole.node, half), decimals=None)
    head, _, rest = text.partition(" ")
    value: int | None = None
    for part in head.split("-"):
        if part not in _NUMBER_WORDS:
            return None
        value = (value or 0) + _NUMBER_WORDS[part]
    if value is None:
        return None
    if rest in ("hundred", "thousand", "million"):
        value, rest = value * _MULTIPLIERS[rest], ""
    if re.fullmatch(r"percent|per cent|%", rest):
        return Quantity(("num", Fraction(value)), percent=True, decimals=0)
    unit = parse_unit(rest) if rest else None
    if rest and unit is None:
        return None
    return Quantity(("num", Fraction(value)), unit, decimals=0)


_PARTS = {
    word: i + 2
    for i, word in enumerate(word_list("half third quarter fifth sixth seventh eighth ninth tenth"))
}
_PARTS |= {"fourth": 4, "halve": 2}
_PART = re.compile(
    r"(?:(one|a|an|two|three|four|five|six|seven|eight|nine)[ -])?(" + "|".join(_PARTS) + r")s?"
)


_STATED = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals|equal to|becomes|contains|"
    r"costs?|measures|weighs|there (?:is|are))\b|为|是|等于|有|得)"
    r"\s*(?:about |approximately |exactly |only |a total of |equal to |约)?\s*(.{1,80})$"
)


def stated_quantity(sentence: str) -> Quantity | None:
    """The quantity that a short sentence ends in ("The area is 24 cm."), or that it is altogether; else None.

    The sentence must end with the value and its unit: in "There is 1 thing I need" the number is not the answer.
    """
    whole = parse_quantity(sentence)
    if whole is not None:
        return whole
    quantity = None
    named = re.match(r"^[A-Za-z][A-Za-z ]{1,30}:\s*([^:]{1,80})$", trim(plain(sentence[:200])))
    for part in (named[1] if named else None, _last_clause(sentence), stated_part(sentence)):
        quantity = quantity or (parse_quantity(part) if part else None)
    # an unknown word after the number is a unit only where the number is the whole answer
    return (
        None if quantity is None or (quantity.unit is not None and not quantity.unit.plausible) else quantity
    )


def stated_part(sentence: str) -> str | None:
    """What the last sentence of a short text ends in after "is", "are", "equals"; None when there is none."""
    text = _last_sentence(sentence)
    text = re.split(r",?\s(?:(?:and|but)\s)?not\s|,?\s(?:rather than|instead of)\s", text)[0]
    found = _STATED.findall(text[-120:])
    return found[-1] if found else None


def _last_sentence(text: str) -> str:
    text = trim(plain(text[:1000]))
    return re.split(r"[.!?] ", text)[-1] if len(text) <= 300 else ""


def _last_clause(sentence: str) -> str | None:
    """The last clause when it is an equation: "2x = 14, so x = 7" ends in "so x = 7"."""
    *before, clause = re.split(r"[,;，；]\s", _last_sentence(sentence))
    if not ("=" in clause or "≈" in clause):
        return None
    # "x = 3, y = 15" gives two values, "2x = 14, so x = 7" concludes
    concludes = _HEDGE.match(clause) or not any("=" in earlier for earlier in before)
    return clause if concludes else None


def is_ratio(text: str) -> bool:
    """Whether the whole of `text` is a ratio such as 4:0."""
    match = _RATIO.match(trim(plain(text[:200])))
    return match is not None and _is_ratio(match)


def compare(
    answer: Quantity, gold: Quantity, precision: int | None = None, unit: Unit | None = None
) -> bool | None:
    """Whether `answer` is `gold`; None when this cannot be told (no value, or a factor of 100 between % and number).

    `precision` rounds as `round(x, int(precision))`; `unit` is the unit that the question asks for, when the gold
    carries none. Without a precision a decimal is right when it is the gold rounded to that many decimals, from two
    decimals and two significant digits on (MathVision's official comparison rounds to two), and only where the gold
    has no shorter exact form.
    """
    if answer.ratio != gold.ratio and _is_whole(answer if answer.ratio else gold):
        return None  # "2:1" is not the number 2
    gold_unit = gold.unit or unit
    for one, other in ((answer, gold), (gold, answer)):
        if one.percent and other.unit is not None and other.unit.known:
            return False
    scaled, gold_node = answer.node, gold.node
    if answer.unit and gold_unit and answer.unit.known and gold_unit.known:
        if answer.unit.dimension != gold_unit.dimension:
            return False
        if answer.unit.factor != gold_unit.factor:
            scaled = ("mul", scaled, ("num", answer.unit.factor / gold_unit.factor))
    try:
        if arith.equal(scaled, gold_node):
            return True
        if not (answer.constant and gold.constant):
            return False
        answer_value, gold_value = arith.evaluate(scaled), arith.evaluate(gold_node)
    except arith.NotArithmetic:
        return None
    if precision is not None and _rounds_to(answer_value, gold_value, precision):
        return True
    decimals = answer.decimals if scaled is answer.node else None
    if precision is None and _is_approximation(answer_value, decimals, gold_value, gold.decimals):
        return True
    if answer.percent != gold.percent:
        share, whole = (answer_value, gold_value) if answer.percent else (gold_value, answer_value)
        if _nearly(complex(share) / 100, complex(whole)):
            return None
    if gold_unit is not None and gold_unit.dimension == "angle" and answer.unit is None:
        degrees = complex(answer_value) * 180 / math.pi
        if arith.close(degrees * complex(1 / gold_unit.factor), gold_value):
            return None  # "\\frac{\\pi}{3}" for 60°
    if (answer.unit is None) != (gold_unit is None):
        size = (answer.unit or gold_unit).factor  # type: ignore[union-attr]
        bare, measured = (gold_value, answer_value) if answer.unit else (answer_value, gold_value)
        if size != 1 and arith.close(measured * size, bare):
            return None  # "540 cents" for "5.40": the other side may mean the larger unit
    return False


def _nearly(left: complex, right: complex) -> bool:
    """Equal to three digits, as far as "66.7 %" tells two thirds."""
    return abs(left - right) <= 2e-3 * abs(right)


def _is_whole(ratio: Quantity) -> bool:
    value = arith.evaluate(ratio.node)
    return isinstance(value, Fraction) and value.denominator == 1


def _rounds_to(answer: arith.Number, gold: arith.Number, precision: int) -> bool:
    left, right = complex(answer), complex(gold)
    if abs(left.imag) > 1e-9 or abs(right.imag) > 1e-9:
        return False
    return round(left.real, precision) == round(right.real, precision)


def _decimal(value: arith.Number) -> Decimal | None:
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / Decimal(value.denominator)
    return None if abs(value.imag) > 1e-9 else Decimal(repr(value.real))


def _is_approximation(
    answer: arith.Number, answer_decimals: int | None, gold: arith.Number, gold_decimals: int | None
) -> bool:
    """A decimal literal against a value that is not one, or with more decimals than the gold's two or more."""
    if answer_decimals is not None and gold_decimals is None:
        literal, exact, places = _decimal(answer), _decimal(gold), answer_decimals
    elif gold_decimals is not None and (answer_decimals is None or answer_decimals > gold_decimals):
        literal, exact, places = _decimal(gold), _decimal(answer), gold_decimals
    else:
        return False
    if literal is None or exact is None or not 2 <= places <= 15 or abs(exact) > 10**12:
        return False
    # at least two digits that carry information: 0.02 says too little about 1/60
    if abs(literal) * 10**places < 10:
        return False
    return exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP) == literal


def value_of(quantity: Quantity) -> float | None:
    """The real value of a constant quantity; None when it has none."""
    if not quantity.constant:
        return None
    try:
        value = complex(arith.evaluate(quantity.node))
    except (arith.NotArithmetic, OverflowError):
        return None
    return value.real if abs(value.imag) < 1e-9 else None
