"""Decoding with fixed shapes (what a CUDA graph replays) gives the tokens of the plain loop."""

import pytest
import torch

from dmlr import decoding, graphs, inference


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


def test_penalty_changes_what_is_decoded(tiny, samples, config, monkeypatch):
    config = config.replace(max_new_tokens=30, max_num_steps=0)
    plain = _answers(tiny, samples, config)
    monkeypatch.setattr(tiny.model.generation_config, "repetition_penalty", 3.0)
    assert _answers(tiny, samples, config) != plain


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replay_equals_call():
    weight = torch.randn(64, 64, device="cuda")
    replayed = graphs.Replayed(lambda x: x @ weight, torch.device("cuda"))
    for _ in range(3):
        x = torch.randn(8, 64, device="cuda")
        torch.testing.assert_close(replayed(x).clone(), x @ weight)
