"""Question splits of shapes world as dataset files of the toolkit: one JSON list and a folder of PNG images."""

import random
from pathlib import Path
from typing import Any

from dmlr.demo.questions import ANSWER_TYPES, KINDS, LETTERS, Question, make_question
from dmlr.demo.shapes import Scene, draw_scene, make_scene, scene_key
from dmlr.files import write_json_atomic

QUESTIONS_PER_IMAGE = 2

# Answers that a kind deals out in turn, so that guessing the commonest one does not pay.
_TURNS = {"compare": ("Yes", "No"), "exists": ("Yes", "No"), "option": tuple(LETTERS)}


def make_split(
    name: str, count: int, seed: int, fewest: int = 11, most: int = 15, banned: frozenset[str] = frozenset()
) -> list[tuple[Scene, Question]]:
    """`count` questions, two per scene, the kinds in turn; deterministic in (`name`, `seed`).

    A split of a larger `count` begins with the smaller one. Scenes whose `scene_key` is in `banned`, or that the split
    already holds, are drawn again.
    """
    rng = random.Random(f"split:{name}:{seed}")
    seen = set(banned)
    dealt = dict.fromkeys(KINDS, 0)
    rows: list[tuple[Scene, Question]] = []
    while len(rows) < count:
        scene = make_scene(rng, fewest, most)
        if scene_key(scene) in seen:
            continue
        kinds = [KINDS[(len(rows) + i) % len(KINDS)] for i in range(QUESTIONS_PER_IMAGE)]
        drawn = [_draw(scene, kind, dealt[kind], rng) for kind in kinds]
        questions = [question for question in drawn if question is not None]
        if len(questions) < len(kinds):
            continue
        seen.add(scene_key(scene))
        for question in questions:
            dealt[question.kind] += 1
            rows.append((scene, question))
    return rows[:count]


def _draw(scene: Scene, kind: str, turn: int, rng: random.Random) -> Question | None:
    """A question of `kind` whose answer is the one whose turn it is; None where 30 tries do not give one."""
    for _ in range(30):
        question = make_question(scene, kind, rng)
        if question is None:
            return None
        wanted = _TURNS.get(kind)
        if wanted is None or (question.letter or question.answer) == wanted[turn % len(wanted)]:
            return question
    return None


def dataset_row(question: Question, number: int, name: str, image: str) -> dict[str, Any]:
    """One row of the dataset file; `image` is relative to it."""
    row: dict[str, Any] = {
        "idx": number,
        "id": f"{name}-{number:04d}",
        "prompt": question.prompt,
        "solution": question.solution,
        "image_path": image,
        "category": question.kind,
        "answer_type": ANSWER_TYPES[question.kind],
        "evidence": question.evidence,
        "rationale": question.rationale,
        "steps": list(question.steps),
    }
    row["answer_text"] = question.answer
    if question.choices:
        row["choices"] = list(question.choices)
    if question.letter:
        row["answer_letter"] = question.letter
        row["answer_text"] = question.answer.partition(". ")[2]
    return row


def write_split(rows: list[tuple[Scene, Question]], name: str, folder: Path) -> Path:
    """Write `folder/NAME.json` and its images `folder/images/NAME-NNNN.png`; returns the path of the JSON file."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    table = []
    for number, (scene, question) in enumerate(rows):
        key = scene_key(scene)
        if key not in files:
            files[key] = f"images/{name}-{len(files):04d}.png"
            draw_scene(scene).save(folder / files[key], optimize=True)
        table.append(dataset_row(question, number, name, files[key]))
    path = folder / f"{name}.json"
    write_json_atomic(path, table)
    return path
