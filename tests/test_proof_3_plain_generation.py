"""Proof 3: without thoughts it is plain `generate`, token by token; positions are the model's own M-RoPE."""

import pytest
import torch
from proof_tools import (
    generate,
    inputs_of,
    plain_model,
    prefill,
    rope_positions,
    table,
    thoughts_of,
    watching,
)

from dmlr import inference
from dmlr.inference import BlockStyle

LENGTH = 24


def decoded_ids(backbone, samples, num_thoughts=0):
    """Token ids that the engine decodes from untouched thoughts, one list per sample."""
    prefix = prefill(backbone, samples, num_thoughts)
    start = backbone.initial_thoughts(prefix, num_thoughts, False)
    patches = torch.zeros(len(samples), num_thoughts, 0, dtype=torch.long)
    generations = backbone.decode(prefix, start, patches, BlockStyle(), LENGTH)
    return [g.token_ids for g in generations]


@pytest.mark.parametrize("num_thoughts", [0, 3])
def test_untouched_thoughts_decode_what_generate_writes(tiny, samples, num_thoughts):
    """With thoughts: the placeholders are tokens whose embeddings have not been moved (the control CoT-Unk)."""
    model = plain_model(tiny)
    expected = [generate(model, tiny, s, tiny.encode(s, num_thoughts, 0).text, LENGTH) for s in samples]
    assert len(set(map(tuple, expected))) == len(samples)  # four different answers, not one that always comes
    assert [decoded_ids(tiny, [s], num_thoughts)[0] for s in samples] == expected
    assert decoded_ids(tiny, samples, num_thoughts) == expected  # left-padded in one batch


def test_the_comparison_can_fail(tiny, samples):
    """`generate` without `mm_token_type_ids` silently counts positions in one dimension, and answers otherwise."""
    text = tiny.encode(samples[1], 0, 0).text
    model = plain_model(tiny)
    wrong = generate(model, tiny, samples[1], text, LENGTH, mm_token_type_ids=None)
    assert wrong != generate(model, tiny, samples[1], text, LENGTH)


@pytest.mark.parametrize("flags", [{"num_thought_tokens": 0}, {"method": "vanilla"}])
def test_answer_without_thoughts_is_generate(tiny, samples, config, flags):
    config = config.replace(max_new_tokens=LENGTH, **flags)
    for sample, prediction in zip(samples, inference.answer(samples, tiny, config), strict=True):
        assert "<|endoftext|>" not in prediction.prompt
        ids = generate(plain_model(tiny), tiny, sample, prediction.prompt, LENGTH)
        assert prediction.generated_tokens == len(ids)
        assert prediction.model_output == tiny.tokenizer.decode(ids, skip_special_tokens=True)
        assert prediction.stop_reason == ("length" if len(ids) == LENGTH else "eos_token")


def test_repetition_penalty_and_end_tokens_are_those_of_the_generation_config(tiny, samples, monkeypatch):
    model = plain_model(tiny)
    text = tiny.encode(samples[0], 0, 0).text
    plain = generate(model, tiny, samples[0], text, LENGTH)
    for settings in (model.generation_config, tiny.model.generation_config):
        monkeypatch.setattr(settings, "repetition_penalty", 1.3)
    penalised = generate(model, tiny, samples[0], text, LENGTH)
    assert penalised != plain
    assert decoded_ids(tiny, [samples[0]])[0] == penalised
    stop = penalised[5]
    monkeypatch.setattr(tiny.model.generation_config, "eos_token_id", [799, stop])
    assert decoded_ids(tiny, [samples[0]])[0] == penalised[: penalised.index(stop)]


def positions_of(calls, row=0, drop=0):
    """Positions (3, T) of one row over all calls of a language model; `drop` columns of padding left out."""
    return torch.cat([c["position_ids"][-3:, row] for c in calls], dim=1)[:, drop:]


@pytest.mark.parametrize("num_thoughts", [0, 3])
@pytest.mark.parametrize("which", range(4))
def test_every_position_is_the_one_generate_uses(tiny, samples, which, num_thoughts):
    """Image, question, thoughts, closing template and all answer tokens."""
    sample, model = samples[which], plain_model(tiny)
    text = tiny.encode(sample, num_thoughts, 0).text
    with watching(model.model.language_model) as theirs:
        generate(model, tiny, sample, text, LENGTH)
    with watching(tiny.model.model.language_model) as ours:
        decoded_ids(tiny, [sample], num_thoughts)
    assert len(theirs) > 2
    assert torch.equal(positions_of(ours), positions_of(theirs))


def test_positions_of_a_padded_batch_are_get_rope_index(tiny, samples):
    """Prompt with suffix and unfilled thoughts of each row, whatever its padding; scoring forwards included."""
    prompts = [tiny.encode(s, 3, 0) for s in samples]
    with watching(tiny.model.model.language_model) as calls:
        prefix = tiny.prefill(prompts, 64)
        tail = prompts[0].tail_ids
        with torch.no_grad():
            tiny.score_block(
                prefix,
                thoughts_of(tiny, 4, 3)[:, None],
                table(*[[[], [], []]] * 4)[:, None],
                BlockStyle(),
                tail,
                False,
            )
    width = prefix.valid.shape[1]
    for b, (sample, prompt) in enumerate(zip(samples, prompts, strict=True)):
        inputs = inputs_of(tiny, sample, prompt.text)
        ids, types = inputs["input_ids"][0], inputs["mm_token_type_ids"][0]
        expected = rope_positions(plain_model(tiny), ids, types, inputs.get("image_grid_thw"))
        assert torch.equal(positions_of(calls, b, width - len(prompt.prefix_ids)), expected)
    assert len({len(p.prefix_ids) for p in prompts}) > 1  # the batch was padded


def test_image_positions_are_those_of_the_patches(tiny, samples):
    """`--patch_positions image`: an injected row stands where its patch stands; text counts on without it."""
    held = [[4, 17], [9]]
    inputs = inputs_of(tiny, samples[0], tiny.encode(samples[0], 2, 0).text)
    ids, types = inputs["input_ids"][0], inputs["mm_token_type_ids"][0]
    whole = rope_positions(plain_model(tiny), ids, types, inputs["image_grid_thw"])
    of_image = whole[:, ids == tiny.model.config.image_token_id]
    first = (ids == tiny.tokenizer.convert_tokens_to_ids("<|endoftext|>")).nonzero()[0, 0]
    prefix = prefill(tiny, samples[:1], 2)
    with watching(tiny.model.model.language_model) as calls, torch.no_grad():
        tiny.score_block(
            prefix,
            thoughts_of(tiny, 1, 2)[:, None],
            table(held)[:, None],
            BlockStyle("before", "image"),
            prefix.prompts[0].tail_ids,
            False,
        )
    expected = torch.cat(
        [of_image[:, [4, 17]], whole[:, first, None], of_image[:, [9]], whole[:, first + 1 :]], dim=1
    )
    assert torch.equal(calls[0]["position_ids"][-3:, 0], expected)
