"""Confidence rewards: pure functions on the logits of the scored rows. Letters as in `inference.py`.

None of them is a probability of being right. `deepconf` and `entropy` are not even monotone in confidence: over
V = 151,936 tokens a *uniform* distribution scores 11.93 under `deepconf` and 0.9992 under `entropy` (k = 10), above
most confident ones, because the top-k mass is then nearly zero. `top_k_mass` is logged beside every reward so that
this can be seen; `certainty` is the monotone alternative.
"""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Reward and top-k mass, same shape as the leading dimensions of the logits; float32."""

    reward: Tensor
    top_k_mass: Tensor


def score_logits(logits: Tensor, name: str, top_k: int) -> Score:
    """Reward of scored rows: logits (..., R, V) -> (...), mean over the R rows, computed in float32.

    `name`: `deepconf` (Fig. 8 of the paper and its code), `entropy` (paper Eq. 6-7), `certainty` (ours).
    `top_k` above V means V.
    """
    logits = logits.float()
    total = logits.logsumexp(dim=-1, keepdim=True)
    top = (
        _largest(logits, min(top_k, logits.shape[-1])) - total
    )  # log-probabilities, without a row of V of them
    mass = top.exp().sum(dim=-1).mean(dim=-1)
    if name == "deepconf":
        row = -top.mean(dim=-1)
    elif name == "entropy":
        row = 1.0 + (top.exp() * top).sum(dim=-1)
    elif name == "certainty":
        log_p = logits - total
        row = 1.0 + (log_p.exp() * log_p).sum(dim=-1) / math.log(log_p.shape[-1])
    else:
        raise ValueError(f"unknown reward {name!r}")
    return Score(reward=row.mean(dim=-1), top_k_mass=mass)


_CHUNK = 128


def _largest(values: Tensor, k: int) -> Tensor:
    """The k largest of the last axis, (..., V) -> (..., k) in descending order: `topk` in two stages.

    The k chunks with the largest maxima hold the k largest values (or their equals), and a maximum over chunks is far
    cheaper than selecting among a whole vocabulary.
    """
    count = values.shape[-1] // _CHUNK
    if count <= k:
        return values.topk(k, dim=-1).values
    chunks = values[..., : count * _CHUNK].unflatten(-1, (count, _CHUNK))
    chosen = chunks.amax(dim=-1).topk(k, dim=-1).indices
    held = chunks.gather(-2, chosen[..., None].expand(*chosen.shape, _CHUNK)).flatten(-2)
    return torch.cat([held, values[..., count * _CHUNK :]], dim=-1).topk(k, dim=-1).values


_SELF_SCORE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*\.?\s*")


def parse_self_score(text: str) -> float | None:
    """The number in [0, 1] that the whole of `text` is, else None: anything else is counted, not guessed (ours)."""
    match = _SELF_SCORE.fullmatch(text)
    if match is None:
        return None
    value = float(match.group(1))
    return value if 0.0 <= value <= 1.0 else None
