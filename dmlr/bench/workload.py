"""What is measured: a model, a prompt of a given size, and a configuration."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dmlr import loading, random_model
from dmlr.backbone import Backbone, Prompt
from dmlr.config import Config, ModelConfig
from dmlr.data import Sample

_WORDS = [  # filler
    "count",
    "the",
    "red",
    "and",
    "blue",
    "shapes",
    "that",
    "stand",
    "beside",
    "a",
    "green",
    "one",
    "and",
    "compare",
    "them",
]


def load_backbone(name: str, device: str, dtype: str, image_tokens: int) -> Backbone:
    """The model called `demo`, `random:WIDTHxLAYERS`, `random:qwen2.5-vl-7b`, or any path or hub id.

    Random models are initialised in place, in `dtype`; images are resized to `image_tokens` image tokens.
    """
    if name.startswith("random:"):
        size = random_model.parse_name(name)
        target = loading.resolve_device(device)
        loaded = random_model.build(size, target, loading.resolve_dtype(dtype, target))
    else:
        loaded = loading.load(ModelConfig(model_name_or_path=name, device=device, dtype=dtype))
    return Backbone(loaded, image_tokens, image_tokens)


def make_prompts(
    backbone: Backbone, config: Config, count: int, image_tokens: int, prompt_tokens: int
) -> list[Prompt]:
    """`count` prompts over noise images, each of `image_tokens` image tokens and about `prompt_tokens` in all.

    The question is filled up with words; sizes differ by at most one word, so that batches need no padding.
    """
    side = int(image_tokens**0.5)
    if side * side != image_tokens:
        raise ValueError(f"image_tokens {image_tokens}: must be a square number")
    rng = np.random.default_rng(0)
    prompts = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            path = Path(folder) / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (side * 28, side * 28, 3), dtype=np.uint8)).save(path)
            prompts.append(_fill(backbone, config, i, path, prompt_tokens))
    return prompts


def _fill(backbone: Backbone, config: Config, index: int, image: Path, prompt_tokens: int) -> Prompt:
    def encode(words: int) -> Prompt:
        question = " ".join(_WORDS[(index + n) % len(_WORDS)] for n in range(words))
        sample = Sample(index, question, "\\boxed{1}", str(image), {}, None)
        return backbone.encode(sample, config.latent.num_thought_tokens, config.decoding.solver_prompt_idx)

    shortest = encode(1)
    words = 1 + max(0, prompt_tokens - shortest.length)
    while words > 1:
        prompt = encode(words)
        if prompt.length <= prompt_tokens:
            return prompt
        words -= max(1, (prompt.length - prompt_tokens) // 2)
    return shortest


def never_stop(backbone: Backbone) -> None:
    """Let decoding run to its limit, so that a given number of tokens is what is measured.

    The end token becomes the first id past the vocabulary: no logit belongs to it, so it is never chosen, and both
    paths still compare every token with an end token, as they do in a run.
    """
    settings = backbone.model.generation_config
    settings.eos_token_id = settings.pad_token_id = backbone.model.lm_head.out_features


def describe(backbone: Backbone) -> dict[str, object]:
    """Hardware, versions and precision, for the record that a figure needs."""
    import platform

    import transformers

    device = backbone.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "CPU"
