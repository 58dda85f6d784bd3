"""The Gaussian policy: noise, scales and the gradient estimate, number by number."""

import pytest
import torch

from dmlr.policy import (
    draw_noise,
    leave_one_out,
    noise_generators,
    policy_scale,
    reinforce_gradient,
    step_sigma,
)


def test_scale_is_the_rms_of_each_samples_own_start():
    start = torch.stack([torch.full((2, 3), 0.5), torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 5.0]])])
    scale = policy_scale(start, "normalised")
    assert scale.shape == (2, 1, 1)
    torch.testing.assert_close(scale.flatten(), torch.tensor([0.5, (50 / 6) ** 0.5]))
    assert torch.equal(policy_scale(start, "absolute"), torch.ones(2, 1, 1))


def test_scale_of_half_precision_embeddings_is_computed_in_float32():
    start = torch.full((1, 4, 512), 1e-4, dtype=torch.float16)  # squares underflow in float16
    assert policy_scale(start, "normalised").item() == pytest.approx(1e-4, rel=1e-3)


def test_sigma_is_a_percentage_that_decays():
    assert step_sigma(20.0, 0.95, 1, "normalised") == (20.0, 0.2)
    given, used = step_sigma(20.0, 0.95, 3, "normalised")
    assert (given, used) == pytest.approx((20 * 0.95**2, 0.2 * 0.95**2))
    assert step_sigma(20.0, 0.95, 1, "absolute") == (20.0, 20.0)


def test_noise_is_standard_normal_and_float32_on_the_cpu():
    noise = draw_noise(noise_generators(0, range(4)), 8, 16, 64, antithetic=False)
    assert noise.shape == (4, 8, 16, 64)
    assert (noise.dtype, noise.device.type) == (torch.float32, "cpu")
    assert noise.mean().abs() < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    for b in range(4):  # candidates of a sample, and samples, are independent
        assert torch.corrcoef(noise[b].flatten(1)).fill_diagonal_(0).abs().max() < 0.15
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 0.05


def test_antithetic_noise_comes_in_pairs():
    noise = draw_noise(noise_generators(0, [5]), 6, 2, 3, antithetic=True)
    assert noise.shape == (1, 6, 2, 3)
    assert torch.equal(noise[:, :3], -noise[:, 3:])
    assert not torch.equal(noise[:, 0], noise[:, 1])


def test_generators_go_on_from_step_to_step():
    generators = noise_generators(1, [3])
    first, second = (draw_noise(generators, 1, 2, 4, False) for _ in range(2))
    assert not torch.equal(first, second)
    whole = draw_noise(noise_generators(1, [3]), 1, 2, 4, False)
    assert torch.equal(first, whole)


def test_large_seeds_and_indices():
    assert len(noise_generators(2**63 - 1, [0, 2**40])) == 2


def test_leave_one_out_is_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 4.0, 2.0]])
    torch.testing.assert_close(leave_one_out(rewards), torch.tensor([[4.0, 3.5, 1.5], [3.0, 1.0, 2.0]]))


def test_leave_one_out_does_not_know_its_own_reward():
    """What makes it unbiased: the baseline of a candidate stays when that candidate's reward changes."""
    rewards = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    for k in range(5):
        changed = rewards.clone()
        changed[0, k] += 100
        assert leave_one_out(changed)[0, k].item() == pytest.approx(
            leave_one_out(rewards)[0, k].item(), abs=1e-4
        )


def test_gradient_estimate_by_hand():
    """mean over k of (R_k - b_k) z_k / sigma, which is (R - b) eps / sigma^2 with eps = sigma z."""
    rewards, baseline = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    noise = torch.tensor([[[[1.0, 0.0]], [[-1.0, 2.0]]]])  # (B, K, L, D) = (1, 2, 1, 2)
    got = reinforce_gradient(rewards, noise, 0.5, baseline)
    # ((3 - 1) * [1, 0] + (1 - 2) * [-1, 2]) / 2 / 0.5
    torch.testing.assert_close(got, torch.tensor([[[3.0, -2.0]]]))


def test_gradient_estimate_keeps_samples_apart():
    rewards = torch.tensor([[1.0], [0.0]])
    noise = torch.ones(2, 1, 1, 2)
    got = reinforce_gradient(rewards, noise, 1.0, torch.zeros(2, 1))
    assert torch.equal(got, torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]]))
