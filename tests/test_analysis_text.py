"""The parts of the analyses that are arithmetic on text and pixels."""

import numpy as np
import pytest
from PIL import Image

from dmlr.analysis.perturb import KINDS, perturb
from dmlr.analysis.steps import answer_after, mean_by_step, split_steps
from dmlr.analysis.words import default_words, groups_of, read_words
from dmlr.errors import UserError

OUTPUT = "Red objects: r1c2, r3c4, so 2. A red cross is there. \\boxed{Yes}"


def _characters(text):
    return [ord(ch) for ch in text], [(i, i + 1) for i in range(len(text))]


def test_steps_are_the_sentences_before_the_box():
    chain = split_steps(OUTPUT)
    assert [chain.text[a:b].strip() for a, b in chain.steps] == [
        "Red objects: r1c2, r3c4, so 2.",
        "A red cross is there.",
    ]
    assert split_steps("\\boxed{3}").steps == []
    assert len(split_steps("One.\n\nTwo\n...\nThree").steps) == 3
    assert len(split_steps("3.14 is a number, and that is it").steps) == 1


def test_answer_follows_the_steps_and_only_it_is_scored():
    chain = split_steps(OUTPUT)
    for steps, text in ((0, "\\boxed{Yes}"), (1, "Red objects: r1c2, r3c4, so 2. \\boxed{Yes}")):
        ids, where = answer_after(chain, steps, "Yes", _characters)
        assert "".join(map(chr, ids)) == text
        assert "".join(chr(ids[i]) for i in where) == "Yes"
    # a tokenizer whose token covers the answer and the bracket behind it still scores the answer
    ids, where = answer_after(chain, 0, "3", lambda text: ([1, 2], [(0, 6), (6, len(text))]))
    assert where == [1]


def test_means_per_step():
    chain = split_steps("Aa b. Cc d. \\boxed{1}")
    spans = [(0, 2), (2, 4), (4, 5), (5, 8), (8, 10), (12, 18)]
    assert mean_by_step(chain, spans, [1, 2, 3, 10, 20, 99]) == [4.0, 20.0]
    assert mean_by_step(chain, [(0, 2)], [5]) == [5.0, None]


def test_tokens_are_grouped_by_the_word_they_lie_in():
    text = "The red squares: r3c2, so 12 of them."
    pieces = ["The", " re", "d", " squares", ":", " r3", "c2", ",", " so", " 1", "2", " of", " them", "."]
    spans, at = [], 0
    for piece in pieces:
        spans.append((at, at + len(piece)))
        at += len(piece)
    groups = dict(zip(range(len(pieces)), groups_of(text, spans, default_words())))
    assert [pieces[i] for i, g in groups.items() if g == "content"] == [" re", "d", " squares", " 1", "2"]
    assert [pieces[i] for i, g in groups.items() if g == "function"] == ["The", " so", " of"]
    again = groups_of(text, spans, default_words(), "Which squares are red?")
    assert [p for p, g in zip(pieces, again) if g == "repeated"] == [" re", "d", " squares"]
    assert [p for p, g in zip(pieces, again) if g == "content"] == [" 1", "2"]


def test_own_word_lists(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text("content: [Kitten]\nfunction: [meow]\n")
    words = read_words(file)
    assert groups_of("kitten red meow", [(0, 6), (7, 10), (11, 15)], words) == ["content", "", "function"]
    file.write_text("content: kitten\n")
    with pytest.raises(UserError, match="two lists"):
        read_words(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_words(tmp_path / "none.yaml")


def _picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (56, 84, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "swap"])
def test_perturbation_keeps_the_size_grows_with_strength_and_repeats(kind):
    image = _picture()
    original = np.asarray(image, dtype=float)
    weak, strong = (np.asarray(perturb(image, kind, s, 28, 7), dtype=float) for s in (0.2, 1.0))
    assert strong.shape == original.shape
    assert 0 <= np.abs(weak - original).mean() < np.abs(strong - original).mean()
    assert (np.asarray(perturb(image, kind, 1.0, 28, 7)) == strong).all()


def test_each_kind_destroys_what_it_says():
    image = _picture()
    blank = np.asarray(perturb(image, "blank", 1.0, 28, 0))
    assert np.ptp(blank.reshape(-1, 3), axis=0).tolist() == [0, 0, 0]
    shuffled = np.asarray(perturb(image, "shuffle", 1.0, 28, 0))
    original = np.asarray(image)

    def tiles(pixels):
        return [pixels[y : y + 28, x : x + 28].tobytes() for y in (0, 28) for x in (0, 28, 56)]

    assert sorted(tiles(shuffled)) == sorted(tiles(original))
    assert all(a != b for a, b in zip(tiles(shuffled), tiles(original)))  # every tile has moved
    other = Image.new("RGB", (10, 10), (9, 9, 9))
    assert np.unique(np.asarray(perturb(image, "swap", 1.0, 28, 0, other))).tolist() == [9]
    with pytest.raises(ValueError, match="no other image"):
        perturb(image, "swap", 1.0, 28, 0)
    with pytest.raises(ValueError, match="unknown perturbation"):
        perturb(image, "melt", 1.0, 28, 0)
