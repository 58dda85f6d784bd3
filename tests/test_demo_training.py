"""The training's own forward passes equal the library's, its rows are what the toolkit will ask, and it can resume."""

import random

import pytest
import torch

from dmlr import prompts
from dmlr.demo import fastpath
from dmlr.demo import train as training
from dmlr.demo.model import build_model, build_processor
from dmlr.demo.packing import IGNORE, LONG, SHORT, Packer
from dmlr.demo.shapes import draw_scene, make_scene
from dmlr.demo.tokenizer import build_tokenizer
from dmlr.demo.train import LanguageTrainer, TrainConfig, train
from dmlr.demo.vision import align_words, cache_features, patchify, token_labels, whiten


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    model = build_model(tokenizer, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # zero at the start, which would hide a forgotten one
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        # Row 0 is the thought placeholder; as the padding token it starts as zeros.
        model.model.language_model.embed_tokens.weight[0].copy_(torch.randn(192, generator=generator) * 0.05)
    return model


@pytest.fixture
def scenes():
    rng = random.Random("training tests")
    return [make_scene(rng) for _ in range(3)]


def test_patches_equal_the_processor_s(tokenizer, scenes):
    processor = build_processor(tokenizer)
    expected = processor.image_processor([draw_scene(s) for s in scenes], return_tensors="pt")
    values, grid = patchify(scenes)
    assert torch.equal(grid, expected["image_grid_thw"])
    torch.testing.assert_close(values, expected["pixel_values"], atol=1e-5, rtol=0)


def test_vision_features_equal_the_library_s(model, scenes):
    values, grid = patchify(scenes)
    with torch.no_grad():
        expected = model.model.get_image_features(values, grid).pooler_output
        found = fastpath.vision_features(model.model.visual, values, grid)
    torch.testing.assert_close(found, torch.stack(list(expected)), atol=1e-4, rtol=1e-4)


def test_shared_prefix_forward_equals_the_library_s_one_row_at_a_time(tokenizer, model, scenes):
    packer = Packer(tokenizer, random.Random(2))
    trainer = LanguageTrainer(model, packer, TrainConfig(shorts=2))
    long, short = packer.batch(scenes, 2)
    generator = torch.Generator().manual_seed(1)
    core = model.model.language_model
    prefix, rows = len(packer.prefix_ids), []
    hidden = torch.randn((3, prefix + LONG + 2 * SHORT, 192), generator=generator)
    found = hidden
    with torch.no_grad():
        for layer in core.layers:
            found = fastpath.decoder_layer(layer, found, trainer.cos, trainer.sin, trainer.sizes)
        at, at_long, at_short = packer.positions(model)
        spans = [
            (prefix, LONG, at_long),
            (prefix + LONG, SHORT, at_short),
            (prefix + LONG + SHORT, SHORT, at_short),
        ]
        for image in range(3):
            for start, length, place in spans:
                row = torch.cat((hidden[image, :prefix], hidden[image, start : start + length]))[None]
                out = core(
                    inputs_embeds=row, position_ids=torch.cat((at, place), 1)[:, None], use_cache=False
                )
                rows.append(
                    (out.last_hidden_state[0, prefix:], core.norm(found[image, start : start + length]))
                )
    for expected, mine in rows:
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
    assert long.ids.shape == (3, 1, LONG)
    assert short.ids.shape == (3, 2, SHORT)


def test_rows_are_the_prompts_that_the_toolkit_asks(tokenizer, scenes):
    """Without patches, prefix and segment together are the chat template's text, thought block included."""
    packer = Packer(tokenizer, random.Random(4))
    processor = build_processor(tokenizer)
    _, short = packer.batch(scenes, 12)
    seen_thoughts = set()
    for ids, labels, thoughts, patches in zip(
        *(t.flatten(0, 1) for t in (short.ids, short.labels, short.thoughts, short.patches)), strict=True
    ):
        kept = patches < 0
        first = int((labels != IGNORE).nonzero()[0])
        prompt = [*packer.prefix_ids, *ids[: first + 1][kept[: first + 1]].tolist()]
        question = tokenizer.decode(
            ids[: int((ids == tokenizer.convert_tokens_to_ids("<|im_end|>")).nonzero()[0])]
        )
        question = question.split("\nThink")[0].split("\nGive")[0].split("\nDescribe")[0]
        number = int(thoughts.sum())
        seen_thoughts.add(number)
        texts = [
            processor.apply_chat_template(
                prompts.messages(prompts.user_text(question, i, number), True),
                tokenize=False,
                add_generation_prompt=True,
            ).replace("<|image_pad|>", "<|image_pad|>" * 144)
            for i in range(3)
        ]
        assert prompt in [tokenizer(text)["input_ids"] for text in texts]
        told = labels[labels != IGNORE].tolist()
        assert told == ids[first + 1 : first + 1 + len(told)].tolist()
        assert tokenizer.decode(told).endswith("}<|im_end|>")
    assert 0 in seen_thoughts
    assert len(seen_thoughts) > 3


def test_patch_slots_take_the_image_s_features_and_only_thoughts_take_noise(tokenizer, model, scenes):
    packer = Packer(tokenizer, random.Random(6))
    trainer = LanguageTrainer(model, packer, TrainConfig(shorts=8))
    _, short = packer.batch(scenes, 8)
    features = torch.randn((3, 144, 192), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    with torch.no_grad():
        embedded = trainer._embed(short, features)
    table = model.model.language_model.embed_tokens.weight
    slots = (short.patches >= 0).nonzero().tolist()
    assert slots
    for image, segment, place in slots:
        assert torch.equal(
            embedded[image, segment, place], features[image, short.patches[image, segment, place]]
        )
    plain = (short.patches < 0) & ~short.thoughts
    assert torch.equal(embedded[plain], table[short.ids[plain]])
    moved = (embedded[short.thoughts] - table[0]).pow(2).mean(-1).sqrt() / table[0].pow(2).mean().sqrt()
    assert (moved > 0.05).any()
    assert moved.max() < 2.5


def test_whitening_evens_out_the_features_and_keeps_what_they_say(tokenizer, scenes):
    model = build_model(tokenizer, seed=5)
    before = cache_features(model, scenes).float()
    whiten(model, scenes)
    after = cache_features(model, scenes).float()
    assert after.pow(2).mean().sqrt() == pytest.approx(0.1, rel=0.05)

    def spread(features):
        flat = features.flatten(0, 1)
        return torch.linalg.svdvals(flat - flat.mean(0))

    assert spread(after)[0] / spread(after)[8] < spread(before)[0] / spread(before)[8]
    assert token_labels(scenes[0]).shape == (144, 4)


def test_words_start_where_their_image_tokens_lie_and_other_words_stay(tokenizer, scenes):
    model = build_model(tokenizer, seed=5)
    table = model.model.language_model.embed_tokens.weight
    before = table.detach().clone()
    features = torch.zeros((3, 144, 192))
    labels = torch.stack([token_labels(scene) for scene in scenes])
    features.scatter_(2, labels[..., :1], 1.0)  # colour k is the direction of axis k
    align_words(model, tokenizer.get_vocab(), scenes, features)
    changed = {tokenizer.decode([i]) for i in (table != before).any(1).nonzero()[:, 0].tolist()}
    assert {" red", " circle", " circles", " a", " f", "1", "6"} <= changed
    assert len(changed) == 5 + 10 + 6 + 6
    red = table[tokenizer.get_vocab()["Ġred"]].detach()
    assert red.norm() == pytest.approx(before[tokenizer.get_vocab()["Ġred"]].norm().item(), rel=1e-4)
    assert red.argmax() == 1
    others = [
        table[tokenizer.get_vocab()[f"Ġ{name}"]][1].item() for name in ("blue", "green", "yellow", "purple")
    ]
    assert red[1] > 2 * max(others)


def test_continued_training_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    config = TrainConfig(
        scenes=4,
        vision_updates=1,
        vision_batch=2,
        updates=4,
        save_every=2,
        images=2,
        shorts=1,
        warm_up_updates=2,
        cooling=2,
    )
    train(config, tmp_path / "whole")
    save = training.save_checkpoint

    def interrupted(model, processor, folder):
        if folder.name == "step-00004":
            raise KeyboardInterrupt
        save(model, processor, folder)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    state = {name: torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")}
    assert state["parts"]["update"] == 2
    train(config, tmp_path / "parts")
    state["parts"] = torch.load(tmp_path / "parts" / "state.pt", weights_only=True)
    assert state["parts"]["update"] == state["whole"]["update"] == 4
    for name, value in state["whole"]["model"].items():
        torch.testing.assert_close(state["parts"]["model"][name], value, atol=1e-5, rtol=1e-4)
    assert (tmp_path / "parts" / "step-00004" / "model.safetensors").exists()
