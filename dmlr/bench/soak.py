"""Whether a run keeps growing: resident memory of the whole command while it answers the same rows again and again."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmlr import runner
from dmlr.batching import Answer, load_engine
from dmlr.bench.memory import family_bytes
from dmlr.bench.tables import table
from dmlr.config import Config
from dmlr.data import Sample, load_dataset
from dmlr.errors import UserError
from dmlr.prediction import Prediction

GROWTH_GOAL = 5.0  # percent, after the first samples


class _Weighed:
    """An engine that reads the memory before it begins and whenever another `every` samples are answered.

    What it wraps can plan and prepare (`dmlr.batching.Foresighted`), and so can this.
    """

    def __init__(self, answer: Any, every: int) -> None:
        self._answer = answer
        self._every = every
        self._answered = 0
        self.readings: list[tuple[int, int]] = [(0, family_bytes())]  # samples answered, bytes

    def fitting_batch(self) -> int:
        return self._answer.fitting_batch()

    def prepare(self, samples: Sequence[Sample]) -> None:
        self._answer.prepare(samples)

    def close(self) -> None:
        self._answer.close()

    def __call__(self, samples: Sequence[Sample]) -> list[Prediction]:
        predictions = self._answer(samples)
        before, self._answered = self._answered, self._answered + len(samples)
        if self._answered // self._every > before // self._every:
            self.readings.append((self._answered, family_bytes()))
        return predictions


def soak(config: Config, count: int, every: int) -> tuple[str, dict[str, Any]]:
    """Run `config` over `count` samples (the rows of its dataset, repeated); memory after every `every` samples.

    It is a whole run: journal, reward logs, verdicts, the next batch prepared ahead. Memory is that of this process and
    its children (rules that may hang run in one). Growth is from the first reading after `every` samples, when
    everything that is allocated once is there, to the largest after it. Raises `UserError` when that leaves nothing to
    compare, and for --engine openai, whose model is elsewhere.
    """
    if every < 1 or count < 2 * every:
        raise UserError(
            f"--soak {count}: give 2 * --soak_every {every} samples or more, so that there is a growth"
        )
    if config.decoding.engine != "local":
        raise UserError("--soak weighs the engine of this process: drop --engine openai")
    weighed: list[_Weighed] = []

    def engine(settings: Config) -> Answer:
        weighed.append(_Weighed(load_engine(settings), every))
        return weighed[0]

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        rows.write_text(json.dumps(_repeated(config, count)), encoding="utf-8")
        config = config.replace(
            dataset=str(rows),
            output_dir=str(Path(folder) / "out"),
            start_data_idx=0,
            end_data_idx=count,
            num_workers=1,
        )
        outcome = runner.run(config, engine)
    return _told(weighed[0].readings, outcome.summary, config)


def _repeated(config: Config, count: int) -> list[dict[str, Any]]:
    """Rows of the dataset, again and again, their images by absolute path: the file lies elsewhere."""
    samples = load_dataset(config.run).samples
    rows = [{**sample.row, "image_path": sample.image} for sample in samples]
    return [{**rows[i % len(rows)], "idx": i} for i in range(count)]


def _told(
    readings: list[tuple[int, int]], summary: dict[str, Any], config: Config
) -> tuple[str, dict[str, Any]]:
    first, largest = readings[1][1], max(size for _, size in readings[2:])
    growth = 100 * (largest - first) / first
    lines = [
        [samples, size / 1e6, 100 * (size - first) / first if samples >= readings[1][0] else "-"]
        for samples, size in readings
    ]
    text = table(["samples", "resident memory, MB", "growth, %"], lines)
    verdict = "met" if growth <= GROWTH_GOAL else "NOT met"
    text += (
        f"\n\nlargest growth after {readings[1][0]} of {readings[-1][0]} samples: {growth:.2f} %, "
        f"goal <= {GROWTH_GOAL:g} %: {verdict}; {summary['errors']} failed"
    )
    record = {
        "soak": summary["total"],
        "readings": readings,
        "growth_percent": growth,
        "goal_percent": GROWTH_GOAL,
        "errors": summary["errors"],
        "model": config.model.model_name_or_path,
    }
    return text, record
