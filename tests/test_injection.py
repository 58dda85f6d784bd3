"""Which patches a thought takes in and where they stand: index arithmetic against the obvious way of writing it."""

import random

import pytest
import torch

from dmlr.injection import EMPTY, block_mask, eligible_thoughts, lay_out, patch_lists, propose


def table(patches, slots):
    """Patch table (1, L, M) of one sample."""
    return torch.tensor([[v + [EMPTY] * (slots - len(v)) for v in patches]])


def proposed(attention, patches, count, budget, thoughts):
    """One sample's proposal, the obvious way."""
    result = [list(v) for v in patches]
    for l in thoughts:
        for j in sorted(range(count), key=lambda j: -attention[l][j]):
            if len(result[l]) < min(budget, count) and j not in result[l]:
                result[l].append(j)
    return result


def test_proposal_keeps_what_is_held_and_appends_the_most_attended():
    attention = torch.tensor([[[0.1, 0.5, 0.2, 0.9], [0.4, 0.3, 0.2, 0.1]]])
    got = propose(attention, table([[3], []], 3), torch.tensor([4]), torch.tensor([3]), [0, 1])
    assert patch_lists(got[0]) == [[3, 1, 2], [0, 1, 2]]


def test_thoughts_that_do_not_propose_keep_theirs():
    attention = torch.rand(1, 3, 5)
    got = propose(attention, table([[], [2], []], 2), torch.tensor([5]), torch.tensor([2]), [0])
    assert patch_lists(got[0])[1:] == [[2], []]
    assert len(patch_lists(got[0])[0]) == 2


def test_a_full_thought_takes_nothing_and_loses_nothing():
    got = propose(torch.rand(1, 1, 5), table([[4, 0]], 4), torch.tensor([5]), torch.tensor([2]), [0])
    assert patch_lists(got[0]) == [[4, 0]]
    got = propose(torch.rand(1, 1, 5), table([[4, 0, 1]], 4), torch.tensor([5]), torch.tensor([2]), [0])
    assert patch_lists(got[0]) == [[4, 0, 1]]


def test_a_sample_without_image_proposes_nothing():
    attention = torch.rand(2, 2, 4)
    got = propose(attention, torch.full((2, 2, 2), EMPTY), torch.tensor([4, 0]), torch.tensor([2, 0]), [0, 1])
    assert patch_lists(got[1]) == [[], []]
    assert all(len(v) == 2 for v in patch_lists(got[0]))


@pytest.mark.parametrize("seed", range(20))
def test_random_batches_equal_the_obvious_way(seed):
    """Different numbers of image tokens, held patches and budgets in one batch; no patch twice at one thought."""
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    B, L, J, M = 3, 4, 9, rng.choice([2, 5, 9, 12])
    counts = [rng.choice([0, 1, 4, J]) for _ in range(B)]
    budgets = [rng.randint(0, M) for _ in range(B)]
    held = [[rng.sample(range(c), rng.randint(0, min(c, M))) for _ in range(L)] for c in counts]
    thoughts = eligible_thoughts(L, rng.choice([1, 2, 3]))
    attention = torch.rand(B, L, J, generator=torch_rng)
    got = propose(
        attention,
        torch.cat([table(h, M) for h in held]),
        torch.tensor(counts),
        torch.tensor(budgets),
        thoughts,
    )
    for b in range(B):
        expected = proposed(attention[b].tolist(), held[b], counts[b], budgets[b], thoughts)
        assert patch_lists(got[b]) == expected
        assert all(len(set(v)) == len(v) for v in expected)


def test_stride_starts_at_the_first_thought():
    assert eligible_thoughts(5, 1) == [0, 1, 2, 3, 4]
    assert eligible_thoughts(5, 2) == [0, 2, 4]
    assert eligible_thoughts(5, 9) == [0]


# ---- layout -----------------------------------------------------------------------------------------------------

PATCHES = [[7, 2], [], [5]]


def layout(patches, placement, own_positions=False, size=None):
    return lay_out(table(patches, 3)[:, None], placement, own_positions, size)


def test_before_puts_patches_before_their_thought():
    block = layout(PATCHES, "before")
    assert block.source[0, 0].tolist() == [7, 2, -2, -3, 5, -4]
    assert block.thought_rows[0, 0].tolist() == [2, 3, 5]
    assert block.offsets[0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert block.length.item() == 6
    assert block.is_patch[0, 0].tolist() == [True, True, False, False, True, False]


def test_after_puts_them_behind():
    block = layout(PATCHES, "after")
    assert block.source[0, 0].tolist() == [-2, 7, 2, -3, -4, 5]
    assert block.thought_rows[0, 0].tolist() == [0, 3, 4]


def test_patches_with_own_positions_consume_no_text_position():
    block = layout(PATCHES, "before", own_positions=True)
    offsets, patches = block.offsets[0, 0], block.is_patch[0, 0]
    assert offsets[~patches].tolist() == [0, 1, 2]
    assert block.length.item() == 3


@pytest.mark.parametrize("placement", ["before", "after"])
def test_shorter_blocks_of_a_batch_are_padded_on_the_right(placement):
    tables = torch.cat([table(PATCHES, 3), table([[], [1], []], 3)])[:, None]
    block = lay_out(tables, placement, False)
    assert block.source.shape == (2, 1, 6)
    assert block.valid.sum(-1).flatten().tolist() == [6, 4]
    assert block.length.flatten().tolist() == [6, 4]
    assert block.source[1, 0, 4:].tolist() == [EMPTY, EMPTY]
    alone = lay_out(tables[1:], placement, False)
    assert torch.equal(block.source[1, 0, :4], alone.source[0, 0])
    assert torch.equal(block.thought_rows[1], alone.thought_rows[0])


def test_a_fixed_size_pads_every_block():
    block = layout(PATCHES, "before", size=12)
    assert block.source.shape == (1, 1, 12)
    assert block.valid[0, 0].tolist() == [True] * 6 + [False] * 6
    assert block.length.item() == 6


def test_no_thoughts_is_an_empty_block():
    block = lay_out(torch.zeros(2, 1, 0, 0, dtype=torch.long), "before", False)
    assert block.source.shape == (2, 1, 0)
    assert block.length.flatten().tolist() == [0, 0]


# ---- mask -------------------------------------------------------------------------------------------------------


def test_mask_lets_a_slot_see_the_prefix_and_its_own_past():
    """Every pair of the mask, against the rule in words."""
    prefix_valid = torch.tensor([[False, True, True], [True, True, True]])
    valid = torch.tensor(
        [[[True, True, False], [True, True, True]], [[True, False, False], [True, True, False]]]
    )
    mask = block_mask(prefix_valid, valid)
    B, N, Q, P = 2, 2, 3, 3
    assert mask.shape == (B, 1, N * Q, P + N * Q)
    for b in range(B):
        for n in range(N):
            for q in range(Q):
                row = mask[b, 0, n * Q + q]
                assert torch.equal(row[:P], prefix_valid[b])
                for m in range(N):
                    for r in range(Q):
                        seen = m == n and (r == q or (r < q and bool(valid[b, n, r])))
                        assert bool(row[P + m * Q + r]) == seen
    assert mask.any(-1).all()  # no row without anything to see


def test_patch_lists_leave_the_empty_slots_out():
    assert patch_lists(torch.tensor([[3, 1, EMPTY], [EMPTY, EMPTY, EMPTY]])) == [[3, 1], []]
