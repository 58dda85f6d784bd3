"""The attention function that the language model runs under: SDPA on grouped heads, plus the attention probe.

Registered with transformers under `NAME`. It differs from the library's `sdpa` in two ways (both ours):

- With a mask and grouped queries it folds the group of query heads that share a key head into the query length, so
  that the cached keys and values are never repeated per query head.
- A `probe` passed through the forward reads the attention of a few rows to the image tokens, layer by layer, as it
  is computed. No matrix of sequence length squared exists outside the fused kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

NAME = "dmlr"


class AttentionProbe:
    """Mean attention of chosen rows to chosen columns, over all heads and layers of one forward.

    `rows` (B, R) are query positions of the forward, `columns` (B, J) key positions (prefix columns of the image
    tokens; arbitrary where a sample has fewer), both int64. After the forward `mean()` is (B, R, J) float32: the
    softmax over the *whole* row, averaged over heads and layers, not renormalised over the image (Algorithm 1).
    """

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self.rows = rows
        self.columns = columns
        self._total: Tensor | None = None
        self._layers = 0

    def read(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Add one layer: query (B, Hq, Q, d), key (B, Hkv, S, d), mask (B, 1, Q, S) bool or None (all visible)."""
        B, Hq, _, d = query.shape
        Hkv, S = key.shape[1], key.shape[2]
        rows, columns = self.rows.to(query.device), self.columns.to(query.device)
        R, J = rows.shape[1], columns.shape[1]
        wanted = query.detach().gather(2, rows[:, None, :, None].expand(B, Hq, R, d))
        folded = wanted.reshape(B, Hkv, (Hq // Hkv) * R, d)
        scores = (folded @ key.detach().transpose(-1, -2)).float() * scaling
        scores = scores.view(B, Hq, R, S)
        if mask is not None:
            visible = mask.expand(B, 1, -1, S).gather(2, rows[:, None, :, None].expand(B, 1, R, S))
            scores = scores.masked_fill(~visible, float("-inf"))
        weights = scores.softmax(-1).mean(dim=1)  # (B, R, S)
        image = weights.gather(-1, columns[:, None, :].expand(B, R, J)).to(self.rows.device)
        self._total = image if self._total is None else self._total + image
        self._layers += 1

    def mean(self) -> Tensor:
        """Attention averaged over heads and layers, (B, R, J) float32."""
        if self._total is None:
            raise RuntimeError(
                "the attention probe saw no forward: the model runs under another attention function"
            )
        return self._total / self._layers


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    probe: AttentionProbe | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention function in transformers' calling convention; returns ((B, Q, Hq, d), None).

    Without a mask the rows see everything when Q = 1 and are causal otherwise (a forward without cache).
    """
    B, Hq, Q, d = query.shape
    Hkv, S = key.shape[1], key.shape[2]
    group = Hq // Hkv
    scale = d**-0.5 if scaling is None else scaling
    if probe is not None:
        probe.read(query, key, attention_mask, scale)
    if attention_mask is None or Q > S // 2:
        causal = attention_mask is None and Q > 1 and is_causal is not False
        out = F.scaled_dot_product_attention(
            query, key, value, attention_mask, is_causal=causal, scale=scale, enable_gqa=group > 1
        )
    else:
        folded = query.reshape(B, Hkv, group * Q, d)
        mask = attention_mask.expand(B, 1, Q, S).repeat(1, 1, group, 1) if group > 1 else attention_mask
        out = F.scaled_dot_product_attention(folded, key, value, mask, scale=scale).view(B, Hq, Q, d)
    return out.transpose(1, 2), None


def use(model: PreTrainedModel, text: str = NAME) -> None:
    """Run the language model under the attention function `text` and the vision tower under plain SDPA.

    The mask function is registered as well: without it transformers passes no mask and left padding is ignored.
    """
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation({"text_config": text, "vision_config": "sdpa"})


@torch.no_grad()
def causal_mask(valid: Tensor) -> Tensor | None:
    """Mask of a left-padded prefill, (B, 1, P, P) bool from `valid` (B, P); None when nothing is padded."""
    if bool(valid.all()):
        return None
    P = valid.shape[1]
    causal = torch.ones(P, P, dtype=torch.bool, device=valid.device).tril()
    see = causal & valid[:, None, :] | torch.eye(P, dtype=torch.bool, device=valid.device)
    return see[:, None]


@contextmanager
def running_under(model: PreTrainedModel, text: str) -> Iterator[None]:
    """Run the language model under another attention function (`eager`, `sdpa`) for a while."""
    use(model, text)
    try:
        yield
    finally:
        use(model)
