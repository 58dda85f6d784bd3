r"""Finding the final answer in a model output.

The order (ours): the thinking is dropped; then the last balanced `\boxed{...}`, the last `<answer>...</answer>`, an
explicit final phrase, a short output as a whole, the last line of a long one. Everything works on a bounded tail of
the output and in one pass, because outputs of a model can be a megabyte of braces.
"""

import re
from dataclasses import dataclass
from typing import Literal

from dmlr.verifier.corrections import after_withdrawal, denied_before
from dmlr.verifier.text import compact, fold, repair_commands, trim

MAX_CONSIDERED = 20_000  # characters at the end of an output; a final answer further up is none
MAX_BOXES = 50
SHORT = 300  # an output up to this length is its own answer

Source = Literal["box", "answer tag", "final phrase", "whole output", "last line", "none"]


@dataclass(frozen=True)
class Extraction:
    r"""The final answer of an output.

    `answer` is the text found (empty: none), `source` where it stood, `body` the output without its thinking.
    `rest` is everything after a final phrase (an option can run over several lines).
    `boxes` holds the group of boxes at the end that belong together ("x = \boxed{2} or \boxed{-3}"), last one last.
    """

    answer: str
    source: Source
    body: str
    boxes: tuple[str, ...] = ()
    rest: str = ""

    @property
    def explicit(self) -> bool:
        """Whether the model marked it as its answer (a box, a tag, a phrase)."""
        return self.source in ("box", "answer tag", "final phrase")


def drop_thinking(output: str) -> str:
    """The output after its `<think>` part; empty when the thinking never ended (unless an `<answer>` follows)."""
    end = output.rfind("</think>")
    if end >= 0:
        return output[end + len("</think>") :]
    start = output.find("<think>")
    if start < 0:
        return output
    before = output[:start].strip()
    answer = output.rfind("<answer>")
    return output[answer:] if answer > start else before


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str
    closed: bool


_BOX = re.compile(r"(?:\\|(?<![A-Za-z]))(?:boxed|fbox)\s*\{")


def find_boxes(text: str) -> list[_Box]:
    """All outermost boxes in order, those that never close with `closed` False. Linear time, no recursion."""
    closing = _matching_braces(text)
    boxes: list[_Box] = []
    at = 0
    while match := _BOX.search(text, at):
        end = closing.get(match.end() - 1)
        if end is None:
            boxes.append(_Box(match.start(), len(text), text[match.end() :], closed=False))
            at = match.end()
        else:
            boxes.append(_Box(match.start(), end + 1, text[match.end() : end], closed=True))
            at = end + 1
        if len(boxes) > MAX_BOXES:
            del boxes[0]
    return boxes


def _matching_braces(text: str) -> dict[int, int]:
    """Position of the closing brace for every opening one that has one; escaped braces do not count."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    skip = False
    for i, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif char == "{":
            opened.append(i)
        elif char == "}" and opened:
            closing[opened.pop()] = i
    return closing


def unbox(text: str) -> str:
    r"""The content of nested boxes: `$\boxed{\frac{16}{7}}$` is `\frac{16}{7}`; text without a box stays."""
    for _ in range(4):
        boxes = [box for box in find_boxes(text) if box.closed]
        if not boxes:
            break
        text = boxes[-1].content
    return text


def _complete(content: str) -> bool:
    r"""Whether the content of a box that never closes can be trusted: a lone letter, or whole bracketed parts.

    A number may have lost digits ("\boxed{2" of 24), so it is no answer.
    """
    content = content.strip()
    if re.fullmatch(r"\(?[A-Ja-j]\)?", content):
        return True
    if re.search(r"\\[dt]?frac\s*\{[^{}]*\}$", content):
        return False
    balanced = all(content.count(a) == content.count(b) for a, b in ("{}", "()", "[]"))
    return bool(content) and balanced and content[-1] in "})]" and len(content) <= 200 and "\n" not in content


def _last_group(text: str, boxes: list[_Box]) -> tuple[str, ...]:
    """The boxes at the end with no sentence between them."""
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box.end : group[0].start]
        if len(between) > 40 or re.search(r"[.!?。][\s]", between):
            break
        group.insert(0, box)
    return tuple(unbox(box.content) for box in group)


_TAG = re.compile(r"<answer>(.*?)</answer>", re.S | re.I)
_OPEN_TAG = re.compile(r"<answer>", re.I)

_PHRASE = re.compile(
    r"\b(?:answer|option|choice)\b"
    r"(?:\s+(?:to (?:this|the) (?:question|problem)|here))?"
    r"[*_]*\s*(?:(?:is|are|would be|should be|must be|will be)\b(?!\s+(?:not|n't)\b)\s*[:：]?|[:：=])[*_]*"
    r"|\b(?:i|we)\s+(?:would\s+|will\s+|therefore\s+)*(?:choose|pick|select|go with)\b[:：]?"
    r"|(?:正确)?(?:答案|结果)\s*(?:应该?|就)?\s*(?:是|为|选|[:：])+"
    r"|故答案为\s*[:：]?|(?<![不没别勿])(?:故|因此|所以|应|应该|正确|答案|我|则)?(?<![不没别勿])\s*"
    r"选(?!项|择题|中|出|手|取)择?\s*[:：]?"
    r"|####",
    re.I,
)


def _final_phrase(text: str) -> tuple[str, bool, str] | None:
    """What the last final phrase introduces: to the end of its line, whether that is whole, and all of it."""
    found = list(_PHRASE.finditer(text))
    if not found:
        return None
    match = found[-1]
    rest = text[match.end() :]
    line, newline, after = rest.lstrip(" *_:：\t").partition("\n")
    if not trim(line):
        line, newline, after = after.lstrip().partition("\n")
    whole = bool(newline) or re.search(r"[.!。](?:\s|$)|\*\*$", line.rstrip()) is not None
    return line.strip(), whole, rest.lstrip(" *_:：\t\n")


_FENCE = re.compile(r"^```[A-Za-z]*[ \t]*$", re.M)
_MARKUP = re.compile(r"</?(?:b|i|u|em|strong)>")


def extract(output: str, truncated: bool = False) -> Extraction:
    """The final answer of `output`. `truncated` (the model was cut off) accepts only an answer that is surely whole."""
    # The thinking is dropped first, from the whole output: its end may lie far before the tail.
    body = _FENCE.sub("", repair_commands(drop_thinking(output))[-MAX_CONSIDERED:]).strip()
    if not body:
        return Extraction("", "none", "")
    boxes = find_boxes(body)
    closed = [box for box in boxes if box.closed and box.content.strip()]
    asserted = [box for box in closed if not denied_before(body[: box.start])]
    closed = asserted or closed
    if closed:
        return Extraction(unbox(closed[-1].content).strip(), "box", body, _last_group(body, closed))
    tags = _TAG.findall(body)
    if tags and tags[-1].strip():
        return Extraction(tags[-1].strip(), "answer tag", body)
    if not truncated:
        if boxes and not boxes[-1].closed and _complete(boxes[-1].content):
            return Extraction(boxes[-1].content.strip(), "box", body)
        opened = [match.end() for match in _OPEN_TAG.finditer(body)]
        if opened and "</answer>" not in body[opened[-1] :] and _complete(body[opened[-1] :]):
            return Extraction(body[opened[-1] :].strip(), "answer tag", body)
    if any(not box.closed for box in boxes) or any(True for _ in _OPEN_TAG.finditer(body)):
        # the answer was begun and lost; what stands before it is not the answer
        return Extraction("", "none", body)
    if not truncated:
        body = after_withdrawal(body)
    phrase = _final_phrase(body)
    if phrase is not None and trim(phrase[0]) and (phrase[1] or not truncated):
        revised = after_withdrawal(phrase[2], marked=True)
        if revised != phrase[2]:
            return Extraction(revised.splitlines()[0].strip(), "final phrase", revised, rest=revised)
        return Extraction(phrase[0], "final phrase", body, rest=phrase[2])
    if truncated:
        return Extraction("", "none", body)
    stated = re.sub(r"\\boxed\s*\{\s*\}", "", body).strip(" $.\n")
    if not stated:
        return Extraction("", "none", body)
    if len(stated) <= SHORT:
        stated = _MARKUP.sub("", stated)
        return Extraction(stated, "whole output", body)
    last = body.splitlines()[-1].strip()
    return Extraction(last if len(last) <= SHORT else "", "last line", body)


_REFUSAL = re.compile(
    r"\b(?:i'?m |i am |we are )?(?:sorry|unable to|not able to|not sure|uncertain|not certain)\b"
    r"|\bas an ai\b|\bai (?:language )?model\b"
    r"|\b(?:i|we|one)\s+(?:really\s+)?(?:can(?:no|')t|cannot|could(?: not|n't)|do(?: not|n't)|am not able to)\s+"
    r"(?:see|view|tell|say|know|help|assist|answer|determine|decide|process|access|open|find|identify|provide|have)"
    r"|\b(?:cannot|can'?t|can not|could not|impossible to|not possible to|no way to|hard to|difficult to)\s+(?:be\s+)?"
    r"(?:tell|say|know|determined?|decided?|answer(?:ed)?|seen|said|identified)\b"
    r"|\bnothing can be\b|\bno idea\b|\bno answer\b|\bunclear\b"
    r"|\bnot (?:clear|enough information|provided|visible in)\b"
    r"|\b(?:insufficient|not enough|no) (?:information|data|context)\b|\bunknown\b|\bundetermined\b"
    r"|\b(?:need|provide|upload|share|attach|send|missing|without)\b[^.]{0,40}"
    r"\b(?:image|picture|figure|photo|diagram)\b"
    r"|无法|不能确定|不确定|不知道|抱歉|对不起|看不到|没有图|未提供|看不清",
    re.I,
)


def is_refusal(text: str) -> bool:
    """Whether the text says that no answer can be given."""
    return bool(_REFUSAL.search(fold(text[:2000])))


def short(text: str, length: int = 80) -> str:
    """One line for a reason: whitespace collapsed, cut in the middle."""
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else f"{text[: length - 20]}...{text[-15:]}"


def same_text(left: str, right: str) -> bool:
    """Equal after folding case, LaTeX, spaces and the marks around them."""
    return compact(left[:4000]) == compact(right[:4000])
