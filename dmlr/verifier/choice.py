"""Whether a multiple-choice answer is right."""

import re
from typing import Literal

from dmlr.verifier.extract import Extraction, is_refusal, short
from dmlr.verifier.options import LETTERS, Gold, Options, has_option_header
from dmlr.verifier.quantity import compare, parse_quantity
from dmlr.verifier.reading import (
    BARE,
    LETTER_THEN,
    MENTION,
    SEVERAL_LETTERS,
    Reading,
    bare_letter,
    read_option,
    read_text,
    spelled_out,
)
from dmlr.verifier.text import plain, trim, word_set, words

Outcome = tuple[Literal["correct", "wrong", "unjudged"], str]


def judge_choice(extraction: Extraction, options: Options, gold: Gold, prompt: str) -> Outcome:
    """Verdict and reason for a multiple-choice answer."""
    if not options.texts:
        return _judge_without_options(extraction, gold, has_option_header(prompt))
    reading = _read(extraction, options)
    named = f"option {LETTERS[gold.index]}" if gold.index is not None else f"option {gold.letter}"
    right = (
        set() if gold.index is None else {i for i in range(len(options.texts)) if options.same(i, gold.index)}
    )
    if reading.kind == "option" and reading.index is not None:
        verdict: Literal["correct", "wrong"] = "correct" if reading.index in right else "wrong"
        return verdict, f"{reading.how} names option {LETTERS[reading.index]}, the gold is {named}"
    if reading.kind == "ambiguous":
        # as MathVision's official comparison: equal to the letter or to the text
        if not right.intersection(reading.candidates):
            return "wrong", f"{reading.how}; neither is the gold, {named}"
        return "correct", f"{reading.how}; one of them is the gold, {named}"
    if reading.kind == "several":
        undecided = re.search(r"\b(?:either|or|both|neither)\b|或", extraction.answer, re.I)
        if re.search(r"\b(?:all|both|each)\b", gold.text, re.I):
            return "unjudged", f"{reading.how}, and the gold {named} stands for several"
        others_only = bool(reading.candidates) and not right.intersection(reading.candidates)
        if (
            extraction.explicit
            or undecided
            or others_only
            or _says_nothing_else(extraction.answer, options, prompt)
        ):
            return "wrong", f"{reading.how}; the gold is {named} alone"
        return "unjudged", reading.how
    if reading.kind == "denied":
        verdict = "wrong" if right.intersection(reading.candidates) else "unjudged"  # type: ignore[assignment]
        return verdict, reading.how
    if reading.kind in ("contradiction", "other value") or reading.how:
        return "wrong", f"{reading.how}; the gold is {named}"
    return _judge_unnamed(extraction, options, prompt, named)


def _read(extraction: Extraction, options: Options) -> Reading:
    """The whole body is looked at before a phrase in it: an option may itself read "the answer is option A"."""
    if extraction.source != "box" and len(extraction.body) <= 3000:
        for text in (extraction.body, extraction.rest):
            core = trim(plain(text))
            if BARE.match(core) is None and (index := spelled_out(text, core, options)) is not None:
                return Reading("option", "the text", index)
    if extraction.source == "last line" or (extraction.source == "whole output" and "\n" in extraction.body):
        reading = _read_ends(extraction, options)
        if reading is not None:
            return reading
    if extraction.source == "final phrase":
        return _read_phrase(extraction.answer, options)
    return read_option(extraction.answer, options)


def _read_ends(extraction: Extraction, options: Options) -> Reading | None:
    """A long output: an option alone on its last or its first line."""
    lines = extraction.body.splitlines()
    for line in (lines[-1], lines[0]):
        core = trim(plain(line[:400]))
        if BARE.match(core) or re.match(r"^\(?[A-J][).:]", core):
            reading = read_option(line, options)
            if reading.kind != "none":
                return reading
    return None


def _read_phrase(answer: str, options: Options) -> Reading:
    """What follows "the answer is": the whole line, or its beginning up to the reason for it."""
    reading = read_option(answer, options)
    if reading.kind != "none":
        return reading
    head = re.split(
        r"[.。]\s|而不是|而非|\s(?:because|since|as|which|where)\s|,\s(?:because|since|as|so)\s", answer
    )[0]
    return read_option(head, options) if head != answer else reading


def _judge_unnamed(extraction: Extraction, options: Options, prompt: str, named: str) -> Outcome:
    """No option was recognised: wrong when nothing in the answer could point to one, open when it might paraphrase."""
    answer = extraction.answer
    if extraction.source == "none":
        return "wrong", f"no final answer; the gold is {named}"
    if extraction.source == "last line" and not answer:
        return "unjudged", "a long output without a marked final answer"
    if is_refusal(answer):
        return "wrong", f"no answer given; the gold is {named}"
    if extraction.source == "last line":
        return "unjudged", "a long output without a marked final answer"
    core = trim(plain(answer))
    if len(core) == 1 and core.isalpha() and core.isascii() and extraction.explicit:
        return "wrong", f"there is no option {core}; the gold is {named}"
    common = set.intersection(*(set(words(text)) for text in options.texts)) if options.texts else set()
    asked = _asked(options, prompt) | {_stem(word) for word in common}
    if _said(answer, options) <= asked:
        return "wrong", f"it repeats the question and names no option; the gold is {named}"
    return "unjudged", f"{short(answer)!r} is the letter or text of no option"


def _said(answer: str, options: Options) -> set[str]:
    """Stems of the words that could point to an option."""
    return {_stem(word) for word in words(answer)} - (_EMPTY_WORDS - _option_words(options))


def _option_words(options: Options) -> set[str]:
    return {_stem(word) for text in options.texts for word in words(text)}


def _asked(options: Options, prompt: str) -> set[str]:
    return {_stem(word) for word in words(prompt[-20_000:])} - _option_words(options)


def _says_nothing_else(answer: str, options: Options, prompt: str) -> bool:
    """Whether an answer that names several options only lists them: "red and blue", "the angles are 36 and 42"."""
    if {"not", "than", "but", "no"}.intersection(words(answer)):
        return False
    return _said(answer, options) - {"or", "both"} <= _asked(options, prompt) | _option_words(options)


def _stem(word: str) -> str:
    return re.sub(r"(?:'s|s)$", "", word) if len(word) > 3 else word


# words that describe looking at a picture or hold a sentence together; they choose no option
_EMPTY_WORDS = word_set(
    "is are was were be been being there here it its this that these those can could see seen shown show shows image "
    "picture photo figure of in on at to for with and as by i you we they has have do does did 1 some"
)


def _judge_without_options(extraction: Extraction, gold: Gold, announced: bool) -> Outcome:
    """The prompt lists no options: the letter, or the text of the gold."""
    core = trim(plain(extraction.answer))
    alone = Options((gold.text,) if gold.text else ())
    bare = bare_letter(core)
    both = LETTER_THEN.match(core)
    letter = (
        bare[1] if bare else (both["a"] or both["b"] or both["c"] or both["d"] or "") if both else ""
    ).upper()
    if extraction.source == "last line" and not core:
        return "unjudged", "a long output without a marked final answer"
    if not core or is_refusal(core):
        return "wrong", f"no final answer; the gold is {gold.letter}"
    if gold.text and read_text(extraction.answer, alone) == 0:
        return "correct", "the text of the gold"
    if letter and not (letter in "AI" and both and not bare and "," in core[:2]):
        return (
            "correct" if letter == gold.letter else "wrong"
        ), f"letter {letter}, the gold is {gold.letter}"
    if SEVERAL_LETTERS.match(core):
        return "wrong", f"more than one letter; the gold is {gold.letter} alone"
    if concluded := re.search(r"\b(?:is|be)\s+\(?([A-J])\)?$", core):
        letter = concluded[1]
        return (
            "correct" if letter == gold.letter else "wrong"
        ), f"letter {letter}, the gold is {gold.letter}"
    mention = {next(filter(None, match.groups())).upper() for match in MENTION.finditer(core)}
    if len(mention) == 1:
        return (
            "correct" if mention == {gold.letter} else "wrong"
        ), f"letter {mention.pop()}, the gold is {gold.letter}"
    value = parse_quantity(extraction.answer)
    if not gold.text and not announced and (extraction.explicit or (value is not None and value.constant)):
        return "wrong", f"the gold is the letter {gold.letter}"
    wanted = parse_quantity(gold.text) if gold.text else None
    if value is not None and wanted is not None and compare(value, wanted) is False:
        return "wrong", f"another value than {short(gold.text)!r}"
    return "unjudged", "no letter, and the options are not known"
