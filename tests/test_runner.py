"""The in-process run: entries, verdicts, failures, batches, stops; with a fake model."""

import csv
import json
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import run_fakes
from run_fakes import Verifier, comparable, journal_lines, write_dataset

from dmlr import runner
from dmlr.batching import SafeAnswer, plan
from dmlr.config import Config, resolve
from dmlr.data import load_dataset
from dmlr.errors import UserError
from dmlr.verifier.verdict import Verdict


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No benchmark metrics, and no waiting for a busy disk: what fsync promises cannot be tested here."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)


def flags(tmp_path, questions, *more):
    dataset = write_dataset(tmp_path, questions)
    return resolve(["--dataset", dataset, "--output_dir", str(tmp_path / "out"), "--verbose", "0", *more])


def execute(config, engine=run_fakes.engine, verifier=None):
    return runner.run(config, engine, verifier or Verifier())


def test_results_json_is_complete(tmp_path):
    outcome = execute(flags(tmp_path, 10, "--start_data_idx", "3", "--seed", "0"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    top = "model dataset accuracy correct total config args entries ci95 unjudged errors metrics timing versions"
    assert set(top.split()) <= set(results)
    assert results["config"] == {
        "max_new_tokens": 2048, "solver_prompt_idx": 0, "min_pixels": 128, "max_pixels": 256,
    }  # fmt: skip
    assert set(results["args"]) == set(Config().flat())
    assert [e["data_idx"] for e in results["entries"]] == list(range(3, 10))
    entry = results["entries"][0]
    fields = (
        "data_idx question image_path sys_prompt prompt model_output answer ground_truth ground_truth_text "
        "is_correct best_reward best_reward_step stop_reason verdict verdict_by verdict_reason initial_reward "
        "patches generated_tokens seconds error"
    )
    assert set(fields.split()) <= set(entry)
    assert entry["verdict_by"] == "rules:test"
    right = sum((i % 3) == (i % 2) for i in range(3, 10))
    assert (results["correct"], results["total"], outcome.summary["remaining"]) == (right, 7, 0)
    assert outcome.summary["accuracy"] == pytest.approx(right / 7)


def test_reward_log_has_the_documented_columns(tmp_path):
    execute(flags(tmp_path, 2))
    with (tmp_path / "out" / "reward_logs" / "reward_steps_000001.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = "step reward sigma is_new_best patch_count patch_budget candidate_reward_mean top_k_mass"
    assert list(rows[0]) == columns.split()
    assert rows[0]["reward"] == "2.0"
    assert rows[0]["is_new_best"] == "True"


def test_no_reward_log_and_no_journal_when_asked(tmp_path):
    execute(flags(tmp_path, 2, "--save_reward_csv", "false", "--disable_save_logistics"))
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".lock"} == {"results.json"}


@pytest.mark.parametrize("size", ["1", "2", "3", "16", "auto"])
def test_batch_size_changes_nothing(tmp_path, size):
    (tmp_path / "ref").mkdir()
    execute(flags(tmp_path / "ref", 7, "--batch_size", "1"))
    (tmp_path / "now").mkdir()
    execute(flags(tmp_path / "now", 7, "--batch_size", size))
    one, other = comparable(tmp_path / "ref" / "out"), comparable(tmp_path / "now" / "out")
    one.pop("dataset"), other.pop("dataset")
    assert one == other


def test_a_failing_sample_is_an_entry_and_its_batch_survives(tmp_path):
    outcome = execute(flags(tmp_path, ["fine", "raise", "fine", "fine"], "--batch_size", "4"))
    entries = comparable(tmp_path / "out")["entries"]
    assert [e["error"] for e in entries] == [None, "ValueError: cannot answer 1", None, None]
    assert entries[1]["stop_reason"] == "exception"
    assert entries[1]["verdict"] == "unjudged"
    assert outcome.summary["errors"] == 1
    assert outcome.summary["remaining"] == 0


def test_out_of_memory_halves_the_batch_and_remembers(tmp_path):
    sizes = []

    def engine(config):
        def answer(samples):
            sizes.append(len(samples))
            return run_fakes.answer(samples)

        return answer

    config = flags(tmp_path, ["memory:2"] * 12, "--batch_size", "8")
    assert execute(config, engine).summary["errors"] == 0
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]
    config = flags(tmp_path, ["memory:0", "x"], "--overwrite")
    assert execute(config).summary["errors"] == 1
    assert "out of memory" in comparable(tmp_path / "out")["entries"][0]["error"]


def test_engine_answering_for_another_sample_is_caught():
    safe = SafeAnswer(lambda samples: [run_fakes.predict(samples[0])] * len(samples), Config())
    samples = [_sample(0), _sample(1)]
    got = [p for group in safe(samples) for p in group]
    assert [p.error for p in got] == [None, None]  # one by one both are right
    safe = SafeAnswer(lambda samples: [run_fakes.predict(_sample(5))], Config())
    ((only,),) = safe([_sample(0)])
    assert "answered sample 5 for 0" in only.error


def _sample(index):
    from dmlr.data import Sample

    return Sample(index, f"q{index}", "1", None, {"solution": "1"})


def test_bad_rows_become_entries(tmp_path):
    path = tmp_path / "bad.json"
    rows = [{"prompt": "a", "solution": ""}, {"prompt": "b", "solution": "1"}, {"solution": "1"}]
    path.write_text(json.dumps(rows))
    argv = [
        "--dataset",
        str(path),
        "--output_dir",
        str(tmp_path / "out"),
        "--skip_bad_rows",
        "--verbose",
        "0",
    ]
    assert execute(resolve(argv)).summary["errors"] == 2
    entries = comparable(tmp_path / "out")["entries"]
    assert [e["stop_reason"] for e in entries] == ["skipped_no_gt", "eos_token", "exception"]
    assert entries[2]["error"] == 'no "prompt"'


def test_a_slow_verdict_never_holds_up_the_next_sample(tmp_path):
    last_answered = threading.Event()

    def engine(config):
        def answer(samples):
            if samples[0].data_idx == 3:
                last_answered.set()
            return run_fakes.answer(samples)

        return answer

    class Slow(Verifier):
        pool = ThreadPoolExecutor(8)

        def submit(self, output, row, truncated=False):
            def judge():
                # Deadlocks (and fails) if the run waited for this verdict before its last sample.
                assert last_answered.wait(20)
                return Verdict("correct", "judge:slow", "")

            return self.pool.submit(judge)

    outcome = execute(flags(tmp_path, 4, "--batch_size", "1"), engine, Slow())
    assert outcome.summary["correct"] == 4


def test_a_verifier_that_breaks_leaves_answers_unjudged(tmp_path):
    class Broken(Verifier):
        def submit(self, output, row, truncated=False):
            future = Future()
            future.set_exception(RuntimeError("no judge"))
            return future

    outcome = execute(flags(tmp_path, 3), verifier=Broken())
    assert (outcome.summary["unjudged"], outcome.summary["total"]) == (3, 3)
    assert outcome.summary["accuracy"] is None
    assert "no judge" in comparable(tmp_path / "out")["entries"][0]["verdict_reason"]


def test_a_judge_that_hangs_does_not_hold_up_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "VERDICT_GRACE_SECONDS", 0.2)

    class Hanging(Verifier):
        def submit(self, output, row, truncated=False):
            return Future() if row["solution"] == "1" else super().submit(output, row)

    verifier = Hanging()
    outcome = execute(flags(tmp_path, 4, "--limit_seconds", "0.5"), verifier=verifier)
    assert "time limit" in outcome.stopped
    assert (outcome.summary["remaining"], outcome.summary["unjudged"]) == (0, 2)
    assert not verifier.closed  # closing would wait for it
    verifier = Verifier()
    assert execute(flags(tmp_path, 4, "--resume"), verifier=verifier).summary["unjudged"] == 0
    assert len(verifier.calls) == 2
    assert verifier.closed


def test_truncation_is_told_to_the_verifier(tmp_path):
    told = []

    class Asking(Verifier):
        def submit(self, output, row, truncated=False):
            told.append(truncated)
            return super().submit(output, row)

    def engine(config):
        from dataclasses import replace

        return lambda samples: [
            replace(p, stop_reason="length" if p.data_idx else "eos_token") for p in run_fakes.answer(samples)
        ]

    execute(flags(tmp_path, 2, "--batch_size", "1"), engine, Asking())
    assert told == [False, True]


def test_time_limit_stops_and_resume_finishes(tmp_path):
    config = flags(tmp_path, ["sleep:0.2"] * 6, "--batch_size", "1", "--limit_seconds", "0.5")
    outcome = execute(config)
    assert "time limit" in outcome.stopped
    assert not outcome.interrupted
    assert 0 < outcome.summary["remaining"] < 6
    outcome = execute(config.replace(resume=True, limit_seconds=None))
    assert (outcome.summary["remaining"], outcome.stopped) == (0, None)
    indices = [line["entry"]["data_idx"] for line in journal_lines(tmp_path / "out") if "entry" in line]
    assert sorted(indices) == list(range(6))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_drain_and_write(tmp_path, number):
    config = flags(tmp_path, ["sleep:0.1"] * 20, "--batch_size", "1")
    before = signal.getsignal(number)
    threading.Timer(0.35, os.kill, (os.getpid(), number)).start()
    outcome = execute(config)
    assert outcome.interrupted
    done = comparable(tmp_path / "out")["entries"]
    assert 0 < len(done) < 20
    assert all(entry["verdict"] != "unjudged" for entry in done)
    assert outcome.summary["remaining"] == 20 - len(done)
    assert signal.getsignal(number) is before
    assert execute(config.replace(resume=True)).summary["remaining"] == 0


def test_second_interrupt_is_immediate(tmp_path):
    config = flags(tmp_path, ["sleep:30"])
    for delay in (0.3, 0.6):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(config)
    assert time.monotonic() - begun < 20  # the sample alone would sleep 30 s


def test_longest_prompts_come_first(tmp_path):
    config = flags(tmp_path, ["a" * n for n in (4, 400, 40, 4000)])
    data = load_dataset(config.run)
    batches = plan(data.samples, data, config, 2)
    assert [[s.data_idx for s in batch] for batch in batches] == [[3, 1], [2, 0]]


def test_model_that_cannot_load_leaves_nothing(tmp_path):
    def engine(config):
        raise UserError("no such model")

    with pytest.raises(UserError, match="no such model"):
        execute(flags(tmp_path, 2), engine)
    assert not (tmp_path / "out").exists()


def test_one_question_prints_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = runner.ask(resolve(["--question", "what?"]), run_fakes.engine)
    assert outcome.answer == "answer 0"
    assert list(tmp_path.iterdir()) == []
    runner.ask(resolve(["--question", "what?", "--output_dir", "o"]), run_fakes.engine)
    assert comparable(tmp_path / "o")["entries"][0]["verdict"] == "unjudged"
