"""Workers on Ray: one model each, on this machine or on a cluster, and what happens when one of them dies.

The parent hands out small batches and takes back predictions; workers write nothing but heatmaps. A batch
whose worker dies is handed out again, sample by sample; a sample that has taken a worker with it twice
becomes a failed prediction. Dead workers are replaced as long as replacements can be started. See
docs/FAILURES.md.
"""

import collections
import logging
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from dmlr.batching import DeviceLost, Engine, SafeAnswer, plan
from dmlr.config import Config
from dmlr.data import Dataset, Sample
from dmlr.entries import failed
from dmlr.errors import UserError
from dmlr.prediction import Prediction
from dmlr.stopping import Stop

log = logging.getLogger(__name__)

TRIES = 2  # a sample that takes its worker with it this often is given up
FAILED_STARTS = 3  # in a row, after which a worker is not replaced any more
STARVED_SECONDS = 600.0  # without any live worker, after which the run ends (a cluster may still be growing)
TICK_SECONDS = 0.5  # how often the parent looks at signals, verdicts and the clock
BATCHES_PER_WORKER = 4  # at least, so that a slow batch at the end does not leave the others idle


class Worker:
    """What runs in a worker process: a model, and nothing else that could be lost."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine = engine
        self._config = config
        self._answer: SafeAnswer | None = None

    def load(self) -> "Loaded":
        """Load the model; returns the user's problems instead of raising, so that they arrive as they are."""
        try:
            self._answer = SafeAnswer(self._engine(self._config), self._config)
        except UserError as error:
            return Loaded(problems=error.problems)
        return Loaded(self._answer.batch_size())

    def answer(self, samples: list[Sample], following: list[Sample]) -> list[Prediction]:
        """Predictions of a batch, while the images of the `following` one are loaded.

        A process whose device has failed ends itself: only a new one can go on.
        """
        if self._answer is None:
            raise RuntimeError("no model: load() comes first")
        try:
            return [prediction for group in self._answer(samples, following) for prediction in group]
        except DeviceLost:
            log.exception("this worker's device failed")
            os._exit(1)


@dataclass(frozen=True)
class Loaded:
    """What a worker says once it has loaded: samples per batch that suit it, or the user's problems."""

    batch_size: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Slot:
    """One place in the crew: the actor in it (None: not replaced any more) and what it works on."""

    number: int
    actor: Any = None
    call: Any = None  # the Ray reference that is waited for
    batch: list[Sample] | None = None  # None while it loads
    following: list[Sample] | None = None  # what it loads the images of while it computes
    failed_starts: int = 0
    batch_size: int = 0  # 0 until its model is there

    @property
    def loading(self) -> bool:
        """True until its model is there."""
        return self.call is not None and self.batch is None


@dataclass
class Work:
    """What is still to be answered: batches in order, suspects one by one behind them.

    A sample that was being prepared when a worker died is no less suspect than those that were being answered, but
    is not blamed: it is never prepared beside others again, so that the next time only itself can be the cause.
    """

    batches: collections.deque[list[Sample]]
    crashes: collections.Counter[int] = field(default_factory=collections.Counter)
    suspects: set[int] = field(default_factory=set)

    def ahead_of(self, batch: list[Sample]) -> list[Sample] | None:
        """Take the next batch, for the worker of `batch` to prepare; None if there is none, or a suspect in either."""
        if not self.batches or any(s.data_idx in self.suspects for s in [*batch, *self.batches[0]]):
            return None
        return self.batches.popleft()

    def give_back(self, batch: list[Sample]) -> None:
        """Put a batch that its dead worker was preparing back in front."""
        self.suspects.update(sample.data_idx for sample in batch)
        self.batches.appendleft(batch)

    def crashed(self, batch: list[Sample]) -> list[Prediction]:
        """Put the samples of a dead worker back, each on its own; returns those that are given up."""
        given_up = []
        for sample in batch:
            self.crashes[sample.data_idx] += 1
            self.suspects.add(sample.data_idx)
            if self.crashes[sample.data_idx] < TRIES or len(batch) > 1:
                self.batches.append([sample])
            else:
                text = f"its worker died {self.crashes[sample.data_idx]} times while answering it"
                given_up.append(failed(sample, f"{text} (crash, or out of memory)"))
        return given_up


class RayCrew:
    """A crew of `--num_workers` Ray actors. See `dmlr.runner.Crew`."""

    def __init__(self, config: Config, engine: Engine, dataset: Dataset) -> None:
        """Start (or join) Ray and load a model in every worker. Raises `UserError` when none can be loaded."""
        self._config, self._engine, self._dataset = config, engine, dataset
        self._slots: list[Slot] = []
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _connect(config)
        try:
            self._options, self._worker_config = placement(config, ray.cluster_resources())
            self._engine_ref = ray.put(engine)
            self._slots = [Slot(number) for number in range(config.run.num_workers)]
            for slot in self._slots:
                self._start(slot)
            self._wait_for_first()
        except BaseException:
            self.close()
            raise

    def _start(self, slot: Slot) -> None:
        """Put a new actor into the slot and let it load; nothing is waited for."""
        slot.actor = ray.remote(Worker).options(**self._options).remote(self._engine_ref, self._worker_config)
        slot.call, slot.batch = slot.actor.load.remote(), None

    def _wait_for_first(self) -> None:
        """Return once one worker is ready; the others join when they are."""
        begun = time.monotonic()
        while not any(slot.actor and not slot.loading for slot in self._slots):
            for slot in self._ready(timeout=1.0):
                self._loaded(slot)
            if all(slot.actor is None for slot in self._slots):
                raise UserError("no worker could load its model; the warnings above say why")
            if time.monotonic() - begun > STARVED_SECONDS:
                raise UserError(
                    f"no worker started within {STARVED_SECONDS:.0f} s: the cluster has "
                    f"{_resources(ray.available_resources())} free, a worker needs {_resources(self._options)}"
                )

    def _ready(self, timeout: float) -> list[Slot]:
        calls = {slot.call: slot for slot in self._slots if slot.call is not None}
        if not calls:
            time.sleep(timeout)
            return []
        done, _ = ray.wait(list(calls), num_returns=1, timeout=timeout)
        if done:  # take whatever else is there as well
            done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return [calls[call] for call in done]

    def _loaded(self, slot: Slot) -> None:
        """A worker has loaded its model, or failed to. Raises `UserError` for what the user has to mend."""
        try:
            loaded: Loaded = ray.get(slot.call)
        except RayError as error:
            slot.failed_starts += 1
            log.warning(
                "worker %d did not start (%d. time): %s", slot.number, slot.failed_starts, _short(error)
            )
            self._drop(slot)
            if slot.failed_starts < FAILED_STARTS:
                self._start(slot)
            return
        if loaded.problems:
            raise UserError(loaded.problems)
        slot.call, slot.failed_starts, slot.batch_size = None, 0, loaded.batch_size

    def _drop(self, slot: Slot) -> None:
        """Take the actor out of its slot, and make sure that it is gone."""
        if slot.actor is not None:
            ray.kill(slot.actor, no_restart=True)
        slot.actor = slot.call = slot.batch = slot.following = None

    def predictions(self, samples: Sequence[Sample], stop: Stop) -> Iterator[list[Prediction]]:
        """See `Crew`. Raises `UserError` when every worker is gone and none can be started."""
        there = [slot.batch_size for slot in self._slots if slot.batch_size]
        share = self._options["num_gpus"] if self._config.run.batch_size == "auto" else 1.0
        size = common_size(there, share, len(samples), len(self._slots))
        work = Work(collections.deque(plan(samples, self._dataset, self._config, size)))
        alive = time.monotonic()
        while True:
            stopping = stop.reason() is not None
            if not stopping:
                self._hand_out(work)
            busy = [slot for slot in self._slots if slot.batch is not None]
            if not busy and (stopping or not self._left(work)):
                return
            yield [p for slot in self._ready(TICK_SECONDS) for p in self._take(slot, work, stopping)]
            if any(slot.actor and not slot.loading for slot in self._slots):
                alive = time.monotonic()
            self._check_alive(alive)

    def _left(self, work: Work) -> bool:
        return bool(work.batches) or any(slot.following for slot in self._slots)

    def _hand_out(self, work: Work) -> None:
        """Give every idle worker a batch, and then, of what is left, one to prepare meanwhile."""
        starting: list[tuple[Slot, list[Sample]]] = []
        for slot in self._slots:
            if slot.actor is None or slot.call is not None:
                continue
            batch, slot.following = slot.following or self._next(work), None
            if batch is not None:
                starting.append((slot, batch))
        for slot, batch in starting:
            slot.batch, slot.following = batch, work.ahead_of(batch)
            slot.call = slot.actor.answer.remote(batch, slot.following or [])

    def _next(self, work: Work) -> list[Sample] | None:
        """The next batch; at the end, one that a busy worker is preparing: better loaded twice than waited for."""
        if work.batches:
            return work.batches.popleft()
        for slot in self._slots:
            if slot.following and slot.call is not None:
                batch, slot.following = slot.following, None
                return batch
        return None

    def _take(self, slot: Slot, work: Work, stopping: bool) -> list[Prediction]:
        """What a finished call brings: predictions, a loaded model, or a dead worker."""
        if slot.loading:
            self._loaded(slot)
            return []
        batch = slot.batch or []
        try:
            predictions: list[Prediction] = ray.get(slot.call)
        except RayTaskError as error:
            # The process lives. No sample's failure either (those come back as predictions): a bug of ours.
            log.warning("worker %d failed: %s", slot.number, _short(error))
            predictions = work.crashed(batch)
        except RayError as error:
            log.warning("worker %d died with %d samples: %s", slot.number, len(batch), _short(error))
            if slot.following:
                work.give_back(slot.following)
            self._drop(slot)
            if stopping:
                return []  # a pre-empted machine takes workers and parent down together: left for --resume
            self._start(slot)
            return work.crashed(batch)
        slot.call = slot.batch = None  # what follows stays with the worker that has loaded its images
        return predictions

    def _check_alive(self, alive: float) -> None:
        if all(slot.actor is None for slot in self._slots):
            raise UserError(
                "every worker failed to start again; mend the cause (see the log) and use --resume"
            )
        if time.monotonic() - alive > STARVED_SECONDS:
            raise UserError(f"no worker for {STARVED_SECONDS:.0f} s; bring the nodes back and use --resume")

    def state(self) -> str:
        """Like `workers 3 busy, 1 loading`."""
        kinds = collections.Counter(
            "lost" if s.actor is None else "loading" if s.loading else "busy" if s.batch else "idle"
            for s in self._slots
        )
        return "workers " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))

    def close(self) -> None:
        """End the workers, and Ray too when this crew started (or joined) it."""
        for slot in self._slots:
            self._drop(slot)
        if self._owns_ray:
            ray.shutdown()


def _connect(config: Config) -> None:
    """Join the cluster of --ray_address, or start a private Ray on this machine."""
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    address = config.run.ray_address
    if address is None:
        cpus = max(os.cpu_count() or 1, config.run.num_workers)
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises a bare Exception when its processes do not come up in time
            ray.shutdown()
            raise UserError(
                f"--num_workers {config.run.num_workers}: Ray did not start on this machine ({_short(error)}); "
                "an overloaded machine is a common cause; try again, or --num_workers 1"
            ) from None
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--ray_address {address}: no cluster there that lets us in ({_short(error)}); "
            "a cluster with tokens wants RAY_AUTH_MODE=token, see docs/CLUSTER.md"
        ) from None


def placement(config: Config, resources: dict[str, float]) -> tuple[dict[str, Any], Config]:
    """Options of every actor, and the configuration its model is loaded with.

    `resources` is what the cluster has in all. Ray packs fractions of GPUs one GPU after the other, which for
    equal fractions is the same as dealing workers out in turn. Raises `UserError` when the cluster is too
    small for ever.
    """
    run, device = config.run, config.model.device
    gpus, workers = int(resources.get("GPU", 0)), run.num_workers
    if device.startswith("cuda:"):
        raise UserError(
            f"--device {device} with {workers} workers: Ray deals the GPUs out; use --device cuda or auto"
        )
    if device == "cuda" and not gpus and run.gpus_per_worker is None:
        raise UserError("--device cuda: no GPU in this Ray cluster; use --device cpu or auto")
    share = 0.0
    if device != "cpu" and gpus:
        if run.gpus_per_worker is not None:
            share = run.gpus_per_worker
        elif run.worker_device_round_robin:
            share = math.floor(10_000 / math.ceil(workers / gpus)) / 10_000  # Ray counts ten-thousandths
        else:
            share = 1.0
    elif run.gpus_per_worker:
        raise UserError(
            f"--gpus_per_worker {run.gpus_per_worker:g}: --device {device} and {gpus} GPUs in this cluster"
        )
    if share * workers > gpus and share > 0 and run.ray_address is None:
        raise UserError(
            f"--num_workers {workers}: {share:g} GPUs each are more than the {gpus} here; "
            "lower it, or share GPUs with --worker_device_round_robin or --gpus_per_worker"
        )
    cpus = 1 if share else max(1, int(resources.get("CPU", 1)) // workers)
    options = {"num_cpus": cpus, "num_gpus": share, "max_restarts": 0, "max_task_retries": 0}
    inner = "cpu" if not share else "cuda"
    return options, config.replace(device=inner)


def common_size(sizes: Sequence[int], share: float, samples: int, workers: int) -> int:
    """Samples per batch: what suits every worker (`sizes`), and leaves each a few batches of the `samples`.

    A worker that has a `share` of a GPU took all that was free for its own; its neighbours will want theirs.
    """
    fits = min(sizes)
    if 0 < share < 1:
        fits = int(fits * share)
    return max(1, min(fits, math.ceil(samples / (BATCHES_PER_WORKER * workers))))


def _resources(amounts: dict[str, Any]) -> str:
    cpus = amounts.get("CPU", amounts.get("num_cpus", 0))
    return f"{cpus:g} CPUs and {amounts.get('GPU', amounts.get('num_gpus', 0)):g} GPUs"


def _short(error: BaseException) -> str:
    """The telling end of an error in one line, without Ray's colours."""
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    return f"{type(error).__name__}: {text if len(text) <= 400 else '... ' + text[-400:]}"
