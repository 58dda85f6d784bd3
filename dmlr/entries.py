"""One result entry: the fields of a sample in `results.json`, its reward log and its latents as bytes."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmlr.data import Sample
from dmlr.prediction import Prediction

REWARD_COLUMNS = (
    "step",
    "reward",
    "sigma",
    "is_new_best",
    "patch_count",
    "patch_budget",
    "candidate_reward_mean",
    "top_k_mass",
)
NOT_JUDGED = {"is_correct": None, "verdict": "unjudged", "verdict_by": "none"}


def make_entry(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    """Entry of an answered (or failed) sample, not judged yet. Rewards that are not finite become null."""
    reason = f"no answer to judge: {prediction.error}" if prediction.error else "not judged yet"
    return {
        "data_idx": sample.data_idx,
        "question": sample.question,
        "image_path": sample.row.get("image_path"),
        "sys_prompt": prediction.sys_prompt,
        "prompt": prediction.prompt,
        "model_output": prediction.model_output,
        "answer": "",
        "ground_truth": sample.solution,
        "ground_truth_text": _ground_truth_text(sample.row, sample.solution),
        **NOT_JUDGED,
        "verdict_reason": reason,
        "initial_reward": _finite(prediction.initial_reward),
        "best_reward": _finite(prediction.best_reward),
        "best_reward_step": prediction.best_reward_step,
        "stop_reason": prediction.stop_reason,
        "patches": prediction.patches,
        "image_grid": list(prediction.image_grid) if prediction.image_grid else None,
        "prompt_tokens": prediction.prompt_tokens,
        "generated_tokens": prediction.generated_tokens,
        "unparsed_self_scores": prediction.unparsed_self_scores,
        "seconds": round(prediction.seconds, 4),
        "error": prediction.error,
    }


def failed(sample: Sample, error: str) -> Prediction:
    """Prediction of a sample that could not be answered; `error` becomes one line."""
    return Prediction(sample.data_idx, error=" ".join(error.split()) or "unknown error")


def bad_row(sample: Sample) -> Prediction:
    """Prediction of a row that cannot be asked (--skip_bad_rows); an empty gold has its own stop reason."""
    no_gold = sample.problem == "solution is empty"
    return Prediction(
        sample.data_idx, stop_reason="skipped_no_gt" if no_gold else "exception", error=sample.problem
    )


def reward_csv(prediction: Prediction) -> bytes:
    """The reward log: one line per optimisation step, the values in force during the step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(REWARD_COLUMNS)
    for step in prediction.trace:
        writer.writerow([getattr(step, name) for name in REWARD_COLUMNS])
    return text.getvalue().encode()


def latents_file(prediction: Prediction) -> bytes:
    """The kept state: safetensors `thoughts` (L, D) float32 in raw embedding units, `patches` (n, 2) int64.

    Rows of `patches` are (thought, image token), in the order in which they are injected.
    """
    from safetensors.numpy import save

    if prediction.thoughts is None:
        raise ValueError(f"sample {prediction.data_idx}: the engine kept no thoughts")
    pairs = [(l, token) for l, tokens in enumerate(prediction.patches) for token in tokens]
    return save(
        {
            "thoughts": np.ascontiguousarray(prediction.thoughts.numpy(), dtype=np.float32),
            "patches": np.asarray(pairs, dtype=np.int64).reshape(-1, 2),
        }
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ground_truth_text(row: Mapping[str, Any], solution: str) -> str:
    text = row.get("answer_text")
    return solution if text is None else str(text)
