"""Decoding with fixed shapes (what a CUDA graph replays) gives the tokens of the plain loop."""

import pytest
import torch

from dmlr import decoding, graphs, inference
from dmlr.scoring import Scorer


@pytest.fixture
def fixed(tiny):
    tiny.fixed_shapes = True
    yield tiny
    tiny.fixed_shapes = False


def _answers(backbone, samples, config):
    return [
        (p.model_output, p.stop_reason, p.generated_tokens)
        for p in inference.answer(samples, backbone, config)
    ]


@pytest.mark.parametrize("penalty", [None, 1.3])
@pytest.mark.parametrize("growth", [256, 5])
def test_fixed_shapes_decode_the_same(tiny, fixed, samples, config, penalty, growth, monkeypatch):
    config = config.replace(max_new_tokens=40, max_num_steps=1)
    monkeypatch.setattr(decoding, "_GROWTH", growth)
    monkeypatch.setattr(tiny.model.generation_config, "repetition_penalty", penalty)
    got = _answers(fixed, samples, config)
    tiny.fixed_shapes = False
    assert got == _answers(tiny, samples, config)


SETTINGS = {
    "default": {},
    "packed candidates": {"num_candidates": 4, "antithetic": True, "score_rows": "thoughts+next"},
    "one thought at a time, patches after": {"acceptance": "per_token", "patch_placement": "after"},
    "own positions": {"patch_positions": "image", "score_rows": "thoughts+answer"},
    "true gradient, which is never captured": {"use_auto_grad": True},
    "the cache grows in the middle": {"disable_conf_reward": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_fixed_shapes_optimise_the_same(tiny, fixed, samples, config, name):
    """Padded to the largest block, every score, patch and text is that of blocks as short as they are."""
    config = config.replace(**SETTINGS[name])
    padded = inference.answer(samples, fixed, config)
    tiny.fixed_shapes = False
    for one, other in zip(padded, inference.answer(samples, tiny, config), strict=True):
        assert one.patches == other.patches
        assert one.model_output == other.model_output
        assert [t.reward for t in one.trace] == pytest.approx([t.reward for t in other.trace], abs=1e-4)
        torch.testing.assert_close(one.thoughts, other.thoughts, atol=1e-4, rtol=1e-4)


def test_the_loop_replays_a_handful_of_shapes(fixed, samples, config, monkeypatch):
    """One shape with attention, one without, whatever the patches do: else a capture would cost more than it saves."""
    made, replayed = [], []

    class Counted(graphs.Replayed):
        def __init__(self, *args):
            made.append(self)
            super().__init__(*args)

        def __call__(self, *inputs):
            replayed.append([i.shape for i in inputs])
            return super().__call__(*inputs)

    monkeypatch.setattr("dmlr.backbone.graphs.Replayed", Counted)
    prompts = [fixed.encode(s, 3, 0) for s in samples]
    prefix = fixed.prefill(prompts, inference.reserve(config))
    scorer = Scorer(fixed, prefix, inference.block_style(config), config)
    found = inference.optimise(fixed.initial_thoughts(prefix, 3, False), prefix, scorer, config)
    assert len(found.steps) == 4
    assert int(found.steps[-1]["patch_count"].max()) > 0
    assert len(made) == 2
    assert len(replayed) == 9  # the start, then two for each step


def test_penalty_changes_what_is_decoded(tiny, samples, config, monkeypatch):
    config = config.replace(max_new_tokens=30, max_num_steps=0)
    plain = _answers(tiny, samples, config)
    monkeypatch.setattr(tiny.model.generation_config, "repetition_penalty", 3.0)
    assert _answers(tiny, samples, config) != plain
