"""Which image patches a thought takes in, and where they stand in the block: index arithmetic only.

Pure functions; the model is not needed. Letters as in `inference.py`; N is the number of copies of the block that
stand side by side in one row (candidates, or 1), M the number of patch slots of a thought.

A *patch table* is an int64 tensor (..., L, M) of image-token indices in [0, J), filled from the left, EMPTY after.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = -1
_PATCH_BASE = 0  # block source codes: >= 0 image token, EMPTY padding, -2 - l thought l


def eligible_thoughts(num_thoughts: int, stride: int) -> list[int]:
    """Thoughts that may take in patches: every `stride`-th, from the first (Algorithm 1; published flag)."""
    return list(range(0, num_thoughts, stride))


def propose(
    attention: Tensor, patches: Tensor, num_patches: Tensor, budget: Tensor, thoughts: list[int]
) -> Tensor:
    """Algorithm 1, proposal: keep V_l and append the most attended image tokens not in it, up to the budget.

    `attention` (B, L, J) float, columns past a sample's own number of image tokens ignored; `patches` (B, L, M);
    `num_patches` (B,) image tokens of each sample; `budget` (B,) patches per thought; `thoughts` the thoughts that
    propose. Returns a patch table (B, L, M). A patch is never twice at one thought.
    """
    B, L, J = attention.shape
    M = patches.shape[-1]
    taken = torch.zeros(B, L, J + 1, dtype=torch.bool, device=attention.device)
    taken.scatter_(-1, torch.where(patches == EMPTY, J, patches), True)
    outside = torch.arange(J, device=attention.device) >= num_patches[:, None]  # (B, J)
    score = attention.masked_fill(taken[..., :J] | outside[:, None], float("-inf"))
    width = min(M, J)
    top = score.topk(width, dim=-1).indices  # (B, L, width), most attended first

    held = (patches != EMPTY).sum(-1)  # (B, L)
    capacity = torch.minimum(budget, num_patches).clamp(max=M)[:, None]  # (B, 1)
    slot = torch.arange(M, device=attention.device)
    rank = slot - held[..., None]  # which newcomer stands in this slot
    newcomer = top.gather(-1, rank.clamp(0, width - 1))
    room = (rank >= 0) & (rank < width) & (slot < capacity[..., None])
    proposes = torch.zeros(L, dtype=torch.bool, device=attention.device)
    proposes[thoughts] = True
    return torch.where(room & proposes[:, None], newcomer, patches)


@dataclass(frozen=True)
class Block:
    """Layout of B x N blocks, right-padded to a common length Q.

    `source` (B, N, Q): image token j >= 0, EMPTY for padding, -2 - l for thought l. `valid` (B, N, Q) bool.
    `thought_rows` (B, N, L): where thought l stands. `offsets` (B, N, Q): text positions consumed before each slot,
    to be added to the prefix' next position; `length` (B, N): text positions the whole block consumes.
    """

    source: Tensor
    valid: Tensor
    thought_rows: Tensor
    offsets: Tensor
    length: Tensor

    @property
    def is_patch(self) -> Tensor:
        """(B, N, Q) bool: slots that hold an injected patch."""
        return self.source >= _PATCH_BASE


def lay_out(patches: Tensor, placement: str, image_positions: bool, size: int | None = None) -> Block:
    """Interleave thoughts and their patches: [V_1 T_1 .. V_L T_L] (`before`) or [T_1 V_1 ..] (`after`).

    `patches` (B, N, L, M). `image_positions`: patches keep their own 3-D position and consume no text position.
    `size` fixes Q (CUDA graphs need one shape); by default Q is the longest block of the batch.
    """
    B, N, L, M = patches.shape
    device = patches.device
    thought = (-2 - torch.arange(L, device=device)).view(1, 1, L, 1).expand(B, N, L, 1)
    parts = [patches, thought] if placement == "before" else [thought, patches]
    source = torch.cat(parts, dim=-1).reshape(B, N, L * (M + 1))
    valid = source != EMPTY
    counts = valid.sum(-1)
    Q = int(counts.max()) if size is None else size
    order = torch.sort((~valid).to(torch.int8), dim=-1, stable=True).indices[..., :Q]
    source, valid = source.gather(-1, order), valid.gather(-1, order)

    counted = valid & (source < _PATCH_BASE) if image_positions else valid
    before = counted.cumsum(-1) - counted.long()
    thought_rows = torch.sort(torch.where(source < EMPTY, -source - 2, L), dim=-1, stable=True).indices[
        ..., :L
    ]
    return Block(source, valid, thought_rows, before, counted.sum(-1))


def block_mask(prefix_valid: Tensor, valid: Tensor) -> Tensor:
    """Who may attend to whom, (B, 1, N*Q, P + N*Q) bool, for N blocks packed side by side after one prefix.

    `prefix_valid` (B, P), `valid` (B, N, Q). A slot sees the prefix and, in its own copy, the valid slots up to
    itself; copies never see each other. Padding slots see at least themselves, so that no softmax row is empty.
    """
    B, N, Q = valid.shape
    device = valid.device
    causal = torch.ones(Q, Q, dtype=torch.bool, device=device).tril()
    own = causal & valid[:, :, None, :] | torch.eye(Q, dtype=torch.bool, device=device)  # (B, N, Q, Q)
    same = torch.eye(N, dtype=torch.bool, device=device)
    inside = (own[:, :, :, None, :] & same[:, None, :, None]).reshape(B, N * Q, N * Q)
    outside = prefix_valid[:, None, :].expand(B, N * Q, prefix_valid.shape[1])
    return torch.cat([outside, inside], dim=-1)[:, None]


def patch_lists(patches: Tensor) -> list[list[int]]:
    """Patch table (L, M) of one sample as plain lists, in injection order."""
    return [[j for j in row if j != EMPTY] for row in patches.tolist()]
