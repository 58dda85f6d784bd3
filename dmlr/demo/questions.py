"""Questions about a scene, with the answer, the reasons for it and the boxes of the things that decide it.

Five kinds in four answer formats: `count` (integer), `compare` and `exists` (yes or no), `neighbour` (one word of five)
and `option` (a letter). Yes and no are drawn evenly, and so are the letters. The texts are the targets of the training
too: `answer_text` gives what the model should say under each of the three solver instructions of `dmlr/prompts.py`.

The reasons walk: they go through the objects in reading order, hold each against what is asked for ("a1 red star vs red
#1") and keep a tally, and through the options in theirs. Each word then follows from the few words before it and from
one place of the image, which a model of this size can learn. Without the "vs red" beside each object, 1,000 updates
did not teach it to hold an object against a word of the question.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from dmlr.demo.shapes import COLOURS, GRID, SHAPES, Scene, Thing

KINDS = ("count", "compare", "exists", "neighbour", "option")
ANSWER_TYPES = {
    "count": "integer",
    "compare": "yesno",
    "exists": "yesno",
    "neighbour": "choice",
    "option": "choice",
}
LETTERS = "ABCD"
COLUMNS = "abcdef"

_DIRECTIONS = {
    "to the left of": (0, -1, "Left of it"),
    "to the right of": (0, 1, "Right of it"),
    "above": (-1, 0, "Above it"),
    "below": (1, 0, "Below it"),
}
_PLURAL_OF = {"cross": "crosses"}


@dataclass(frozen=True)
class Question:
    """One question with everything that is known about its answer."""

    kind: str
    prompt: str  # the question, options included, without any instruction
    answer: str  # what stands in the box: "3", "Yes", "red", "B. red"
    steps: tuple[str, ...]  # the reasons, one sentence each
    things: tuple[Thing, ...]  # what decides the answer
    choices: tuple[str, ...] = ()  # what the answer can be; shown with letters in the prompt of `option` only
    letter: str = ""  # of the right choice, where the prompt shows letters
    evidence: list[list[int]] = field(default_factory=list)  # pixel boxes of `things`

    @property
    def rationale(self) -> str:
        """The steps as one line of text."""
        return " ".join(self.steps)

    @property
    def solution(self) -> str:
        """Gold answer as the dataset spells it: "B. red" for options, else in a box."""
        return self.answer if self.letter else f"\\boxed{{{self.answer}}}"


def place(thing: Thing) -> str:
    """Cell of a thing, named as on a chessboard but from the top: "c2" is the third column of the second row."""
    return cell(thing.row, thing.column)


def cell(row: int, column: int) -> str:
    """Name of the cell in that row and column (0-based)."""
    return f"{COLUMNS[column]}{row + 1}"


def plural(noun: str) -> str:
    """Plural of a shape, alone or after a colour."""
    head, _, last = noun.rpartition(" ")
    return f"{head} {_PLURAL_OF.get(last, last + 's')}".strip()


def describe(scene: Scene) -> str:
    """Every thing of the scene in reading order, as the detailed answers begin."""
    return "I see " + ", ".join(f"{place(t)} {t.name}" for t in scene.things) + "."


def answer_text(question: Question, scene: Scene, solver_prompt_idx: int) -> str:
    """Target answer under solver instruction 0 (reasons), 1 (description, then reasons) or 2 (the box alone)."""
    boxed = f"\\boxed{{{question.answer}}}"
    if solver_prompt_idx == 2:
        return boxed
    reasons = f"{question.rationale} {boxed}"
    return f"{describe(scene)} {reasons}" if solver_prompt_idx == 1 else reasons


def make_question(scene: Scene, kind: str, rng: random.Random) -> Question | None:
    """A question of that kind about the scene, or None where the scene does not allow one (rare)."""
    question = _MAKERS[kind](scene, rng)
    if question is not None:
        question.evidence.extend(thing.box for thing in question.things)
    return question


def _of_group(scene: Scene, group: str) -> tuple[Thing, ...]:
    """Things of a colour ("red"), a shape ("circle") or both ("red circle")."""
    return tuple(t for t in scene.things if group in (t.colour, t.shape, t.name))


def _label(group: str) -> str:
    """Plural noun of a group: "red objects", "circles", "red circles"."""
    return f"{group} objects" if group in COLOURS else plural(group)


def _walk(scene: Scene, tallies: dict[str, str], until: Thing | None = None) -> str:
    """The things in reading order, each held against the groups of `tallies`: a match gets their mark and its number.

    With `until` the walk ends at that thing.
    """
    counts = dict.fromkeys(tallies, 0)
    parts = []
    for thing in scene.things:
        part = f"{place(thing)} {thing.name} vs {' '.join(tallies)}"
        for group, mark in tallies.items():
            if thing in _of_group(scene, group):
                counts[group] += 1
                part += f" {mark}{counts[group]}"
        parts.append(part)
        if thing is until:
            break
    return f"Objects: {', '.join(parts)}."


def _count(scene: Scene, rng: random.Random) -> Question:
    groups = rng.choices(
        (list(COLOURS), list(SHAPES), [f"{c} {s}" for c in COLOURS for s in SHAPES]), weights=(2, 2, 1)
    )[0]
    by_number: dict[int, list[str]] = defaultdict(list)
    for group in groups:
        by_number[len(_of_group(scene, group))].append(group)
    number = rng.choice(sorted(n for n in by_number if n <= 6))
    group = rng.choice(by_number[number])
    things = _of_group(scene, group)
    return Question(
        "count",
        f"How many {_label(group)} are there?",
        str(number),
        (_walk(scene, {group: "#"}), f"So {number}."),
        things,
    )


def _compare(scene: Scene, rng: random.Random) -> Question:
    answer = rng.choice(("Yes", "No"))
    names = list(COLOURS) if rng.random() < 0.5 else list(SHAPES)
    pairs = [(a, b) for a in names for b in names if a != b]
    rng.shuffle(pairs)
    counts = {name: len(_of_group(scene, name)) for name in names}
    # Close calls teach and test more than lopsided ones; a tie is a No.
    wanted = [p for p in pairs if (counts[p[0]] > counts[p[1]]) == (answer == "Yes")]
    if not wanted:
        answer, wanted = "No", pairs
    wanted.sort(key=lambda p: abs(counts[p[0]] - counts[p[1]]) > 2)
    first, second = wanted[0]
    one, other = _of_group(scene, first), _of_group(scene, second)
    verdict = f"So {len(one)} against {len(other)}, {'more' if answer == 'Yes' else 'not more'}."
    return Question(
        "compare",
        f"Are there more {_label(first)} than {_label(second)}?",
        answer,
        (_walk(scene, {first: "#", second: "*"}), verdict),
        one + other,
    )


def _exists(scene: Scene, rng: random.Random) -> Question:
    answer = rng.choice(("Yes", "No"))
    names = {t.name for t in scene.things}
    if answer == "No":
        # Colour and shape both occur, only not together: neither word alone gives the answer away.
        colours, shapes = {t.colour for t in scene.things}, {t.shape for t in scene.things}
        names = {f"{c} {s}" for c in colours for s in shapes} - names
        if not names:
            answer, names = "Yes", {t.name for t in scene.things}
    name = rng.choice(sorted(names))
    found = _of_group(scene, name)[:1]
    walk = _walk(scene, {name: "#"}, found[0] if found else None)
    verdict = f"So a {name} is there." if found else f"So no {name} is there."
    evidence = found or _of_group(scene, name.split()[0])
    return Question("exists", f"Is there a {name} in the image?", answer, (walk, verdict), evidence)


def _neighbours(scene: Scene) -> list[tuple[Thing, str, Thing]]:
    """(reference, direction, thing beside it) for every reference whose colour and shape are unique."""
    names = [t.name for t in scene.things]
    found = []
    for reference in scene.things:
        if names.count(reference.name) > 1:
            continue
        for direction, (down, right, _) in _DIRECTIONS.items():
            other = scene.at(reference.row + down, reference.column + right)
            if other is not None:
                found.append((reference, direction, other))
    return found


def _beside_steps(scene: Scene, reference: Thing, direction: str, other: Thing) -> tuple[str, str]:
    return (
        _walk(scene, {reference.name: "#"}, reference),
        f"{_DIRECTIONS[direction][2]} at {place(other)}: {other.name}.",
    )


def _values(attribute: str) -> tuple[str, ...]:
    return tuple(COLOURS) if attribute == "colour" else SHAPES


def _neighbour(scene: Scene, rng: random.Random) -> Question | None:
    candidates = _neighbours(scene)
    if not candidates:
        return None
    reference, direction, other = rng.choice(candidates)
    attribute = rng.choice(("colour", "shape"))
    return Question(
        "neighbour",
        f"What {attribute} is the object directly {direction} the {reference.name}?",
        other.colour if attribute == "colour" else other.shape,
        _beside_steps(scene, reference, direction, other),
        (reference, other),
        choices=_values(attribute),
    )


def _option(scene: Scene, rng: random.Random) -> Question:
    candidates = _neighbours(scene)
    attribute = rng.choice(("colour", "shape"))
    if candidates and rng.random() < 0.5:
        reference, direction, thing = rng.choice(candidates)
        asked = f"Which {attribute} is the object directly {direction} the {reference.name}?"
        steps: tuple[str, ...] = _beside_steps(scene, reference, direction, thing)
        things: tuple[Thing, ...] = (reference, thing)
    else:
        thing = rng.choice(scene.things)
        asked = f"Which {attribute} is the object at {place(thing)}?"
        steps = (f"At {place(thing)}: {thing.name}.",)
        things = (thing,)
    right = thing.colour if attribute == "colour" else thing.shape
    wrong = [v for v in _values(attribute) if v != right]
    letter = rng.choice(LETTERS)
    choices = rng.sample(wrong, len(LETTERS) - 1)
    choices.insert(LETTERS.index(letter), right)
    lettered = [f"{mark}. {choice}" for mark, choice in zip(LETTERS, choices, strict=True)]
    tried = [f"{option} vs {right} {'yes' if option[0] == letter else 'no'}" for option in lettered]
    return Question(
        "option",
        "\n".join((asked, *lettered)),
        f"{letter}. {right}",
        (*steps, f"Options: {', '.join(tried[: LETTERS.index(letter) + 1])}."),
        things,
        choices=tuple(choices),
        letter=letter,
    )


_MAKERS = {
    "count": _count,
    "compare": _compare,
    "exists": _exists,
    "neighbour": _neighbour,
    "option": _option,
}

assert len(COLUMNS) >= GRID, "a cell is named by one letter and one digit"
