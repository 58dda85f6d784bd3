"""Proof 4: batched, left-padded and packed forwards equal single ones.

That they equal the naive oracle is held by `test_parity_naive.py`.
"""

import pytest
import torch
from proof_tools import prefill, table, thoughts_of

from dmlr import inference
from dmlr.inference import BlockStyle
from dmlr.scoring import Scorer

SETTINGS = {
    "default": {},
    "candidates, one thought at a time": {
        "num_candidates": 4,
        "antithetic": True,
        "acceptance": "per_token",
        "patch_placement": "after",
        "score_rows": "thoughts+next",
    },
    "true gradient": {"use_auto_grad": True, "patch_positions": "image", "score_rows": "thoughts+answer"},
    "last state, image start": {"disable_best_reward": True, "visual_only": True},
}


def assert_same(one, other):
    """The same prediction, whoever stood beside it."""
    assert one.data_idx == other.data_idx
    assert one.patches == other.patches
    assert one.model_output == other.model_output
    assert one.generated_tokens == other.generated_tokens
    assert one.best_reward_step == other.best_reward_step
    assert one.initial_reward == pytest.approx(other.initial_reward, abs=1e-4)
    assert one.best_reward == pytest.approx(other.best_reward, abs=1e-4)
    torch.testing.assert_close(one.thoughts, other.thoughts, atol=1e-4, rtol=1e-4)
    assert [t.patch_count for t in one.trace] == [t.patch_count for t in other.trace]
    assert [t.reward for t in one.trace] == pytest.approx([t.reward for t in other.trace], abs=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_batch_of_four_equals_batches_of_one(tiny, samples, config, name):
    """Four prompt lengths and four numbers of image tokens, one of them none."""
    config = config.replace(**SETTINGS[name])
    together = inference.answer(samples, tiny, config)
    assert len({p.prompt_tokens for p in together}) == 4
    assert any(p.best_reward_step for p in together)
    for sample, prediction in zip(samples, together, strict=True):
        assert_same(prediction, inference.answer([sample], tiny, config)[0])


@pytest.mark.parametrize("placement", ["before", "after"])
def test_left_padding_changes_no_logit(tiny, samples, placement):
    """The shortest prompt, padded by a longer one, with and without patches."""
    style, tail = BlockStyle(placement), tiny.encode(samples[0], 3, 0).tail_ids
    thoughts, patches = (
        thoughts_of(tiny, 4, 3),
        [[[1, 2], [0], []], [[3], [], [4]], [[5], [6], [7]], [[]] * 3],
    )
    batch = prefill(tiny, samples, 3)
    assert not batch.valid.all()
    with torch.no_grad():
        padded = tiny.score_block(batch, thoughts[:, None], table(*patches)[:, None], style, tail, True)
        for b, sample in enumerate(samples):
            alone = tiny.score_block(
                prefill(tiny, [sample], 3),
                thoughts[b : b + 1, None],
                table(patches[b])[:, None],
                style,
                tail,
                True,
            )
            torch.testing.assert_close(padded.logits[b], alone.logits[0], atol=1e-4, rtol=1e-4)
            count = alone.attention.shape[-1]
            torch.testing.assert_close(padded.attention[b, ..., :count], alone.attention[0])


@pytest.mark.parametrize("rows", ["thoughts", "thoughts+answer"])
@pytest.mark.parametrize("count", [5, 40])
def test_packed_candidates_equal_candidates_one_by_one(tiny, samples, config, rows, count):
    """40 candidates of 8 thoughts with 12 patch slots each are more than one packed forward takes."""
    config = config.replace(score_rows=rows, num_candidates=count)
    held = [[0, 5], [1], []]
    if count == 40:
        held = [[first, *range(8, 19)] for first in range(8)]
    L = len(held)
    prefix = prefill(tiny, samples[:2], L)
    scorer = Scorer(tiny, prefix, BlockStyle(), config)
    candidates = torch.stack([thoughts_of(tiny, 2, L, seed) for seed in range(count)], 1)
    patches = table(held, held[::-1])
    with torch.no_grad():
        packed = scorer.score_candidates(candidates, patches)
        single = [scorer.score(candidates[:, k], patches, with_attention=True) for k in range(count)]
    torch.testing.assert_close(packed.reward, torch.stack([s.reward for s in single], 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(packed.top_k_mass, torch.stack([s.top_k_mass for s in single], 1))
    torch.testing.assert_close(packed.attention, torch.stack([s.attention for s in single]).mean(0))
    assert packed.reward.std(dim=1).min() > 1e-3  # different candidates, different rewards


def test_a_candidate_does_not_see_its_neighbour(tiny, samples, config):
    prefix = prefill(tiny, samples[:2], 3)
    scorer = Scorer(tiny, prefix, BlockStyle(), config)
    candidates = torch.stack([thoughts_of(tiny, 2, 3, seed) for seed in range(3)], 1)
    changed = candidates.clone()
    changed[:, 1] += 5.0
    patches = table([[0], [], []], [[], [1], [2]])
    with torch.no_grad():
        before, after = (scorer.score_candidates(c, patches).reward for c in (candidates, changed))
    assert (before - after)[:, 1].abs().min() > 1e-3
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]], atol=1e-5, rtol=0)


def test_scoring_leaves_the_prefix_as_it_was(tiny, samples, config):
    """The same state scores the same before and after other states were scored and an answer decoded."""
    prefix = prefill(tiny, samples[:2], 3)
    scorer = Scorer(tiny, prefix, BlockStyle(), config)
    thoughts, patches = thoughts_of(tiny, 2, 3), table([[0], [1, 2], []], [[], [1], [2]])
    with torch.no_grad():
        first = scorer.score(thoughts, patches).reward
        scorer.score_candidates(torch.stack([thoughts + 1, thoughts - 1], 1), patches)
        tiny.decode(prefix, thoughts, patches, BlockStyle(), 20)
        again = scorer.score(thoughts, patches).reward
    assert torch.equal(first, again)
