"""The key-value buffer and greedy decoding, with a fake model that writes what it is told."""

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from dmlr.cache import KVCache
from dmlr.decoding import Generation, Penalty, Start, greedy


def rows(count, value, batch=2):
    """Keys or values (B, 1, count, 1) filled with `value`."""
    return torch.full((batch, 1, count, 1), float(value))


def seen(tensor):
    return tensor[0, 0, :, 0].tolist()


def test_a_block_overwrites_the_last_block_until_it_is_committed():
    cache = KVCache(1, 6)
    cache.update(rows(2, 1), rows(2, -1), 0)
    cache.commit(2)
    keys, values = cache.update(rows(3, 2), rows(3, -2), 0)
    assert seen(keys) == [1, 1, 2, 2, 2]
    assert seen(values) == [-1, -1, -2, -2, -2]
    keys, _ = cache.update(rows(1, 3), rows(1, -3), 0)
    assert seen(keys) == [1, 1, 3]
    assert cache.get_seq_length() == 2
    cache.commit(1)
    keys, _ = cache.update(rows(1, 4), rows(1, -4), 0)
    assert seen(keys) == [1, 1, 3, 4]


def test_layers_are_apart():
    cache = KVCache(2, 4)
    cache.update(rows(1, 1), rows(1, 1), 0)
    cache.update(rows(1, 2), rows(1, 2), 1)
    cache.commit(1)
    assert seen(cache.update(rows(1, 9), rows(1, 9), 0)[0]) == [1, 9]
    assert seen(cache.update(rows(1, 9), rows(1, 9), 1)[0]) == [2, 9]


def test_overflow_is_an_error_and_reserve_makes_room():
    cache = KVCache(1, 3)
    cache.update(rows(2, 1), rows(2, 1), 0)
    cache.commit(2)
    with pytest.raises(RuntimeError, match=r"cache holds 3 slots, 4 wanted: call reserve\(\)"):
        cache.update(rows(2, 2), rows(2, 2), 0)
    cache.reserve(2)
    assert cache.capacity == 4
    assert seen(cache.update(rows(2, 2), rows(2, 2), 0)[0]) == [1, 1, 2, 2]
    before = cache.keys[0]
    cache.reserve(2)
    assert cache.keys[0] is before  # there is room: nothing is copied


def test_selected_rows_are_a_cache_of_their_own():
    cache = KVCache(1, 4)
    key = torch.arange(3.0).view(3, 1, 1, 1)
    cache.update(key, -key, 0)
    cache.commit(1)
    chosen = cache.select(torch.tensor([2, 0]))
    keys, values = chosen.update(rows(1, 7), rows(1, 7), 0)
    assert keys[:, 0, :, 0].tolist() == [[2, 7], [0, 7]]
    assert values[:, 0, 0, 0].tolist() == [-2, 0]
    assert cache.keys[0][:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_forward_under_autograd_leaves_nothing_in_the_buffers():
    cache = KVCache(1, 4)
    cache.update(rows(2, 1), rows(2, 1), 0)
    cache.commit(2)
    key = rows(1, 5).requires_grad_()
    keys, _ = cache.update(key, key * 2, 0)
    assert seen(keys) == [1, 1, 5]
    keys.sum().backward()
    assert torch.equal(key.grad, torch.ones_like(key))
    assert not cache.keys[0].requires_grad
    assert seen(cache.update(rows(1, 6), rows(1, 6), 0)[0]) == [1, 1, 6]


# ---- greedy -----------------------------------------------------------------------------------------------------

STOP, VOCABULARY = 9, 10


class Scripted:
    """A model whose row b writes script[b]; its hidden state is (row, how many tokens it has written)."""

    def __init__(self, scripts, prompt=(1,)):
        self.scripts, self.calls, self.prompt = scripts, [], len(prompt)
        size = len(scripts)
        cache = KVCache(1, len(prompt))
        key = torch.arange(float(size)).view(size, 1, 1, 1).repeat(1, 1, len(prompt), 1)
        cache.update(key, key, 0)
        cache.commit(len(prompt))
        valid = torch.tensor([prompt] * size, dtype=torch.bool)
        hidden = torch.stack([torch.arange(size), torch.zeros(size, dtype=torch.long)], 1)
        self.start = Start(cache, valid, torch.arange(100, 100 + size), hidden)

    def head(self, hidden):
        logits = torch.zeros(len(hidden), VOCABULARY)
        for i, (row, step) in enumerate(hidden.tolist()):
            script = self.scripts[row]
            logits[i, script[step] if step < len(script) else STOP] = 1
        return logits

    def next_hidden(self, ids, position, mask, cache):
        """Finds out which sample a row of the cache is from the keys, as attention would."""
        rows = cache.keys[0][:, 0, 0, 0].long()
        step = cache.length - self.prompt + 1
        for row, token, place in zip(rows.tolist(), ids.tolist(), position.tolist(), strict=True):
            script = self.scripts[row]
            if step <= len(script):  # a row that has ended may be forwarded along
                assert token == script[step - 1]
            assert place == 100 + row + step - 1
        if mask is not None:
            assert mask.shape == (len(rows), 1, 1, cache.length + 1)
            assert not mask[:, 0, 0, 0].any()
        self.calls.append(len(rows))
        key = rows.float().view(-1, 1, 1, 1)
        cache.update(key, key, 0)
        return torch.stack([rows, torch.full_like(rows, step)], 1)

    def write(self, limit, stop=(STOP,), penalty=None):
        return greedy(self.start, self.next_hidden, self.head, torch.tensor(stop), limit, penalty)


def test_rows_end_each_at_its_own_time_and_keep_their_order():
    scripts = [[1, 2, 3, 4, 5], [1], [], [7, 7, 7], [5, 4, 3, 2, 1, 2, 3]]
    model = Scripted(scripts)
    assert model.write(20) == [Generation(s, True) for s in scripts]
    assert model.calls[0] == 5
    assert model.calls[-1] <= 2  # rows that have ended were dropped on the way


def test_padded_prompts_get_a_mask_that_grows():
    scripts = [[1, 2, 3], [4, 5, 6, 7]]
    assert Scripted(scripts, prompt=(0, 1, 1)).write(20) == [Generation(s, True) for s in scripts]


def test_the_limit_cuts_and_says_so():
    model = Scripted([[1, 2, 3, 4], [5]])
    assert model.write(3) == [Generation([1, 2, 3], False), Generation([5], True)]


def test_an_answer_as_long_as_the_limit_is_not_known_to_have_ended():
    """As in `generate`: the end token would have been one more."""
    assert Scripted([[1, 2]]).write(2) == [Generation([1, 2], False)]
    assert Scripted([[1, 2]]).write(3) == [Generation([1, 2], True)]


def test_one_token_needs_no_forward():
    model = Scripted([[1, 2]])
    assert model.write(1) == [Generation([1], False)]
    assert model.calls == []


def test_several_end_tokens():
    assert Scripted([[1, 2, 8, 3], [4]]).write(9, stop=(STOP, 8)) == [
        Generation([1, 2], True),
        Generation([4], True),
    ]


def test_a_full_cache_grows():
    script = [1 + i % 8 for i in range(600)]
    model = Scripted([script])
    assert model.write(700) == [Generation(script, True)]


def test_repetition_penalty_sees_prompt_and_answer():
    """Token 3 wins everywhere but loses once it was written; token 2 stood in the prompt."""

    class Flat(Scripted):
        def head(self, hidden):
            logits = torch.zeros(len(hidden), VOCABULARY)
            logits[:, [3, 2, 5]] = torch.tensor([1.0, 0.9, 0.8])
            return logits

        def next_hidden(self, ids, position, mask, cache):
            key = cache.keys[0][:, :, :1]
            cache.update(key, key, 0)
            return torch.zeros(len(ids), 2, dtype=torch.long)

    seen = torch.zeros(1, VOCABULARY, dtype=torch.bool)
    seen[0, 2] = True
    (generation,) = Flat([[]]).write(3, penalty=Penalty(2.0, seen))
    assert generation.token_ids == [3, 5, 3]


def test_repetition_penalty_is_that_of_the_library():
    """Positive logits are divided, negative ones multiplied; a token that occurs twice is penalised once."""
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 4, 4], [0, 9, 2]])
    seen = torch.zeros(2, VOCABULARY, dtype=torch.bool).scatter_(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(ids, logits)
    torch.testing.assert_close(Penalty(1.7, seen).apply(logits), expected)
