"""What a run says while it runs: a bar on standard error, and lines above it as --verbose asks."""

import sys
from typing import Any

from tqdm import tqdm

from dmlr.data import Sample
from dmlr.prediction import Prediction


class Progress:
    """The bar with running accuracy and rate, and a line per sample (verbose 1) and step (verbose 2).

    The rate counts samples of this session only, so that the estimate of the time left is right after
    --resume.
    """

    def __init__(self, total: int, done: int, verbose: int) -> None:
        self._verbose = verbose
        self._judged = self._correct = 0
        self._bar = tqdm(
            total=total, initial=done, unit="sample", file=sys.stderr, smoothing=0.1, mininterval=0.5
        )
        self._workers = ""

    def answered(self, sample: Sample, prediction: Prediction) -> None:
        """A sample is done (or failed)."""
        self._bar.update()
        if self._verbose == 0:
            return
        if prediction.error:
            self.line(f"[{sample.data_idx}] failed: {prediction.error}")
            return
        if self._verbose > 1:
            for step in prediction.trace:
                mark = " *" if step.is_new_best else ""
                self.line(
                    f"[{sample.data_idx}] step {step.step}: reward {step.reward:.4f}, sigma {step.sigma:.3g}, "
                    f"patches {step.patch_count}, top-k mass {step.top_k_mass:.3f}{mark}"
                )
        reward = ""
        if prediction.initial_reward is not None and prediction.best_reward is not None:
            reward = f", reward {prediction.initial_reward:.3f} -> {prediction.best_reward:.3f}"
        self.line(
            f"[{sample.data_idx}] {prediction.generated_tokens} tokens ({prediction.stop_reason}), "
            f"{prediction.seconds:.2f} s{reward}"
        )

    def judged(self, entry: dict[str, Any]) -> None:
        """A verdict is there (also for entries of an earlier session)."""
        if entry["is_correct"] is not None:
            self._judged += 1
            self._correct += entry["is_correct"]
        self._show()
        if self._verbose > 1:
            self.line(
                f"[{entry['data_idx']}] {entry['verdict']} by {entry['verdict_by']}: {entry['answer']!r}"
            )

    def workers(self, state: str) -> None:
        """State of the workers, shown behind the accuracy."""
        if state != self._workers:
            self._workers = state
            self._show()

    def line(self, text: str) -> None:
        """A line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def _show(self) -> None:
        accuracy = f"accuracy {self._correct / self._judged:.3f}" if self._judged else ""
        self._bar.set_postfix_str(", ".join(filter(None, (accuracy, self._workers))), refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
