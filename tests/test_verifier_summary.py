"""Accuracy over judged answers, with its interval and what stays outside of it."""

import pytest
from scipy.stats import binomtest

from dmlr.summary import summarise, wilson_interval


def entry(is_correct, error=None):
    return {"is_correct": is_correct, "error": error}


def test_unjudged_and_failed_answers_stay_out_of_the_accuracy():
    entries = (
        [entry(True)] * 3
        + [entry(False)]
        + [entry(None)] * 2
        + [entry(None, "no image")]
        + [entry(True, "late")]
    )
    summary = summarise(entries)
    assert summary["accuracy"] == 0.75
    assert (summary["correct"], summary["total"], summary["unjudged"], summary["errors"]) == (3, 8, 2, 2)
    assert summary["ci95"] == pytest.approx(wilson_interval(3, 4))


def test_nothing_judged_is_no_accuracy():
    assert summarise([entry(None)]) == {
        "accuracy": None,
        "correct": 0,
        "total": 1,
        "ci95": None,
        "unjudged": 1,
        "errors": 0,
    }
    assert summarise([])["accuracy"] is None


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (713, 2017), (999, 1000)]
)
def test_the_interval_is_wilsons(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(successes, trials)
