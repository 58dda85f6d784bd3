"""On a CUDA device: replayed graphs give what plain calls give, and the device gives what the CPU gives."""

import pytest
import torch
from conftest import build_tiny

from dmlr import graphs, inference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def on_cuda():
    return build_tiny("cuda")


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert one.patches == other.patches
        assert one.model_output == other.model_output
        assert [t.reward for t in one.trace] == pytest.approx([t.reward for t in other.trace], abs=1e-3)


def test_replay_equals_call():
    weight = torch.randn(64, 64, device="cuda")
    replayed = graphs.Replayed(lambda x: (x @ weight,), torch.device("cuda"))
    for _ in range(3):
        x = torch.randn(8, 64, device="cuda")
        torch.testing.assert_close(replayed(x)[0].clone(), x @ weight)


@pytest.mark.parametrize("fixed", [False, True])
def test_cuda_answers_as_the_cpu_does(tiny, on_cuda, samples, config, fixed, monkeypatch):
    monkeypatch.setattr(on_cuda, "fixed_shapes", fixed)
    assert_same(inference.answer(samples, on_cuda, config), inference.answer(samples, tiny, config))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_candidates": 4, "antithetic": True},
        {"acceptance": "per_token"},
        {"disable_conf_reward": True},
    ],
)
def test_replayed_steps_equal_plain_ones(on_cuda, samples, config, settings, monkeypatch):
    config = config.replace(max_new_tokens=40, **settings)
    plain = inference.answer(samples, on_cuda, config)
    monkeypatch.setattr(on_cuda, "fixed_shapes", True)
    assert_same(inference.answer(samples, on_cuda, config), plain)
