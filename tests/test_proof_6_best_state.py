"""Proof 6: the saved best state, scored from scratch by plain transformers, gives `best_reward`."""

import pytest
import torch
from proof_tools import confidence, forward, full_sequence, plain_model
from safetensors.torch import load

from dmlr import inference
from dmlr.entries import latents_file

SETTINGS = {
    "default": {},
    "candidates": {"num_candidates": 4, "antithetic": True, "reward_baseline": "mean"},
    "inner loop": {"acceptance": "per_token"},
    "patches after, answer row": {"patch_placement": "after", "score_rows": "thoughts+answer"},
    "image positions, next row": {"patch_positions": "image", "score_rows": "thoughts+next"},
    "entropy": {"reward": "entropy", "top_k": 5},
    "certainty": {"reward": "certainty", "lr": 0.2},
    "true gradient": {"use_auto_grad": True},
    "absolute noise": {"noise_space": "absolute", "sigma": 0.5},
    "image start, every second thought": {"visual_only": True, "visual_insert_stride": 2},
    "random controls": {"thought_init": "random", "patch_choice": "random"},
    "threshold": {"reward_threshold": 3.9},
    "nothing helps": {"lr": 0.0, "num_selected_patches": 0},
}


def from_scratch(backbone, sample, prediction, config):
    """Reward of the state in the prediction's latents file, by one plain forward over the recorded prompt."""
    saved = load(latents_file(prediction))
    thoughts, pairs = saved["thoughts"], saved["patches"].tolist()
    patches = [[token for l, token in pairs if l == row] for row in range(len(thoughts))]
    assert patches == prediction.patches
    model, visual, latent = plain_model(backbone), config.visual, config.latent
    sequence = full_sequence(
        model,
        backbone,
        sample,
        prediction.prompt,
        thoughts,
        patches,
        visual.patch_placement,
        visual.patch_positions == "image",
    )
    logits = forward(model, sequence).logits[0]
    extra = {"thoughts": [], "thoughts+next": [sequence.after_block], "thoughts+answer": [len(logits) - 1]}
    rows = sequence.thought_rows + extra[latent.score_rows]
    return confidence(logits[rows], latent.reward, latent.top_k)


@pytest.mark.parametrize("name", SETTINGS)
def test_best_reward_is_that_of_the_saved_state(tiny, samples, config, name):
    config = config.replace(**SETTINGS[name])
    predictions = inference.answer(samples, tiny, config)
    for sample, prediction in zip(samples, predictions, strict=True):
        scratch = from_scratch(tiny, sample, prediction, config)
        assert prediction.best_reward == pytest.approx(scratch, abs=1e-4)
        assert prediction.best_reward >= prediction.initial_reward
    improved = any(p.best_reward_step for p in predictions)
    assert improved == (name != "nothing helps"), "the comparison needs states other than the start"


def test_initial_reward_is_that_of_the_untouched_start(tiny, samples, config):
    config = config.replace(max_num_steps=0)
    for sample, prediction in zip(samples, inference.answer(samples, tiny, config), strict=True):
        assert prediction.best_reward == prediction.initial_reward
        assert prediction.initial_reward == pytest.approx(
            from_scratch(tiny, sample, prediction, config), abs=1e-4
        )


def test_a_step_that_makes_it_worse_keeps_start_and_no_patches(tiny, samples, config):
    """Neither the first patches nor a moved thought is kept unless the reward rose: best is not "anything above 0"."""
    kept_start = []
    for seed in range(3):
        for prediction in inference.answer(
            samples, tiny, config.replace(lr=30.0, max_num_steps=1, seed=seed)
        ):
            rose = prediction.trace[0].reward > prediction.initial_reward
            assert prediction.trace[0].is_new_best == rose
            assert prediction.best_reward_step == int(rose)
            if not rose:
                kept_start.append(prediction)
    assert kept_start
    start = tiny.model.get_input_embeddings().weight[tiny.tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    for prediction in kept_start:
        assert prediction.best_reward == prediction.initial_reward
        assert prediction.patches == [[], [], []]
        assert torch.equal(prediction.thoughts, start.expand(3, -1))


@pytest.mark.parametrize("acceptance", ["joint", "per_token"])
def test_the_trace_tells_the_same_story(tiny, samples, config, acceptance):
    """Running maximum, new bests and budgets follow from the rewards of the trace by the rules of Algorithm 1."""
    config = config.replace(acceptance=acceptance, max_num_steps=8, num_candidates=2)
    for prediction in inference.answer(samples, tiny, config):
        best, budget, best_step = prediction.initial_reward, 2, 0
        cap = min(4, 0 if prediction.image_grid is None else 100)
        for step in prediction.trace:
            assert step.patch_budget == min(budget, cap)
            assert step.patch_count <= 3 * step.patch_budget
            assert step.is_new_best == (step.reward > best)
            if step.is_new_best:
                best, budget, best_step = step.reward, min(budget + 1, 4), step.step
        assert (prediction.best_reward, prediction.best_reward_step) == (best, best_step)


def test_disable_best_reward_keeps_the_record_and_decodes_the_last_state(tiny, samples, config):
    config = config.replace(lr=1.0, max_num_steps=6)
    best = inference.answer(samples, tiny, config)
    last = inference.answer(samples, tiny, config.replace(disable_best_reward=True))
    assert [p.best_reward for p in best] == [p.best_reward for p in last]
    moved_on = [
        (b, l) for b, l in zip(best, last, strict=True) if b.best_reward_step < config.latent.max_num_steps
    ]
    assert moved_on
    assert all(not torch.equal(b.thoughts, l.thoughts) for b, l in moved_on)
