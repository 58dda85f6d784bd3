"""The shipped checkpoint: real classes, Qwen's special tokens and turn format, no resizing at the default limits."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import Qwen2_5_VLProcessor

from dmlr import prompts
from dmlr.demo.evaluate import Condition, Evaluator, boxed, score
from dmlr.demo.questions import KINDS
from dmlr.demo.tokenizer import SPECIAL_TOKENS, build_tokenizer

DEMO = Path(__file__).parent.parent / "data" / "demo"
MODEL = DEMO / "model"


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def evaluator():
    return Evaluator(MODEL, batch=20, max_new_tokens=256)


@pytest.fixture(scope="module")
def rows():
    return json.loads((DEMO / "demo.json").read_text())


def test_checkpoint_loads_by_its_real_class_with_every_weight():
    model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        MODEL, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert sum(p.numel() for p in model.parameters()) < 3.8e6
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert all(torch.isfinite(p).all() for p in model.parameters())
    text = model.config.text_config
    head = text.hidden_size // text.num_attention_heads
    assert sum(text.rope_parameters["mrope_section"]) == head // 2
    assert isinstance(AutoModelForImageTextToText.from_pretrained(MODEL), Qwen2_5_VLForConditionalGeneration)


def test_generation_is_greedy_and_stops_at_the_end_of_the_turn(processor):
    config = Qwen2_5_VLForConditionalGeneration.from_pretrained(MODEL).generation_config
    ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    assert config.do_sample is False
    assert ids["<|im_end|>"] in config.eos_token_id
    assert config.pad_token_id == ids["<|endoftext|>"]


def test_tokenizer_knows_each_special_token_as_one_id_and_is_the_one_that_the_generator_trains(processor):
    tokenizer = processor.tokenizer
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(
        range(len(SPECIAL_TOKENS))
    )
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(f"a{token}b")["input_ids"]) == 3
    config = json.loads((MODEL / "config.json").read_text())
    assert config["image_token_id"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert config["vision_start_token_id"] == tokenizer.convert_tokens_to_ids("<|vision_start|>")
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
    unusual = "Grüße, 5 €? \n\n日本"
    assert tokenizer.decode(tokenizer(unusual)["input_ids"]) == unusual


def test_chat_template_writes_qwen_s_turns_in_the_order_image_question_thoughts(processor):
    assert isinstance(processor, Qwen2_5_VLProcessor)
    text = processor.apply_chat_template(
        prompts.messages(prompts.user_text("How many?", 0, 2), has_image=True),
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == (
        f"<|im_start|>system\n{prompts.SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|><|image_pad|><|vision_end|>How many?\n{prompts.SOLVER_INSTRUCTIONS[0]}"
        f"{prompts.THOUGHT_LEAD}<|endoftext|><|endoftext|><|im_end|>\n<|im_start|>assistant\n"
    )
    spoken = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
    ]
    assert processor.apply_chat_template(spoken, tokenize=False) == (
        f"<|im_start|>system\n{prompts.SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n"
    )


def test_images_pass_the_processor_unresized_as_144_tokens(processor, rows):
    with Image.open(DEMO / rows[0]["image_path"]) as image:
        inputs = processor(
            text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[image], return_tensors="pt"
        )
    assert inputs["image_grid_thw"].tolist() == [[1, 24, 24]]
    assert int(inputs["mm_token_type_ids"].sum()) == 144


@pytest.fixture(scope="module")
def table(evaluator, rows):
    """Scores of a condition on every other pair of questions, 80 over 40 images; computed once each."""
    part = [row for row in rows if row["idx"] % 4 < 2]
    done = {}

    def scores(condition: Condition):
        if condition not in done:
            done[condition] = score(part, evaluator.answers(part, DEMO, condition))["kinds"]
        return done[condition]

    return scores


def test_accuracy_lies_in_the_band_and_every_kind_looks_at_the_image(table):
    """Between 60 and 90 % on the whole file (data/README.md); a half of it may stray by three points."""
    right, shuffled = table(Condition(0)), table(Condition(0, shuffled=True))
    assert 0.57 <= right["all"]["accuracy"] <= 0.93
    for kind in KINDS:
        assert right[kind]["total"] == 16
        assert right[kind]["accuracy"] >= right[kind]["chance"] + 0.15
        assert right[kind]["accuracy"] >= shuffled[kind]["accuracy"] + 0.15
    assert shuffled["all"]["accuracy"] <= 0.45


@pytest.mark.parametrize(
    "condition", [Condition(0, thoughts=2), Condition(0, thoughts=8, noise=0.4, patches=4), Condition(1)]
)
def test_other_prompts_of_the_project_are_answered_nearly_as_well(table, condition):
    """Thoughts (plain, or moved and with patches), and the detailed instruction."""
    assert table(condition)["all"]["accuracy"] >= table(Condition(0))["all"]["accuracy"] - 0.15


def test_block_without_thought_noise_equals_the_plain_prompt_with_placeholders(evaluator, rows):
    """The evaluator's own sequence building, held against what the library computes from ids."""
    part = rows[:6]
    texts = [
        evaluator.processor.apply_chat_template(
            prompts.messages(prompts.user_text(row["prompt"], 0, 3), True),
            add_generation_prompt=True,
            tokenize=False,
        )
        for row in part
    ]
    images = [Image.open(DEMO / row["image_path"]).convert("RGB") for row in part]
    inputs = evaluator.processor(text=texts, images=images, padding=True, return_tensors="pt")
    ids = evaluator.model.generate(**inputs, max_new_tokens=256)[:, inputs["input_ids"].shape[1] :]
    expected = evaluator.processor.batch_decode(ids, skip_special_tokens=True)
    assert evaluator.answers(part, DEMO, Condition(0, thoughts=3)) == expected


def test_scoring_helpers():
    assert boxed("first \\boxed{1}, then \\boxed{ 2 }") == "2"
    assert boxed("none") is None
    gold = [{"category": "option", "solution": "B. red", "answer_letter": "B"}] * 2
    assert score(gold, ["\\boxed{B. red}", "\\boxed{B. blue}"])["kinds"]["all"]["right"] == 1
