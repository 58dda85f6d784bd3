"""Questions about a scene, with the answer, the reasons for it and the boxes of the things that decide it.

Five kinds in four answer formats: `count` (integer), `compare` and `exists` (yes or no), `neighbour` (a free word) and
`option` (a letter). Yes and no are drawn evenly, and so are the letters. The texts are the targets of the training too:
`answer_text` gives what the model should say under each of the three solver instructions of `dmlr/prompts.py`.
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
    "neighbour": "free",
    "option": "choice",
}
LETTERS = "ABCD"

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
    choices: tuple[str, ...] = ()
    letter: str = ""
    evidence: list[list[int]] = field(default_factory=list)  # pixel boxes of `things`

    @property
    def rationale(self) -> str:
        """The steps as one line of text."""
        return " ".join(self.steps)

    @property
    def solution(self) -> str:
        """Gold answer as the dataset spells it: "B. red" for options, else in a box."""
        return self.answer if self.choices else f"\\boxed{{{self.answer}}}"


def place(thing: Thing) -> str:
    """Cell of a thing as the rationales write it, 1-based: "r2c5" is row 2, column 5."""
    return f"r{thing.row + 1}c{thing.column + 1}"


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


def _listing(group: str, things: tuple[Thing, ...]) -> str:
    """The members of a group with their cells, and how many they are."""
    label = _label(group)
    label = label[0].upper() + label[1:]
    if not things:
        return f"{label}: none, so 0."
    return f"{label}: {', '.join(place(t) for t in things)}, so {len(things)}."


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
        "count", f"How many {_label(group)} are there?", str(number), (_listing(group, things),), things
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
    verdict = f"{len(one)} is {'more' if answer == 'Yes' else 'not more'} than {len(other)}."
    return Question(
        "compare",
        f"Are there more {_label(first)} than {_label(second)}?",
        answer,
        (_listing(first, one), _listing(second, other), verdict),
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
    colour = name.split()[0]
    same = _of_group(scene, colour)
    listing = f"{colour.capitalize()} objects: {', '.join(f'{place(t)} {t.shape}' for t in same)}."
    found = tuple(t for t in same if t.name == name)
    verdict = f"A {name} is there." if found else f"No {name} is there."
    return Question("exists", f"Is there a {name} in the image?", answer, (listing, verdict), found or same)


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


def _beside_step(reference: Thing, direction: str, other: Thing) -> tuple[str, str]:
    return (
        f"The {reference.name} is at {place(reference)}.",
        f"{_DIRECTIONS[direction][2]} is {place(other)}, a {other.name}.",
    )


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
        _beside_step(reference, direction, other),
        (reference, other),
    )


def _option(scene: Scene, rng: random.Random) -> Question:
    candidates = _neighbours(scene)
    attribute = rng.choice(("colour", "shape"))
    if candidates and rng.random() < 0.5:
        reference, direction, thing = rng.choice(candidates)
        asked = f"Which {attribute} is the object directly {direction} the {reference.name}?"
        steps: tuple[str, ...] = _beside_step(reference, direction, thing)
        things: tuple[Thing, ...] = (reference, thing)
    else:
        thing = rng.choice(scene.things)
        asked = f"Which {attribute} is the object in row {thing.row + 1}, column {thing.column + 1}?"
        steps = (f"In {place(thing)} is a {thing.name}.",)
        things = (thing,)
    right = thing.colour if attribute == "colour" else thing.shape
    wrong = [v for v in (COLOURS if attribute == "colour" else SHAPES) if v != right]
    letter = rng.choice(LETTERS)
    choices = rng.sample(wrong, len(LETTERS) - 1)
    choices.insert(LETTERS.index(letter), right)
    options = "\n".join(f"{mark}. {choice}" for mark, choice in zip(LETTERS, choices, strict=True))
    return Question(
        "option",
        f"{asked}\n{options}",
        f"{letter}. {right}",
        (*steps, f"That is option {letter}."),
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

assert GRID <= 9, "cells are written with one digit each"
