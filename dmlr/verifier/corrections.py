r"""Answers that take something back: "B. No wait, C", "not B but C", "\boxed{3}, not \boxed{2}" (ours)."""

import re

_WITHDRAWAL = re.compile(
    r"\b(?:no|oh|hm+|ah|oops|sorry|but)\b[\s,.!:;…-]*\bwait\b|\bwait\b(?=\s*[,.!…:;—-]|\s+no\b)"
    r"|\bon second thoughts?\b|\bscratch that\b|\bcorrection\s*:|\bor rather\b|\bi mean\b|\bi was wrong\b"
    r"|\bmy mistake\b|\blet me correct\b|不对[，,。]|(?<=[。！!？?\n])\s*等等[，,。]|等一下|更正"
    r"|(?<=[.…;!?—-])\s*(?:no\s*,\s*)?actually\b[\s,]+(?=(?:it|the answer|that|this|no|yes|\(?[A-J])\b)"
    r"|,\s*actually\b[\s,]+(?=\(?[A-J]\b)",
    re.I,
)
# only behind a marked answer: elsewhere "The picture shows a dog. No, it is no cat." takes nothing back
_REVISION = re.compile(r"(?<=[.…;!])\s*no\s*[,.]\s+(?=(?:it|the answer|that|this)\b)", re.I)
_LEAD = re.compile(
    r"^(?:[\s,.!:;—…-]+|(?:no|actually|sorry|oops|but|then|so|rather|instead|it(?: is|'s)|it must be|it should be)\b)+",
    re.I,
)


def after_withdrawal(text: str, marked: bool = False) -> str:
    """The rest of the text after its last withdrawal ("wait", "on second thought"); without one, the text.

    A withdrawal that nothing precedes or nothing follows takes nothing back. `marked`: the text was introduced as the
    answer, so that a "No, it is ..." behind it takes it back.
    """
    end = None
    for pattern in (_WITHDRAWAL, _REVISION) if marked else (_WITHDRAWAL,):
        for match in pattern.finditer(text):
            if _WORD.search(text, match.end()) and _WORD.search(text, 0, match.start()):
                end = max(end or 0, match.end())
    if end is None:
        return text
    # "wait, no" must keep its decision: leading words go only before something else
    return _LEAD.sub("", text[end:], count=1) or text[end:].strip(" ,.!:;")


_WORD = re.compile(r"\w")
_DENIES_NEXT = re.compile(
    r"(?:\bnot|n't be|\bnever|\brather than|\binstead of|不是|而非|并非)\s*[$*:(]*\s*$", re.I
)


def denied_before(text: str) -> bool:
    r"""Whether the text right before an answer denies it ("it is not \boxed{2}")."""
    return bool(_DENIES_NEXT.search(text[-40:]))


_L = r"\(?([A-J])\)?(?![\w'’])"
_INSTEAD = (
    re.compile(
        r"(?:\bnot|n't|不是|不选)\s+(?:the answer\s+|option\s+|choice\s+)?" + _L + r"[\s,;:.]*"
        r"(?:but|it is|it's|it must be|rather|instead|而是|应选|选)\s+(?:rather\s+|option\s+|it is\s+)?" + _L,
        re.I,
    ),
    re.compile(
        r"\b(?:option\s+)?"
        + _L
        + r"\s+(?:is|was|seems)\s+(?:wrong|incorrect|false|not (?:right|correct|true))"
        r"[\s,;:.]*(?:so|thus|hence|therefore|but|and)?\s*(?:it is|it's|it must be|the answer is|this leaves|choose)?"
        r"\s*(?:option\s+)?" + _L,
        re.I,
    ),
)
_ONLY_DENIED = re.compile(
    r"^(?:i (?:think|believe|say)\s+)?(?:(?:it|this|the (?:correct |right )?(?:answer|option|choice)) )?"
    r"(?:is |can |must )?(?:not|isn't|cannot be|can't be|不是|不选|不)\s*(?:be\s+)?(?:option\s+|choice\s+|选项)?"
    r"\(?([A-J])\)?$",
    re.I,
)


def letter_instead(core: str) -> str | None:
    """The letter that a short statement puts in the place of another one; None when it does not do that."""
    for pattern in _INSTEAD:
        match = pattern.search(core)
        # the letter ends the statement or gives its reason
        if match and re.match(r"\s*(?:$|[,.;:]|because|since|as\b)", core[match.end() :]):
            return match[2].upper()
    return None


def denied_letter(core: str) -> str | None:
    """The letter that a statement only denies ("it is not B")."""
    match = _ONLY_DENIED.match(core)
    return match[1].upper() if match else None
