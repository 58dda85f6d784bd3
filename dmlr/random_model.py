"""A randomly initialised Qwen2.5-VL of any size, for speed measurements and tests where no weights can be had.

The tokenizer and the processor are the demo's; the vocabulary of the model may be larger (Qwen's by default), so that
the output layer costs what it costs in a real model.
"""

from typing import Any

import torch
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from dmlr import loading
from dmlr.errors import UserError

QWEN_VOCABULARY = 151_936

# Sizes of Qwen2.5-VL-7B-Instruct, from its published config.json.
SEVEN_B: dict[str, Any] = {
    "text": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}


def sizes(width: int, layers: int, vocab_size: int = QWEN_VOCABULARY) -> dict[str, Any]:
    """Sizes of a `WIDTH x LAYERS` model with the proportions of Qwen2.5-VL: heads of 64, grouped 4 to 1."""
    heads = width // 64
    sections = [8, 12, 12]
    return {
        "text": {
            "hidden_size": width,
            "intermediate_size": (width * 8 // 3 + 63) // 64 * 64,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 4),
            "vocab_size": vocab_size,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        },
        "vision": {
            "depth": 4,
            "hidden_size": max(64, width // 4),
            "intermediate_size": width,
            "num_heads": max(1, width // 256),
            "out_hidden_size": width,
            "window_size": 112,
            "fullatt_block_indexes": [3],
        },
    }


def parse_name(name: str) -> dict[str, Any]:
    """Sizes named by `random:512x8` or `random:qwen2.5-vl-7b`. Raises `UserError` for anything else."""
    _, _, size = name.partition(":")
    if size == "qwen2.5-vl-7b":
        return SEVEN_B
    width, _, layers = size.partition("x")
    if not (
        width.isdecimal() and layers.isdecimal() and int(width) % 256 == 0 and int(width) and int(layers)
    ):
        raise UserError(
            f"model {name!r}: give random:WIDTHxLAYERS (WIDTH a multiple of 256) or random:qwen2.5-vl-7b"
        )
    return sizes(int(width), int(layers))


def build(
    size: dict[str, Any], device: torch.device, dtype: torch.dtype, seed: int = 0, processor: Any = None
) -> loading.Loaded:
    """Initialise the model on `device` (weights ~ N(0, 0.02) as the library does), ready for a `Backbone`."""
    processor = processor or AutoProcessor.from_pretrained(loading.DEMO_MODEL)
    tokenizer = processor.tokenizer
    config = Qwen2_5_VLConfig(
        text_config=size["text"],
        vision_config=size["vision"],
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=size is not SEVEN_B,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = Qwen2_5_VLForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(default)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    return loading.finish(model, processor, device)
