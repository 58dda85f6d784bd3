"""A fake model, a fake verifier and a runnable command for the tests of the runner: no torch, no weights.

As a script (`python run_fakes.py FLAGS...`) it is `dmlr run` with the fake model, for tests that kill it. What the
fake does to a question is written in the question: `sleep:0.1`, `raise`, `exit`, `memory:2`, ...
"""

import json
import os
import re
import sys
import time
from concurrent.futures import Future
from pathlib import Path

from dmlr.prediction import Prediction, StepTrace
from dmlr.verifier.verdict import Verdict


def predict(sample, delay=0.0):
    """A prediction that depends on the sample alone."""
    time.sleep(delay)
    index = sample.data_idx
    trace = [StepTrace(1, 1.0 + index, 20.0, True, 2, 2, 0.5, 0.9)]
    return Prediction(
        index,
        prompt=f"<{sample.question}>",
        model_output=f"answer {index % 3}",
        stop_reason="eos_token",
        generated_tokens=5,
        initial_reward=0.5,
        best_reward=1.0 + index,
        best_reward_step=1,
        patches=[[index, index + 1], []],
        trace=trace,
        image_grid=(3, 4),
        seconds=0.01,
    )


def answer(samples):
    """The fake engine's answer to a batch; see the module docstring."""
    for sample in samples:
        text = sample.question
        if (found := re.search(r"memory:(\d+)", text)) and len(samples) > int(found.group(1)):
            raise MemoryError(f"{len(samples)} samples")
        if "raise" in text:
            raise ValueError(f"cannot\nanswer {sample.data_idx}")
        if "exit" in text:
            os._exit(3)
        if found := re.search(r"sleep:([\d.]+)", text):
            time.sleep(float(found.group(1)))
    return [predict(sample) for sample in samples]


def engine(config):
    """An `Engine`: loads nothing."""
    return answer


class Foresighted:
    """A fake engine that is told what comes next: `events` are ("prepare", indices) and ("answer", indices)."""

    def __init__(self, size=2, prepare=lambda samples: None):
        self.events = []
        self._size, self._prepare = size, prepare

    def fitting_batch(self):
        return self._size

    def prepare(self, samples):
        self.events.append(("prepare", [s.data_idx for s in samples]))
        self._prepare(samples)

    def close(self):
        self.events.append(("close", []))

    def __call__(self, samples):
        self.events.append(("answer", [s.data_idx for s in samples]))
        return answer(samples)


class Verifier:
    """Correct when the output ends with the gold; `calls` are the outputs it was asked about."""

    def __init__(self):
        self.calls = []
        self.closed = False

    def submit(self, output, row, truncated=False):
        self.calls.append(output)
        future = Future()
        right = output.endswith(str(row["solution"]))
        future.set_result(Verdict("correct" if right else "wrong", "rules:test", "compared", output[-1:]))
        return future

    def close(self):
        self.closed = True


def write_dataset(folder, questions, name="set.json"):
    """A text-only dataset; `questions` is a list of prompts or a number of them."""
    if isinstance(questions, int):
        questions = [f"question {i}" for i in range(questions)]
    rows = [{"prompt": q, "solution": str(i % 2), "image_path": None} for i, q in enumerate(questions)]
    path = Path(folder) / name
    path.write_text(json.dumps(rows))
    return str(path)


def comparable(folder):
    """`results.json` without what may differ between two runs of the same settings: time, place, workers."""
    results = json.loads((Path(folder) / "results.json").read_text())
    for key in ("timing", "args", "versions"):
        del results[key]
    for entry in results["entries"]:
        del entry["seconds"]
    return results


def journal_lines(folder):
    return [json.loads(line) for line in (Path(folder) / "journal.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    from dmlr.config import resolve
    from dmlr.errors import UserError
    from dmlr.runner import run

    try:
        outcome = run(resolve(sys.argv[1:]), engine=engine, verifier=Verifier())
    except UserError as error:
        sys.exit(f"dmlr: error: {error}")
    print(json.dumps(outcome.summary))
    sys.exit(130 if outcome.interrupted else 0)
