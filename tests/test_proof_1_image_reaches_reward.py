"""Proof 1: the image reaches the reward, and so does every single accepted patch; both reach the answer."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from proof_tools import every_state_better, first_decode_logits, prefill, table, thoughts_of

from dmlr import inference
from dmlr.inference import BlockStyle
from dmlr.scoring import Scorer

CHANGED = 1e-3  # far below what a patch does as a rule
NOISE = 1e-5  # of float32, between forwards of one shape


@pytest.fixture
def other_image(samples, tmp_path):
    """The first sample with another picture of the same size."""
    pixels = np.array(Image.open(samples[0].image))
    path = tmp_path / "other.png"
    Image.fromarray(255 - pixels).save(path)
    return dataclasses.replace(samples[0], image=str(path))


def test_changing_the_image_changes_the_reward(tiny, samples, other_image, config):
    ours, theirs = (
        inference.answer([s], tiny, config.replace(max_num_steps=0))[0] for s in (samples[0], other_image)
    )
    assert ours.prompt == theirs.prompt
    assert abs(ours.initial_reward - theirs.initial_reward) > CHANGED


def test_changing_one_image_token_changes_the_reward(tiny, samples, config, tmp_path):
    """A square of 28 pixels, one image token, far from the question."""
    pixels = np.array(Image.open(samples[0].image))
    pixels[28:56, 28:56] = 255 - pixels[28:56, 28:56]
    path = tmp_path / "square.png"
    Image.fromarray(pixels).save(path)
    changed = dataclasses.replace(samples[0], image=str(path))
    ours, theirs = (
        inference.answer([s], tiny, config.replace(max_num_steps=0))[0] for s in (samples[0], changed)
    )
    assert abs(ours.initial_reward - theirs.initial_reward) > CHANGED


def reward(backbone, sample, thoughts, patches, config):
    """Reward of one state (L, D), list of lists, as the run's flags score it."""
    prefix = prefill(backbone, [sample], len(patches))
    scorer = Scorer(backbone, prefix, inference.block_style(config), config)
    with torch.no_grad():
        return float(scorer.score(thoughts[None], table(patches)).reward[0])


def accepted_state(backbone, sample, config, monkeypatch):
    """A state that a run arrived at, with patches at every thought."""
    with every_state_better(monkeypatch):
        (prediction,) = inference.answer([sample], backbone, config)
    assert [len(v) for v in prediction.patches] == [4, 4, 4]
    return prediction.thoughts, prediction.patches


@pytest.mark.parametrize("placement", ["before", "after"])
def test_changing_one_accepted_patch_changes_reward_and_decoded_logits(
    tiny, samples, config, placement, monkeypatch
):
    """Every patch of every thought, the last thought's included."""
    config = config.replace(patch_placement=placement, score_rows="thoughts+next")
    sample = samples[0]
    thoughts, patches = accepted_state(tiny, sample, config, monkeypatch)
    before = reward(tiny, sample, thoughts, patches, config)
    logits = first_decode_logits(tiny, sample, thoughts, patches, placement=placement)
    rewards, answers = [], []
    for l, held in enumerate(patches):
        for slot in range(len(held)):
            changed = [list(v) for v in patches]
            changed[l][slot] = next(j for j in range(25) if j not in held)
            rewards.append(abs(reward(tiny, sample, thoughts, changed, config) - before))
            moved = first_decode_logits(tiny, sample, thoughts, changed, placement=placement)
            answers.append(float((moved - logits).abs().max()))
    assert min(rewards) > NOISE  # every one of them, though the rows of one may nearly cancel in the mean
    assert sorted(rewards)[len(rewards) // 2] > CHANGED
    assert min(answers) > CHANGED


def test_a_dropped_patch_changes_the_reward_of_every_thought_row_that_reads_it(tiny, samples):
    """Before its thought, the last thought's patch reaches the last thought row and no earlier one."""
    prefix, thoughts = prefill(tiny, samples[:1], 3), thoughts_of(tiny, 1, 3)
    with_patch, without = (
        tiny.score_block(
            prefix, thoughts[:, None], table(p)[:, None], BlockStyle(), torch.zeros(0, dtype=int), False
        )
        for p in ([[1], [2], [3]], [[1], [2], []])
    )
    difference = (with_patch.logits - without.logits)[0, 0].abs().amax(-1)
    assert difference[:2].max() < 1e-4
    assert difference[2] > CHANGED


def test_after_with_thought_rows_leaves_the_last_patches_out_of_the_reward(tiny, samples, config):
    """What `warnings_of` warns of: `[T_l, V_l]` scored at the thoughts alone cannot see V_L."""
    config = config.replace(patch_placement="after")
    thoughts = thoughts_of(tiny, 1, 2)[0]
    state = [[0], [1]], [[0], [7]]
    one, other = (reward(tiny, samples[0], thoughts, p, config) for p in state)
    assert one == pytest.approx(other, abs=1e-5)
    config = config.replace(score_rows="thoughts+next")
    one, other = (reward(tiny, samples[0], thoughts, p, config) for p in state)
    assert abs(one - other) > CHANGED
