"""Unicode and LaTeX brought to one plain form, so that the rules compare meanings and not spellings.

`fold` treats characters, `plain` treats LaTeX. Every pattern here is linear in the length of its input: outputs of a
model are hostile input, and a pattern that backtracks would stall a run.
"""

import functools
import re
import unicodedata


def word_list(text: str) -> list[str]:
    """The words of a list that is written as one string."""
    return text.split()


def word_set(text: str) -> frozenset[str]:
    """The same as a set."""
    return frozenset(text.split())


# A JSON or Python reader that took "\f", "\b", "\t" ... of a LaTeX command for an escape leaves these behind; the
# published MathVision file holds one gold of this kind.
_BROKEN_COMMANDS = (
    (re.compile("\x0c(?=[a-z])"), r"\\f"),
    (re.compile("\x08(?=[a-z])"), r"\\b"),
    (re.compile("\x07(?=[a-z])"), r"\\a"),
    (re.compile("\x0b(?=[a-z])"), r"\\v"),
    (re.compile("\t(?=ext\\w*\\{|imes\\b|heta\\b|frac\\b|an\\b)"), r"\\t"),
    (re.compile("\r(?=ight\\b|ightarrow\\b|ho\\b|m\\{)"), r"\\r"),
)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_SUPERSCRIPT_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_VULGAR = re.compile("(\\d?)([¼½¾⅐-⅞])")
_BEFORE_NFKC = str.maketrans({"º": "°", "˚": "°", "∘": "°", "′": "'", "″": "''", "\u00b4": "'"})
_AFTER_NFKC = str.maketrans(
    {
        **dict.fromkeys("−‐‑‒–—―﹣", "-"),
        **dict.fromkeys("‘’‚‛", "'"),
        **dict.fromkeys("“”„", '"'),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", None),
        "。": ".",
        "∶": ":",
        "⁄": "/",
        "∗": "*",
        "⋅": "*",
        "·": "*",
        "•": "*",
        "×": "*",
        "÷": "/",
        "⩽": "≤",
        "⩾": "≥",
        "﹤": "<",
        "﹥": ">",
    }
)


_CONTROL = re.compile("[\x07\x08\t\x0b\x0c\r]")


def repair_commands(text: str) -> str:
    r"""Put back the backslash of LaTeX commands that an escape sequence swallowed (form feed + "rac" is \frac)."""
    if not _CONTROL.search(text):
        return text
    for pattern, command in _BROKEN_COMMANDS:
        text = pattern.sub(command, text)
    return text


def fold(text: str) -> str:
    """One spelling per character: full width, minus signs, quotes, superscripts (as ^{2}), vulgar fractions."""
    if text.isascii():
        return text
    text = text.translate(_BEFORE_NFKC)
    text = _SUPERSCRIPT.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPT_DIGITS) + "}", text)
    # "2½" must not become "21/2"
    text = _VULGAR.sub(lambda match: match[1] + (" " if match[1] else "") + match[2], text)
    return unicodedata.normalize("NFKC", text).translate(_AFTER_NFKC)


_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal|frak|normal)|mbox|hbox|fbox|boxed|"
    r"operatorname|bold|boldsymbol|bm|emph|rm|bf)\s*\*?\s*\{([^{}]*)\}"
)
_FONT_SWITCH = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|rm|bf|it|cal|normalfont|large|Large)\b"
)
_UNIT_IN_BRACES = re.compile(r"(?<!begin)(?<!end)\{([A-Za-z][A-Za-z ]{2,})\}")
_SYMBOLS = {
    "pi": "π",
    "infty": "∞",
    "infin": "∞",
    "le": "≤",
    "leq": "≤",
    "leqslant": "≤",
    "ge": "≥",
    "geq": "≥",
    "geqslant": "≥",
    "lt": "<",
    "gt": ">",
    "ne": "≠",
    "neq": "≠",
    "approx": "≈",
    "simeq": "≈",
    "pm": "±",
    "mp": "∓",
    "cdot": "*",
    "times": "*",
    "ast": "*",
    "div": "/",
    "colon": ":",
    "in": "∈",
    "cup": "∪",
    "sqrt": "√",
    "angle": "∠",
    "triangle": "△",
    "vartriangle": "△",
    "degree": "°",
    "textdegree": "°",
    "dfrac": r"\frac",
    "tfrac": r"\frac",
    "cfrac": r"\frac",
    "lbrace": "｛",
    "rbrace": "｝",
    "lbrack": "[",
    "rbrack": "]",
    "quad": " ",
    "qquad": " ",
    "left": "",
    "right": "",
    "big": "",
    "Big": "",
    "bigl": "",
    "bigr": "",
    "Bigl": "",
    "Bigr": "",
    "bigg": "",
    "Bigg": "",
    "dots": "...",
    "ldots": "...",
    "cdots": "...",
    "and": " and ",
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_DEGREE = re.compile(r"\s*\*?\s*\^\s*(?:\{\s*(?:\\circ|°|o)\s*\}|\\circ\b|°|o\b)|(?<=\d)\s*\\circ\b")
_DEGREE_SIGN = re.compile(r"\s*\*?\s*(?:\^\s*)?(?:\{\s*°\s*\}|°)")
_SPACING = re.compile(r"\\[,;: \t\n>]|~")
_SPACES = re.compile(r"\s+")


# Printable ASCII without the characters that LaTeX gives a meaning to: nothing to do but blanks.
_ORDINARY = re.compile(r"[ -#%-\[\]_a-z|]*")
_REMEMBERED = (
    400  # characters: the same short texts (options, golds) are looked at dozens of times for one verdict
)


def plain(text: str) -> str:
    r"""LaTeX (or ordinary text) as one plain line: fonts, spacing and delimiters gone, symbols as Unicode.

    `\frac{a}{b}` and `√[n]{x}` keep their braces, set braces become full-width ones, `$` is dropped (it delimits
    maths or names a currency; neither changes a value).
    """
    if _ORDINARY.fullmatch(text):
        return " ".join(text.split())
    return _short_plain(text) if len(text) <= _REMEMBERED else _plain(text)


@functools.lru_cache(maxsize=2048)
def _short_plain(text: str) -> str:
    return _plain(text)


def _plain(text: str) -> str:
    # whitespace is collapsed before each pattern that allows for it on both sides of something
    text = _SPACES.sub(" ", fold(repair_commands(text)))
    text = text.replace("\\!", "").replace("{,}", ",").replace("\\%", "%").replace("\\$", "").replace("$", "")
    text = text.replace("\\\\", " ").replace("\\_", "_").replace("\\&", "&").replace("\\#", "#")
    text = text.replace("\\{", "｛").replace("\\}", "｝")
    for delimiter in ("\\(", "\\)", "\\[", "\\]"):
        text = text.replace(delimiter, " ")
    text = _SPACES.sub(" ", _SPACING.sub(" ", text))
    for _ in range(4):  # fonts nest (\text{\textbf{C}}), a few levels at most
        text, changed = _FONT.subn(r" \1 ", text)
        if not changed:
            break
    text = _SPACES.sub(" ", _FONT_SWITCH.sub(" ", text))
    text = _DEGREE.sub("°", text)
    text = _COMMAND.sub(lambda match: _SYMBOLS.get(match[1], match[0]), text)
    text = _DEGREE_SIGN.sub("°", _SPACES.sub(" ", text))
    text = _UNIT_IN_BRACES.sub(r" \1 ", text)
    return _SPACES.sub(" ", text).strip()


_EDGES = " \t\r\n*_`\"'“”‘’"


_EXCLAMATION = re.compile(r"(?<![\d)!])!+$")  # "5!" is a factorial


def trim(text: str) -> str:
    """Without the Markdown marks, quotes, spaces and sentence ends around it."""
    previous = None
    while previous != text:
        previous = text
        text = _EXCLAMATION.sub("", text.strip(_EDGES).strip(",;:").rstrip(".?"))
    return text


_LOOSE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")


def compact(text: str) -> str:
    """The plain form in lower case without spaces, except between digits: "1 2" is not 12."""
    return _short_compact(text) if len(text) <= _REMEMBERED else _compact(text)


@functools.lru_cache(maxsize=2048)
def _short_compact(text: str) -> str:
    return _compact(text)


def _compact(text: str) -> str:
    return _LOOSE_SPACE.sub("", trim(plain(text)).casefold())


_TOKEN = re.compile(r"(?<![\w.)])-?\d[\d,]*(?:\.\d+)?(?:[:/]\d+)?|\w+(?:['\-]\w+)*|%")
_CJK = re.compile("([一-鿿])")
_DIGITS = {
    word: str(value)
    for value, word in enumerate(
        word_list("zero one two three four five six seven eight nine ten eleven twelve")
    )
}
_ARTICLES = frozenset({"an", "An", "the", "The"})


def words(text: str) -> tuple[str, ...]:
    """The words and numbers of `text` in lower case, without punctuation and articles; one per Chinese character.

    A capital A inside a sentence is a name ("Solution A"), and so is an "a" with nothing to introduce.
    """
    return _short_words(text) if len(text) <= _REMEMBERED else _words(text)


@functools.lru_cache(maxsize=2048)
def _short_words(text: str) -> tuple[str, ...]:
    return _words(text)


def _words(text: str) -> tuple[str, ...]:
    found = _TOKEN.findall(_CJK.sub(r" \1 ", plain(text).replace("n't", " not")))
    kept: list[str] = []
    for i, token in enumerate(found):
        following = found[i + 1] if i + 1 < len(found) else ""
        if token in _ARTICLES:
            continue
        introduces = len(following) > 1 and following not in ("and", "or") and following[0].islower()
        if introduces and (token == "a" or (token == "A" and i == 0)):
            continue
        word = token.rstrip(",").replace(",", "") if token[0].isdigit() else token.casefold()
        kept.append(_DIGITS.get(word, word))
    return tuple(kept)
