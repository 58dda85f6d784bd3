"""Confidence rewards: their values where they are known, their traps, and the strict self-score."""

import math

import pytest
import torch

from dmlr.reward import _largest, parse_self_score, score_logits

V, K = 151_936, 10  # vocabulary of Qwen2.5-VL, the default k


def rows(*probabilities):
    """Logits (R, V) of distributions given as lists."""
    return torch.tensor(probabilities).log()


@pytest.mark.parametrize(("name", "value"), [("deepconf", 11.93), ("entropy", 0.9992), ("certainty", 0.0)])
def test_uniform_distribution_over_the_qwen_vocabulary(name, value):
    """The published two rate total ignorance near their top; `certainty` at 0. The top-k mass tells."""
    score = score_logits(torch.zeros(1, V), name, K)
    assert score.reward.item() == pytest.approx(value, abs=5e-5 if name == "entropy" else 5e-3)
    assert score.top_k_mass.item() == pytest.approx(K / V, rel=1e-4)


def test_exact_values_of_the_uniform_distribution():
    logits = torch.full((3, V), 2.5)
    assert score_logits(logits, "deepconf", K).reward.item() == pytest.approx(math.log(V), rel=1e-5)
    assert score_logits(logits, "entropy", K).reward.item() == pytest.approx(
        1 - K / V * math.log(V), rel=1e-6
    )


@pytest.mark.parametrize("size", [5, 128, 1291, 1408, V])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_largest_in_two_stages_equal_topk(size, k):
    """Ties, several large values in one chunk, large values in the rest behind the last chunk; gradients too."""
    generator = torch.Generator().manual_seed(size)
    k = min(k, size)
    values = torch.randint(-50, 50, (2, 3, size), generator=generator).float()
    values[0, 0, :4] += 100
    values[1, 1, -3:] += torch.tensor([60.0, 80.0, 70.0])
    assert torch.equal(_largest(values, k), values.topk(k, dim=-1).values)
    spread = torch.randn(2, size, generator=generator, requires_grad=True)
    weights = torch.arange(1.0, k + 1)
    (mine,) = torch.autograd.grad((_largest(spread, k) * weights).sum(), spread)
    (theirs,) = torch.autograd.grad((spread.topk(k, dim=-1).values * weights).sum(), spread)
    assert torch.equal(mine, theirs)


def test_values_by_hand():
    p = [0.5, 0.25, 0.125, 0.125]
    logs = [math.log(x) for x in p]
    logits = rows(p)
    assert score_logits(logits, "deepconf", 2).reward.item() == pytest.approx(-(logs[0] + logs[1]) / 2)
    assert score_logits(logits, "entropy", 2).reward.item() == pytest.approx(
        1 + 0.5 * logs[0] + 0.25 * logs[1]
    )
    full = -sum(x * y for x, y in zip(p, logs, strict=True))
    assert score_logits(logits, "certainty", 2).reward.item() == pytest.approx(1 - full / math.log(4))
    assert score_logits(logits, "certainty", 2).top_k_mass.item() == pytest.approx(0.75)


def test_mean_over_rows_of_each_sample():
    a, b = [0.7, 0.2, 0.1], [0.4, 0.3, 0.3]
    one, other = (score_logits(rows(p), "deepconf", 2).reward.item() for p in (a, b))
    both = score_logits(torch.stack([rows(a, b), rows(b, b)]), "deepconf", 2)
    assert both.reward.shape == (2,)
    assert both.reward.tolist() == pytest.approx([(one + other) / 2, other])


def test_published_rewards_fall_before_they_rise_and_certainty_only_rises():
    """One token grows from uniform to certain: a little sharper is *worse* under the published two."""
    logits = torch.zeros(60, 1, 5000)
    logits[:, 0, 0] = torch.linspace(0, 40, 60)
    for name in ("deepconf", "entropy"):
        reward = score_logits(logits, name, 10).reward
        lowest = int(reward.argmin())
        assert 0 < lowest < 59
        assert reward[0] - reward[lowest] > 0.3
        assert reward[-1] - reward[lowest] > 0.3
    certainty = score_logits(logits, "certainty", 10).reward
    assert (certainty.diff() > -1e-6).all()
    assert certainty[0] == pytest.approx(0, abs=1e-5)
    assert certainty[-1] == pytest.approx(1, abs=1e-3)


def test_half_precision_logits_are_scored_in_float32():
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)) * 8
    half = logits.bfloat16()
    for name in ("deepconf", "entropy", "certainty"):
        score = score_logits(half, name, 10)
        assert score.reward.dtype == torch.float32
        assert score.reward.item() == pytest.approx(
            score_logits(half.float(), name, 10).reward.item(), abs=1e-6
        )


def test_k_above_the_vocabulary_means_all_of_it():
    logits = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    score = score_logits(logits, "deepconf", 10)
    assert score.reward == score_logits(logits, "deepconf", 7).reward
    assert score.top_k_mass.item() == pytest.approx(1)


def test_extreme_logits_stay_finite():
    logits = torch.full((1, 50), -1e4)
    logits[0, 3] = 1e4
    for name in ("deepconf", "entropy", "certainty"):
        assert score_logits(logits, name, 10).reward.isfinite()


def test_unknown_reward_is_an_error():
    with pytest.raises(ValueError, match="unknown reward 'conf'"):
        score_logits(torch.zeros(1, 4), "conf", 2)


@pytest.mark.parametrize("name", ["deepconf", "entropy", "certainty"])
def test_gradient_is_that_of_finite_differences(name):
    logits = torch.randn(3, 12, generator=torch.Generator().manual_seed(1)).double().requires_grad_(True)
    direction = torch.randn(3, 12, generator=torch.Generator().manual_seed(2)).double()
    score_logits(logits, name, 4).reward.backward()
    with torch.no_grad():
        up, down = (score_logits(logits + s * 1e-2 * direction, name, 4).reward for s in (1, -1))
    slope = float((logits.grad * direction).sum())
    assert float(up - down) / 2e-2 == pytest.approx(slope, rel=2e-2, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.7", 0.7), (" 1 ", 1.0), ("0", 0.0), (".5", 0.5), ("0.7.", 0.7), ("1.", 1.0), ("0.25\n", 0.25),
        ("", None), ("0.7 because", None), ("score: 0.7", None), ("7/10", None), ("-0.1", None),
        ("1.01", None), ("70%", None), ("nan", None), ("0.1 0.2", None), ("0,7", None), ("1e-3", None),
    ],
)  # fmt: skip
def test_self_score_is_parsed_strictly(text, value):
    assert parse_self_score(text) == value
