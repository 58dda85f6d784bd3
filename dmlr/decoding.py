"""Greedy decoding from a cache that already holds the prompt, for a batch whose rows end at different times."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlr import graphs
from dmlr.cache import KVCache

_GROWTH = 256  # slots by which a full cache grows
_CHECK_EVERY = 16  # tokens between two looks at whether every row has ended, with fixed shapes: a look waits
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
    """Repetition penalty (CTRL, arXiv 1909.05858) as `generate` applies it, over a table of what has been seen.

    `seen` (B, V) bool. The library's processor takes the growing list of ids instead; a table keeps its shape, which
    fixed-shape decoding needs.
    """

    value: float
    seen: Tensor

    def apply(self, logits: Tensor) -> Tensor:
        """Logits (B, V) after the penalty, float32."""
        logits = logits.float()
        return torch.where(
            self.seen, torch.where(logits < 0, logits * self.value, logits / self.value), logits
        )

    def add(self, ids: Tensor) -> None:
        """Count the tokens (B,) as seen."""
        self.seen.scatter_(1, ids[:, None], True)

    def select(self, rows: Tensor) -> "Penalty":
        """The penalty without the other rows."""
        return Penalty(self.value, self.seen[rows])


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
                penalty = penalty.select(keep)
        if penalty is not None:
            penalty.add(chosen)
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


def greedy_fixed(
    batch: Start,
    next_hidden: NextHidden,
    head: Callable[[Tensor], Tensor],
    stop_ids: Tensor,
    max_new_tokens: int,
    penalty: Penalty | None,
) -> list[Generation]:
    """`greedy` with tensors of one shape throughout, so that a step can be captured as a CUDA graph (--compile).

    Every step attends to the whole cache under a mask; ended rows stay. The host looks at the device once in
    `_CHECK_EVERY` tokens; the cache grows, and the graph is captured anew, once in `_GROWTH` tokens.
    """
    cache, device = batch.cache, batch.valid.device
    size, start = batch.valid.shape[0], cache.length
    tokens = torch.full((size, max_new_tokens), -1, device=device)
    logits = head(batch.hidden)
    chosen = (penalty.apply(logits) if penalty else logits).argmax(-1)
    position = batch.position.clone()
    try:
        for step in range(max_new_tokens):
            tokens[:, step] = chosen
            if step == max_new_tokens - 1:
                break
            if step % _CHECK_EVERY == _CHECK_EVERY - 1 and bool(torch.isin(tokens, stop_ids).any(1).all()):
                break
            if step % _GROWTH == 0:
                cache.length, cache.slot = start + step, None
                cache.reserve(min(_GROWTH, max_new_tokens - step))
                visible = torch.zeros(size, 1, 1, cache.capacity, dtype=torch.bool, device=device)
                visible[:, 0, 0, :start] = batch.valid
                visible[:, 0, 0, start : start + step] = True
                cache.slot = slot = torch.tensor([start + step], device=device)
                advance = graphs.Replayed(_fixed_step(next_hidden, head, visible, cache, penalty), device)
            visible.index_fill_(3, slot, True)
            if penalty is not None:
                penalty.add(chosen)
            chosen = advance(chosen, position)[0].clone()
            position += 1
            slot += 1
    finally:
        cache.slot, cache.length = None, start
    return [_cut(row, set(stop_ids.tolist())) for row in tokens.tolist()]


def _fixed_step(
    next_hidden: NextHidden,
    head: Callable[[Tensor], Tensor],
    visible: Tensor,
    cache: KVCache,
    penalty: Penalty | None,
) -> Callable[[Tensor, Tensor], tuple[Tensor]]:
    def step(ids: Tensor, position: Tensor) -> tuple[Tensor]:
        logits = head(next_hidden(ids, position, visible, cache))
        return ((penalty.apply(logits) if penalty else logits).argmax(-1),)

    return step


def _cut(row: list[int], stop_ids: set[int]) -> Generation:
    """Tokens up to the first end token; -1 was never written."""
    for i, token in enumerate(row):
        if token in stop_ids or token == -1:
            return Generation(row[:i], token != -1)
    return Generation(row, False)
