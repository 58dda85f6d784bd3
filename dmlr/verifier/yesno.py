"""Yes or no: the first decision word, never a part of another word ("nothing", "yesterday", "know")."""

import re
from typing import Literal

from dmlr.verifier.extract import Extraction, is_refusal
from dmlr.verifier.text import plain, trim

_YES = frozenset(
    {"yes", "yeah", "yep", "true", "correct", "right", "affirmative", "是", "是的", "对", "有", "正确"}
)
_NO = frozenset(
    {
        "no",
        "nope",
        "false",
        "incorrect",
        "wrong",
        "negative",
        "否",
        "不是",
        "不",
        "没有",
        "不对",
        "错误",
        "错",
    }
)
_STRICT_YES = frozenset({"yes", "yeah", "yep", "true", "是", "是的", "对"})
_STRICT_NO = frozenset({"no", "nope", "false", "否", "不是", "不", "没有", "不对"})
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|是的|不是|没有|不对|正确|错误|[是否对错有不]")
_OPENING = re.compile(
    r"^(?!no\s*\.\s*\d)(yes|no|yeah|yep|nope|true|false|是的|不是|没有|是|否|对|不)(?:\s*(?:[,.;:!，；\n-]|\*\*)|\s*$)"
)
_THING_ASKED = re.compile(r"\b(is|are) there (?:a |an |any |some )?([a-z ]+?)(?: in | on |\?)")
_NO_DOUBT = re.compile(
    r"\b(?:there(?: is|'s) |with(?:out)? )?(?:no|any|a) (?:doubt|question|problem)(?: about (?:it|that))?\b"
    r"|\bwithout doubt\b"
)
_EMPHATIC = re.compile(
    r"^(?:absolutely|certainly|definitely|of course|indeed|sure|surely|obviously|clearly)( not)?(?=$|[,.;!])"
)
_NEGATIVE = frozenset({"not", "no", "never", "neither", "without", "cannot"})

_BOTH = re.compile(r"\b(?:yes|true)\b.*\b(?:no|false)\b|\b(?:no|false)\b.*\b(?:yes|true)\b", re.S)

Answer = Literal["yes", "no"]


def gold_decision(solution: str) -> Answer | None:
    """Yes or no when the gold is one of these words (or true, false, 是, 否) and nothing else."""
    word = trim(plain(solution)).casefold()
    return "yes" if word in _STRICT_YES else "no" if word in _STRICT_NO else None


def decision(text: str) -> Answer | None:
    """The decision that a text states: alone, as its opening word, or as the only decision word in it."""
    text = _NO_DOUBT.sub(" ", trim(plain(text[:4000])).casefold()).strip(" ,;:.")
    text = re.sub(r"\bno\s?\.\s?(?=\d)", "number ", text)
    if emphatic := _EMPHATIC.match(text):
        return "no" if emphatic[1] else "yes"
    if text in _YES or text == "y":
        return "yes"
    if text in _NO or text == "n":
        return "no"
    found = [word for word in _WORD.findall(text) if word in _STRICT_YES or word in _STRICT_NO]
    sides = {"yes" if word in _STRICT_YES else "no" for word in found}
    if opening := _OPENING.match(text):
        rest = text[opening.end() :].strip()
        if not (rest and trim(rest) in _STRICT_YES | _STRICT_NO and len(sides) == 2):
            return "yes" if opening[1] in _STRICT_YES else "no"
    if len(found) == 1 and (
        denied := re.search(r"\b(?:not|isn't|n't)\s+(true|correct|false|yes|no)\b", text)
    ):
        return "yes" if denied[1] in ("false", "no") else "no"
    if len(sides) == 1 and not re.search(r"\b(?:yes|no) or (?:no|yes)\b", text):
        return "yes" if sides == {"yes"} else "no"
    return None


def judge_yesno(
    extraction: Extraction, gold: Answer, prompt: str
) -> tuple[Literal["correct", "wrong", "unjudged"], str]:
    """Verdict and reason. Both words, neither word in a marked answer, and refusals are wrong."""
    answer = extraction.answer
    if extraction.source == "none":
        return "wrong", f"no final answer; the gold is {gold}"
    text = trim(plain(answer[:4000])).casefold()
    opening = _OPENING.match(text)
    unseen = _sees_none(text, prompt)
    if unseen:
        return ("correct" if gold == "no" else "wrong"), f"it sees none, the gold is {gold}"
    if opening is None and is_refusal(answer):
        return "wrong", f"no answer given; the gold is {gold}"
    if extraction.source == "last line":
        first = decision_at_start(extraction.body)
        said = first or (decision(answer) if _concludes(text) else None)
        if said is None:
            return "unjudged", "a long output without a marked final answer"
    else:
        said = decision(answer) or _statement(text, prompt)
    if said is not None:
        return ("correct" if said == gold else "wrong"), f"it says {said}, the gold is {gold}"
    words = _WORD.findall(text)
    sides = {"yes" if word in _STRICT_YES else "no" for word in words if word in _STRICT_YES | _STRICT_NO}
    if len(sides) == 2:
        return "wrong", f"it says both yes and no; the gold is {gold}"
    if len(text.split()) <= (3 if extraction.explicit else 2):
        return "wrong", f"neither yes nor no; the gold is {gold}"
    return "unjudged", "neither yes nor no is said"


def decision_at_start(body: str) -> Answer | None:
    """The decision that opens a long output ("Yes, ...")."""
    opening = _OPENING.match(trim(plain(body[:200])).casefold())
    return None if opening is None else "yes" if opening[1] in _STRICT_YES else "no"


def _concludes(text: str) -> bool:
    return (
        bool(re.match(r"(?:so|therefore|thus|hence|in conclusion|finally|因此|所以|综上)\b", text))
        or len(text.split()) <= 3
    )


def _statement(text: str, prompt: str) -> Answer | None:
    """A short statement instead of a decision: a negation says no; "There is a ..." answers "Is there a ...?" with yes.

    POPE's official reading takes every sentence without "no" or "not" for a yes; only the echo of the question is
    taken here.
    """
    words = re.findall(r"[a-z]+", text.replace("n't", " not"))
    if len(words) > 2 and not _BOTH.search(text) and _NEGATIVE.intersection(words):
        return "no"
    if _echoes(text, prompt):
        return "yes"
    question = _THING_ASKED.search(prompt.casefold())
    if question and re.match(
        rf"there {question[1]} (?:a |an |some |one |the )?{re.escape(question[2])}\b", text
    ):
        return "yes"
    return None


def _sees_none(text: str, prompt: str) -> bool:
    """Whether it is a no and not a refusal to look: "I do not see a fork" for "Is there a fork?"."""
    asked = _THING_ASKED.search(prompt.casefold())
    unseen = r"(?:\bnot|n't|\bcannot)\s+(?:see|find|spot|detect|observe|identify)\s+(?:a |an |any |the )?"
    return asked is not None and re.search(unseen + re.escape(asked[2]), text) is not None


_PLACE = re.compile(
    r"\b(?:in|on) (?:this|the) (?:image|figure|picture|photo|diagram|chart|map|graph|table)\b"
)


def _echoes(text: str, prompt: str) -> bool:
    """Whether the statement is the question's own: "the left bar is taller" for "Is the left bar taller?"."""
    questions = re.findall(r"\b(is|are|was|were)\s+([^?\n]{3,200})\?", prompt.casefold())
    said = re.findall(r"\w+", _PLACE.sub("", text))
    for verb, rest in questions[-1:]:
        asked = re.findall(r"\w+", _PLACE.sub("", rest))
        if verb in said and asked:
            at = said.index(verb)
            return said[:at] + said[at + 1 :] == asked
    return False
