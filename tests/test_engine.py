"""The engine of a run: batches that fit the memory, and no sample lost when they do not."""

import json
import os

import pytest
import torch
from proof_tools import peak_bytes
from run_fakes import Verifier, comparable

from dmlr import engine, inference, runner
from dmlr.batching import SafeAnswer
from dmlr.config import resolve
from dmlr.data import Sample
from dmlr.engine import Answerer, bytes_per_sample, largest_fitting


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No benchmark metrics, and no waiting for a busy disk."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)


def run_flags(tmp_path, samples, *more):
    """Flags of a run over the questions of `samples`."""
    rows = [{"prompt": s.question, "solution": "1", "image_path": s.image} for s in samples]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    argv = ["--dataset", str(tmp_path / "set.json"), "--output_dir", str(tmp_path / "out"), "--verbose", "0"]
    small = ["--num_thought_tokens", "2", "--max_num_steps", "2", "--max_new_tokens", "6", "--device", "cpu"]
    return resolve([*argv, *small, *more])


# ---- --batch_size auto --------------------------------------------------------------------------------------------


def test_the_largest_power_of_two_that_fits():
    def fitting(samples, largest=32):
        return largest_fitting(int(samples * 1000 / engine._SHARE) + 1, 1000, largest)

    assert [fitting(n) for n in (0.5, 1, 1.9, 2, 7.9, 8, 31, 32, 1000)] == [1, 1, 1, 2, 4, 8, 16, 32, 32]
    assert fitting(1000, largest=8) == 8


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_asks_the_free_memory_of_the_device(tiny, config, monkeypatch, device):
    answerer = Answerer(tiny, config)
    largest = engine.LARGEST_ON_CUDA if device == "cuda" else engine.LARGEST_ON_CPU
    asked = []
    monkeypatch.setattr(tiny, "device", torch.device(device))
    per_sample = bytes_per_sample(tiny, config)
    for fits, expected in ((2.5, 2), (10_000, largest), (0.1, 1)):
        monkeypatch.setattr(
            engine,
            "free_memory",
            lambda d, fits=fits: asked.append(d.type) or int(fits * per_sample / engine._SHARE),
        )
        assert answerer.fitting_batch() == expected
        assert SafeAnswer(answerer, config).batch_size() == expected
    assert set(asked) == {device}
    assert SafeAnswer(answerer, config.replace(batch_size=5)).batch_size() == 5


def test_a_run_plans_its_batches_with_what_the_engine_says(tmp_path, tiny, samples, monkeypatch):
    sizes = []
    answer = Answerer.__call__

    def record(self, batch):
        sizes.append(len(batch))
        return answer(self, batch)

    monkeypatch.setattr(Answerer, "__call__", record)
    monkeypatch.setattr(Answerer, "fitting_batch", lambda self: 3)
    config = run_flags(tmp_path, samples)
    assert runner.run(config, lambda config: Answerer(tiny, config), Verifier()).summary["errors"] == 0
    assert sizes == [3, 1]


SETTINGS = {
    "paper": {"num_thought_tokens": 4, "num_selected_patches": 16},
    "packed candidates": {"num_candidates": 8, "num_selected_patches": 0},
    "true gradient": {"use_auto_grad": True, "num_selected_patches": 16},
    "plain generation": {"method": "vanilla"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_estimate_is_above_what_a_sample_takes(tiny, samples, config, name):
    """A prompt of the length that is planned for: all the image tokens, and 512 of text."""
    config = config.replace(max_pixels=64, min_pixels=4, max_new_tokens=64, max_num_steps=3, **SETTINGS[name])
    question = " ".join(["how many red circles?"] * 70)
    image = samples[0].image
    prompts = [
        tiny.encode(Sample(i, question, "1", image, {}), inference.num_thoughts(config), 0) for i in range(4)
    ]
    assert 400 < prompts[0].length < 64 + 512
    inference.answer_prompts(prompts[:1], tiny, config)  # what is allocated once
    one, four = (peak_bytes(lambda n=n: inference.answer_prompts(prompts[:n], tiny, config)) for n in (1, 4))
    per_sample = (four - one) / 3
    estimate = bytes_per_sample(tiny, config)
    assert per_sample <= estimate <= 12 * per_sample


# ---- out of memory ------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_batch_and_loses_no_sample(tmp_path, tiny, samples, monkeypatch):
    """The real engine, and the error that PyTorch raises; the answers are those of a run that had the room."""
    many = [*samples, *samples, *samples]
    runner.run(run_flags(tmp_path, many, "--batch_size", "1"), lambda c: Answerer(tiny, c), Verifier())
    wanted = comparable(tmp_path / "out")
    sizes = []
    answer_prompts = inference.answer_prompts

    def cramped(prompts, *rest):
        sizes.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_prompts(prompts, *rest)

    monkeypatch.setattr(inference, "answer_prompts", cramped)
    monkeypatch.setattr(Answerer, "fitting_batch", lambda self: 8)
    config = run_flags(tmp_path, many, "--overwrite")
    outcome = runner.run(config, lambda c: Answerer(tiny, c), Verifier())
    assert (outcome.summary["errors"], outcome.summary["total"]) == (0, 12)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]
    found = comparable(tmp_path / "out")
    for ours, theirs in zip(found["entries"], wanted["entries"], strict=True):
        assert ours["model_output"] == theirs["model_output"]
        assert ours["patches"] == theirs["patches"]
