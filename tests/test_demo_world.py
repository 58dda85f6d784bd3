"""Shapes world: deterministic, answers derivable from the scene, splits disjoint, files as the README describes."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlr.demo.questions import KINDS, LETTERS, answer_text, make_question, plural
from dmlr.demo.shapes import CELL, COLOURS, GRID, SHAPES, SIDE, Scene, draw_scene, make_scene, scene_key
from dmlr.demo.splits import make_split, write_split
from dmlr.demo.train import TrainConfig, training_scenes

DEMO = Path(__file__).parent.parent / "data" / "demo"

STEPS = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


def group(scene: Scene, words: str):
    """Things that a phrase of a question names, worked out here from the words alone."""
    singular = {plural(shape): shape for shape in SHAPES}
    wanted = [singular.get(word, word) for word in words.split() if word not in ("objects", "object")]
    return [t for t in scene.things if all(word in (t.colour, t.shape) for word in wanted)]


def derive(scene: Scene, prompt: str):
    """Answer and deciding things of a question, derived from its text and the scene (not from the generator)."""
    asked = prompt.splitlines()[0]
    if found := re.fullmatch(r"How many (.+) are there\?", asked):
        things = group(scene, found[1])
        return str(len(things)), things
    if found := re.fullmatch(r"Are there more (.+) than (.+)\?", asked):
        one, other = group(scene, found[1]), group(scene, found[2])
        return ("Yes" if len(one) > len(other) else "No"), one + other
    if found := re.fullmatch(r"Is there a (.+) in the image\?", asked):
        things = group(scene, found[1])
        return ("Yes", things[:1]) if things else ("No", group(scene, found[1].split()[0]))
    if found := re.fullmatch(r"(?:What|Which) (\w+) is the object directly (.+?) the (\w+ \w+)\?", asked):
        (reference,) = group(scene, found[3])
        down, right = STEPS[found[2]]
        other = scene.at(reference.row + down, reference.column + right)
        assert other is not None
        return (other.colour if found[1] == "colour" else other.shape), [reference, other]
    found = re.fullmatch(r"Which (\w+) is the object at ([a-f])([1-6])\?", asked)
    assert found, asked
    thing = scene.at(int(found[3]) - 1, "abcdef".index(found[2]))
    assert thing is not None
    return (thing.colour if found[1] == "colour" else thing.shape), [thing]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_evidence_follow_from_the_scene(kind):
    rng = random.Random(f"derive {kind}")
    for _ in range(300):
        scene = make_scene(rng)
        question = make_question(scene, kind, rng)
        if question is None:
            continue
        answer, things = derive(scene, question.prompt)
        if question.letter:
            options = dict(line.split(". ") for line in question.prompt.splitlines()[1:])
            assert options == dict(zip(LETTERS, question.choices))
            assert question.answer == f"{question.letter}. {options[question.letter]}"
            answer = f"{next(mark for mark, text in options.items() if text == answer)}. {answer}"
            assert question.solution == answer
        else:
            assert question.solution == f"\\boxed{{{answer}}}"
        assert question.answer == answer
        assert sorted(question.evidence) == sorted(t.box for t in things)
        for instruction in range(3):
            assert answer_text(question, scene, instruction).endswith(f"\\boxed{{{answer}}}")


@pytest.mark.parametrize("kind", ["count", "compare", "exists", "neighbour"])
def test_the_walk_holds_each_object_in_turn_against_what_is_asked_for(kind):
    """The rationale is read back: cells, names, what they are held against and running numbers are the scene's."""
    rng = random.Random(f"walk {kind}")
    tallied = 0
    for _ in range(200):
        scene = make_scene(rng)
        question = make_question(scene, kind, rng)
        if question is None:
            continue
        asked = re.search(
            r"How many (.+) are|more (.+) than (.+)\?|Is there a (.+) in|the (\w+ \w+)\?$", question.prompt
        )
        phrases = [words for words in asked.groups() if words]
        members = [group(scene, words) for words in phrases]
        told = question.steps[0].removeprefix("Objects: ").removesuffix(".").split(", ")
        found = kind in ("exists", "neighbour") and members[0]
        assert len(told) == (scene.things.index(members[0][0]) + 1 if found else len(scene.things))
        for i, (thing, part) in enumerate(zip(scene.things, told)):
            seen, _, held = part.partition(" vs ")
            assert seen == f"{'abcdef'[thing.column]}{thing.row + 1} {thing.name}"
            singular = [re.sub(r" objects$|(?<=cross)es$|(?<=[^s])s$", "", words) for words in phrases]
            marks = [
                f" {mark}{sum(t in those for t in scene.things[: i + 1])}"
                for mark, those in zip("#*", members)
                if thing in those
            ]
            assert held == " ".join(singular) + "".join(marks)
            tallied += len(marks)
    assert tallied > 50


def test_the_options_are_tried_in_their_order_up_to_the_right_one():
    rng = random.Random("options")
    for _ in range(100):
        question = make_question(make_scene(rng), "option", rng)
        right = question.answer.partition(". ")[2]
        tried = question.steps[-1].removeprefix("Options: ").removesuffix(".").split(", ")
        assert tried == [
            f"{mark}. {choice} vs {right} {'yes' if mark == question.letter else 'no'}"
            for mark, choice in zip(LETTERS, question.choices)
            if mark <= question.letter
        ]


def test_drawing_shows_every_thing_inside_its_box_and_nothing_elsewhere():
    rng = random.Random("drawing")
    for _ in range(20):
        scene = make_scene(rng)
        image = draw_scene(scene)
        assert image.size == (SIDE, SIDE)
        changed = np.asarray(image) != np.asarray(draw_scene(Scene(())))
        changed = changed.any(axis=2)
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert thing.column * CELL < x0 < x1 < (thing.column + 1) * CELL
            assert thing.row * CELL < y0 < y1 < (thing.row + 1) * CELL
            # The middle of every shape is filled with its own colour, give or take the tint.
            middle = np.asarray(image)[(y0 + y1) // 2, (x0 + x1) // 2].astype(int)
            nearest = min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())
            assert nearest == thing.colour
            # It reaches into all four image tokens of its cell.
            half = CELL // 2
            for y in (thing.row * CELL, thing.row * CELL + half):
                for x in (thing.column * CELL, thing.column * CELL + half):
                    assert changed[y : y + half, x : x + half].any()
            changed[y0:y1, x0:x1] = False
        assert not changed.any()


def test_generator_is_deterministic_and_depends_on_name_and_seed():
    first = make_split("alpha", 20, seed=3)
    assert first == make_split("alpha", 20, seed=3)
    assert make_split("alpha", 40, seed=3)[:20] == first
    assert make_split("alpha", 20, seed=4) != first
    assert make_split("beta", 20, seed=3) != first
    one, again = draw_scene(first[0][0]), draw_scene(make_split("alpha", 2, seed=3)[0][0])
    assert one.tobytes() == again.tobytes()


def test_scene_key_sees_content_and_not_jitter():
    scene = make_scene(random.Random(5))
    moved = Scene(tuple(t.__class__(**{**t.__dict__, "dx": 4, "tint": (0, 0, 0)}) for t in scene.things))
    assert scene_key(moved) == scene_key(scene)
    thing = scene.things[0]
    other = "red" if thing.colour != "red" else "blue"
    changed = Scene((thing.__class__(**{**thing.__dict__, "colour": other}), *scene.things[1:]))
    assert scene_key(changed) != scene_key(scene)


def test_banned_scenes_do_not_come_up():
    first = make_split("alpha", 20, seed=3)
    banned = frozenset({scene_key(first[0][0])})
    kept = {scene_key(scene) for scene, _ in make_split("alpha", 20, seed=3, banned=banned)}
    assert not kept & banned


def test_shipped_questions_are_the_generator_s_and_share_no_scene_with_the_training(tmp_path):
    trained = frozenset(scene_key(scene) for scene in training_scenes(TrainConfig()))
    rows = make_split("demo", 160, seed=1, banned=trained)
    assert not {scene_key(scene) for scene, _ in rows} & trained
    shipped = json.loads((DEMO / "demo.json").read_text())
    written = write_split(rows, "demo", tmp_path)
    assert json.loads(written.read_text()) == shipped
    for path in sorted({row["image_path"] for row in shipped}):
        with Image.open(DEMO / path) as image, Image.open(tmp_path / path) as fresh:
            assert np.array_equal(np.asarray(image), np.asarray(fresh))


def test_shipped_questions_cover_the_kinds_evenly():
    rows = json.loads((DEMO / "demo.json").read_text())
    assert len(rows) >= 120
    assert len({row["image_path"] for row in rows}) >= 60
    assert [row["idx"] for row in rows] == list(range(len(rows)))
    kinds = Counter(row["category"] for row in rows)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) == max(kinds.values())
    for kind in ("compare", "exists"):
        answers = Counter(row["solution"] for row in rows if row["category"] == kind)
        assert answers["\\boxed{Yes}"] == answers["\\boxed{No}"]
    letters = Counter(row["answer_letter"] for row in rows if row["category"] == "option")
    assert set(letters) == set(LETTERS)
    assert max(letters.values()) - min(letters.values()) <= 1
    assert {row["answer_type"] for row in rows} == {"integer", "yesno", "choice"}
    for row in rows:
        assert all(0 <= x0 < x1 <= SIDE and 0 <= y0 < y1 <= SIDE for x0, y0, x1, y1 in row["evidence"])
        assert row["rationale"] == " ".join(row["steps"])


def test_demo_stays_small():
    total = sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file())
    assert total < 20e6
    assert (DEMO / "model" / "model.safetensors").stat().st_size < 16e6


def test_grid_is_144_image_tokens():
    assert (SIDE // 28) ** 2 == 144
    assert CELL == 56
    assert GRID == 6
