"""Greedy decoding from a cache that already holds the prompt, for a batch whose rows end at different times."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from dmlr.cache import KVCache

_GROWTH = 256  # slots by which a full cache grows
NextHidden = Callable[[Tensor, Tensor, Tensor | None, KVCache], Tensor]


@dataclass(frozen=True)
class Generation:
    """Continuation of one sample: new token ids without the end token, and whether an end token came."""

    token_ids: list[int]
    ended: bool


@dataclass
class Start:
    """A prefilled batch: cache, which slots count (B, S) bool, next text position (B,), last hidden state (B, D)."""

    cache: KVCache
    valid: Tensor
    position: Tensor
    hidden: Tensor

    def select(self, rows: Tensor) -> "Start":
        """The batch without the other rows; `hidden` is about to be replaced and is left out."""
        return Start(self.cache.select(rows), self.valid[rows], self.position[rows], self.hidden)


@dataclass
class Penalty:
    """Repetition penalty over all ids seen so far, (B, T) int64."""

    processor: RepetitionPenaltyLogitsProcessor
    seen: Tensor

    def apply(self, logits: Tensor) -> Tensor:
        """Logits (B, V) after the penalty, float32."""
        return self.processor(self.seen, logits.float())


def greedy(
    batch: Start,
    next_hidden: NextHidden,
    head: Callable[[Tensor], Tensor],
    stop_ids: Tensor,
    max_new_tokens: int,
    penalty: Penalty | None,
) -> list[Generation]:
    """Most probable token after most probable token, until an end token or `max_new_tokens`.

    Rows that have ended are dropped once they are half of the batch; dropping copies the cache, so it is done
    log2(B) times at most. Results are in the order of the rows.
    """
    device = batch.valid.device
    size = len(batch.valid)
    rows = torch.arange(size, device=device)  # which sample each row of the cache belongs to
    tokens = torch.full((size, max_new_tokens), -1, device=device)
    lengths = torch.zeros(size, dtype=torch.long, device=device)
    ended = torch.zeros(size, dtype=torch.bool, device=device)
    padded = not bool(batch.valid.all())
    for step in range(max_new_tokens):
        logits = head(batch.hidden)
        if penalty is not None:
            logits = penalty.apply(logits)
        chosen = logits.argmax(-1)
        stopping = torch.isin(chosen, stop_ids)
        writing = ~ended[rows] & ~stopping
        tokens[rows, step] = torch.where(writing, chosen, -1)
        lengths[rows] += writing.long()
        ended[rows] |= stopping
        running = int((~ended[rows]).sum())
        if running == 0 or step == max_new_tokens - 1:
            break
        if running * 2 <= len(rows):
            keep = (~ended[rows]).nonzero().flatten()
            rows, batch, chosen = rows[keep], batch.select(keep), chosen[keep]
            if penalty is not None:
                penalty = Penalty(penalty.processor, penalty.seen[keep])
        if penalty is not None:
            penalty.seen = torch.cat([penalty.seen, chosen[:, None]], dim=1)
        if batch.cache.length == batch.cache.capacity:
            batch.cache.reserve(min(_GROWTH, max_new_tokens - step))
        mask = None
        if padded:
            batch.valid = torch.cat([batch.valid, batch.valid.new_ones(len(rows), 1)], dim=1)
            mask = batch.valid[:, None, None, :]
        batch.hidden = next_hidden(chosen, batch.position, mask, batch.cache)
        batch.cache.commit(1)
        batch.position = batch.position + 1
    table, counts, done = tokens.tolist(), lengths.tolist(), ended.tolist()
    return [Generation(row[:n], end) for row, n, end in zip(table, counts, done, strict=True)]
