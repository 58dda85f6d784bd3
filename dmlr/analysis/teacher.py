"""Teacher forcing behind a cached prefix: log-probabilities of given continuations, many at once.

The block of `Backbone.score_block` takes free embeddings, so the closing template and the continuation ride
along as further "thoughts": one forward scores them all, under the same positions and the same mask as
decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlr.backbone import Backbone, BlockStyle, Prefix, Prompt
from dmlr.injection import EMPTY

MAX_LOGITS = 1 << 28  # numbers in the logits of one forward: about a gigabyte in float32


@dataclass(frozen=True)
class State:
    """What was decoded from: thoughts (L, D) float32 in raw embedding units, image tokens injected at
    each.
    """

    thoughts: Tensor
    patches: list[list[int]]


@torch.no_grad()
def continuation_logprobs(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    states: Sequence[State],
    continuations: Sequence[Sequence[Sequence[int]]],
    style: BlockStyle,
) -> list[list[Tensor]]:
    """Log p of each token of each continuation, [sample][continuation] -> (T,) float32 on the CPU.

    `continuations[b]` holds token ids that follow prompt b with its state; they do not see each other. All
    samples have the same number of thoughts L (0 for plain prompts).
    """
    prefix = backbone.prefill(prompts, reserve=64)
    copies = max(len(c) for c in continuations)
    longest = max(len(ids) for c in continuations for ids in c)
    rows = len(states[0].thoughts) + max(len(p.tail_ids) for p in prompts) + longest
    vocabulary = backbone.model.lm_head.out_features
    at_once = max(1, MAX_LOGITS // (len(prompts) * rows * vocabulary))
    found: list[list[Tensor]] = [[] for _ in prompts]
    for start in range(0, copies, at_once):
        part = [list(c[start : start + at_once]) for c in continuations]
        for own, scored in zip(found, _score(backbone, prefix, states, part, style)):
            own += scored
    return found


def _score(
    backbone: Backbone,
    prefix: Prefix,
    states: Sequence[State],
    continuations: Sequence[Sequence[Sequence[int]]],
    style: BlockStyle,
) -> list[list[Tensor]]:
    B, N = len(states), max(1, max(len(c) for c in continuations))
    L = len(states[0].thoughts)
    tails = [prompt.tail_ids.tolist() for prompt in prefix.prompts]
    width = max((len(t) + len(ids) for t, c in zip(tails, continuations) for ids in c), default=1)
    slots = max([1, *(len(p) for s in states for p in s.patches)])
    ids = torch.zeros(B, N, width, dtype=torch.long)
    patches = torch.full((B, N, L + width, slots), EMPTY, dtype=torch.long)
    for b in range(B):
        for n, own in enumerate(continuations[b]):
            sequence = torch.tensor([*tails[b], *own])
            ids[b, n, : len(sequence)] = sequence
        for l, tokens in enumerate(states[b].patches):
            patches[b, :, l, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    text = backbone.model.get_input_embeddings()(ids.to(backbone.device)).float()
    thoughts = torch.stack([s.thoughts for s in states]).to(backbone.device)
    embeds = torch.cat([thoughts[:, None].expand(-1, N, -1, -1), text], dim=2)
    nothing = torch.zeros(0, dtype=torch.long, device=backbone.device)
    logits = backbone.score_block(prefix, embeds, patches.to(backbone.device), style, nothing, False).logits
    scored: list[list[Tensor]] = []
    for b in range(B):
        first = L + len(tails[b]) - 1  # the row that predicts the first token of the continuation
        scored.append(
            [
                logits[b, n, first : first + len(own)]
                .float()
                .log_softmax(-1)
                .gather(-1, torch.tensor(own, dtype=torch.long, device=logits.device)[:, None])[:, 0]
                .cpu()
                for n, own in enumerate(continuations[b])
            ]
        )
    return scored
