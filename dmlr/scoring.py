"""From a state (thoughts, patches) to its reward: the block forward, the scored rows, the confidence. Ours.

Joins `backbone` and `reward` for one run; knows which rows the run scores and with which formula, so that every
score of a run, with or without patches, is of the same kind and can be compared. Letters as in `inference.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmlr.backbone import Backbone, BlockStyle, Prefix
from dmlr.config import Config
from dmlr.prompts import SELF_SCORE_REQUEST
from dmlr.reward import parse_self_score, score_logits

_SELF_SCORE_TOKENS = 8  # enough for "0.123456"; anything longer is not a bare number
MAX_PACKED_TOKENS = 2048  # rows of one packed forward: the mask grows with its square


@dataclass(frozen=True)
class StateScore:
    """Reward and top-k mass (B,) of a state, or (B, K) of candidates; attention (B, L, J) of the thoughts.

    Of K candidates the attention is the mean over them. Where it was not asked for, J is 0.
    """

    reward: Tensor
    top_k_mass: Tensor
    attention: Tensor


class Scorer:
    """Scores states of one batch the way the run's flags say."""

    def __init__(self, backbone: Backbone, prefix: Prefix, style: BlockStyle, config: Config) -> None:
        self._backbone = backbone
        self._prefix = prefix
        self._style = style
        self._latent = config.latent
        tail = prefix.prompts[0].tail_ids
        self._tail = {"thoughts": tail[:0], "thoughts+next": tail[:1], "thoughts+answer": tail}[
            config.latent.score_rows
        ]
        request = backbone.tokenizer(SELF_SCORE_REQUEST, add_special_tokens=False, return_tensors="pt")[
            "input_ids"
        ][0]
        self._request = torch.cat([request, tail])
        self.unparsed = torch.zeros(len(prefix.prompts), dtype=torch.long, device=backbone.device)

    def score(self, thoughts: Tensor, patches: Tensor, with_attention: bool = False) -> StateScore:
        """Score one state per sample: thoughts (B, L, D) raw embedding units, patches (B, L, M)."""
        scored = self._packed(thoughts[:, None], patches, with_attention)
        return StateScore(scored.reward[:, 0], scored.top_k_mass[:, 0], scored.attention)

    def score_candidates(self, candidates: Tensor, patches: Tensor) -> StateScore:
        """Score K candidates per sample, (B, K, L, D), that share the accepted patches (B, L, M)."""
        K, L = candidates.shape[1:3]
        longest = L * (1 + patches.shape[-1]) + len(self._tail)
        chunk = max(1, MAX_PACKED_TOKENS // longest)
        parts = [self._packed(c, patches, True) for c in candidates.split(chunk, dim=1)]
        sizes = [p.reward.shape[1] for p in parts]
        attention = torch.stack([p.attention * n for p, n in zip(parts, sizes, strict=True)]).sum(0) / K
        return StateScore(
            torch.cat([p.reward for p in parts], 1), torch.cat([p.top_k_mass for p in parts], 1), attention
        )

    def _packed(self, thoughts: Tensor, patches: Tensor, with_attention: bool) -> StateScore:
        B, N, L, _ = thoughts.shape
        table = patches[:, None].expand(B, N, L, -1)
        output = self._backbone.score_block(
            self._prefix, thoughts, table, self._style, self._tail, with_attention
        )
        score = score_logits(output.logits, self._latent.reward, self._latent.top_k)
        reward = score.reward
        if self._latent.disable_conf_reward:
            reward = torch.stack([self._self_score(thoughts[:, n], patches) for n in range(N)], dim=1)
        return StateScore(reward, score.top_k_mass, output.attention.mean(1))

    def _self_score(self, thoughts: Tensor, patches: Tensor) -> Tensor:
        """The model's own rating of the thoughts, (B,) in [0, 1]; an unparsable one is 0 and counted."""
        generations = self._backbone.decode(
            self._prefix, thoughts, patches, self._style, _SELF_SCORE_TOKENS, tail_ids=self._request
        )
        values = [parse_self_score(self._backbone.text(g)) for g in generations]
        self.unparsed += torch.tensor([v is None for v in values], device=self.unparsed.device).long()
        return torch.tensor([v or 0.0 for v in values], device=self.unparsed.device)
