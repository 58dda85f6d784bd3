r"""The options of a multiple-choice question and its gold, from the row or from the prompt text.

Styles in the public files: lines of `A. t`, `A: t`, `A) t`, `(A) t`; inline `A: t, B: t` and `A. t, B. t` after
"Options:"; `(a) t (b) t`. The letters are walked in order, so commas inside an option never split it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dmlr.verifier.extract import same_text, unbox
from dmlr.verifier.text import plain

LETTERS = "ABCDEFGHIJ"
MAX_PROMPT = 50_000


@dataclass(frozen=True)
class Options:
    """Option texts in order (option i has letter `LETTERS[i]`); `marker` is how the prompt writes the first letter."""

    texts: tuple[str, ...] = ()
    marker: str = ""

    def index(self, letter: str) -> int | None:
        """Index of `letter` when there is such an option."""
        i = LETTERS.find(letter.upper())
        return i if 0 <= i < len(self.texts) else None

    def same(self, left: int, right: int) -> bool:
        """Whether two options are one and the same answer (two of them can carry equal texts)."""
        return left == right or same_text(self.texts[left], self.texts[right])


_HEADER = re.compile(r"(?:^|\n|\\n|(?<=\s))\s*(?:options|choices|选项)\s*[:：]", re.I)
# how a marker is written around its letter, and what may stand before the next one inside a line
_STYLES = (
    (r"\(%s\)", r"(?:\s*,\s*|\s+|\s*\n\s*)"),
    (r"%s:(?=\s|$)", r"\s*[,;]\s*"),
    (r"%s\.(?=\s|$)", r"\s*[,;]\s*"),
    (r"%s\)", r"(?:\s*,\s*|\s+)"),
    (r"%s[、．:]", r"\s*[,;，；]?\s*"),
)


def parse_options(prompt: str) -> Options:
    """The options that the prompt lists; empty when it lists fewer than two."""
    # long runs of blanks carry nothing and would make the patterns below slow
    prompt = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]{2,}", " ", prompt[-MAX_PROMPT:]))
    headers = list(_HEADER.finditer(prompt))
    if headers:
        region = prompt[headers[-1].end() :]
        return _walk(region) or Options()
    for style, _ in _STYLES:
        for first in ("A", "a"):
            lines = list(re.finditer(r"(?:^|\n)[ \t]*(?=" + style % first + ")", prompt))
            if lines and (options := _walk(prompt[lines[-1].end() :])):
                return options
    inline = [match.start() for match in re.finditer(r"\([Aa]\)\s", prompt)]
    if inline and (options := _walk(prompt[inline[-1] :])):
        return options
    return Options()


def has_option_header(prompt: str) -> bool:
    """Whether the prompt announces options, readable or not (some published rows lost them)."""
    return bool(_HEADER.search(prompt[-MAX_PROMPT:]))


def _walk(region: str) -> Options | None:
    region = region.lstrip()
    for style, separator in _STYLES:
        for letters in (LETTERS, LETTERS.lower()):
            if not re.match(style % letters[0], region):
                continue
            by_line = re.search(r"\n\s*" + style % letters[1], region) is not None
            starts: list[tuple[int, int]] = []
            at = 0
            for i, letter in enumerate(letters):
                mark = style % letter
                gap = "" if i == 0 else (r"\s*\n\s*" if by_line else separator)
                match = re.compile(gap + "(?P<mark>" + mark + r")\s*").search(region, at)
                if match is None or (i == 0 and match.start() > 0):
                    break
                starts.append((match.start(), match.end()))
                at = match.end()
            if len(starts) < 2:
                continue
            ends = [start for start, _ in starts[1:]]
            last = _last_option(region[starts[-1][1] :], by_line)
            texts = [region[begin:end] for (_, begin), end in zip(starts, ends)]
            marker = region[: starts[0][1]].strip()
            return Options(tuple(text.strip() for text in [*texts, last]), marker)
    return None


_INSTRUCTION = re.compile(
    r"\n\s*(?:\n|<image|(?:answer|please|hint|give|respond|choose|select|put|solve|output|think|only|return|your)\b)",
    re.I,
)


def _last_option(rest: str, by_line: bool) -> str:
    """The text of the last option: its line, or up to an instruction where options (of code) run over lines."""
    if by_line:
        return rest.partition("\n")[0]
    instruction = _INSTRUCTION.search(rest)
    return rest[: instruction.start()] if instruction else rest


@dataclass(frozen=True)
class Gold:
    """The right option: its index in the options (None when they are unknown), its letter and its text."""

    index: int | None
    letter: str
    text: str


_LETTER_TEXT = re.compile(r"^\s*(?:\(([A-Ja-j])\)[.:]?|([A-J])\s*[.:)、])\s*(\S.*)$", re.S)
_LONE_LETTER = re.compile(r"^\s*\(?([A-Ja-j])\)?\s*[.:]?\s*$")


def split_letter(solution: str) -> tuple[str, str] | None:
    r"""A gold such as `C. $72^{\circ}$`, `A: The suitcase ...`, `(a) Open`, `C` as (letter, text); None otherwise."""
    text = unbox(solution).strip()
    if lone := _LONE_LETTER.match(plain(text)):
        return lone[1].upper(), ""
    if both := _LETTER_TEXT.match(text):
        return (both[1] or both[2]).upper(), both[3].strip()
    return None


def find_gold(
    solution: str, options: Options, answer_letter: str | None = None, answer_text: str | None = None
) -> Gold | None:
    """The gold option, from the row's own fields first, then from the solution; None when it names no option."""
    if answer_letter and _LONE_LETTER.match(answer_letter):
        letter = answer_letter.strip(" ().").upper()
        index = options.index(letter)
        return Gold(index, letter, answer_text or (options.texts[index] if index is not None else ""))
    whole = _text_index(unbox(solution), options.texts)
    split = split_letter(solution)
    if split is None:
        index = whole
        if index is None and answer_text:
            index = _text_index(answer_text, options.texts)
        return None if index is None else Gold(index, LETTERS[index], options.texts[index])
    letter, text = split
    index = options.index(letter)
    if index is None and options.texts:
        # "C" as the text of an option among fewer than three
        return None if whole is None else Gold(whole, LETTERS[whole], options.texts[whole])
    if index is not None and not text:
        text = options.texts[index]
    return Gold(index, letter, text)


def _text_index(text: str, texts: Sequence[str]) -> int | None:
    found = [i for i, option in enumerate(texts) if option.strip() and same_text(text, option)]
    return found[0] if found else None
