r"""A small calculator for closed-form answers: `\frac{25}{7}`, `4(6+π)`, `2√{3}-2`, `60-k`.

Most open answers are such expressions. Evaluating them takes microseconds, against tens of milliseconds for a
computer algebra system, and cannot hang: depth, length and size of numbers are bounded. Rational numbers stay exact;
everything else is a complex float. Equality of expressions with variables is tested at fixed points (ours).
"""

import cmath
import math
import re
from fractions import Fraction

from dmlr.verifier.text import plain, word_set

MAX_LENGTH = 400
MAX_DEPTH = 30
MAX_BITS = 20_000

Number = Fraction | complex
Node = tuple  # ("num", Fraction) | ("const", name) | ("var", name) | (operator, Node, ...)


class NotArithmetic(ValueError):
    """The text is no expression this calculator knows, or its value is out of bounds."""


_NUMBER = re.compile(
    r"\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?"  # 1,507,509
    r"|\d{1,3}(?: \d{3})+(?![\d ])(?:\.\d+)?"  # 1 507 509
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3}(?![\w.]))?"
)
_FUNCTIONS = (
    ("arcsin", "asin"),
    ("arccos", "acos"),
    ("arctan", "atan"),
    ("asin", "asin"),
    ("acos", "acos"),
    ("atan", "atan"),
    ("sin", "sin"),
    ("cos", "cos"),
    ("tan", "tan"),
    ("cot", "cot"),
    ("sec", "sec"),
    ("csc", "csc"),
    ("ln", "ln"),
    ("log", "log"),
    ("exp", "exp"),
)
_INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan"}
_GREEK = re.compile(
    r"\\(alpha|beta|gamma|delta|epsilon|varepsilon|theta|vartheta|lambda|mu|nu|rho|sigma|tau|phi|varphi|psi|omega)\b"
)
_LETTERS = re.compile(r"[A-Za-z]+")
_SUBSCRIPT = re.compile(r"\s*_\s*(?:\{\s*(\w{1,6})\s*\}|(\w))")
# short words that a product of variables hardly ever spells
_WORDS = word_set(
    "or is it to of and the as in at on by no not an are was be so if we us he she if for but any all can yes its"
)


class _Parser:
    """Recursive descent over the plain form; implicit products bind like explicit ones, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        # a run of letters is a product of variables only where there is some mathematics around it
        self.mathematical = bool(re.search(r"[\d+\-*/^√π\\]", text))

    def parse(self) -> Node:
        node = self.sum()
        if self.peek():
            raise NotArithmetic(f"unexpected {self.text[self.at : self.at + 10]!r}")
        return node

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1
        return self.text[self.at] if self.at < len(self.text) else ""

    def take(self, token: str) -> bool:
        self.peek()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def need(self, token: str) -> None:
        if not self.take(token):
            raise NotArithmetic(f"{token!r} is missing")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotArithmetic("nested too deeply")
        node = self.product()
        while (sign := self.peek()) in ("+", "-"):
            self.at += 1
            right = self.product()
            node = ("add", node, right if sign == "+" else ("neg", right))
        self.depth -= 1
        return node

    def product(self) -> Node:
        if self.take("-"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotArithmetic("nested too deeply")
            node: Node = ("neg", self.product())
            self.depth -= 1
            return node
        if self.take("+"):
            return self.product()
        node = self.power()
        while True:
            if self.take("/"):
                node = ("div", node, self.signed_power())
            elif not self.text.startswith("**", self.at) and self.take("*"):
                node = ("mul", node, self.signed_power())
            elif self.starts_factor():
                node = self.juxtaposed(node)
            else:
                return node

    def juxtaposed(self, left: Node) -> Node:
        start = self.at
        right = self.power()
        if left[0] == "num" and self.text[start].isdigit():
            # "2 1/2" is a mixed number, "2 3" is nothing
            if right[0] == "num" and left[1].denominator == 1 and self.take("/"):
                return _mixed(left, ("div", right, self.power()))
            raise NotArithmetic("two numbers side by side")
        if self.text[start].isdigit():
            raise NotArithmetic("a number after a factor")
        if left[0] == "num" and self.text.startswith("\\frac", start):
            return _mixed(left, right)
        return ("mul", left, right)

    def starts_factor(self) -> bool:
        char = self.peek()
        return bool(char) and (char.isalnum() or char in "(√\\π.｛[") and char != "｛"

    def signed_power(self) -> Node:
        if self.take("-"):
            return ("neg", self.power())
        return self.power()

    def power(self) -> Node:
        base = self.atom()
        while self.take("!"):
            base = ("factorial", base)
        if self.take("^") or self.take("**"):
            return ("pow", base, self.exponent())
        return base

    def exponent(self) -> Node:
        if self.take("{"):
            node = self.sum()
            self.need("}")
            return node
        if self.take("-"):
            return ("neg", self.power())
        char = self.peek()
        if char.isdigit() and self.text[max(self.at - 1, 0)] == "^":
            number = _NUMBER.match(self.text, self.at)
            if number is None:
                raise NotArithmetic("no exponent")
            self.at = number.end()
            return ("num", Fraction(number[0].replace(",", "").replace(" ", "")))
        return self.power()

    def group(self) -> Node:
        r"""An argument: `{...}`, or the next single digit, letter or command as in `\\frac12` and `√3`."""
        if self.take("{"):
            node = self.sum()
            self.need("}")
            return node
        char = self.peek()
        if char.isdigit():
            self.at += 1
            return ("num", Fraction(char))
        return self.atom()

    def atom(self) -> Node:
        char = self.peek()
        if not char:
            raise NotArithmetic("an operand is missing")
        for opening, closing in (("(", ")"), ("{", "}"), ("[", "]")):
            if self.take(opening):
                node = self.sum()
                self.need(closing)
                return node
        if char.isdigit() or char == ".":
            number = _NUMBER.match(self.text, self.at)
            if number is None:
                raise NotArithmetic("a lone point")
            self.at = number.end()
            return ("num", Fraction(number[0].replace(",", "").replace(" ", "").rstrip(".")))
        if self.take("π"):
            return ("const", "pi")
        if self.take("√") or self.take("sqrt"):
            return self.root()
        if self.take("\\frac"):
            top = self.group()
            return ("div", top, self.group())
        if greek := _GREEK.match(self.text, self.at):
            self.at = greek.end()
            return ("var", "\\" + greek[1])
        backslash = char == "\\"
        for name, function in _FUNCTIONS:
            if self.text.startswith(name, self.at + backslash) and (backslash or self.ends_name(len(name))):
                self.at += len(name) + backslash
                return self.call(function)
        if backslash:
            raise NotArithmetic("an unknown command")
        return self.variable()

    def ends_name(self, length: int) -> bool:
        """Whether the letters here are a function's name, or one and its one-letter argument ("sinx", not "costs")."""
        run = _LETTERS.match(self.text, self.at)
        return run is not None and len(run[0]) <= length + 1

    def root(self) -> Node:
        degree: Node = ("num", Fraction(2))
        if self.take("["):
            degree = self.sum()
            self.need("]")
        char = self.peek()
        if char.isdigit():  # "√12" is the root of 12, where LaTeX's \sqrt12 would be 2√1
            number = _NUMBER.match(self.text, self.at)
            assert number is not None
            self.at = number.end()
            return ("root", ("num", Fraction(number[0].replace(",", "").replace(" ", ""))), degree)
        return ("root", self.group(), degree)

    def call(self, function: str) -> Node:
        exponent: Node | None = None
        if self.take("^"):
            exponent = self.group() if self.peek() == "{" else self.exponent()
        argument = self.group() if self.peek() in "{(" else self.product_of_atoms()
        if exponent == ("neg", ("num", Fraction(1))):
            if function not in _INVERSE:
                raise NotArithmetic("an inverse that is not known")
            return ("fn", _INVERSE[function], argument)
        node = ("fn", function, argument)
        return ("pow", node, exponent) if exponent is not None else node

    def product_of_atoms(self) -> Node:
        node = self.power()
        while self.starts_factor():
            node = ("mul", node, self.power())
        return node

    def variable(self) -> Node:
        run = _LETTERS.match(self.text, self.at)
        if run is None:
            raise NotArithmetic(f"unexpected {self.text[self.at]!r}")
        if run[0] == "pi":
            self.at = run.end()
            return ("const", "pi")
        if len(run[0]) > (3 if self.mathematical else 1) or run[0].casefold() in _WORDS:
            raise NotArithmetic("a word")
        name = run[0][0]
        self.at += 1
        if subscript := _SUBSCRIPT.match(self.text, self.at):
            self.at = subscript.end()
            name += "_" + (subscript[1] or subscript[2])
        if name == "e" and self.peek() == "^":
            return ("const", "e")
        return ("var", name)


def _mixed(whole: Node, part: Node) -> Node:
    r"""2\frac{1}{2}: a mixed number when both are plain and the fraction is proper, a product otherwise."""
    if part[0] == "div" and part[1][0] == "num" and part[2][0] == "num" and 0 < part[1][1] < part[2][1]:
        return ("add", whole, part)
    return ("mul", whole, part)


def parse(text: str) -> Node:
    """The expression tree of `text` (LaTeX or plain). Raises `NotArithmetic` for everything else."""
    expression = plain(text)
    if not expression or len(expression) > MAX_LENGTH:
        raise NotArithmetic("empty or too long")
    return _Parser(expression).parse()


def variables(node: Node) -> frozenset[str]:
    """Names of the variables in `node`."""
    if node[0] == "var":
        return frozenset({node[1]})
    return frozenset().union(*(variables(child) for child in node[1:] if isinstance(child, tuple)))


def evaluate(node: Node, values: dict[str, complex] | None = None) -> Number:
    """Value of the expression: an exact `Fraction` where possible, else a complex float.

    Raises `NotArithmetic` when it is undefined, too large, or holds a variable that `values` does not name.
    """
    try:
        value = _evaluate(node, values or {})
    except (ArithmeticError, ValueError, KeyError, RecursionError) as error:
        raise NotArithmetic(f"no value: {error}") from None
    if isinstance(value, complex) and not cmath.isfinite(value):
        raise NotArithmetic("no finite value")
    return value


def _evaluate(node: Node, values: dict[str, complex]) -> Number:
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "const":
        return complex(math.pi if node[1] == "pi" else math.e)
    if kind == "var":
        return values[node[1]]
    arguments = [_evaluate(child, values) for child in node[1:] if isinstance(child, tuple)]
    if kind == "neg":
        return -arguments[0]
    if kind == "fn":
        return _function(node[1], complex(arguments[0]))
    if kind == "factorial":
        number = arguments[0]
        if not isinstance(number, Fraction) or number.denominator != 1 or not 0 <= number <= 200:
            raise NotArithmetic("a factorial out of bounds")
        return Fraction(math.factorial(int(number)))
    left, right = arguments
    if kind == "pow":
        return _power(left, right)
    if kind == "root":
        return _root(left, right)
    if isinstance(left, Fraction) != isinstance(right, Fraction):
        left, right = complex(left), complex(right)
    if kind == "add":
        value = left + right
    elif kind == "mul":
        value = left * right
    else:
        value = left / right
    if (
        isinstance(value, Fraction)
        and value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS
    ):
        raise NotArithmetic("too large")
    return value


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            size = base.numerator.bit_length() + base.denominator.bit_length()
            if size * abs(exponent.numerator) > MAX_BITS:
                raise NotArithmetic("too large")
            return base ** int(exponent)
        if exponent.numerator == 1 and exponent.denominator <= 64:
            return _root(base, Fraction(exponent.denominator))
    return complex(base) ** complex(exponent)


def _root(base: Number, degree: Number) -> Number:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 1 <= degree <= 64:
        raise NotArithmetic("a root of unknown degree")
    if isinstance(base, Fraction):
        top, bottom = _integer_root(base.numerator, int(degree)), _integer_root(base.denominator, int(degree))
        if top is not None and bottom is not None:
            return Fraction(top, bottom)
        if base < 0 and degree % 2 == 1:
            return complex(-(float(-base) ** (1 / int(degree))))
    return cmath.sqrt(complex(base)) if degree == 2 else complex(base) ** (1 / int(degree))


def _integer_root(number: int, degree: int) -> int | None:
    if number < 0:
        root = _integer_root(-number, degree) if degree % 2 else None
        return None if root is None else -root
    if degree == 2:
        root = math.isqrt(number)
    elif number.bit_length() > 900:
        return None
    else:
        root = round(number ** (1 / degree))
    return root if root**degree == number else None


def _function(name: str, x: complex) -> complex:
    if name in ("cot", "sec", "csc"):
        return 1 / {"cot": cmath.tan, "sec": cmath.cos, "csc": cmath.sin}[name](x)
    if name == "log":
        return cmath.log10(x)
    function = {
        "sin": cmath.sin,
        "cos": cmath.cos,
        "tan": cmath.tan,
        "asin": cmath.asin,
        "acos": cmath.acos,
        "atan": cmath.atan,
        "ln": cmath.log,
        "exp": cmath.exp,
    }[name]
    return function(x)


# Points where expressions with variables are compared: positive, because lengths and angles are, and unrelated to
# each other, so that different expressions do not meet there.
_POINTS = ((0.7390851332, 0.3183098861), (2.6854520010, 1.2020569031), (1.3247179572, 0.5671432904))


def assignments(names: frozenset[str]) -> list[dict[str, complex]]:
    """One value per variable at each of the fixed points of comparison."""
    ordered = sorted(names)
    return [{name: complex(a + b * i) for i, name in enumerate(ordered)} for a, b in _POINTS]


def close(left: Number, right: Number) -> bool:
    """Exactly equal when both are rational, else equal to nine digits."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    return cmath.isclose(complex(left), complex(right), rel_tol=1e-9, abs_tol=1e-12)


def equal(left: Node, right: Node) -> bool:
    """Whether two expressions have the same value (at every point of comparison, when they hold variables).

    Raises `NotArithmetic` when one of them has no value.
    """
    names = variables(left) | variables(right)
    if not names:
        return close(evaluate(left), evaluate(right))
    return all(close(evaluate(left, at), evaluate(right, at)) for at in assignments(names))


def proportional(left: Node, right: Node) -> bool:
    """Whether left = constant * right with a constant that is not 0: the same equation when both are set to 0."""
    names = variables(left) | variables(right)
    ratios = []
    for at in assignments(names):
        below = complex(evaluate(right, at))
        if below == 0:
            return False
        ratios.append(complex(evaluate(left, at)) / below)
    return bool(names) and abs(ratios[0]) > 1e-9 and all(close(ratio, ratios[0]) for ratio in ratios)
