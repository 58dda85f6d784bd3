"""Shared fixtures: a tiny random Qwen2.5-VL in memory, and questions about noise images of several sizes."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dmlr import random_model
from dmlr.backbone import Backbone
from dmlr.config import Config
from dmlr.data import Sample
from dmlr.demo.model import build_processor
from dmlr.demo.tokenizer import build_tokenizer

torch.set_num_threads(min(torch.get_num_threads(), os.cpu_count() or 1))


def build_tiny(device: str) -> Backbone:
    """Random 2-layer model, 4 query heads on 2 key heads, weights large enough for uneven attention.

    The weights are drawn on the CPU, so that they are the same on every device.
    """
    size = random_model.sizes(256, 2, vocab_size=800)
    size["text"] |= {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
    }
    size["vision"] |= {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    }
    loaded = random_model.build(
        size, torch.device("cpu"), torch.float32, processor=build_processor(build_tokenizer())
    )
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.5 if "embed_tokens" in name else 0.2)
    loaded.model.to(device)
    return Backbone(replace(loaded, device=torch.device(device)), min_tokens=4, max_tokens=64)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The tiny model on the CPU."""
    return build_tiny("cpu")


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> list[Sample]:
    """Four questions: images of 5x5, 3x7 and 6x4 image tokens, and one without an image."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    made = []
    for i, (rows, columns) in enumerate([(5, 5), (3, 7), (6, 4)]):
        small = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        path = folder / f"{i}.png"
        Image.fromarray(small).resize((columns * 28, rows * 28), Image.Resampling.NEAREST).save(path)
        made.append(
            Sample(10 + i, "What is it?" + " And how many are there?" * i, "\\boxed{1}", str(path), {}, None)
        )
    made.append(Sample(13, "How much is one and one?", "\\boxed{2}", None, {}, None))
    return made


@pytest.fixture
def config() -> Config:
    """Small run: 3 thoughts, 4 steps, patches 2/+1/4, on the CPU in float32."""
    return Config().replace(
        device="cpu",
        num_thought_tokens=3,
        max_num_steps=4,
        num_selected_patches=4,
        initial_patch_count=2,
        patch_increment=1,
        lr=0.05,
        max_new_tokens=12,
        save_latents=True,
    )
