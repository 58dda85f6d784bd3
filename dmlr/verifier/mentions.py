"""Option texts that are mentioned in a sentence, asserted or denied (ours)."""

import itertools
import re
from dataclasses import dataclass

from dmlr.verifier.options import Options
from dmlr.verifier.text import plain, word_set, words
from dmlr.verifier.yesno import decision

_NEGATIONS = word_set(
    "not no never neither nor isn't aren't wasn't weren't doesn't don't cannot can't without than unlike except "
    "besides 不 非 没"
)
_NEGATING_PAIRS = frozenset(
    {
        ("rather", "than"),
        ("instead", "of"),
        ("apart", "from"),
        ("other", "than"),
        ("at", "least"),
        ("at", "most"),
    }
)
# "the right answer", "as described above": words of the sentence, not of the picture
_RIGHT_WHAT = word_set("answer option choice one letter text solution")
_ABOVE_BEFORE = word_set("described mentioned stated shown noted said seen as the given explained listed")
_NAN = frozenset({"nan", ""})
# As an option ("On", "Off") such a word is an answer at the end of a clause only: "based on", "on the table".
_PARTICLES = word_set("on off in out over to by at all")
_VERBS = word_set("is are was were does do did can could will would has have")
_ANYTHING_BUT = re.compile(r"\b(?:anything|everything|all|any|every one)\s+(?:else\s+)?but\b", re.I)
_NOTHING_BUT = re.compile(r"\b(?:nothing|none|no one)\s+(?:else\s+|other\s+)?(?:but|than|except)\b", re.I)
_RAISED = re.compile(r"([\^_])\s*\{?\s*(\w+)\s*\}?")
_CLAUSE_END = re.compile(r"[,;:!?]\s|\.\s|\bbut\b|，|；|\n")
# what was believed before the sentence turned
_BELIEVED = re.compile(
    r"\b(?:at first|first|initially|thought|guess(?:ed)?|seem(?:s|ed)?|assumed|expected)\b", re.I
)
_TURN = re.compile(r"\b(?:but|however|yet|actually|in fact|then)\b", re.I)


@dataclass(frozen=True)
class Mentions:
    """Indices of the options that the text asserts, and of those that it only denies."""

    asserted: list[int]
    denied: list[int]


def mentioned_texts(core: str, options: Options) -> Mentions:
    """Options whose words occur in the text. Longer texts are found first: "not visible" hides "visible"."""
    core = _NOTHING_BUT.sub("only", _ANYTHING_BUT.sub("not", _own_words(core[:4000])))
    turn = _TURN.search(core)
    clauses: list[tuple[str, ...]] = []
    withdrawn: list[bool] = []
    at = 0
    for clause in _CLAUSE_END.split(core):
        at = core.find(clause, at)
        clauses.append(words(clause))
        withdrawn.append(turn is not None and at < turn.start() and _BELIEVED.search(clause) is not None)
        at += len(clause)
    yes_or_no = {"yes", "no"} <= {decision(text) for text in options.texts}
    asserted: list[int] = []
    denied: list[int] = []
    needles = [(words(_own_words(plain(text))), i) for i, text in enumerate(options.texts)]
    vocabulary = {word for needle, _ in needles for word in needle} | {"and", "or", "nor"}
    taken: list[set[int]] = [set() for _ in clauses]
    for needle, i in sorted(needles, key=lambda pair: -len(pair[0])):
        if (
            not needle
            or needle[0] in _NAN
            or (len(needle) == 1 and len(needle[0]) == 1 and needle[0].isalpha())
        ):
            continue
        if yes_or_no and decision(" ".join(needle)) is not None and len(needle) == 1:
            continue  # read as decisions
        hits: list[bool] = []
        for clause, used, before_turn in zip(clauses, taken, withdrawn):
            size = len(needle)
            for at in range(len(clause) - size + 1):
                if clause[at : at + size] != needle or used.intersection(range(at, at + size)):
                    continue
                used.update(range(at, at + size))
                after = clause[at + size :]
                if size == 1 and _is_figure_of_speech(needle[0], clause[:at], after):
                    continue
                hits.append(
                    before_turn or negated(clause[max(0, at - 3) : at]) or _denied_after(after, vocabulary)
                )
        # an option whose own text runs over a comma
        if not hits and len(needle) > 3 and _contains(words(core), needle):
            hits.append(False)
        if hits and not all(hits):
            asserted.append(i)
        elif hits:
            denied.append(i)
    return Mentions(sorted(asserted), sorted(denied))


def _own_words(text: str) -> str:
    """Exponents and subscripts as words of their own: the 2 of "x^2" is no mention of 2."""
    return _RAISED.sub(lambda match: (" raised" if match[1] == "^" else " lowered") + match[2] + " ", text)


def _is_figure_of_speech(word: str, before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Whether a one-word option only serves the sentence: "based on the image", "the right answer"."""
    if word in _PARTICLES:
        return bool(after)
    if word == "right":
        return (after[:1] != () and after[0] in _RIGHT_WHAT) or before[-1:] in (("that's",), ("you're",))
    return word == "above" and before[-1:] != () and before[-1] in _ABOVE_BEFORE


def _contains(haystack: tuple[str, ...], needle: tuple[str, ...]) -> bool:
    return any(haystack[at : at + len(needle)] == needle for at in range(len(haystack) - len(needle) + 1))


def _denied_after(after: tuple[str, ...], vocabulary: set[str]) -> bool:
    """Whether the clause goes on with "is not", possibly after further options: "the frog and the eel are not"."""
    rest = tuple(itertools.dropwhile(vocabulary.__contains__, after))
    return len(rest) > 1 and rest[0] in _VERBS and rest[1] == "not"


def negated(before: tuple[str, ...]) -> bool:
    """Whether the words right before a mention deny it."""
    return any(word in _NEGATIONS for word in before) or any(
        pair in _NEGATING_PAIRS for pair in itertools.pairwise(before)
    )
