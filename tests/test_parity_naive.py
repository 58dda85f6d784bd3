"""The fast path and the naive oracle are the same algorithm: rewards to 1e-4, the same patches, the same answer."""

import pytest

from dmlr import inference, naive

CASES = {
    "default": {},
    "paper's inner loop": {"acceptance": "per_token"},
    "patches after": {"patch_placement": "after", "score_rows": "thoughts+next"},
    "image positions": {"patch_positions": "image"},
    "image positions, after": {
        "patch_positions": "image",
        "patch_placement": "after",
        "score_rows": "thoughts+answer",
    },
    "entropy": {"reward": "entropy"},
    "certainty to the answer row": {"reward": "certainty", "score_rows": "thoughts+answer"},
    "candidates": {"num_candidates": 4, "reward_baseline": "mean"},
    "antithetic": {"num_candidates": 4, "antithetic": True},
    "running baseline": {"reward_baseline": "mean"},
    "absolute noise": {"noise_space": "absolute", "sigma": 0.5},
    "true gradient": {"use_auto_grad": True},
    "self score": {"disable_conf_reward": True, "max_num_steps": 2},
    "last state": {"disable_best_reward": True},
    "visual start": {"visual_only": True},
    "stride, start and interval": {
        "visual_insert_stride": 2,
        "visual_injection_start_step": 2,
        "visual_injection_interval": 2,
    },
    "random controls": {"thought_init": "random", "patch_choice": "random"},
    "decode without patches": {"decode_with_patches": False},
    "no injection": {"num_selected_patches": 0},
    "threshold": {"reward_threshold": 3.9},
    "one thought, all patches": {
        "num_thought_tokens": 1,
        "num_selected_patches": 64,
        "initial_patch_count": 64,
    },
    "unoptimised": {"max_num_steps": 0},
    "no thoughts": {"num_thought_tokens": 0},
    "vanilla": {"method": "vanilla"},
}


@pytest.mark.parametrize("name", CASES)
def test_fast_path_equals_naive(name, tiny, samples, config):
    config = config.replace(**CASES[name])
    fast = inference.answer(samples, tiny, config)
    for sample, ours in zip(samples, fast, strict=True):
        oracle = naive.answer(sample, tiny, config)
        assert ours.patches == oracle.patches
        assert ours.model_output == oracle.model_output
        assert (ours.stop_reason, ours.generated_tokens) == (oracle.stop_reason, oracle.generated_tokens)
        assert ours.best_reward_step == oracle.best_reward_step
        assert ours.initial_reward == pytest.approx(oracle.initial_reward, abs=1e-4)
        assert ours.best_reward == pytest.approx(oracle.best_reward, abs=1e-4)
        assert ours.unparsed_self_scores == oracle.unparsed_self_scores
        assert len(ours.trace) == len(oracle.trace)
        for a, b in zip(ours.trace, oracle.trace, strict=True):
            assert (a.step, a.is_new_best, a.patch_count, a.patch_budget) == (
                b.step,
                b.is_new_best,
                b.patch_count,
                b.patch_budget,
            )
            assert a.reward == pytest.approx(b.reward, abs=1e-4)
            assert a.candidate_reward_mean == pytest.approx(b.candidate_reward_mean, abs=1e-4)
            assert a.top_k_mass == pytest.approx(b.top_k_mass, abs=1e-4)
            assert a.sigma == pytest.approx(b.sigma)
