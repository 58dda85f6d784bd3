"""The engine of a run: batches that fit the memory, and no sample lost when they do not."""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import run_fakes
import torch
from proof_tools import peak_bytes
from run_fakes import Verifier, comparable

from dmlr import engine, inference, random_model, runner
from dmlr.backbone import Backbone
from dmlr.batching import SafeAnswer
from dmlr.config import resolve
from dmlr.data import Sample
from dmlr.demo.model import build_processor
from dmlr.demo.tokenizer import build_tokenizer
from dmlr.engine import Answerer, bytes_per_sample, largest_fitting
from dmlr.scoring import Scorer


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
    asked = []
    monkeypatch.setattr(tiny, "device", torch.device(device))
    per_sample = bytes_per_sample(tiny, config)
    for fits, expected in ((2.5, 2), (10_000, engine.LARGEST), (0.1, 1)):
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


def test_the_estimate_counts_what_the_true_gradient_keeps_of_every_layer(samples, config):
    """Twelve layers and 136 rows of block: the activations kept for the way back are most of the memory."""
    deep = Backbone(
        random_model.build(
            random_model.sizes(256, 12, vocab_size=800),
            torch.device("cpu"),
            torch.float32,
            processor=build_processor(build_tokenizer()),
        ),
        min_tokens=4,
        max_tokens=64,
    )
    config = config.replace(
        max_pixels=64,
        min_pixels=4,
        max_new_tokens=8,
        use_auto_grad=True,
        num_thought_tokens=8,
        num_selected_patches=16,
    )
    prefix = deep.prefill([deep.encode(samples[0], 8, 0)], inference.reserve(config))
    scorer = Scorer(deep, prefix, inference.block_style(config), config)
    thoughts = deep.initial_thoughts(prefix, 8, False).requires_grad_()
    patches = torch.arange(16).expand(1, 8, 16)

    def follow():
        reward = scorer.score(thoughts, patches, with_attention=True).reward
        torch.autograd.grad(reward.sum(), thoughts)

    follow()  # what is allocated once
    peak = peak_bytes(follow)
    assert peak <= bytes_per_sample(deep, config) <= 4 * peak


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


# ---- images ahead of the computation -----------------------------------------------------------------------------


def test_the_next_batch_is_announced_before_this_one_is_computed_and_no_further(tmp_path):
    fake = run_fakes.Foresighted(size=2)
    config = resolve(
        [
            "--dataset",
            run_fakes.write_dataset(tmp_path, 5),
            "--output_dir",
            str(tmp_path / "out"),
            "--verbose",
            "0",
        ]
    )
    runner.run(config, lambda config: fake, Verifier())
    assert fake.events == [
        ("prepare", [0, 1, 2, 3]),
        ("answer", [0, 1]),
        ("prepare", [2, 3, 4]),
        ("answer", [2, 3]),
        ("prepare", [4]),
        ("answer", [4]),
        ("close", []),
    ]


@pytest.fixture
def watched(tiny, monkeypatch):
    """What is encoded and what is answered, in order, with a hook for each."""

    class Watched:
        def __init__(self):
            self.encoded, self.answered = [], []
            self.on_encode = self.on_answer = lambda index: None

    seen = Watched()
    encode, answer_prompts = Answerer._encode, inference.answer_prompts

    def watched_encode(self, sample):
        seen.on_encode(sample.data_idx)
        prompt = encode(self, sample)
        seen.encoded.append(sample.data_idx)
        return prompt

    def watched_answer(prompts, *rest):
        seen.on_answer(prompts[0].data_idx)
        predictions = answer_prompts(prompts, *rest)
        seen.answered += [p.data_idx for p in predictions]
        return predictions

    monkeypatch.setattr(Answerer, "_encode", watched_encode)
    monkeypatch.setattr(inference, "answer_prompts", watched_answer)
    return seen


def in_order(tmp_path, samples, *more):
    """Flags of a run over five questions, one per batch, planned in the order of the rows."""
    rows = [replace(samples[0], question="x" * (400 - 40 * i)) for i in range(5)]
    return run_flags(tmp_path, rows, "--batch_size", "1", *more)


def test_images_are_loaded_while_the_batch_before_is_computed(tmp_path, tiny, samples, watched):
    def wait_for_the_next(index):
        deadline = time.monotonic() + 30
        # a deadlock, if loading waited for the computation
        while index < 4 and index + 1 not in watched.encoded:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)
        assert max(watched.encoded) <= index + 1  # memory is bounded: one batch ahead

    watched.on_answer = wait_for_the_next
    outcome = runner.run(in_order(tmp_path, samples), lambda c: Answerer(tiny, c), Verifier())
    assert outcome.summary["errors"] == 0
    assert sorted(watched.encoded) == watched.answered == [0, 1, 2, 3, 4]  # each image once


def test_the_computation_never_waits_for_the_images_of_the_next_batch(tmp_path, tiny, samples, watched):
    def wait_for_the_one_before(index):
        deadline = time.monotonic() + 30
        while index and index - 1 not in watched.answered:  # deadlock, if the computation waited for loading
            assert time.monotonic() < deadline
            time.sleep(0.01)

    watched.on_encode = wait_for_the_one_before
    outcome = runner.run(in_order(tmp_path, samples), lambda c: Answerer(tiny, c), Verifier())
    assert outcome.summary["errors"] == 0
    assert watched.answered == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", ["1", "2"])
def test_an_image_that_goes_missing_ahead_fails_alone(tmp_path, tiny, samples, watched, size):
    paths = [str(shutil.copy(samples[0].image, tmp_path / f"{i}.png")) for i in range(5)]
    rows = [replace(samples[0], question="x" * (400 - 40 * i), image=path) for i, path in enumerate(paths)]
    config = run_flags(tmp_path, rows, "--batch_size", size)
    watched.on_encode = lambda index: index == 0 and Path(paths[2]).unlink(missing_ok=True)
    outcome = runner.run(config, lambda c: Answerer(tiny, c), Verifier())
    assert (outcome.summary["errors"], outcome.summary["total"]) == (1, 5)
    entries = comparable(tmp_path / "out")["entries"]
    assert [e["error"] is None for e in entries] == [True, True, False, True, True]
    assert entries[2]["error"].startswith("FileNotFoundError")


def test_an_interrupt_leaves_nothing_loading(tmp_path, tiny, samples, watched):
    def interrupt(index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGINT)

    watched.on_answer = interrupt
    config = in_order(tmp_path, samples)
    answerer = Answerer(tiny, config)  # held: one that is thrown away ends its threads anyway
    outcome = runner.run(config, lambda c: answerer, Verifier())
    assert outcome.interrupted
    assert outcome.summary["remaining"] == 3
    deadline = time.monotonic() + 30
    while any(thread.name.startswith("encode") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert watched.answered == [0, 1]
    watched.on_answer = lambda index: None
    again = runner.run(config.replace(resume=True), lambda c: Answerer(tiny, c), Verifier())
    assert again.summary["remaining"] == 0
    assert watched.answered == [0, 1, 2, 3, 4]


def test_what_is_not_asked_after_all_is_forgotten(tiny, samples, config, watched):
    """A worker whose next batch was given to another one must not keep its images for ever."""
    answerer = Answerer(tiny, config)
    answerer.prepare(samples[:2])
    answerer.prepare(samples[2:])
    assert set(answerer._prepared) == {s.data_idx for s in samples[2:]}
    (prediction,) = answerer(samples[:1])  # asked without notice
    assert prediction.data_idx == samples[0].data_idx
    answerer.close()
