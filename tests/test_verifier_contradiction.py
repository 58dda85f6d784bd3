"""A letter with the text of another option is wrong, whichever letter it is: "A." is no article there."""

import pytest

from dmlr.verifier import verify

PROMPT = "What colour is the star?\nA. blue\nB. red\nC. green"


@pytest.mark.parametrize(
    "output", ["\\boxed{A. red}", "A. red", "(A) red", "A: red", "\\boxed{C. red}", "(C) red"]
)
def test_letter_against_text_is_wrong(output):
    assert verify(output, "B. red", PROMPT).verdict == "wrong"
    assert (
        verify(output, "B. red", PROMPT, choices=["blue", "red", "green"], answer_letter="B").verdict
        == "wrong"
    )


@pytest.mark.parametrize("output", ["\\boxed{B. red}", "A red one", "a red", "red", "(B)"])
def test_an_article_is_no_letter(output):
    assert verify(output, "B. red", PROMPT).verdict == "correct"
