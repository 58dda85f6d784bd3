"""Which option of a multiple-choice question an answer names.

A letter or a text that names one option is enough; a letter that contradicts its text is wrong. A letter counts only
where it stands alone as an answer: "A suitcase" begins with an article, "Solution A" is a text.
"""

import re
from dataclasses import dataclass
from typing import Literal

from dmlr.verifier.corrections import denied_letter, letter_instead
from dmlr.verifier.extract import is_refusal
from dmlr.verifier.mentions import mentioned_texts
from dmlr.verifier.options import LETTERS, Options
from dmlr.verifier.quantity import Quantity, compare, is_ratio, parse_quantity, stated_quantity, value_of
from dmlr.verifier.structures import parse_sequence, same_sequence
from dmlr.verifier.text import compact, fold, plain, trim, words
from dmlr.verifier.units import parse_unit
from dmlr.verifier.yesno import decision

Kind = Literal["option", "contradiction", "several", "ambiguous", "denied", "other value", "none"]


@dataclass(frozen=True)
class Reading:
    """What an answer names: an option (`index`; for `ambiguous` every option it may mean), or why it names none."""

    kind: Kind
    how: str = ""
    index: int | None = None
    candidates: tuple[int, ...] = ()


_NONE = Reading("none")
_WRAP = re.compile(
    r"^(?:(?:so|thus|hence|therefore|then|finally|probably|likely|definitely|clearly|maybe|perhaps|it must be|must be|"
    r"should be|=>|⇒|→|∴|所以|因此|故)[\s,:，：]*)*"
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+)*(?:option|choice|answer|选项|答案)\s*(?:is\s+|[:：]\s*)?"
    r"|(?:i (?:think|believe)\s+)?(?:it(?: is|'s)\s+)?(?=\(?[A-J]\)?$))?",
    re.I,
)
BARE = re.compile(r"^[\(\[{]?\s*([A-Ja-j])\s*[)\]}]?$")
# "(C)" and "option C" are letters of options even where an option reads "C"
_MARKED = re.compile(
    r"^\(\s*[A-J]\s*\)$|\b(?:option|choice)\s+\(?[A-J]\)?$|^[A-J]\s*(?:选项|项)|选项\s*[A-J]$", re.I
)
_CHINESE_OPTION = re.compile(r"^([A-J])\s*(?:选项|项)(?:是)?(?:正确|对)?的?$")
LETTER_THEN = re.compile(
    r"^(?:[\(\[]\s*(?P<a>[A-Ja-j])\s*[)\]]|(?P<b>[A-Ja-j])\s*(?:[).:,;\]]|、(?!\s*[A-Z]))|(?P<c>[A-J])\s+[-=]|"
    r"(?P<d>[B-HJ])(?=\s+(?:because|since|as|which|is (?:the )?(?:correct|right|answer|best))\b))"
    r"\s*[.:,]?\s*(?P<text>.*)$",
    re.S,
)
_THEN_LETTER = re.compile(
    r"^(?P<text>.+?)\s*(?:[\(\[]\s*(?P<a>[A-Ja-j])\s*[)\]]|,\s*(?:option|choice)\s+(?P<b>[A-J]))$", re.S
)
SEVERAL_LETTERS = re.compile(
    r"^(?:[Ee]ither |[Bb]oth )?\(?[A-Ja-j]\)?(?:\s*(?:,|;|/|&|\band\b|\bor\b|和|或|、|\s)\s*\(?[A-Ja-j]\)?)+$"
    r"|^[A-J]{2,6}$"
)
_NONE_OF_THEM = re.compile(
    r"^(?:none|nothing|neither|n/?a|no answer|other|something else)(?: of (?:the|these|them)\b.*)?$", re.I
)
_CAPITAL = re.compile(r"(?<![\w'’])([A-Z])(?![\w'’])")
MENTION = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s*(?:is\s+|:\s*)?\(?([A-J])\b\)?(?!\s*['’])|选项?择?\s*[（(]?\s*([A-J])"
    r"|\(([A-Ja-j])\)|^([B-HJ])\s+is\s+(?:the\s+)?(?:correct|right|true|answer)",
)
# "I am not sure, but I think it is red": an answer all the same
_GUESS = re.compile(
    r"\b(?:but|however|still)\b[\s,]*(?:i (?:would )?(?:think|guess|believe|say)(?: that)?|my (?:best )?guess is|"
    r"probably|most likely|likely|maybe|perhaps)\b[\s,:]*(?:that )?",
    re.I,
)


def bare_letter(core: str) -> re.Match[str] | None:
    """A match whose group 1 is the letter when `core` is nothing but a letter ("(C)", "option C", "I think C")."""
    return BARE.match(core) or _CHINESE_OPTION.match(core) or BARE.match(trim(_WRAP.sub("", core, count=1)))


def read_option(content: str, options: Options) -> Reading:
    """The option that `content` names."""
    content = content.strip()
    core = trim(plain(content))
    if not core or len(content) > 3000:
        return _NONE
    both = LETTER_THEN.match(content)
    if both and (index := spelled_out(content, core, options)) is not None and both["text"].strip():
        return Reading("option", "letter and text", index)
    exact = [i for i, text in enumerate(options.texts) if text.strip() and _exact(text) == _exact(content)]
    bare = bare_letter(core)
    letter = options.index(bare[1]) if bare else None
    if letter is not None and exact and letter not in exact and not options.same(letter, exact[0]):
        # "(b)" where the options are marked (A), (B) and one of them reads "(b)"
        if options.marker and bare and options.marker.isupper() != bare[1].isupper():
            return Reading("option", "the text", exact[0])
        if _MARKED.search(core) is None:
            how = "a letter that is also the text of another option"
            return Reading("ambiguous", how, candidates=(letter, *exact))
    if letter is not None:
        return Reading("option", "the letter", letter)
    if exact:
        return Reading("option", "the text", exact[0])
    paired = _letter_and_text(core, options)
    if paired is not None and paired.kind == "contradiction":
        return paired  # before the spelling, where the "A" of "A. red" would be taken for an article
    spelled = _by_spelling(content, options)
    if spelled is not None:
        return Reading("option", "the text", spelled)
    if bare:
        return Reading("none", f"there is no option {bare[1].upper()}")
    if _NONE_OF_THEM.match(core) and not any(
        re.search(r"\b(?:none|neither|nothing|other)\b", text, re.I) for text in options.texts
    ):
        return Reading("none", "none of the options")
    if SEVERAL_LETTERS.match(core):
        return Reading("several", "more than one letter")
    for reading in (paired, _by_parts(content, options)):
        if reading is not None:
            return reading
    return _in_prose(content, core, options)


def spelled_out(text: str, core: str, options: Options) -> int | None:
    """The option whose whole text `text` is, with or without the letter before it."""
    if not core:
        return None
    exact = [i for i, option in enumerate(options.texts) if option.strip() and _exact(option) == _exact(text)]
    if exact:
        return exact[0]
    if match := LETTER_THEN.match(text.strip()):
        index = options.index(match["a"] or match["b"] or match["c"] or match["d"])
        if (
            index is not None
            and match["text"].strip()
            and _exact(match["text"]) == _exact(options.texts[index])
        ):
            return index
    return None


def _exact(text: str) -> str:
    return trim(" ".join(fold(text).replace("$", "").split()).strip())


def _loose(text: str) -> str:
    text = compact(text)
    text = re.sub(r"(?<=[\d%])(?:to|-{1,3})(?=[\d.])", "-", text)  # "0.0 to 0.2" is the range 0.0-0.2
    text = re.sub(r"^between([\d.,]+%?)and(?=[\d.])", r"\1-", text)
    return re.sub(r"[{}]", "", text)


def _as_ratio(text: str) -> str:
    """Key under which "4 to 0" is the ratio 4:0."""
    return re.sub(r"(?<=\d)to(?=\d)", ":", re.sub(r"[{}]", "", compact(text)))


def _with_words(text: str) -> tuple[str, ...]:
    """The words of a text that has any; mathematics is compared as such, never as its letters and digits."""
    if re.search(r"[\\√^_=<>≤≥]", plain(text)):
        return ()
    tokens = words(text)
    return tokens if any(len(token) > 1 and token[0].isalpha() for token in tokens) else ()


def _unique(found: list[int], options: Options) -> int | None:
    if found and all(options.same(found[0], other) for other in found[1:]):
        return found[0]
    return None


def _by_spelling(content: str, options: Options) -> int | None:
    """The one option with these characters, or with these words."""
    for key in (_loose, _as_ratio, _with_words):
        wanted = key(content)
        found = [i for i, text in enumerate(options.texts) if wanted and text.strip() and key(text) == wanted]
        if found:
            return _unique(found, options)
    return None


def _by_parts(content: str, options: Options) -> Reading | None:
    """The option with this value, or these parts; a value that no option has is no option."""
    if _mostly(options, _is_range):
        ends = _ends(content)
        found = [i for i, text in enumerate(options.texts) if ends and _same_ends(ends, _ends(text))]
        if (index := _unique(found, options)) is not None:
            return Reading("option", "the range", index)
    value = None if _is_range(content) else parse_quantity(content)
    if value is not None and (reading := _by_value(value, options)) is not None:
        return reading
    found = [
        i for i, text in enumerate(options.texts) if same_sequence(content, text, drop_brackets=False) is True
    ]
    if (index := _unique(found, options)) is not None:
        return Reading("option", "the same parts", index)
    if _mostly(options, is_ratio) and not is_ratio(content) and value is not None:
        return Reading("other value", "no ratio")
    understood = is_ratio(content) or (
        _same_kind(value, options) or _is_range(content) or parse_sequence(content) is not None
    )
    if found or not understood or (value is not None and _undecided(value, options)):
        return None
    if _is_mathematical(content) and _mostly(options, _is_mathematical):
        return Reading("other value", "a value that is no option")
    if value is not None and value.constant and not _shares_number(value, options):
        return Reading("other value", "a value that is in no option")
    return None


def _same_kind(value: Quantity | None, options: Options) -> bool:
    """Whether the value can be compared with the options: a number, or an expression among expressions."""
    if value is None or value.constant:
        return value is not None
    parsed = (parse_quantity(text) for text in options.texts)
    return any(option is not None and not option.constant for option in parsed)


def _ends(text: str) -> tuple[Quantity, Quantity] | None:
    """The ends of a range such as "0.0 - 0.2", "0 to 5 years" or "[0, 5]"."""
    match = re.match(r"^[(\[]?([\d.]+)%?[-,]([\d.]+)%?[)\]]?[a-z°]*$", _loose(text))
    low, high = (parse_quantity(match[1]), parse_quantity(match[2])) if match else (None, None)
    return (low, high) if low is not None and high is not None else None


def _same_ends(left: tuple[Quantity, Quantity], right: tuple[Quantity, Quantity] | None) -> bool:
    return right is not None and all(compare(a, b) is True for a, b in zip(left, right))


def _undecided(value: Quantity, options: Options) -> bool:
    """Whether the value might be that of an option in another form (0.125 and 12.5%)."""
    parsed = (parse_quantity(text) for text in options.texts)
    return any(option is not None and compare(value, option) is None for option in parsed)


def _is_mathematical(text: str) -> bool:
    """Numbers and symbols, with units but without other words."""
    found = _ENGLISH.findall(plain(text))
    return bool(re.search(r"\d", text)) and all((unit := parse_unit(word)) and unit.known for word in found)


_ENGLISH = re.compile(
    r"(?<!\\)\b(?:(?!sin|cos|tan|log|frac)[A-Za-z]{3,}|is|of|it|in|on|at|to|an|or|by|we|so|no|as)\b"
)


def _shares_number(value: Quantity, options: Options) -> bool:
    """Whether a number in one of the option texts is this value."""
    numbers = (
        parse_quantity(number) for text in options.texts for number in re.findall(r"-?[\d.,]*\d", plain(text))
    )
    plain_value = Quantity(value.node)
    return any(number is not None and compare(plain_value, number) is True for number in numbers)


def _is_range(text: str) -> bool:
    ends = re.fullmatch(r"-?([\d.,]+)%?-([\d.,]+)%?", _loose(text))
    if ends is None:
        return False
    low, high = (parse_quantity(end) for end in ends.groups())
    # "180-144" is a difference
    return low is None or high is None or (value_of(low) or 0) <= (value_of(high) or 0)


def _mostly(options: Options, test) -> bool:  # type: ignore[no-untyped-def]
    return sum(test(text) for text in options.texts) * 2 > len(options.texts)


def _by_value(value: Quantity, options: Options) -> Reading | None:
    found: list[int] = []
    parsed = [None if _is_range(text) else parse_quantity(text) for text in options.texts]
    for i, option in enumerate(parsed):
        if option is not None and option.constant == value.constant and compare(value, option) is True:
            found.append(i)
    index = _unique(found, options)
    if index is None and len(found) > 1:
        # a rounded value can fit two options, the exact one then counts
        exact = [i for i in found if (option := parsed[i]) is not None and option.decimals == value.decimals]
        index = _unique(exact, options)
    if index is not None:
        return Reading("option", "the value", index)
    undecided = any(option is not None and compare(value, option) is None for option in parsed)
    if value.constant and not undecided and sum(option is not None for option in parsed) * 2 > len(parsed):
        return Reading("other value", "a value that is no option")
    return None


def _letter_and_text(core: str, options: Options) -> Reading | None:
    """A letter beside a text ("C. 145°", "145° (C)"): that letter, unless the text is that of another option."""
    for pattern in (LETTER_THEN, _THEN_LETTER):
        match = pattern.match(core)
        if match is None:
            continue
        groups = match.groupdict()
        letter = groups.get("a") or groups.get("b") or groups.get("c") or groups.get("d") or ""
        index = options.index(letter) if options.texts else LETTERS.find(letter.upper())
        if index is None or (
            letter.islower() and letter in "ai" and groups.get("a") is None and "," in core[:3]
        ):
            continue
        text = groups["text"].strip()
        named = read_text(text, options) if text else None
        if letter.islower() and core[:2].endswith((".", ":", ",", ";")) and named is None:
            continue  # "a:b", "d, e": names in mathematics
        if named is not None and options.texts and not options.same(named, index):
            return Reading("contradiction", f"letter {LETTERS[index]} with the text of {LETTERS[named]}")
        if text and options.texts and _another_value(text, options.texts[index]):
            return Reading("contradiction", f"letter {LETTERS[index]} with another value than its own")
        return Reading("option", "the letter", index)
    # "A 120°": a letter and a text without any mark between them
    letter, _, text = core.partition(" ")
    if len(letter) == 1 and letter in LETTERS and text:
        index, named = options.index(letter), read_text(text, options)
        if index is not None and named is not None and options.same(index, named):
            return Reading("option", "letter and text", index)
    return None


def _another_value(text: str, option: str) -> bool:
    """Whether both are numbers that no rounding makes the same (2 % apart at least)."""
    left, right = parse_quantity(text), parse_quantity(option)
    if left is None or right is None or compare(left, right) is not False:
        return False
    a, b = value_of(left), value_of(right)
    return a is None or b is None or abs(a - b) > 0.02 * max(abs(a), abs(b))


def read_text(text: str, options: Options) -> int | None:
    """Index of the option whose text (spelling, words or value) `text` is, for the text beside a letter."""
    text = trim(text)
    exact = [i for i, option in enumerate(options.texts) if option.strip() and _exact(option) == _exact(text)]
    if exact:
        return exact[0]
    spelled = _by_spelling(text, options)
    if spelled is not None:
        return spelled
    reading = _by_parts(text, options)
    return reading.index if reading is not None and reading.kind == "option" else None


def _in_prose(content: str, core: str, options: Options) -> Reading:
    """An option mentioned in a sentence: its letter ("option B"), its value, or its text, once and not negated."""
    # "Cannot be determined" may be an option
    if is_refusal(content) and not any(is_refusal(text) for text in options.texts):
        guess = _GUESS.search(core)
        if guess is None:
            return Reading("none", "no answer given")
        return read_option(core[guess.end() :], options)
    instead = letter_instead(core)
    if instead is not None and (index := options.index(instead)) is not None:
        return Reading("option", "the letter", index)
    denied = denied_letter(core)
    if denied is not None and (index := options.index(denied)) is not None:
        return Reading("denied", "an option is denied and none is asserted", candidates=(index,))
    mentioned = {options.index(next(filter(None, match.groups()))) for match in MENTION.finditer(core)} - {
        None
    }
    texts = mentioned_texts(core, options)
    if len(mentioned) == 1:
        index = next(iter(mentioned))
        assert index is not None
        if not _denied_mention(core):
            if texts.asserted and not any(options.same(index, other) for other in texts.asserted):
                return Reading("contradiction", f"letter {LETTERS[index]} with the text of another option")
            return Reading("option", "the letter", index)
    elif len(mentioned) > 1:
        return Reading("several", "more than one letter")
    if _mostly(options, lambda text: parse_quantity(text) is not None):
        value = None if parse_quantity(content) else stated_quantity(content)
        if value is not None and value.constant and (reading := _by_value(value, options)) is not None:
            return reading
        numbers = [parse_quantity(number) for number in re.findall(r"-?\d[\d.,]*", core[:1000])]
        known = any(number is not None and _shares_number(number, options) for number in numbers)
        if numbers and not texts.asserted and not known and parse_quantity(content) is None:
            return Reading("other value", "a value that is no option")
    if _mostly(options, lambda text: len(text.strip()) == 1 and text.strip().isalpha()):
        capitals = set(_CAPITAL.findall(re.sub(r"^[AI]\s(?=[a-z])", "", core)))
        if len(capitals) == 1:
            return read_option(capitals.pop(), options)
    if texts.asserted:
        index = _unique(texts.asserted, options)
        if index is not None:
            return Reading("option", "the text", index)
        return Reading("several", "more than one option named", candidates=tuple(texts.asserted))
    yes_no = {i: decision(text) for i, text in enumerate(options.texts)}
    decides = {"yes", "no"} <= set(yes_no.values())
    said = decision(content) if decides and not texts.denied else None
    found = [i for i, value in yes_no.items() if value is not None and value == said]
    if len(found) == 1:
        return Reading("option", "yes or no", found[0])
    if texts.denied:
        return Reading("denied", "an option is denied and none is asserted", candidates=tuple(texts.denied))
    return _NONE


def _denied_mention(core: str) -> bool:
    return bool(re.search(r"\b(?:not|isn't|nor)\s+(?:option|choice|answer|letter|\()", core, re.I))
