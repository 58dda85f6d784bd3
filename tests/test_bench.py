"""The workloads of the speed measurements: what they hold still, and that nothing is printed beside the figures."""

import json
import logging
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_fakes

from dmlr import inference, naive, runner
from dmlr.bench import memory, soak, workload
from dmlr.config import Config, resolve
from dmlr.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def endless(tiny):
    """The tiny model as the benches use it; its own generation settings come back afterwards."""
    settings = tiny.model.generation_config
    before = settings.eos_token_id, settings.pad_token_id
    workload.never_stop(tiny)
    yield tiny
    settings.eos_token_id, settings.pad_token_id = before


def test_decoding_runs_to_its_limit_without_a_word(endless, samples, config, caplog, capsys, monkeypatch):
    """Both paths, although the model ends every answer with its first token; transformers has nothing to warn of."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.INFO)
    eos = endless.tokenizer.eos_token_id
    head = endless.model.lm_head

    def end_at_once(module, args, logits):
        logits = logits.clone()
        logits[..., eos] = 1e4
        return logits

    hook = head.register_forward_hook(end_at_once)
    try:
        config = config.replace(max_new_tokens=5, max_num_steps=1)
        (fast,) = inference.answer(samples[:1], endless, config)
        slow = naive.answer(samples[0], endless, config)
    finally:
        hook.remove()
    assert fast.generated_tokens == slow.generated_tokens == 5
    assert fast.stop_reason == slow.stop_reason == "length"
    assert "eos" not in caplog.text + "".join(capsys.readouterr())


# ---- does a run keep growing? -------------------------------------------------------------------------------------


@pytest.fixture
def soaked(tmp_path, monkeypatch):
    """Soak the fake engine, which leaks `leak` bytes per sample; returns the text and the record."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)
    kept, seen = [], []

    def run(count, every, leak=0, size=7):
        class Leaking(run_fakes.Foresighted):
            def __call__(self, samples):
                for _ in samples if leak else ():
                    kept.append(mmap.mmap(-1, leak))  # fresh pages: the heap may have freed ones to give
                    kept[-1].write(b"x" * leak)
                seen.extend(samples)
                return super().__call__(samples)

        monkeypatch.setattr(soak, "load_engine", lambda config: Leaking(size))
        argv = ["--dataset", run_fakes.write_dataset(tmp_path, 3), "--verbose", "0"]
        return *soak.soak(resolve(argv), count, every), seen

    return run


def test_a_leak_shows_as_growth(soaked):
    text, record, _ = soaked(60, 20, leak=8_000_000)
    assert [samples for samples, _ in record["readings"]] == [0, 21, 42, 60]  # batches of 7
    size = record["readings"][1][1]
    assert record["growth_percent"] == pytest.approx(100 * 39 * 8e6 / size, rel=0.3)
    assert "NOT met" in text


def test_a_run_that_keeps_nothing_meets_the_goal(soaked):
    text, record, seen = soaked(60, 20)
    assert record["growth_percent"] < 5
    assert ": met; 0 failed" in text
    assert sorted(s.data_idx for s in seen) == list(range(60))
    assert {s.question for s in seen} == {"question 0", "question 1", "question 2"}


def test_memory_that_is_given_back_at_the_end_hides_no_growth():
    readings = [(0, 500_000_000), (100, 1_000_000_000), (200, 1_200_000_000), (300, 900_000_000)]
    text, record = soak._told(readings, {"total": 300, "errors": 0}, Config())
    assert record["growth_percent"] == pytest.approx(20)
    assert "NOT met" in text


def test_a_server_is_not_weighed(tmp_path):
    config = Config().replace(engine="openai", method="vanilla", base_url="http://localhost:1/v1")
    with pytest.raises(UserError, match="drop --engine openai"):
        soak.soak(config, 60, 20)


def test_too_few_samples_are_refused(soaked):
    with pytest.raises(UserError, match="give 2 \\* --soak_every 20"):
        soaked(39, 20)


def test_memory_of_children_counts():
    code = "x = b'x' * 100_000_000; print('there', flush=True); input()"
    before = memory.family_bytes()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert memory.family_bytes() - before > 100_000_000
    finally:
        child.communicate(b"\n")
    assert memory.family_bytes() - before < 50_000_000
    assert memory.resident_bytes(child.pid) == 0


def test_the_command_soaks_the_demo(tmp_path):
    """Images, the real engine and the real rules; a few samples, as this is about the command."""
    flags = [
        "--num_thought_tokens",
        "1",
        "--max_num_steps",
        "1",
        "--max_new_tokens",
        "2",
        "--end_data_idx",
        "2",
    ]
    command = [
        sys.executable,
        "script/bench.py",
        "--soak",
        "4",
        "--soak_every",
        "2",
        "--batch_size",
        "2",
        *flags,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert [samples for samples, _ in record["readings"]] == [0, 2, 4]
    assert record["errors"] == 0
    assert "| 4 " in done.stdout
