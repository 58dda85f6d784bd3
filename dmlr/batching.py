"""Batches: which samples go together, and how one failing sample is kept from taking the others with it."""

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from dmlr.config import Config
from dmlr.data import Dataset, Sample
from dmlr.entries import failed
from dmlr.errors import UserError
from dmlr.prediction import Prediction

log = logging.getLogger(__name__)

SIZE_OF_THE_UNKNOWN = 8  # samples, for --batch_size auto and an engine that cannot tell what it holds
PIXELS_PER_TOKEN = 28 * 28

Answer = Callable[[Sequence[Sample]], list[Prediction]]
Engine = Callable[[Config], Answer]


@runtime_checkable
class Foresighted(Protocol):
    """An `Answer` that can plan (`dmlr.engine.Answerer`); a plain function need not."""

    def fitting_batch(self) -> int:
        """Samples per batch that suit its device, for --batch_size auto."""

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Start loading these samples in this order, without waiting, and drop what was prepared of others."""

    def close(self) -> None:
        """Stop preparing."""


class DeviceLost(RuntimeError):
    """The accelerator is in a state that this process cannot leave: only a new process can go on."""


def load_engine(config: Config) -> Answer:
    """Load (or reach) the model of `config`; the result answers batches. Raises `UserError` when it cannot be had."""
    if config.decoding.engine == "openai":
        from dmlr.served import ServedModel

        return ServedModel(config)
    from dmlr.engine import Answerer

    return Answerer.load(config)


def prompt_length(sample: Sample, dataset: Dataset, config: Config) -> int:
    """Rough prompt length in tokens: image tokens within the limits, and a token per four characters."""
    width, height = dataset.sizes.get(sample.data_idx, (0, 0))
    tokens = width * height // PIXELS_PER_TOKEN
    image = min(max(tokens, config.model.min_pixels), config.model.max_pixels) if sample.image else 0
    return image + len(sample.question) // 4


def plan(samples: Sequence[Sample], dataset: Dataset, config: Config, size: int) -> list[list[Sample]]:
    """Batches of at most `size` samples, the longest prompts first.

    Like goes with like, so little is padded; what does not fit into the memory shows at once; and at the end,
    when workers run out of work, only short samples are left.
    """
    ordered = sorted(samples, key=lambda s: (-prompt_length(s, dataset, config), s.data_idx))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


class SafeAnswer:
    """An `Answer` that never raises for a sample's sake: a sample that fails becomes a failed prediction.

    A batch that runs out of memory is halved until it fits, and later batches are no larger than what did. A
    batch that fails otherwise is answered one by one, so that only the culprit fails. Heatmaps are written
    here, next to the model, so that attention maps never travel.
    """

    def __init__(self, answer: Answer, config: Config) -> None:
        self._answer = answer
        self._config = config
        self._largest: int | None = None

    def batch_size(self) -> int:
        """Samples per batch: what --batch_size says, or, for `auto`, what the engine says."""
        size = self._config.run.batch_size
        if not isinstance(size, str):
            return size
        return self._answer.fitting_batch() if isinstance(self._answer, Foresighted) else SIZE_OF_THE_UNKNOWN

    def close(self) -> None:
        """Stop what is prepared ahead; nothing is answered after this."""
        if isinstance(self._answer, Foresighted):
            self._answer.close()

    def __call__(
        self, samples: Sequence[Sample], following: Sequence[Sample] = ()
    ) -> Iterator[list[Prediction]]:
        """Predictions in groups, as they come. Raises `DeviceLost` when no further sample can be answered.

        `following` is what will probably be asked next: its images are loaded while `samples` are computed. No more
        than that is held ahead, and what goes wrong with it shows when it is asked.
        """
        if isinstance(self._answer, Foresighted):
            self._answer.prepare([*samples, *following])
        waiting = [list(samples)]
        while waiting:
            batch = waiting.pop()
            if self._largest and len(batch) > self._largest:
                waiting += [batch[self._largest :], batch[: self._largest]]
                continue
            try:
                answered = [self._finish(s, p) for s, p in zip(batch, self._answer(batch), strict=True)]
            except UserError:
                raise
            except Exception as error:
                if is_device_lost(error):
                    raise DeviceLost(describe(error)) from None
                problem, no_memory = describe(error), is_out_of_memory(error)
                log.warning("batch of %d failed: %s", len(batch), problem)
                log.debug("traceback", exc_info=True)
            else:
                yield answered
                continue
            # Outside the handler: the traceback, and with it the tensors of the failed call, is gone.
            if no_memory:
                _free_device_memory()
            if len(batch) == 1:
                yield [failed(batch[0], _with_advice(problem) if no_memory else problem)]
            elif no_memory:
                self._largest = len(batch) // 2
                waiting.append(batch)
            else:
                waiting += [[sample] for sample in reversed(batch)]

    def _finish(self, sample: Sample, prediction: Prediction) -> Prediction:
        if prediction.data_idx != sample.data_idx:
            raise RuntimeError(f"the engine answered sample {prediction.data_idx} for {sample.data_idx}")
        if self._config.visual.visual_token_viz and prediction.attention_maps is not None:
            from dmlr.report.heatmaps import save_step_maps

            save_step_maps(prediction, sample, viz_folder(self._config))
        return replace(prediction, attention_maps=None, step_patches=[])


def viz_folder(config: Config) -> Path:
    """Folder of the heatmaps."""
    return Path(config.visual.visual_token_viz_dir or Path(config.run.output_dir) / "visual_token_viz")


def describe(error: BaseException) -> str:
    """The error in one line, its type in front."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def is_out_of_memory(error: BaseException) -> bool:
    """True when a smaller batch may succeed."""
    torch = importlib.import_module("torch") if _is_torch_error(error) else None
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def is_device_lost(error: BaseException) -> bool:
    """True for a CUDA failure after which every call of this process fails (assertion, lost device)."""
    return _is_torch_error(error) and not is_out_of_memory(error) and "CUDA error" in str(error)


def _is_torch_error(error: BaseException) -> bool:
    return type(error).__module__.startswith("torch") or "CUDA" in str(error)


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _with_advice(problem: str) -> str:
    return f"out of memory on a single sample; lower --max_pixels or --num_candidates ({problem})"
