"""Peak memory of the optimisation does not grow with the number of steps (counted by the allocator, not timed)."""

import pytest
from proof_tools import peak_bytes, prefill

from dmlr import inference
from dmlr.scoring import Scorer

# What a step may leave behind: its record of a few numbers per sample. One copy of the thoughts of four
# samples is three times as much, the activations of a block a thousand times.
BYTES_PER_STEP = 1024


SETTINGS = {
    "reinforce, patches from the first step": {"initial_patch_count": 4, "num_selected_patches": 4},
    "packed candidates": {"num_candidates": 4, "reward_baseline": "mean", "num_selected_patches": 0},
    "true gradient": {"use_auto_grad": True, "num_selected_patches": 0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_peak_memory_does_not_grow_with_the_steps(tiny, samples, config, name):
    config = config.replace(**SETTINGS[name])
    few, many, L = 3, 18, config.latent.num_thought_tokens
    # The prefill is left outside: its own peak is higher and would hide what the steps pile up.
    prefix = prefill(tiny, samples, L)
    start = tiny.initial_thoughts(prefix, L, False)

    def run(count):
        stepping = config.replace(max_num_steps=count)
        scorer = Scorer(tiny, prefix, inference.block_style(config), stepping)
        return lambda: inference.optimise(start, prefix, scorer, stepping)

    run(few)()  # what is allocated once
    base, peak = (peak_bytes(run(count)) for count in (few, many))
    assert peak - base < (many - few) * BYTES_PER_STEP
