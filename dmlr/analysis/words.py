"""Which tokens of an output belong to words that name what is in a picture, and which to function words.

Two lists, ours: colours, shapes and whole numbers against words that only hold a sentence together. They
fit the shapes world exactly and other datasets roughly; a YAML file with `content` and `function` replaces
them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dmlr.errors import UserError

_COLOURS = "red green blue yellow orange purple violet pink brown black white gray grey cyan magenta teal"
_SHAPES = (
    "circle square triangle star cross diamond heart hexagon pentagon rectangle oval ellipse ring line arrow cube "
    "sphere cylinder moon plus"
)
_NUMBERS = "zero one two three four five six seven eight nine ten"
_FUNCTION = (
    "a an the of in on at to by for from with and or but so then than that this these those is are was were be been "
    "it its there here i we you as if which what how do does therefore thus because has have"
)


@dataclass(frozen=True)
class Words:
    """Lower-case words of each group; whole numbers always count as content."""

    content: frozenset[str]
    function: frozenset[str]


def default_words() -> Words:
    """Colours, shapes and numbers against function words."""
    shapes = _SHAPES.split()
    plurals = [f"{shape}es" if shape.endswith(("s", "x")) else f"{shape}s" for shape in shapes]
    content = frozenset([*_COLOURS.split(), *shapes, *plurals, *_NUMBERS.split()])
    return Words(content, frozenset(_FUNCTION.split()))


def read_words(file: Path) -> Words:
    """Lists from a YAML file: `content: [...]`, `function: [...]`. Raises `UserError` for anything else."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--words {file}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("content", "function")
    ):
        raise UserError(f"--words {file}: needs two lists, `content` and `function`")
    lists = [frozenset(str(word).lower() for word in content[key]) for key in ("content", "function")]
    return Words(*lists)


def groups_of(text: str, spans: Sequence[tuple[int, int]], words: Words, question: str = "") -> list[str]:
    """`content`, `repeated`, `function` or `` for each token of `text`, by the word that its characters lie
    in.

    `repeated` are content words that the `question` holds already: they may be copied instead of seen. A
    token that touches no word of either list (punctuation, other words, cell names like c3) has no group.
    `spans` are (start, stop) characters.
    """
    asked = {match.group().lower() for match in re.finditer(r"[^\W_]+", question)}
    group_at: dict[int, str] = {}
    for match in re.finditer(r"[^\W_]+", text):
        word = match.group().lower()
        kind = "content" if word in words.content or word.isdecimal() else ""
        kind = kind or ("function" if word in words.function else "")
        if kind == "content" and word in asked:
            kind = "repeated"
        if kind:
            group_at.update(dict.fromkeys(range(*match.span()), kind))
    return [next((group_at[i] for i in range(start, stop) if i in group_at), "") for start, stop in spans]
