"""The Gaussian policy over thought embeddings: noise, gradient estimate, step. Pure functions on tensors.

Source: REINFORCE as in Eq. 5, 8 and 9 of arXiv 2512.12623. Letters as in `inference.py`.

All functions work in the *policy space*. With `--noise_space normalised` (ours) that is the embedding divided by the
RMS of the initial thoughts, so that sigma is a fraction of the embeddings' own size; with `absolute` (the published
code) it is the raw embedding.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def noise_generators(seed: int, data_indices: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per sample, seeded by (seed, data_idx): independent of batch, order and worker (ours)."""
    return [
        torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
        )
        for index in data_indices
    ]


def draw_noise(
    generators: Sequence[torch.Generator],
    num_candidates: int,
    num_thoughts: int,
    width: int,
    antithetic: bool,
) -> Tensor:
    """Standard normal directions z of shape (B, K, L, D), float32 on the CPU.

    With `antithetic` the second half of the candidates is the negative of the first (K must be even).
    """
    drawn = num_candidates // 2 if antithetic else num_candidates
    noise = torch.stack([torch.randn(drawn, num_thoughts, width, generator=g) for g in generators])
    return torch.cat([noise, -noise], dim=1) if antithetic else noise


def policy_scale(start: Tensor, noise_space: str) -> Tensor:
    """Raw embedding units per unit of policy space, (B, 1, 1) float32.

    `start` (B, L, D) are the initial thoughts. `normalised`: their RMS per sample; `absolute`: 1.
    """
    if noise_space == "absolute":
        return torch.ones(start.shape[0], 1, 1, device=start.device)
    return start.float().square().mean(dim=(1, 2), keepdim=True).sqrt()


def step_sigma(sigma: float, sigma_decay: float, step: int, noise_space: str) -> tuple[float, float]:
    """Noise scale in force at `step` (1-based): as given by the user, and in policy space.

    Normalised space reads --sigma as a percentage of the thoughts' RMS (paper, section 4); absolute space as raw units.
    """
    given = sigma * sigma_decay ** (step - 1)
    return given, given if noise_space == "absolute" else given / 100.0


def leave_one_out(rewards: Tensor) -> Tensor:
    """Baseline of each candidate: the mean reward of the *other* candidates, (B, K) -> (B, K); K >= 2 (ours).

    For independent candidates only: with antithetic pairs the partner is not independent, and the estimate would
    be K / (K - 1) times the gradient.
    """
    return (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def reinforce_gradient(rewards: Tensor, noise: Tensor, sigma: float, baseline: Tensor) -> Tensor:
    """REINFORCE estimate of the gradient of the smoothed reward, (B, L, D) in policy space (paper Eq. 9).

    `rewards`, `baseline` (B, K); `noise` (B, K, L, D) standard normal, so that epsilon = sigma z and
    (R - b) epsilon / sigma^2 = (R - b) z / sigma. `baseline` is zero for the paper's estimator.
    """
    advantage = (rewards - baseline)[:, :, None, None]
    return (advantage * noise).mean(dim=1) / sigma
