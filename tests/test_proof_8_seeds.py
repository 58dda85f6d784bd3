"""Proof 8: same seed, same result, whatever the batch size, the order of the rows or the sharding."""

import dataclasses

import pytest
import torch

from dmlr import inference
from dmlr.config import Config
from dmlr.policy import draw_noise, noise_generators

NOISY = {"num_candidates": 2, "patch_choice": "random", "thought_init": "random"}


def by_index(batches, backbone, config):
    """Predictions of several batches, by `data_idx`."""
    found = {}
    for batch in batches:
        found |= {p.data_idx: p for p in inference.answer(batch, backbone, config)}
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for index in one:
        a, b = one[index], other[index]
        assert (a.patches, a.model_output, a.best_reward_step) == (
            b.patches,
            b.model_output,
            b.best_reward_step,
        )
        torch.testing.assert_close(a.thoughts, b.thoughts, atol=1e-4, rtol=1e-4)
        for x, y in zip(a.trace, b.trace, strict=True):
            assert (x.reward, x.candidate_reward_mean) == pytest.approx(
                (y.reward, y.candidate_reward_mean), abs=1e-4
            )


@pytest.mark.parametrize("seed", [0, 42])
def test_batches_order_and_shards_change_nothing(tiny, samples, config, seed):
    config = config.replace(seed=seed, **NOISY)
    a, b, c, d = samples
    whole = by_index([[a, b, c, d]], tiny, config)
    assert_same(whole, by_index([[d, b, a, c]], tiny, config))  # another order
    assert_same(whole, by_index([[c], [a], [d], [b]], tiny, config))  # one by one
    assert_same(whole, by_index([[d, a], [b, c]], tiny, config))  # two shards, as two workers would


def test_a_neighbour_that_stops_early_changes_nothing(tiny, samples, config):
    """With a threshold the samples of a batch end at different steps."""
    config = config.replace(max_num_steps=6, **NOISY)
    best = sorted(p.best_reward for p in inference.answer(samples, tiny, config))
    config = config.replace(reward_threshold=(best[1] + best[2]) / 2)
    whole = by_index([samples], tiny, config)
    assert len({len(p.trace) for p in whole.values()}) > 1
    assert_same(whole, by_index([[s] for s in samples], tiny, config))


def test_two_runs_are_bitwise_equal_and_the_global_generator_has_no_part(tiny, samples, config):
    config, results = config.replace(**NOISY), []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        results.append(inference.answer(samples[:2], tiny, config))
        assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a.thoughts, b.thoughts)
        assert a.trace == b.trace
        assert (a.model_output, a.patches) == (b.model_output, b.patches)


def candidate_rewards(samples, backbone, config):
    return [[t.candidate_reward_mean for t in p.trace] for p in inference.answer(samples, backbone, config)]


def test_another_seed_gives_another_result_and_zero_is_a_seed(tiny, samples, config):
    zero, again, one, default = (
        candidate_rewards(samples, tiny, config.replace(seed=seed)) for seed in (0, 0, 1, Config().run.seed)
    )
    assert zero == again
    for other in (one, default):
        assert all(a != b for a, b in zip(zero, other, strict=True))
    assert Config().replace(seed=0).run.seed == 0


def test_each_sample_has_noise_of_its_own(tiny, samples, config):
    """The same question under two indices; and twice under one."""
    twin = dataclasses.replace(samples[0], data_idx=samples[0].data_idx + 1)
    first, second, third = candidate_rewards([samples[0], twin, samples[0]], tiny, config)
    assert first != second
    assert first == pytest.approx(third, abs=1e-5)


def test_noise_depends_on_seed_and_index_only():
    """The first numbers themselves: a change of them would silently change every published result."""
    drawn = draw_noise(noise_generators(42, [7, 8]), 1, 1, 3, False)[:, 0, 0]
    again = draw_noise(noise_generators(42, [8, 7]), 1, 1, 3, False)[:, 0, 0]
    assert torch.equal(drawn, again.flip(0))
    assert not torch.equal(drawn[0], drawn[1])
    pairs = [(0, 1), (1, 0), (0, 0), (1, 1), (42, 7), (7, 42)]
    first = {float(draw_noise(noise_generators(s, [i]), 1, 1, 1, False)) for s, i in pairs}
    assert len(first) == len(pairs)
