"""Rationales as training data: split into steps, and compared with the gold answer."""

import re
from collections.abc import Sequence

# A full stop after these does not end a sentence.
ABBREVIATIONS = {
    "e.g.",
    "i.e.",
    "etc.",
    "vs.",
    "dr.",
    "mr.",
    "mrs.",
    "ms.",
    "st.",
    "fig.",
    "no.",
    "approx.",
    "u.s.",
}

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9\\$])")
# The letter itself is matched in upper case only: "the answer is a hexagon" names no option.
_PHRASE = re.compile(
    r"(?i:answer|option|choice)(?:\s+(?i:is|would\s+be|must\s+be))?\s*:?\s*([A-J])\b(?!['’])"
)


def split_steps(text: str) -> list[str]:
    """The rationale's sentences in order, without empty ones. Line breaks always end a step.

    Full stops inside numbers, after abbreviations and after a lone list number ("1. First ...") do not.
    """
    steps: list[str] = []
    for line in text.splitlines():
        pending = ""
        for piece in _SENTENCE_END.split(line.strip()):
            pending = f"{pending} {piece}".strip()
            last_word = pending.rsplit(maxsplit=1)[-1].lower() if pending else ""
            if last_word not in ABBREVIATIONS and not re.fullmatch(r"\(?\d+[.)]", pending):
                steps.append(pending)
                pending = ""
        if pending:
            steps.append(pending)
    return [step for step in steps if step]


def answer_in_rationale(rationale: str, choices: Sequence[str]) -> str | None:
    """The letter of the option that a rationale ends on, or None when it names none.

    In this order: the last "(C)"; the last "answer is C", "option C"; the option text that ends last in the rationale
    (as whole words; of two that end together the longer one counts). M3CoT's own script takes the last option *of the
    list* that occurs anywhere, and then any stand-alone letter, articles included; the order here follows the text.
    """
    letters = "ABCDEFGHIJ"[: len(choices)]
    bracketed = [match.upper() for match in re.findall(r"\(([A-Za-z])\)", rationale)]
    named = [letter for letter in bracketed if letter in letters]
    if not named:
        named = [letter.upper() for letter in _PHRASE.findall(rationale) if letter.upper() in letters]
    if named:
        return named[-1]
    best: tuple[int, int, str] | None = None
    for letter, choice in zip(letters, choices):
        text = choice.strip().rstrip(".")
        if not text:
            continue
        pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
        for match in re.finditer(pattern, rationale, re.IGNORECASE):
            candidate = (match.end(), len(text), letter)
            if best is None or candidate[:2] > best[:2]:
                best = candidate
    return best[2] if best else None


def rationale_fields(
    rationale: str, conclusion: str, choices: Sequence[str], letter: str
) -> dict[str, object]:
    """`rationale`, `steps` and `rationale_agrees` of a row.

    `conclusion` is the part of the rationale that argues for the answer (ScienceQA's lecture does not). False means
    that it ends on another option or on none, which is no proof of an error; training filters on it.
    """
    return {
        "rationale": rationale.strip(),
        "steps": split_steps(rationale),
        "rationale_agrees": answer_in_rationale(conclusion, choices) == letter,
    }
