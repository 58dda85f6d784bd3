"""Counts, accuracy and its confidence interval from results entries: pure functions on plain data.

Three values, never two: an answer that nobody could judge and a sample that failed stay out of the accuracy and are
counted beside it (ours).
"""

from collections.abc import Iterable, Mapping
from math import sqrt
from statistics import NormalDist
from typing import Any, TypedDict


class Summary(TypedDict):
    """Fields of the same names at the top of `results.json`."""

    accuracy: float | None
    correct: int
    total: int
    ci95: list[float] | None
    unjudged: int
    errors: int


def summarise(entries: Iterable[Mapping[str, Any]]) -> Summary:
    """Summary of results entries, of which only `is_correct` and `error` are read.

    `total` counts entries, `errors` those with an error, `unjudged` those without a verdict otherwise; `accuracy` is
    correct / judged and `ci95` its Wilson interval, both None when nothing was judged.
    """
    total = correct = judged = errors = 0
    for entry in entries:
        total += 1
        if entry.get("error"):
            errors += 1
        elif entry.get("is_correct") is not None:
            judged += 1
            correct += bool(entry["is_correct"])
    return Summary(
        accuracy=correct / judged if judged else None,
        correct=correct,
        total=total,
        ci95=list(wilson_interval(correct, judged)) if judged else None,
        unjudged=total - judged - errors,
        errors=errors,
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (E. B. Wilson, JASA 1927), inside [0, 1].

    Closed form: importing a statistics package for it would double the start-up time of `dmlr verify`. Raises
    `ValueError` unless 0 <= successes <= trials and trials > 0.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    # the ends are exact where the proportion is; rounding would leave 1e-17 there
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high
