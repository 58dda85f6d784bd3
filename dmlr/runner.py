"""One run from the dataset to `results.json`: the parent's side of it.

The parent owns the data, the verdicts and the files. Answers come from a crew: this process itself
(`InProcess`), workers on Ray (`dmlr/workers.py`), or a server (`dmlr/served.py`). A verdict never holds up
the next sample.
"""

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dmlr.batching import (
    DeviceLost,
    Engine,
    SafeAnswer,
    describe,
    load_engine,
    plan,
)
from dmlr.config import Config
from dmlr.data import Dataset, Sample, load_dataset, single_question
from dmlr.entries import bad_row
from dmlr.errors import UserError
from dmlr.prediction import Prediction
from dmlr.progress import Progress
from dmlr.results import Results
from dmlr.stopping import Stop
from dmlr.verifier.verdict import Verdict

log = logging.getLogger(__name__)

VERDICT_GRACE_SECONDS = 10.0  # how long a run that was told to stop waits for verdicts in flight


class Verifying(Protocol):
    """What a run needs of a verifier."""

    def submit(self, output: str, row: Mapping[str, Any], truncated: bool = False) -> "Future[Verdict]":
        """Start judging `output` against the dataset row; `truncated`: it was cut off at its limit."""

    def close(self) -> None:
        """Release what the verifier holds, once nothing is in flight."""


class Crew(Protocol):
    """Whoever answers the samples."""

    def predictions(self, samples: Sequence[Sample], stop: Stop) -> Iterator[list[Prediction]]:
        """Predictions as they come, in any order; empty lists now and then let the parent do its chores.

        Ends early, without a prediction for some samples, once `stop.reason()` is set.
        """

    def state(self) -> str:
        """What the workers do, in a few words; empty when there is nothing to tell."""

    def close(self) -> None:
        """Release models and processes."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `summary` is the last line of its output, `answer` that of a single question."""

    summary: dict[str, Any]
    stopped: str | None = None
    interrupted: bool = False
    answer: str | None = None


class InProcess:
    """A crew of one: the model lives in this process."""

    def __init__(self, config: Config, engine: Engine, dataset: Dataset) -> None:
        self._answer = SafeAnswer(engine(config), config)
        self._config, self._dataset = config, dataset

    def predictions(self, samples: Sequence[Sample], stop: Stop) -> Iterator[list[Prediction]]:
        """See `Crew`. Raises `UserError` when the accelerator fails for good."""
        batches = plan(samples, self._dataset, self._config, self._answer.batch_size())
        for batch, following in zip(batches, [*batches[1:], []]):
            try:
                for answered in self._answer(batch, following):
                    yield answered
                    if stop.reason():
                        return
            except DeviceLost as error:
                raise UserError(f"the device failed ({error}); --resume continues in a new process") from None

    def state(self) -> str:
        """Nothing to tell."""
        return ""

    def close(self) -> None:
        """Stop loading ahead; the model goes with the process."""
        self._answer.close()


class Judging:
    """Verdicts in flight: `submit` never waits, `landed` takes what is there."""

    def __init__(self, verifier: Verifying) -> None:
        self._verifier = verifier
        self._landed: queue.SimpleQueue[tuple[int, Future[Verdict]]] = queue.SimpleQueue()
        self.pending = 0

    def submit(self, entry: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Start judging the answer of an entry."""
        self.pending += 1
        future = self._verifier.submit(entry["model_output"], row, truncated=entry["stop_reason"] == "length")
        future.add_done_callback(partial(self._done, entry["data_idx"]))

    def _done(self, index: int, future: "Future[Verdict]") -> None:
        self._landed.put((index, future))

    def close(self) -> None:
        """Release the judge, unless verdicts are in flight: a run that was told to stop does not wait for those."""
        if not self.pending:
            self._verifier.close()

    def landed(self, wait: float = 0.0) -> list[tuple[int, Verdict]]:
        """Verdicts that have arrived; with `wait` seconds for the first one when none has."""
        verdicts = []
        while self.pending:
            try:
                index, future = self._landed.get(timeout=wait) if wait else self._landed.get_nowait()
            except queue.Empty:
                break
            wait = 0.0
            self.pending -= 1
            failure = future.exception()
            if failure is not None:
                log.warning("judging sample %d failed: %s", index, describe(failure))
                verdicts.append((index, Verdict("unjudged", "none", f"judging failed: {describe(failure)}")))
            else:
                verdicts.append((index, future.result()))
        return verdicts


def run(config: Config, engine: Engine = load_engine, verifier: Verifying | None = None) -> Outcome:
    """Answer and judge the dataset that `config` names, writing `OUTPUT` as it goes.

    `engine` loads a model and answers batches; `verifier` defaults to the one the flags ask for. Raises
    `UserError` for everything that is the user's to mend, before anything is written where that is possible.
    """
    stop = Stop(config.run.limit_seconds)
    dataset = load_dataset(config.run)
    results = Results(config, dataset)
    crew: Crew | None = None
    judging: Judging | None = None
    try:
        results.prepare()
        judging = Judging(verifier or make_verifier(config))
        finished = results.finished()
        todo = [s for s in dataset.samples if s.data_idx not in finished and not s.problem]
        crew = make_crew(config, engine, dataset) if todo else None
        results.open()
        try:
            with stop:
                stopped = _answer_and_judge(config, dataset, results, crew, todo, judging, stop)
        except UserError:
            with contextlib.suppress(UserError):  # the disk may be full; what happened first is what counts
                results.write()
            raise
        remaining = results.summary()["remaining"]
        results.write(_metrics(dataset, results) if not remaining else None)
        summary = results.summary() | {"output": str(results.folder / "results.json"), "stopped": stopped}
        return Outcome(summary, stopped, stop.interrupted)
    finally:
        if crew:
            crew.close()
        if judging:
            judging.close()
        results.close()


def _answer_and_judge(
    config: Config,
    dataset: Dataset,
    results: Results,
    crew: Crew | None,
    todo: Sequence[Sample],
    judging: Judging,
    stop: Stop,
) -> str | None:
    """The loop of a run; returns why it ended early, or None."""
    samples = {sample.data_idx: sample for sample in dataset.samples}
    progress = Progress(len(samples), len(results.finished()), config.run.verbose)

    def record(predictions: Sequence[Prediction]) -> None:
        answered = [(samples[p.data_idx], p) for p in predictions]
        results.add(answered)
        for sample, prediction in answered:
            progress.answered(sample, prediction)
            if not prediction.error:
                judging.submit(results.entries[sample.data_idx], sample.row)

    def take_verdicts(wait: float = 0.0) -> None:
        verdicts = judging.landed(wait)
        results.judge(verdicts)
        for index, _ in verdicts:
            progress.judged(results.entries[index])

    try:
        for entry in list(results.entries.values()):
            if not entry["error"] and entry["verdict_reason"] != "not judged yet":
                progress.judged(entry)
        for index in results.awaiting_verdict():
            judging.submit(results.entries[index], samples[index].row)
        record([bad_row(sample) for sample in samples.values() if sample.problem])
        if crew:
            for predictions in crew.predictions(todo, stop):
                record(predictions)
                take_verdicts()
                progress.workers(crew.state())
                results.write_now_and_then()
        told_to_stop = None
        while judging.pending:
            take_verdicts(wait=0.2)
            if stop.reason() and told_to_stop is None:
                told_to_stop = time.monotonic()
            if told_to_stop is not None and time.monotonic() - told_to_stop > VERDICT_GRACE_SECONDS:
                break
        return stop.reason() if results.summary()["remaining"] or judging.pending else None
    finally:
        progress.close()


def ask(config: Config, engine: Engine = load_engine) -> Outcome:
    """Answer the single `--question` about `--image`. Writes files only with an explicit --output_dir."""
    run_flags = config.run
    dataset = single_question(run_flags.question or "", run_flags.image, run_flags.allow_remote_images)
    results = Results(config, dataset) if run_flags.output_dir else None
    try:
        if results:
            results.prepare()
        (prediction,) = engine(config)(dataset.samples)
        if results:
            results.open()
            results.add([(dataset.samples[0], prediction)])
            results.write()
    finally:
        if results:
            results.close()
    summary = {
        "answer": prediction.model_output,
        "stop_reason": prediction.stop_reason,
        "generated_tokens": prediction.generated_tokens,
        "initial_reward": prediction.initial_reward,
        "best_reward": prediction.best_reward,
        "seconds": round(prediction.seconds, 3),
    }
    return Outcome(summary, answer=prediction.model_output)


def verify_only(config: Config, verifier: Verifying | None = None) -> dict[str, Any]:
    """Judge the answers of an existing `results.json` again; loads neither torch nor a model."""
    from dmlr.data import find_dataset
    from dmlr.verifier.reverify import reverify

    dataset = find_dataset(config.run.dataset)
    return reverify(Path(config.run.output_dir), dataset, verifier or make_verifier(config))


def make_crew(config: Config, engine: Engine, dataset: Dataset) -> Crew:
    """The workers that `--num_workers` asks for; Ray is imported for more than one. Raises `UserError`.

    With --engine openai the workers are requests, and `engine` is not asked.
    """
    if config.decoding.engine == "openai":
        from dmlr.served import ServedCrew

        return ServedCrew(config)
    if config.run.num_workers == 1 and config.run.ray_address is None:
        return InProcess(config, engine, dataset)
    from dmlr.workers import RayCrew

    return RayCrew(config, engine, dataset)


def make_verifier(config: Config) -> Verifying:
    """The verifier that the flags ask for. Raises `UserError` when the judge's key is missing."""
    from dmlr.verifier import make_verifier as make

    return make(config)


def _metrics(dataset: Dataset, results: Results) -> dict[str, Any]:
    from dmlr.benchmarks import official_metrics

    metrics: Callable[..., dict[str, Any]] = official_metrics
    return metrics(dataset.rows, [results.entries[index] for index in sorted(results.entries)])
