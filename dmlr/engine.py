"""The engine that a run drives: one model, batches of samples, images prepared ahead, and a batch size that fits."""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from dmlr import inference
from dmlr.backbone import Backbone, Prompt
from dmlr.config import Config
from dmlr.data import Sample
from dmlr.prediction import Prediction

log = logging.getLogger(__name__)

_AHEAD = 4  # threads that load images; decoding and resizing release the interpreter lock
_SHARE = 0.8  # of the free memory that a batch may plan for; the rest is fragmentation and workspaces

# Samples per batch for --batch_size auto, where the memory holds them. A step of one sample reads every weight and
# computes little, so a batch is nearly free until the products fill the device: on two CPU cores 64 questions of the
# demo took 58, 19 and 14 s in batches of 1, 8 and 32 (docs/LOG.md). Larger ones make a slow sample hold up more.
LARGEST = 32


class Answerer:
    """Answers batches with one `Backbone`. The same sample gets the same answer in any batch.

    Images are loaded by threads rather than by the processes of a `DataLoader`: forking after CUDA or OpenMP have
    started is unsafe, spawning would load the library once more per process, and the work is mostly Pillow's,
    which runs outside the interpreter lock.
    """

    def __init__(self, backbone: Backbone, config: Config) -> None:
        self._backbone = backbone
        self._config = config
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="encode")
        self._prepared: dict[int, Future[Prompt]] = {}
        backbone.fixed_shapes = config.decoding.compile == "on"

    @classmethod
    def load(cls, config: Config) -> "Answerer":
        """Load the model of `config`. Raises `UserError` when it cannot be had."""
        return cls(Backbone.load(config.model), config)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Start loading and tokenising these samples in this order, and drop what was prepared of others.

        Never needed, never waits, never raises for a sample: what fails is raised when the sample is asked.
        """
        wanted = {sample.data_idx for sample in samples}
        for index in self._prepared.keys() - wanted:
            self._prepared.pop(index).cancel()
        self._start(samples)

    def _start(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if sample.data_idx not in self._prepared:
                self._prepared[sample.data_idx] = self._pool.submit(self._encode, sample)

    def __call__(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One `Prediction` per sample, in order. Raises what `inference.answer` raises."""
        started = time.perf_counter()
        self._start(samples)
        futures = [self._prepared.pop(s.data_idx) for s in samples]
        return inference.answer_prompts([f.result() for f in futures], self._backbone, self._config, started)

    def close(self) -> None:
        """Stop preparing; images that are being loaded at this moment are finished by their threads."""
        self._prepared.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _encode(self, sample: Sample) -> Prompt:
        return self._backbone.encode(
            sample, inference.num_thoughts(self._config), self._config.decoding.solver_prompt_idx
        )

    def fitting_batch(self) -> int:
        """Samples per batch for `--batch_size auto`: what suits the device and fits into its free memory."""
        device = self._backbone.device
        free = free_memory(device)
        size = largest_fitting(free, bytes_per_sample(self._backbone, self._config), LARGEST)
        log.info("--batch_size auto: %d (%.1f GB free)", size, free / 1e9)
        return size


def largest_fitting(free: int, per_sample: int, largest: int) -> int:
    """The largest power of two up to `largest` whose samples fit into `_SHARE` of `free` bytes; at least 1."""
    size = 1
    while size * 2 <= largest and size * 2 * per_sample <= free * _SHARE:
        size *= 2
    return size


def bytes_per_sample(backbone: Backbone, config: Config) -> int:
    """Upper estimate of the memory of one sample: keys and values to the last token, activations, logits.

    The prompt is taken as `--max_pixels` image tokens and 512 of text; the keys and values are counted twice,
    because a cache that grows is copied once. With --use_auto_grad every layer keeps the activations of the block.
    """
    # Any: transformers types sub-configurations as possibly missing; a loaded Qwen2.5-VL has them all.
    text: Any = backbone.model.config.text_config
    vision: Any = backbone.model.config.vision_config
    element = torch.empty(0, dtype=backbone.dtype).element_size()
    prompt, block = config.model.max_pixels + 512, inference.reserve(config)
    head_dim = text.hidden_size // text.num_attention_heads
    per_token = text.num_hidden_layers * 2 * text.num_key_value_heads * head_dim * element
    cache = 2 * per_token * (prompt + block + config.decoding.max_new_tokens)
    per_row = _activations(text.hidden_size, text.intermediate_size) * element
    activations = max(prompt, block) * per_row
    if config.latent.use_auto_grad:
        activations += text.num_hidden_layers * block * per_row
    vision_patches = config.model.max_pixels * vision.spatial_merge_size**2
    image = vision_patches * _activations(vision.hidden_size, vision.intermediate_size) * element
    scored = max(1, config.latent.num_candidates * inference.num_thoughts(config))
    logits = 4 * scored * text.vocab_size * 4
    return cache + max(activations, image) + logits


def _activations(hidden: int, intermediate: int) -> int:
    """Numbers that a layer holds per row at once: gate, up and their product; residual, queries, keys, output."""
    return 3 * intermediate + 8 * hidden


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`, those that PyTorch's allocator holds unused among them."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
