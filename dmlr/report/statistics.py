"""Every interval and test that reports and studies print, each a few lines over scipy or statsmodels.

Intervals are 95 % unless a `level` is given. Resampling uses fixed seeds, so the same runs give the same
table. Proportions are in [0, 1], differences in [-1, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 10_000
BATCH = 500  # resamples drawn at once: bounds memory at BATCH x n numbers


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `low` and `high` are None when the data cannot give one (`note` says
    why).
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def proportion(successes: int, total: int, level: float = 0.95) -> Estimate:
    """Share with Wilson's interval; nothing counted gives no value."""
    if total == 0:
        return Estimate(None, note="nothing was judged")
    low, high = proportion_confint(successes, total, alpha=1 - level, method="wilson")
    return Estimate(successes / total, float(low), float(high), total)


def mean(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap interval over the values, which must be independent of each other."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        return Estimate(None, note="no values")
    if data.size == 1 or np.ptp(data) == 0:
        return Estimate(float(data.mean()), n=data.size, note="no spread: resampling gives no interval")
    result = stats.bootstrap(
        (data,),
        np.mean,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(float(data.mean()), float(interval.low), float(interval.high), data.size)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean of `second - first` over the same samples, with a paired bootstrap interval.

    `first[i]` and `second[i]` belong to one sample: 0/1 for a single run each, or the share of right
    answers over several seeds (the sample, not the seed, is what is resampled). Raises `ValueError` on
    unequal lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"paired values differ in number: {len(first)} and {len(second)}")
    difference = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    estimate = mean(difference, level)
    if estimate.note.startswith("no spread") and estimate.value == 0.0:
        return Estimate(0.0, n=len(difference), note="no sample changed: resampling gives no interval")
    return estimate


def mcnemar_p(lost: int, gained: int) -> float:
    """Two-sided p of McNemar's exact test from the discordant counts (1 when there are none)."""
    return float(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue)


def sign_flip_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p that paired values differ, by flipping the sign of each difference at random.

    Exact for few pairs, 20,000 flips otherwise; for 0/1 values it agrees with McNemar's exact test.
    """
    difference = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    changed = difference[difference != 0]
    if changed.size == 0:
        return 1.0
    if changed.size == 1:
        return 1.0  # one pair can be flipped either way: nothing to learn
    result = stats.permutation_test(
        (changed,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        batch=2000,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for having made several comparisons."""
    if not p_values:
        return []
    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]


def _auroc(positive: np.ndarray, negative: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of (positive, negative) pairs in the right order, ties counted half: Mann-Whitney's U over n1
    n0.
    """
    n1, n0 = positive.shape[axis], negative.shape[axis]
    ranks = stats.rankdata(np.concatenate([positive, negative], axis=axis), axis=axis)
    rank_sum = np.take(ranks, range(n1), axis=axis).sum(axis=axis)
    return (rank_sum - n1 * (n1 + 1) / 2) / (n1 * n0)


def auroc(scores: Sequence[float], labels: Sequence[bool], level: float = 0.95, seed: int = 0) -> Estimate:
    """Area under the ROC curve of `scores` for `labels`, with a bootstrap interval stratified by label.

    0.5 is chance; below it, a high score speaks against the label. Samples must be independent (for tokens
    of the same sample use `clustered` with `auroc_value`).
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    positive, negative = values[truth], values[~truth]
    if positive.size == 0 or negative.size == 0:
        return Estimate(None, n=values.size, note="only one class is present")
    value = float(_auroc(positive, negative))
    if min(positive.size, negative.size) < 2:
        return Estimate(value, n=values.size, note="a class has a single member: no interval")
    result = stats.bootstrap(
        (positive, negative),
        _auroc,
        vectorized=True,
        n_resamples=4000,
        batch=BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), values.size)


def auroc_value(scores: np.ndarray, labels: np.ndarray) -> float:
    """`auroc` without the interval; NaN when a class is missing."""
    truth = labels.astype(bool)
    if truth.all() or not truth.any():
        return float("nan")
    return float(_auroc(scores[truth], scores[~truth]))


def spearman_value(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; NaN when one side is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def clustered(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """`statistic(x, y)` with a percentile interval from resampling whole clusters.

    Tokens or steps of one answer are not independent; their sample is. `n` is the number of rows, not of
    clusters.
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    groups = np.asarray(clusters)
    if first.size == 0:
        return Estimate(None, note="no values")
    value = statistic(first, second)
    if not np.isfinite(value):
        return Estimate(None, n=first.size, note="not defined: a side is constant or a class is missing")
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    members = np.split(order, starts[1:])
    if len(members) < 2:
        return Estimate(value, n=first.size, note="a single sample: no interval")
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        picked = generator.integers(0, len(members), len(members))
        rows = np.concatenate([members[i] for i in picked])
        drawn.append(statistic(first[rows], second[rows]))
    finite = np.asarray([d for d in drawn if np.isfinite(d)])
    if finite.size < resamples / 2:
        return Estimate(value, n=first.size, note="most resamples do not define it: no interval")
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high), first.size)


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability curve: mean score of its samples, their accuracy, the score's range."""

    score: float
    low_score: float
    high_score: float
    accuracy: Estimate


def reliability(scores: Sequence[float], labels: Sequence[bool], bins: int = 5) -> list[Bin]:
    """Accuracy by confidence: bins of equal size by score (the rewards are unbounded, so not of equal width).

    Equal scores stay in one bin. Fewer than two samples per bin are avoided by using fewer bins.
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    if values.size == 0:
        return []
    count = max(1, min(bins, values.size // 2))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for b in np.unique(place):
        inside = place == b
        picked = values[inside]
        accuracy = proportion(int(truth[inside].sum()), int(inside.sum()))
        found.append(Bin(float(picked.mean()), float(picked.min()), float(picked.max()), accuracy))
    return found


def trend_test(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Two-sided p of the Mann-Whitney test that right and wrong samples have the same scores; None if
    undefined.
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    if truth.all() or not truth.any():
        return None
    return float(stats.mannwhitneyu(values[truth], values[~truth], alternative="two-sided").pvalue)


def quartiles(scores: Sequence[float], labels: Sequence[bool]) -> dict[str, Any]:
    """Accuracy in each quarter of the samples by score, with Fisher's exact test of the highest against the
    lowest.
    """
    curve = reliability(scores, labels, bins=4)
    rows = [
        {"from": b.low_score, "to": b.high_score, "mean": b.score, "accuracy": b.accuracy.as_dict()}
        for b in curve
    ]
    p = None
    if len(curve) >= 2:
        table = []
        for b in (curve[0], curve[-1]):
            right = round((b.accuracy.value or 0.0) * b.accuracy.n)
            table.append([right, b.accuracy.n - right])
        p = float(stats.fisher_exact(table).pvalue)
    return {
        "bins": rows,
        "fisher_exact_p_highest_against_lowest": p,
        "mann_whitney_p": trend_test(scores, labels),
    }
