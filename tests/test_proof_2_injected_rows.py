"""Proof 2: the injected rows are the projector's outputs, the very rows that the model places in its own input."""

import pytest
import torch
from proof_tools import (
    every_state_better,
    image_features,
    inputs_of,
    plain_model,
    prefill,
    table,
    thoughts_of,
    watching,
)

from dmlr import inference
from dmlr.inference import BlockStyle

PATCHES = [[[3, 20, 7], [], [11]], [[0, 1], [2, 19], [5, 6, 7]]]  # of two samples, 25 and 21 image tokens


def scattered(backbone, sample):
    """Rows that plain transformers puts at the image tokens of the prompt when it runs it."""
    model = plain_model(backbone)
    inputs = inputs_of(backbone, sample, backbone.encode(sample, 3, 0).text)
    with watching(model.model.language_model) as calls, torch.no_grad():
        model(**inputs)
    return calls[0]["inputs_embeds"][0, inputs["input_ids"][0] == model.config.image_token_id]


def holds(rows, expected):
    """Whether `expected` (n, D) stands in `rows` (T, D) without a gap, up to the last bits of float32."""
    n = len(expected)
    return any((rows[i : i + n] - expected).abs().max() < 1e-4 for i in range(len(rows) - n + 1))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_block_rows_are_features_and_thoughts_in_order(tiny, samples, placement):
    pair, copies = samples[:2], 2
    prefix = prefill(tiny, pair, 3)
    thoughts = torch.stack([thoughts_of(tiny, 2, 3, seed) for seed in range(copies)], 1)
    patches = table(*PATCHES)[:, None].expand(-1, copies, -1, -1)
    with watching(tiny.model.model.language_model) as calls, torch.no_grad():
        tiny.score_block(
            prefix, thoughts, patches, BlockStyle(placement), torch.zeros(0, dtype=torch.long), False
        )
    (call,) = calls
    for b, sample in enumerate(pair):
        features = scattered(tiny, sample)
        torch.testing.assert_close(
            features,
            image_features(plain_model(tiny), inputs_of(tiny, sample, tiny.encode(sample, 3, 0).text)),
        )
        for n in range(copies):
            expected = []
            for l, held in enumerate(PATCHES[b]):
                thought = thoughts[b, n, l : l + 1]
                expected += [features[held], thought] if placement == "before" else [thought, features[held]]
            rows = call["inputs_embeds"][b]
            got = matching_rows(rows, features)
            assert len(got) == copies * sum(map(len, PATCHES[b]))
            assert holds(rows, torch.cat(expected))


def matching_rows(rows, features):
    return [i for i, row in enumerate(rows) if ((features - row).abs().amax(-1) < 1e-4).any()]


def test_the_prefix_holds_the_same_rows(tiny, samples):
    prefix = prefill(tiny, samples, 3)
    for b, sample in enumerate(samples[:3]):
        features = scattered(tiny, sample)
        assert int(prefix.num_patches[b]) == len(features)
        torch.testing.assert_close(prefix.patches[b, : len(features)], features, atol=1e-5, rtol=1e-4)
    assert int(prefix.num_patches[3]) == 0


def test_no_row_of_a_run_is_a_placeholder_embedding(tiny, samples, config, monkeypatch):
    """In a whole run, every row that is injected (decoding included) is a feature of this image."""
    with every_state_better(monkeypatch), watching(tiny.model.model.language_model) as calls:
        (prediction,) = inference.answer(samples[:1], tiny, config)
    assert [len(v) for v in prediction.patches] == [4, 4, 4]
    features = scattered(tiny, samples[0])
    image_pad = tiny.model.get_input_embeddings().weight[tiny.model.config.image_token_id]
    blocks = [c["inputs_embeds"][0] for c in calls[1:] if c["inputs_embeds"].shape[1] > 1]
    assert not any(((rows - image_pad).abs().amax(-1) < 1e-4).any() for rows in blocks)
    counts = [len(matching_rows(rows, features)) for rows in blocks]
    assert counts[0] == 0  # the untouched start
    assert counts[-1] == sum(map(len, prediction.patches))  # the forward that decoding starts from
