"""Measure what the parent of a run costs: the journal, results.json, resuming, and dispatch to Ray workers.

    python script/measure_files.py --entries 100000 --plot docs/figures/journal.png
    python script/measure_files.py --dispatch 2000 --num_workers 2

No model is loaded: answers come from a function that returns at once. The last line is one JSON document.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from dmlr.config import Config, resolve
from dmlr.data import Sample, load_dataset
from dmlr.prediction import Prediction
from dmlr.results import Results
from dmlr.runner import run
from dmlr.verifier.verdict import Verdict

BATCH = 8


def predict(sample: Sample) -> Prediction:
    """An answer of common length: about 500 characters of prompt and 900 of output, 8 thoughts with 16 patches."""
    return Prediction(
        sample.data_idx,
        prompt="prompt " * 70,
        sys_prompt="system " * 9,
        model_output="a step of the answer " * 42,
        stop_reason="eos_token",
        generated_tokens=200,
        initial_reward=6.5,
        best_reward=7.25,
        best_reward_step=11,
        patches=[list(range(100, 116))] * 8,
        image_grid=(16, 16),
        prompt_tokens=420,
        seconds=0.5,
    )


def instant(config: Config) -> Any:
    """An engine that loads nothing and answers at once."""
    return lambda samples: [predict(sample) for sample in samples]


class Agreeable:
    """A verifier that finds everything correct."""

    def submit(self, output: str, row: Any, truncated: bool = False) -> "Future[Verdict]":
        """A verdict that is there already."""
        future: Future[Verdict] = Future()
        future.set_result(Verdict("correct", "rules:none", "not looked at", "a"))
        return future

    def close(self) -> None:
        """Nothing to release."""


def write_dataset(folder: Path, count: int) -> Path:
    """A text-only dataset of `count` questions."""
    rows = [{"prompt": f"question {i}", "solution": "a", "image_path": None} for i in range(count)]
    (folder / "set.json").write_text(json.dumps(rows))
    return folder / "set.json"


def flags(folder: Path, count: int, *more: str) -> Config:
    """Configuration of a run over `count` questions in `folder`."""
    dataset = write_dataset(folder, count)
    fixed = ["--dataset", str(dataset), "--output_dir", str(folder / "out"), "--end_data_idx", str(count)]
    return resolve([*fixed, "--verbose", "0", *more])


def measure_journal(folder: Path, count: int) -> dict[str, Any]:
    """Seconds to write `count` entries, for every tenth of them, then results.json, then to resume."""
    config = flags(folder, count)
    dataset = load_dataset(config.run)
    store = Results(config, dataset)
    store.prepare()
    store.open()
    verdict = Verdict("correct", "rules:none", "not looked at", "a")
    marks, begun = [(0, 0.0)], time.perf_counter()
    for start in range(0, count, BATCH):
        batch = dataset.samples[start : start + BATCH]
        store.add([(sample, predict(sample)) for sample in batch])
        store.judge([(sample.data_idx, verdict) for sample in batch])
        if (start + BATCH) * 10 // count > start * 10 // count:
            marks.append((start + len(batch), round(time.perf_counter() - begun, 3)))
    wrote, wrote_cpu = time.perf_counter(), time.process_time()
    store.write()
    results_seconds, results_cpu = time.perf_counter() - wrote, time.process_time() - wrote_cpu
    store.close()
    again, again_cpu = time.perf_counter(), time.process_time()
    resumed = Results(config.replace(resume=True), dataset)
    resumed.prepare()
    seconds, cpu = time.perf_counter() - again, time.process_time() - again_cpu
    if len(resumed.finished()) != count:
        raise RuntimeError(f"{len(resumed.finished())} of {count} entries came back")
    resumed.close()
    return {
        "entries": count,
        "journal_seconds": marks,
        "journal_megabytes": round((folder / "out" / "journal.jsonl").stat().st_size / 1e6, 1),
        "results_json_seconds": round(results_seconds, 2),
        "results_json_cpu_seconds": round(results_cpu, 2),
        "resume_seconds": round(seconds, 2),
        "resume_cpu_seconds": round(cpu, 2),
    }


def measure_dispatch(folder: Path, count: int, num_workers: int) -> dict[str, Any]:
    """Seconds from the first batch handed out to the last answer written, for answers that cost nothing."""
    config = flags(folder, count, "--num_workers", str(num_workers), "--device", "cpu")
    begun = time.perf_counter()
    outcome = run(config, instant, Agreeable())
    whole = time.perf_counter() - begun
    journal = folder / "out" / "journal.jsonl"
    # The journal is created once the workers are ready: from there on it is dispatch.
    after_start = journal.stat().st_mtime - (folder / "out" / ".lock").stat().st_mtime
    if outcome.summary["total"] != count:
        raise RuntimeError(f"{outcome.summary['total']} of {count} answered")
    return {
        "samples": count,
        "workers": num_workers,
        "seconds": round(whole, 2),
        "seconds_after_start": round(after_start, 2),
    }


def plot(marks: list[tuple[int, float]], path: Path) -> None:
    """Entries written against seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot([count for count, _ in marks], [seconds for _, seconds in marks], marker="o")
    axes.set_xlabel("entries in the journal")
    axes.set_ylabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=0, help="entries to write to a journal")
    parser.add_argument("--dispatch", type=int, default=0, help="samples to send through workers")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="PNG of the journal's times")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        if args.entries:
            (Path(name) / "files").mkdir()
            found["files"] = measure_journal(Path(name) / "files", args.entries)
            if args.plot:
                plot(found["files"]["journal_seconds"], args.plot)
        if args.dispatch:
            (Path(name) / "dispatch").mkdir()
            found["dispatch"] = measure_dispatch(Path(name) / "dispatch", args.dispatch, args.num_workers)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
