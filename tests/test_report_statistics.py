"""Intervals and tests agree with published or independently computed values, and keep their promise of
coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from dmlr.report.statistics import (
    auroc,
    auroc_value,
    clustered,
    holm,
    mcnemar_p,
    mean,
    paired_difference,
    proportion,
    quartiles,
    reliability,
    spearman_value,
)


def test_wilson_interval_matches_newcombes_published_example():
    # Newcombe (1998), table I, score method without continuity correction: 81/263, 15/148, 0/20 and 1/29.
    published = [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]
    for successes, total, low, high in published:
        estimate = proportion(successes, total)
        assert estimate.low == pytest.approx(low, abs=5e-5)
        assert estimate.high == pytest.approx(high, abs=5e-5)


def test_nothing_judged_gives_no_accuracy():
    assert proportion(0, 0).value is None


def test_mcnemar_exact_is_the_binomial_test_of_the_discordant_pairs():
    assert mcnemar_p(1, 8) == pytest.approx(0.0390625)  # 2 * (1 + 9) / 2^9
    assert mcnemar_p(12, 5) == pytest.approx(stats.binomtest(5, 17).pvalue)
    assert mcnemar_p(0, 0) == 1.0


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_auroc_is_mann_whitneys_u_with_ties():
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 8, 200).astype(float)
    labels = generator.random(200) < 0.4
    u = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    expected = u / (labels.sum() * (~labels).sum())
    estimate = auroc(scores, labels)
    assert estimate.value == pytest.approx(expected)
    assert auroc_value(scores, labels) == pytest.approx(expected)
    assert estimate.low < expected < estimate.high


def test_auroc_of_separated_and_of_missing_classes():
    assert auroc([1, 2, 3, 4], [False, False, True, True]).value == 1.0
    assert auroc([1, 2], [True, True]).value is None
    assert math.isnan(auroc_value(np.array([1.0, 2.0]), np.array([True, True])))


def test_paired_difference_keeps_the_pairs():
    generator = np.random.default_rng(2)
    first = (generator.random(200) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:10]] = 1  # ten samples gained, none lost
    paired = paired_difference(first, second)
    assert paired.value == pytest.approx(0.05)
    assert paired.low > 0.015
    # the same accuracies paired at random have a far wider interval: the pairing is what is used
    shuffled = paired_difference(first, generator.permutation(second))
    assert shuffled.high - shuffled.low > 2 * (paired.high - paired.low)
    with pytest.raises(ValueError, match="differ in number"):
        paired_difference([1.0], [1.0, 0.0])


def test_identical_runs_say_that_no_interval_exists():
    estimate = paired_difference([1, 0, 1], [1, 0, 1])
    assert (estimate.value, estimate.low) == (0.0, None)
    assert "no sample changed" in estimate.note


def test_clusters_widen_the_interval():
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(20), 30)
    shift = np.repeat(generator.normal(size=20), 30)
    x, y = shift + 0.1 * generator.normal(size=600), shift + 0.1 * generator.normal(size=600)
    by_cluster = clustered(spearman_value, x, y, clusters)
    by_row = clustered(spearman_value, x, y, np.arange(600))
    assert by_cluster.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert by_cluster.high - by_cluster.low > 2 * (by_row.high - by_row.low)


def test_reliability_bins_hold_every_sample_once_and_rise_with_the_truth():
    scores = np.linspace(4, 8, 101)
    labels = scores > 6
    curve = reliability(scores, labels, bins=5)
    assert sum(b.accuracy.n for b in curve) == 101
    assert curve[0].accuracy.value == 0.0
    assert curve[-1].accuracy.value == 1.0
    assert len(reliability([1.0] * 10, [True] * 10)) == 1
    assert reliability([], []) == []


def test_quartiles_test_the_ends():
    scores = np.arange(80.0)
    result = quartiles(scores, scores >= 40)
    assert result["fisher_exact_p_highest_against_lowest"] == pytest.approx(
        stats.fisher_exact([[0, 20], [20, 0]]).pvalue
    )
    assert len(result["bins"]) == 4


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Simulated worlds with a known truth; 95 % intervals must cover it in 91 to 98.5 % of 300 worlds."""
    generator = np.random.default_rng(4)
    worlds, hits = 300, {"wilson": 0, "paired": 0, "mean": 0, "auroc": 0, "clustered": 0}
    true_auroc = stats.norm.cdf(1 / math.sqrt(2))
    for _ in range(worlds):
        wilson = proportion(int(generator.binomial(120, 0.75)), 120)
        hits["wilson"] += wilson.low <= 0.75 <= wilson.high
        # a quarter of the samples may change: 15 % gained, 10 % lost, true difference 0.05
        draw = generator.random(150)
        first, second = (draw < 0.65).astype(float), ((draw < 0.55) | (draw >= 0.85)).astype(float)
        paired = paired_difference(first, second)
        hits["paired"] += paired.low <= 0.05 <= paired.high
        sample = mean(generator.normal(size=100))
        hits["mean"] += sample.low <= 0 <= sample.high
        labels = np.arange(100) < 50
        area = auroc(generator.normal(size=100) + labels, labels)
        hits["auroc"] += area.low <= true_auroc <= area.high
        # 50 clusters of 5 rows share a level in x, which y repeats with noise: the mean of x*y is 1
        level = np.repeat(generator.normal(size=50), 5)
        product = clustered(
            lambda x, y: float(np.mean(x * y)),
            level,
            level + generator.normal(size=250),
            np.repeat(np.arange(50), 5),
            resamples=400,
        )
        hits["clustered"] += product.low <= 1 <= product.high
    shares = {name: count / worlds for name, count in hits.items()}
    print(shares)
    assert all(0.91 <= share <= 0.985 for name, share in shares.items() if name != "clustered"), shares
    assert 0.86 <= shares["clustered"] <= 0.98, shares  # percentile intervals are short for skewed means
