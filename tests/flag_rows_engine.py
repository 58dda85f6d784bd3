"""Rows of the flag table: model, thoughts, injection, decoding. See `test_proof_9_every_flag_acts.py`."""

import pytest
import torch
from flag_tools import flag
from proof_tools import save_checkpoint

from dmlr import loading
from dmlr.backbone import Backbone
from dmlr.batching import load_engine, viz_folder
from dmlr.config import Config, ModelConfig, resolve
from dmlr.errors import UserError
from dmlr.injection import EMPTY
from dmlr.prompts import SOLVER_INSTRUCTIONS
from dmlr.validation import warnings_of

# ---- the model ----------------------------------------------------------------------------------------------------


@flag("model_name_or_path")
def _(tools):
    folder = save_checkpoint(tools.tiny, tools.tmp_path)
    loaded = loading.load(ModelConfig(str(folder), device="cpu"))
    for name, weight in tools.tiny.model.named_parameters():
        assert torch.equal(loaded.model.get_parameter(name), weight)
    with pytest.raises(UserError, match="no such folder"):
        loading.load(ModelConfig("./none", device="cpu"))


@flag("device")
def _(tools):
    tools.monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loading.resolve_device("cpu").type == loading.resolve_device("auto").type == "cpu"
    with pytest.raises(UserError, match="no CUDA device"):
        loading.resolve_device("cuda")


@flag("dtype")
def _(tools):
    folder = str(save_checkpoint(tools.tiny, tools.tmp_path))
    for name, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        assert loading.load(ModelConfig(folder, device="cpu", dtype=name)).model.dtype == dtype


def image_tokens(tools, **limits):
    folder = save_checkpoint(tools.tiny, tools.tmp_path / str(limits))
    backbone = Backbone.load(ModelConfig(str(folder), device="cpu", **limits))
    prompt = backbone.encode(tools.samples[0], 0, 0)  # an image of 5 x 5 tokens
    rows, columns = prompt.image_grid
    assert rows * columns == (prompt.prefix_ids == backbone.model.config.image_token_id).sum()
    return rows * columns


@flag("min_pixels")
def _(tools):
    assert image_tokens(tools, min_pixels=4, max_pixels=256) == 25
    assert 60 <= image_tokens(tools, min_pixels=60, max_pixels=256) <= 90


@flag("max_pixels")
def _(tools):
    assert 4 <= image_tokens(tools, min_pixels=4, max_pixels=9) <= 9


@flag("trust_remote_code")
def _(tools):
    told = []

    def spy(source, **options):
        told.append(options["trust_remote_code"])
        raise OSError("enough")

    tools.monkeypatch.setattr(loading.AutoConfig, "from_pretrained", spy)
    for trust in (False, True):
        with pytest.raises(UserError):
            loading.load(ModelConfig(str(tools.tmp_path), device="cpu", trust_remote_code=trust))
    assert told == [False, True]
    assert Config().model.trust_remote_code is False


# ---- thoughts, policy, reward -------------------------------------------------------------------------------------


@flag("num_thought_tokens")
def _(tools):
    for count in (0, 1, 5):
        prediction = tools.engine(num_thought_tokens=count).prediction
        assert prediction.prompt.count("<|endoftext|>") == len(prediction.patches) == count


@flag("sigma")
def _(tools):
    one, two = (tools.engine(sigma=s, max_num_steps=1) for s in (20.0, 40.0))
    torch.testing.assert_close(two.offsets(1), 2 * one.offsets(1))
    rms = one.states[0][0].square().mean().sqrt()
    assert float(one.offsets(1).std() / rms) == pytest.approx(0.2, rel=0.1)  # percent of the thoughts' RMS


@flag("sigma_decay")
def _(tools):
    seen = tools.engine(sigma_decay=0.5)
    assert [t.sigma for t in seen.trace] == pytest.approx([20 * 0.5**t for t in range(6)])
    assert float(seen.offsets(3).std() / seen.offsets(1).std()) == pytest.approx(0.25, rel=0.15)
    assert [t.sigma for t in tools.engine(sigma_decay=1.0).trace] == [20.0] * 6


@flag("lr")
def _(tools):
    moves = [
        s.states[1][0] - s.states[0][0] for s in (tools.engine(lr=lr, max_num_steps=1) for lr in (0.05, 0.1))
    ]
    torch.testing.assert_close(moves[1], 2 * moves[0], atol=1e-5, rtol=1e-4)
    assert moves[0].abs().max() > 1e-3


@flag("max_num_steps")
def _(tools):
    assert [len(tools.engine(max_num_steps=n).trace) for n in (0, 2, 6)] == [0, 2, 6]


@flag("reward_threshold")
def _(tools):
    """Rewards are 1 at the start, 2 after the first step, ..."""
    lengths = [
        len(tools.engine(rising=True, reward_threshold=r).trace) for r in (-1.0, 0.5, 1.0, 1.5, 4.0, 9.0)
    ]
    assert lengths == [6, 0, 0, 1, 3, 6]


@flag("top_k")
def _(tools):
    ten, three = (tools.engine(top_k=k, max_num_steps=1) for k in (10, 3))
    assert three.prediction.initial_reward < ten.prediction.initial_reward - 0.1  # fewer unlikely tokens
    assert three.trace[0].top_k_mass < ten.trace[0].top_k_mass


@flag("num_candidates")
def _(tools):
    for count in (1, 2, 5):
        assert tools.engine(num_candidates=count, max_num_steps=1).candidates[0].shape[0] == count


@flag("antithetic")
def _(tools):
    pairs, single = (tools.engine(antithetic=on, max_num_steps=1).offsets(1) for on in (True, False))
    assert pairs.mean(0).abs().max() < 1e-6
    assert single.mean(0).abs().max() > 1e-2


@flag("reward_baseline")
def _(tools):
    none, mean = (tools.engine(reward_baseline=b, max_num_steps=1) for b in ("none", "mean"))
    assert torch.equal(none.candidates[0], mean.candidates[0])
    moves = [(s.states[1][0] - s.states[0][0]).norm() for s in (none, mean)]
    assert moves[0] > 3 * moves[1]  # most of the plain estimate is the constant in the reward


@flag("reward")
def _(tools):
    deepconf, entropy, certainty = (
        tools.engine(reward=r, max_num_steps=0).prediction.initial_reward
        for r in ("deepconf", "entropy", "certainty")
    )
    assert deepconf > 1 > certainty > 0
    assert entropy <= 1
    assert len({deepconf, entropy, certainty}) == 3


@flag("score_rows")
def _(tools):
    rows = ("thoughts", "thoughts+next", "thoughts+answer")
    assert (
        len({round(tools.engine(score_rows=r, max_num_steps=0).prediction.initial_reward, 5) for r in rows})
        == 3
    )


@flag("noise_space")
def _(tools):
    seen = tools.engine(noise_space="absolute", sigma=0.7, max_num_steps=1)
    assert float(seen.offsets(1).std()) == pytest.approx(0.7, rel=0.1)  # raw units, whatever the embeddings


@flag("thought_init")
def _(tools):
    text, random = (
        tools.engine(thought_init=i, max_num_steps=0).states[0][0] for i in ("endoftext", "random")
    )
    token = tools.tiny.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert torch.equal(text, tools.tiny.model.get_input_embeddings().weight[token].expand(3, -1))
    assert float((random - text).std() / text.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


@flag("disable_conf_reward")
def _(tools):
    on = tools.engine(disable_conf_reward=True, max_num_steps=1).prediction
    assert (
        on.unparsed_self_scores == 6
    )  # the start, four candidates, the proposal: a random model writes no number
    assert on.initial_reward == on.best_reward == 0
    tools.monkeypatch.setattr(Backbone, "text", lambda self, generation: "0.25")
    on = tools.engine(disable_conf_reward=True, max_num_steps=1).prediction
    assert (on.initial_reward, on.unparsed_self_scores) == (0.25, 0)


@flag("disable_best_reward")
def _(tools):
    for seed in range(9):  # until the last state is not the best
        best, last = (tools.engine(disable_best_reward=on, lr=1.0, seed=seed) for on in (False, True))
        step = best.prediction.best_reward_step
        if step < 6:
            break
    assert torch.equal(best.decoded[0], best.states[step][0])
    assert torch.equal(last.decoded[0], last.states[6][0])


@flag("use_auto_grad")
def _(tools):
    seen = tools.engine(use_auto_grad=True, num_selected_patches=0, lr=0.01)
    assert seen.candidates == []
    assert seen.trace[0].candidate_reward_mean == pytest.approx(seen.prediction.initial_reward, abs=1e-5)
    assert seen.prediction.best_reward > seen.prediction.initial_reward
    assert warnings_of(resolve(["--use_auto_grad", "--lr", "0.01"])) == []


# ---- injection ----------------------------------------------------------------------------------------------------


def counts(table):
    """Patches per thought of a patch table (L, M)."""
    return (table != EMPTY).sum(-1).tolist()


@flag("num_selected_patches")
def _(tools):
    for most in (0, 1, 4, 9):
        seen = tools.engine(rising=True, num_selected_patches=most, max_num_steps=8)
        assert [len(v) for v in seen.prediction.patches] == [most] * 3
        assert counts(seen.decoded[1]) == [most] * 3


@flag("initial_patch_count")
def _(tools):
    for count in (0, 1, 3):
        first = tools.engine(initial_patch_count=count, max_num_steps=1).trace[0]
        assert (first.patch_budget, first.patch_count) == (count, 3 * count)


@flag("patch_increment")
def _(tools):
    for increment, expected in ((0, [2, 2, 2]), (1, [2, 3, 4]), (2, [2, 4, 4])):  # at most 4
        seen = tools.engine(rising=True, patch_increment=increment, max_num_steps=3)
        assert [t.patch_budget for t in seen.trace] == expected
    unmoved = tools.engine(num_selected_patches=4, lr=0.0, initial_patch_count=0)  # no state is better
    assert {t.patch_budget for t in unmoved.trace} == {0}


@flag("visual_insert_stride")
def _(tools):
    assert counts(tools.engine(max_num_steps=1).states[1][1]) == [2, 2, 2]
    assert counts(tools.engine(visual_insert_stride=2, max_num_steps=1).states[1][1]) == [2, 0, 2]


@flag("visual_injection_start_step")
def _(tools):
    for start, expected in ((0, [True] * 4), (3, [False, False, True, True])):
        seen = tools.engine(visual_injection_start_step=start, max_num_steps=4)
        assert [t.patch_count > 0 for t in seen.trace] == expected


@flag("visual_injection_interval")
def _(tools):
    """Between two injections a step scores the patches that were accepted before, and no others."""
    seen = tools.engine(rising=True, visual_injection_interval=3, num_selected_patches=16)
    per_step = [t.patch_count // 3 for t in seen.trace]
    assert per_step == [0, 0, 4, 4, 4, 7]  # the budget is 2 + one for every new best


@flag("visual_only")
def _(tools):
    text, image = (tools.engine(visual_only=on, max_num_steps=0).states[0][0] for on in (False, True))
    prompt = tools.tiny.encode(tools.samples[0], 3, 0)
    mean = tools.tiny.prefill([prompt], 0).patches[0].mean(0)
    assert torch.cosine_similarity(image[0], mean, dim=0) > 0.9999
    token_rms = tools.tiny.model.get_input_embeddings().weight.square().mean().sqrt()
    assert float(image.square().mean().sqrt()) == pytest.approx(float(token_rms), rel=1e-4)
    assert torch.cosine_similarity(image[0], text[0], dim=0) < 0.9


@flag("acceptance")
def _(tools):
    joint, inner = (tools.engine(acceptance=a, max_num_steps=2) for a in ("joint", "per_token"))
    assert (len(joint.states), len(inner.states)) == (1 + 2, 1 + 2 * 3)  # one proposal, or one per thought
    assert counts(inner.states[1][1]) == [2, 0, 0]  # the first thought's alone


@flag("patch_choice")
def _(tools):
    attended, random = (
        tools.engine(patch_choice=c, visual_token_viz=True, max_num_steps=1) for c in ("attention", "random")
    )
    top = attended.prediction.attention_maps[0].topk(2).indices
    assert torch.equal(attended.states[1][1][:, :2], top)
    assert counts(random.states[1][1]) == [2, 2, 2]
    assert not torch.equal(random.states[1][1][:, :2], top)


def same_proposal_other_reward(tools, name, values):
    one, other = (tools.engine(**{name: v}, max_num_steps=1, score_rows="thoughts+next") for v in values)
    assert torch.equal(one.states[1][1], other.states[1][1])
    assert one.prediction.initial_reward == pytest.approx(other.prediction.initial_reward, abs=1e-5)
    assert abs(one.trace[0].reward - other.trace[0].reward) > 1e-3


@flag("patch_placement")
def _(tools):
    same_proposal_other_reward(tools, "patch_placement", ("before", "after"))
    assert any(
        "patch_placement after" in line for line in warnings_of(Config().replace(patch_placement="after"))
    )


@flag("patch_positions")
def _(tools):
    same_proposal_other_reward(tools, "patch_positions", ("text", "image"))


@flag("decode_with_patches")
def _(tools):
    on, off = (tools.engine(decode_with_patches=d, rising=True) for d in (True, False))
    assert all(counts(on.decoded[1]))
    assert counts(off.decoded[1]) == [0, 0, 0]
    assert torch.equal(on.decoded[0], off.decoded[0])
    assert on.prediction.model_output != off.prediction.model_output


@flag("visual_token_viz")
def _(tools):
    on, off = (tools.engine(visual_token_viz=v).prediction for v in (True, False))
    assert off.attention_maps is None
    assert on.attention_maps.shape == (6, 3, 25)
    assert on.step_patches[-1] == on.patches


@flag("visual_token_viz_dir")
def _(tools):
    config = Config().replace(output_dir="out")
    assert viz_folder(config).as_posix() == "out/visual_token_viz"
    assert viz_folder(config.replace(visual_token_viz_dir="maps")).as_posix() == "maps"


# ---- decoding -----------------------------------------------------------------------------------------------------


@flag("method")
def _(tools):
    seen = tools.engine(method="vanilla")
    assert seen.states == seen.candidates == []
    assert seen.prediction.initial_reward is None
    assert "<|endoftext|>" not in seen.prediction.prompt


@flag("max_new_tokens")
def _(tools):
    long, short = (tools.engine(max_new_tokens=n, max_num_steps=0).prediction for n in (12, 3))
    assert (short.generated_tokens, short.stop_reason) == (3, "length")
    assert long.generated_tokens > 3
    assert long.model_output.startswith(short.model_output)


@flag("solver_prompt_idx")
def _(tools):
    for index, text in enumerate(SOLVER_INSTRUCTIONS):
        prompt = tools.engine(solver_prompt_idx=index, max_num_steps=0).prediction.prompt
        assert [t in prompt for t in SOLVER_INSTRUCTIONS] == [t == text for t in SOLVER_INSTRUCTIONS]


@flag("compile")
def _(tools):
    folder = str(save_checkpoint(tools.tiny, tools.tmp_path))
    loops = {}
    for value in ("on", "off", "auto"):
        config = tools.config.replace(compile=value, model_name_or_path=folder, min_pixels=4)
        with tools.monkeypatch.context() as patch:
            called = loops.setdefault(value, [])
            record_loops(patch, called)
            load_engine(config)(tools.samples[:1])
    assert loops == {
        "on": ["greedy_fixed"],
        "off": ["greedy"],
        "auto": ["greedy"],
    }  # on a CPU it does not pay


def record_loops(patch, called):
    from dmlr import decoding

    for name in ("greedy", "greedy_fixed"):
        real = getattr(decoding, name)
        patch.setattr(
            decoding, name, lambda *args, _real=real, _name=name: (called.append(_name), _real(*args))[1]
        )
