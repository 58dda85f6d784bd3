"""The demo's checkpoint: a Qwen2.5-VL of a few million parameters from the real classes, with its processor."""

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from dmlr.demo.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, IMAGE_PAD, SPECIAL_TOKENS, TURN_END

WIDTH = 192
LAYERS = 4
VISION_WIDTH = 96
VISION_DEPTH = 3
TOKEN_PIXELS = 28 * 28  # one image token covers 28 x 28 pixels


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Configuration of the demo model, the ids taken from `tokenizer`.

    Half of the 24 rotary frequencies (those of the width) hardly turn over 400 positions: a head that matches a word of
    the question with an object or with another word needs channels whose score does not depend on the distance.
    """
    ids: dict[str, int] = {name: tokenizer.vocab[name] for name in SPECIAL_TOKENS}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 512,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "initializer_range": 0.05,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [3, 6, 15]},
            "bos_token_id": ids[END_OF_TEXT],
            "eos_token_id": ids[TURN_END],
            "pad_token_id": ids[END_OF_TEXT],
        },
        vision_config={
            "depth": VISION_DEPTH,
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 256,
            "num_heads": 3,
            "out_hidden_size": WIDTH,
            "window_size": 112,
            "fullatt_block_indexes": [VISION_DEPTH - 1],
            "initializer_range": 0.05,
        },
        image_token_id=ids[IMAGE_PAD],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        dtype="float32",
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised float32 model on the CPU, SDPA attention."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(tokenizer))
    model.set_attn_implementation("sdpa")
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[
            tokenizer.convert_tokens_to_ids(TURN_END),
            tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        ],
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
    )
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """Processor with Qwen2.5-VL's patching; images of 128 to 256 image tokens are not resized."""
    size = {"shortest_edge": 128 * TOKEN_PIXELS, "longest_edge": 256 * TOKEN_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )


def save_checkpoint(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path
) -> None:
    """Write weights (one safetensors file), configurations, tokenizer, chat template and processor to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
