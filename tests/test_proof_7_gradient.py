"""Proof 7: REINFORCE converges to the gradient of the smoothed reward; the true gradient reaches the thoughts alone."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from proof_tools import prefill, table, thoughts_of

from dmlr import inference, policy
from dmlr.config import Config
from dmlr.inference import BlockStyle, Policy, State
from dmlr.scoring import Scorer, StateScore

# ---- on functions whose smoothed gradient is known ----------------------------------------------------------------

L, D, LR, SIGMA = 2, 2, 0.1, 30.0
START = torch.tensor([[1.0, -2.0], [3.0, 0.5]])  # its RMS is not 1
SCALE = START.square().mean().sqrt()
NOISE = SCALE * SIGMA / 100  # standard deviation of the candidates in raw units
A = torch.tensor([[0.4, 1.2], [-0.8, 0.3]])
H = torch.tensor([[0.3, -0.1], [0.2, 0.5]])


def quadratic(x):
    """a.x + sum h x^2 and its smoothed gradient: smoothing a quadratic only adds a constant."""
    return (A * x + H * x.square()).sum((-1, -2)), A + 2 * H * x


def sine(x):
    """sin(a.x): the smoothed function is damped by exp(-sigma^2 |a|^2 / 2), which its own gradient is not."""
    phase = (A * x).sum((-1, -2), keepdim=True)
    damping = torch.exp(-(NOISE**2) * A.square().sum() / 2)
    return phase.sin()[..., 0, 0], A * phase.cos() * damping


class Known:
    """Stands where the scorer stands; the reward of thoughts is a known function plus a constant."""

    def __init__(self, function, constant=0.0):
        self.function, self.constant = function, constant

    def score_candidates(self, candidates, patches):
        reward = self.function(candidates)[0] + self.constant
        return StateScore(reward, torch.ones_like(reward), torch.zeros(len(reward), L, 0))


def steps(function, settings, runs=4000, constant=0.0, count=1):
    """Movement of `runs` independent policies, each step relative to scale^2 lr: gradient estimates (runs, L, D).

    A list with one (estimates, expected) pair per step; `expected` is the smoothed gradient where the step began.
    """
    config = Config().replace(lr=LR, sigma=SIGMA, sigma_decay=1.0, **settings)
    start = START.expand(runs, L, D).clone()
    prompts = [SimpleNamespace(data_idx=i) for i in range(runs)]
    prefix = SimpleNamespace(prompts=prompts, num_patches=torch.zeros(runs, dtype=torch.long))
    scorer = Known(function, constant)
    moving = Policy(start, prefix, scorer, config)
    state, found = State(start, torch.zeros(runs, L, 0, dtype=torch.long)), []
    initial = function(start)[0] + constant
    for t in range(1, count + 1):
        moved = moving.step(t, state, initial)
        estimate = (moved.thoughts - state.thoughts) / (SCALE**2 * LR)
        found.append((estimate, function(state.thoughts)[1]))
        state = State(moved.thoughts, state.patches)
    return found


def bias(estimate, expected):
    """Mean error per coordinate in standard errors, and the standard error relative to the gradient."""
    error = (estimate - expected).mean(0)
    standard_error = (estimate - expected).std(0) / len(estimate) ** 0.5
    return (error / standard_error).abs().max(), (standard_error.norm() / expected.mean(0).norm())


SETTINGS = {
    "paper": {"num_candidates": 1},
    "eight candidates": {"num_candidates": 8},
    "eight, leave-one-out": {"num_candidates": 8, "reward_baseline": "mean"},
    "two, leave-one-out": {"num_candidates": 2, "reward_baseline": "mean"},
    "antithetic": {"num_candidates": 8, "antithetic": True},
    "one antithetic pair": {"num_candidates": 2, "antithetic": True},
    "antithetic, mean": {"num_candidates": 8, "antithetic": True, "reward_baseline": "mean"},
    "one antithetic pair, mean": {"num_candidates": 2, "antithetic": True, "reward_baseline": "mean"},
}


@pytest.mark.parametrize("function", [quadratic, sine])
@pytest.mark.parametrize("name", SETTINGS)
def test_estimate_converges_to_the_gradient_of_the_smoothed_reward(name, function):
    (pair,) = steps(function, SETTINGS[name], runs=16_000 if name == "paper" else 4000)
    standard_errors, precision = bias(*pair)
    assert standard_errors < 4
    assert precision < 0.06  # so that a factor of 8/7, or the unsmoothed gradient, would be seen


def test_error_falls_with_the_number_of_candidates():
    errors = []
    for count in (1, 16, 256):
        ((estimate, expected),) = steps(quadratic, {"num_candidates": count}, runs=300)
        errors.append(float((estimate - expected).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


def test_running_mean_of_one_candidate_is_unbiased_and_takes_the_constant_out():
    """The first step has the reward of the start for a baseline, the second the first candidate's."""
    settings = {"num_candidates": 1, "reward_baseline": "mean"}
    first, second = steps(quadratic, settings, constant=50.0, count=2)
    assert bias(*first)[0] < 4
    assert bias(*second)[0] < 4
    ((without, expected),) = steps(quadratic, {"num_candidates": 1}, constant=50.0)
    spread = [float((e - x).square().mean()) for e, x in (first, second, (without, expected))]
    assert spread[0] < spread[2] / 50
    assert spread[1] < spread[2] / 50


@pytest.mark.parametrize("name", ["eight, leave-one-out", "antithetic", "antithetic, mean"])
def test_a_constant_reward_moves_nothing(name):
    """Baseline or pairs: a large constant in the reward leaves no trace in the estimate."""
    (plain,) = steps(quadratic, SETTINGS[name], runs=50)
    (shifted,) = steps(quadratic, SETTINGS[name], runs=50, constant=100.0)
    torch.testing.assert_close(plain[0], shifted[0], atol=2e-3, rtol=1e-3)


# ---- on the model -------------------------------------------------------------------------------------------------


def scorer_of(backbone, samples, config, num_thoughts):
    return Scorer(backbone, prefill(backbone, samples, num_thoughts), BlockStyle(), config)


def true_gradient(scorer, thoughts, patches):
    leaf = thoughts.clone().requires_grad_(True)
    with torch.enable_grad():
        score = scorer.score(leaf, patches)
        score.reward.sum().backward()
    return leaf.grad


def test_autograd_equals_finite_differences(tiny, samples, config):
    """Along directions that move all thoughts of all samples at once, half along the gradient, half at random."""
    # `certainty` is smooth; where the top-k changes the other two have kinks
    config = config.replace(score_rows="thoughts+answer", reward="certainty")
    scorer = scorer_of(tiny, samples[:2], config, 3)
    thoughts, patches = thoughts_of(tiny, 2, 3), table([[0], [1, 2], []], [[], [3], [4]])
    gradient = true_gradient(scorer, thoughts, patches)
    assert gradient.square().mean(-1).min() > 0  # every thought of every sample
    for seed in range(3):
        direction = unit(unit(gradient) + unit(thoughts_of(tiny, 2, 3, seed + 10)))
        with torch.no_grad():
            up, down = (scorer.score(thoughts + s * 0.005 * direction, patches).reward for s in (1, -1))
        slope = (gradient * direction).sum((1, 2))
        torch.testing.assert_close((up - down) / 0.01, slope, atol=1e-4, rtol=3e-2)


def unit(directions):
    return directions / directions.norm(dim=(1, 2), keepdim=True)


def test_reinforce_agrees_with_autograd_through_the_model(tiny, samples, config):
    """One thought, 4,000 candidates close to it: the estimate is the gradient, in direction and size."""
    scorer = scorer_of(tiny, samples[:2], config.replace(reward="certainty"), 1)
    thoughts, patches, sigma = thoughts_of(tiny, 2, 1), table([[0]], [[1]]), 0.005
    noise = policy.draw_noise(policy.noise_generators(0, [1, 2]), 4000, 1, tiny.width, True)
    with torch.no_grad():
        rewards = scorer.score_candidates(thoughts[:, None] + sigma * noise, patches).reward
    estimate = policy.reinforce_gradient(rewards, noise, sigma, torch.zeros_like(rewards))
    gradient = true_gradient(scorer, thoughts, patches)
    cosine = torch.cosine_similarity(estimate.flatten(1), gradient.flatten(1))
    assert cosine.min() > 0.95  # 2,000 pairs in 64 dimensions: 0.98 expected
    ratio = estimate.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, torch.ones(2), atol=0.1, rtol=0)


def test_true_gradient_raises_the_reward_step_by_step(tiny, samples, config):
    config = config.replace(use_auto_grad=True, num_selected_patches=0, lr=0.01, max_num_steps=10)
    for prediction in inference.answer(samples, tiny, config):
        rewards = [prediction.initial_reward, *(step.reward for step in prediction.trace)]
        assert prediction.best_reward > prediction.initial_reward + 0.05
        rises = sum(b > a for a, b in itertools.pairwise(rewards))
        assert rises >= 7


def test_only_the_thoughts_receive_a_gradient(tiny, samples, config, monkeypatch):
    """No parameter wants a gradient, has one, or is changed; the graph has one leaf, the thoughts."""
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    leaves, real = [], torch.autograd.grad

    def spy(outputs, inputs, *args, **kwargs):
        leaves.append(leaves_of(outputs.grad_fn))
        found = real(outputs, inputs, *args, **kwargs)
        assert all((g.abs().amax(-1) > 0).all() for g in found)  # each thought of each sample
        return found

    monkeypatch.setattr(torch.autograd, "grad", spy)
    config = config.replace(use_auto_grad=True, num_selected_patches=0, lr=0.01)
    predictions = inference.answer(samples, tiny, config)
    assert [len(found) for found in leaves] == [1] * 4  # once per step
    assert leaves[0][0].shape == (4, 3, tiny.width)
    assert all(p.best_reward > p.initial_reward for p in predictions)
    for name, parameter in tiny.model.named_parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def leaves_of(node):
    """All tensors that a backward from `node` would accumulate a gradient into."""
    seen, waiting, leaves = set(), [node], []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            leaves.append(node.variable)
        waiting += [parent for parent, _ in node.next_functions]
    return leaves
