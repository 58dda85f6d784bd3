"""Proof 5: the probe's attention equals eager attention's rows, mean over heads and layers, not renormalised."""

import pytest
import torch
from proof_tools import forward, full_sequence, plain_model, prefill, table, thoughts_of

from dmlr import inference
from dmlr.inference import BlockStyle

PATCHES = [[[3, 20], [], [11]], [[], [0, 1], [2]], [[5], [], []], [[], [], []]]


def eager_rows(backbone, sample, thoughts, patches, placement):
    """Rows of the thoughts (L, J) from the full attention matrices of the plain model."""
    model, text = plain_model(backbone), backbone.encode(sample, 3, 0).text
    sequence = full_sequence(model, backbone, sample, text, thoughts, patches, placement)
    layers = torch.stack(forward(model, sequence).attentions)  # (layers, 1, heads, T, T)
    assert layers.shape[2] == 2 * backbone.model.config.text_config.num_key_value_heads  # grouped queries
    return layers.mean((0, 2))[0][sequence.thought_rows][:, sequence.image_columns]


@pytest.mark.parametrize("placement", ["before", "after"])
def test_probe_equals_eager_in_a_padded_batch_of_packed_candidates(tiny, samples, placement):
    copies = 3
    prefix = prefill(tiny, samples, 3)
    assert not prefix.valid.all()
    thoughts = torch.stack([thoughts_of(tiny, 4, 3, seed) for seed in range(copies)], 1)
    patches = table(*PATCHES)[:, None].expand(-1, copies, -1, -1)
    with torch.no_grad():
        output = tiny.score_block(
            prefix, thoughts, patches, BlockStyle(placement), torch.zeros(0, dtype=torch.long), True
        )
    for b, sample in enumerate(samples[:3]):
        for n in range(copies):
            expected = eager_rows(tiny, sample, thoughts[b, n], PATCHES[b], placement)
            got = output.attention[b, n, :, : expected.shape[1]]
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-3)
            assert got.std() > 1e-3  # uneven attention: equal rows would prove little
            assert (got.sum(-1) < 0.999).all()  # raw: the row's other columns keep their share


def test_the_proposal_of_a_run_is_the_most_attended(tiny, samples, config):
    """Step 1 of a run with one candidate: the patches proposed are the top ones of eager attention at T + noise."""
    config = config.replace(visual_token_viz=True, max_num_steps=1, seed=3)
    (prediction,) = inference.answer(samples[:1], tiny, config)
    from dmlr import policy

    model, L, D = plain_model(tiny), 3, tiny.width
    start = tiny.initial_thoughts(prefill(tiny, samples[:1], L), L, False)
    noise = policy.draw_noise(policy.noise_generators(3, [samples[0].data_idx]), 1, L, D, False)[0, 0]
    candidate = start[0] + 0.2 * start.square().mean().sqrt() * noise
    sequence = full_sequence(model, tiny, samples[0], prediction.prompt, candidate, [[]] * L)
    layers = torch.stack(forward(model, sequence).attentions)
    expected = layers.mean((0, 2))[0][sequence.thought_rows][:, sequence.image_columns]
    torch.testing.assert_close(prediction.attention_maps[0], expected, atol=1e-6, rtol=1e-3)
    if prediction.best_reward_step == 1:
        assert prediction.patches == expected.topk(2).indices.tolist()
