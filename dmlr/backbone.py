"""The vision-language model behind four verbs: `encode`, `prefill`, `score_block`, `decode`.

Everything before the first thought token is the *prefix*; it is run through the vision tower and the language model
once and kept as keys and values. What changes (thoughts, injected patches, the template that closes the prompt) is
the *block* and its *tail*, forwarded behind the prefix as often as needed. Positions are always explicit 3-D M-RoPE
positions; nothing depends on state that the model object keeps between calls. Letters as in `inference.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from qwen_vl_utils import fetch_image
from torch import Tensor

from dmlr import decoding, graphs, loading
from dmlr.attention import AttentionProbe, causal_mask
from dmlr.cache import KVCache
from dmlr.config import ModelConfig
from dmlr.data import Sample
from dmlr.decoding import Generation
from dmlr.injection import EMPTY, Block, block_mask, lay_out
from dmlr.prompts import SYSTEM_PROMPT, THOUGHT_PLACEHOLDER, messages, user_text


@dataclass(frozen=True)
class Prompt:
    """One tokenised sample, on the CPU: prefix ids (P,), tail ids, image pixels, M-RoPE positions of the prefix."""

    data_idx: int
    text: str
    sys_prompt: str
    prefix_ids: Tensor  # (P,) int64
    tail_ids: Tensor  # (S,) int64: what closes the prompt after the thoughts
    positions: Tensor  # (3, P) int64
    next_position: int  # text position of the first token after the prefix
    pixel_values: Tensor | None  # (patches, channels * patch volume) float32
    grid_thw: Tensor | None  # (1, 3) int64, in vision patches
    image_grid: tuple[int, int] | None  # (rows, columns) of image tokens

    @property
    def length(self) -> int:
        """Prompt tokens without thoughts."""
        return len(self.prefix_ids) + len(self.tail_ids)


@dataclass(frozen=True)
class BlockStyle:
    """How a block is built: see --patch_placement and --patch_positions."""

    placement: str = "before"
    patch_positions: str = "text"


@dataclass
class Prefix:
    """B prefilled prompts, left-padded to P, with all that a block needs to continue them."""

    prompts: list[Prompt]
    cache: KVCache
    valid: Tensor  # (B, P) bool
    next_position: Tensor  # (B,) int64
    patches: Tensor  # (B, J, D) projected vision features, zero past a sample's own number
    num_patches: Tensor  # (B,) int64
    patch_columns: Tensor  # (B, J) int64: prefix column of each image token
    patch_positions: Tensor  # (3, B, J) int64
    replays: dict[tuple[int, ...], graphs.Replayed] = field(default_factory=dict)  # fixed shapes only


@dataclass(frozen=True)
class BlockOutput:
    """Logits (B, N, R, V) of the thought rows, plus the last tail row if a tail was given.

    `attention` (B, N, L, J) float32 of the thoughts to the image tokens; J is 0 where it was not asked for.
    """

    logits: Tensor
    attention: Tensor


@dataclass(frozen=True)
class _Assembled:
    embeds: Tensor  # (B, N * T, D), T = Q + S
    positions: Tensor  # (3, B, N * T)
    valid: Tensor  # (B, N, T)
    thought_rows: Tensor  # (B, N, L), within the copy
    next_position: Tensor  # (B, N)


class Backbone:
    """A frozen Qwen2.5-VL. Holds no run state: a `Prefix` carries what belongs to a batch."""

    def __init__(self, loaded: loading.Loaded, min_tokens: int = 128, max_tokens: int = 256) -> None:
        self.model = loaded.model
        self.processor = loaded.processor
        self.device = loaded.device
        self.min_tokens = min_tokens
        self.max_tokens = max_tokens
        self.fixed_shapes = (
            False  # --compile on: score and decode with fixed shapes, as CUDA graphs where there is CUDA
        )
        self.tokenizer = loaded.processor.tokenizer
        self.dtype = loaded.model.dtype
        # Any: transformers types sub-configurations as possibly missing; a loaded Qwen2.5-VL has them all.
        self._text_model: Any = loaded.model.model.language_model
        self._vision: Any = loaded.model.config.vision_config
        self._generation_config: Any = loaded.model.generation_config
        self._embedding: Any = loaded.model.get_input_embeddings()
        self.width: int = self._text_model.config.hidden_size
        self._placeholder_id = self.tokenizer.convert_tokens_to_ids(THOUGHT_PLACEHOLDER)

    @classmethod
    def load(cls, config: ModelConfig) -> "Backbone":
        """Load the model that `config` names. Raises `UserError` (see `loading.load`)."""
        return cls(loading.load(config), config.min_pixels, config.max_pixels)

    # ---- encode ---------------------------------------------------------------------------------------------

    def encode(self, sample: Sample, num_thoughts: int, solver_prompt_idx: int) -> Prompt:
        """Tokenise one sample; the image is loaded and resized by qwen-vl-utils between the two token limits.

        The placeholder run is searched in the ids and must be unique, or `ValueError`. Without thoughts the last
        prompt token is the tail, so that there is a row to decode from.
        """
        text = user_text(sample.question, solver_prompt_idx, num_thoughts)
        chat = self.processor.apply_chat_template(
            messages(text, sample.image is not None), tokenize=False, add_generation_prompt=True
        )
        images = None
        if sample.image is not None:
            vision = self._vision
            token = (vision.patch_size * vision.spatial_merge_size) ** 2
            images = [
                fetch_image(
                    {
                        "image": sample.image,
                        "min_pixels": self.min_tokens * token,
                        "max_pixels": self.max_tokens * token,
                    },
                    image_patch_size=vision.patch_size,
                )
            ]
        features = self.processor(text=[chat], images=images, do_resize=False, return_tensors="pt")
        ids = features["input_ids"]
        start, stop = self._thought_span(ids[0], num_thoughts)
        prefix_ids, tail_ids = ids[:, :start], ids[0, stop:]
        grid = features.get("image_grid_thw")
        positions, next_position = self._prefix_positions(prefix_ids, features, grid)
        image_grid = None
        if grid is not None:
            merge = self._vision.spatial_merge_size
            image_grid = (int(grid[0, 1]) // merge, int(grid[0, 2]) // merge)
        return Prompt(
            sample.data_idx,
            chat,
            SYSTEM_PROMPT,
            prefix_ids[0],
            tail_ids,
            positions,
            next_position,
            features.get("pixel_values"),
            grid,
            image_grid,
        )

    def _thought_span(self, ids: Tensor, num_thoughts: int) -> tuple[int, int]:
        if num_thoughts == 0:
            return len(ids) - 1, len(ids) - 1
        found = (ids == self._placeholder_id).nonzero().flatten()
        if len(found) != num_thoughts or int(found[-1] - found[0]) != num_thoughts - 1:
            raise ValueError(
                f"expected one run of {num_thoughts} thought placeholders {THOUGHT_PLACEHOLDER} in the prompt, "
                f"found {len(found)}: the question or the chat template holds that token too"
            )
        return int(found[0]), int(found[-1]) + 1

    def _prefix_positions(self, ids: Tensor, features: dict, grid: Tensor | None) -> tuple[Tensor, int]:
        if grid is None:
            return torch.arange(ids.shape[1]).expand(3, -1), ids.shape[1]
        types = features["mm_token_type_ids"][:, : ids.shape[1]]
        positions, _ = self.model.model.get_rope_index(ids, types, image_grid_thw=grid)
        return positions[:, 0], int(positions.max()) + 1

    # ---- prefill --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Prompt], reserve: int) -> Prefix:
        """Vision tower and prefix forward, once. `reserve` slots are kept free behind the prefix for blocks."""
        B, P = len(prompts), max(len(p.prefix_ids) for p in prompts)
        ids = torch.full((B, P), self._placeholder_id)
        valid = torch.zeros(B, P, dtype=torch.bool)
        positions = torch.zeros(3, B, P, dtype=torch.long)
        for b, prompt in enumerate(prompts):
            n = len(prompt.prefix_ids)
            ids[b, P - n :] = prompt.prefix_ids
            valid[b, P - n :] = True
            positions[:, b, P - n :] = prompt.positions
        image_id = self.model.config.image_token_id
        columns = [(valid[b] & (ids[b] == image_id)).nonzero().flatten() for b in range(B)]
        J = max(len(c) for c in columns)
        patch_columns = torch.zeros(B, J, dtype=torch.long)
        for b, c in enumerate(columns):
            patch_columns[b, : len(c)] = c
        patch_positions = positions.gather(2, patch_columns.expand(3, B, J))

        ids, valid, positions = ids.to(self.device), valid.to(self.device), positions.to(self.device)
        embeds = self._embed(ids)
        patches = torch.zeros(B, J, self.width, dtype=embeds.dtype, device=self.device)
        for b, features in self._image_features(prompts).items():
            patches[b, : len(features)] = features
            embeds[b, columns[b].to(self.device)] = features
        cache = KVCache(len(self._text_model.layers), P + reserve)
        self._forward(embeds, positions, causal_mask(valid), cache, None)
        cache.commit(P)
        return Prefix(
            list(prompts),
            cache,
            valid,
            torch.tensor([p.next_position for p in prompts], device=self.device),
            patches,
            torch.tensor([len(c) for c in columns], device=self.device),
            patch_columns.to(self.device),
            patch_positions.to(self.device),
        )

    def _image_features(self, prompts: Sequence[Prompt]) -> dict[int, Tensor]:
        pixels = [p.pixel_values for p in prompts if p.pixel_values is not None]
        if not pixels:
            return {}
        grids = torch.cat([p.grid_thw for p in prompts if p.grid_thw is not None])
        output = self.model.model.get_image_features(torch.cat(pixels).to(self.device), grids.to(self.device))
        owners = [b for b, p in enumerate(prompts) if p.pixel_values is not None]
        return dict(zip(owners, output.pooler_output, strict=True))

    def _embed(self, ids: Tensor) -> Tensor:
        return self._embedding(ids.to(self.device))

    def initial_thoughts(self, prefix: Prefix, num_thoughts: int, from_image: bool) -> Tensor:
        """Start of the optimisation, (B, L, D) float32: the embedding of `<|endoftext|>`.

        `from_image` (--visual_only): the mean projected image feature, rescaled to the RMS of the token embeddings;
        a sample without an image keeps the text start.
        """
        B = len(prefix.prompts)
        start = self._embed(torch.tensor([self._placeholder_id])).float().expand(B, -1)
        if from_image:
            total = prefix.patches.float().sum(1) / prefix.num_patches.clamp(min=1)[:, None]
            weights = self._embedding.weight
            squares = torch.stack([w.float().square().sum() for w in weights.split(16384)])
            token_rms = (squares.sum() / weights.numel()).sqrt()
            rescaled = total * token_rms / total.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
            start = torch.where(prefix.num_patches[:, None] > 0, rescaled, start)
        return start[:, None].repeat(1, num_thoughts, 1)

    # ---- blocks ---------------------------------------------------------------------------------------------

    def score_block(
        self,
        prefix: Prefix,
        thoughts: Tensor,
        patches: Tensor,
        style: BlockStyle,
        tail_ids: Tensor,
        with_attention: bool,
    ) -> BlockOutput:
        """Forward N packed copies of the block behind each prefix.

        `thoughts` (B, N, L, D) raw embedding units, `patches` (B, N, L, M) patch table, `tail_ids` (S,) tokens
        appended to each copy (S may be 0). Copies do not see each other. Gradients flow to `thoughts` only.
        """
        fixed = self.fixed_shapes and not thoughts.requires_grad
        size = thoughts.shape[2] * (1 + patches.shape[3]) if fixed else None
        parts = self._assemble(prefix, thoughts, patches, style, tail_ids, size)
        B, _, L, _ = thoughts.shape
        N, T = parts.valid.shape[1:]
        starts = torch.arange(N, device=self.device)[:, None] * T
        rows = parts.thought_rows + starts  # (B, N, L)
        scored = rows
        if len(tail_ids):
            scored = torch.cat([rows, (starts + T - 1).expand(B, N, 1)], dim=-1)
        prefix.cache.reserve(N * T)
        mask = block_mask(prefix.valid, parts.valid)
        inputs = (parts.embeds, parts.positions, mask, rows.flatten(1), scored.flatten(1))

        if fixed:  # a cache that had to grow lies elsewhere now, so its capacity belongs to the key
            key = (N, T, scored.shape[2], int(with_attention), prefix.cache.capacity)
            if key not in prefix.replays:
                work = partial(self._score_rows, prefix, with_attention)
                prefix.replays[key] = graphs.Replayed(work, self.device)
            logits, attention = (t.clone() for t in prefix.replays[key](*inputs))
        else:
            logits, attention = self._score_rows(prefix, with_attention, *inputs)
        return BlockOutput(logits.unflatten(1, (N, -1)), attention.unflatten(1, (N, L)))

    def _score_rows(
        self,
        prefix: Prefix,
        with_attention: bool,
        embeds: Tensor,
        positions: Tensor,
        mask: Tensor,
        rows: Tensor,
        scored: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N * R, V) at the `scored` rows and attention (B, N * L, J) of the thought `rows`."""
        probe = AttentionProbe(rows, prefix.patch_columns) if with_attention else None
        hidden = self._forward(embeds, positions, mask, prefix.cache, probe)
        index = scored[..., None].expand(-1, -1, self.width)
        logits = self._head(hidden.gather(1, index))
        return logits, logits.new_zeros(*rows.shape, 0) if probe is None else probe.mean()

    def _assemble(
        self,
        prefix: Prefix,
        thoughts: Tensor,
        patches: Tensor,
        style: BlockStyle,
        tail_ids: Tensor,
        size: int | None = None,
    ) -> _Assembled:
        B, N, _, D = thoughts.shape
        S = len(tail_ids)
        image_positions = style.patch_positions == "image"
        block = lay_out(patches, style.placement, image_positions, size)
        embeds = self._block_embeds(prefix, thoughts, block)
        text = prefix.next_position[:, None, None] + block.offsets  # (B, N, Q)
        positions = text.expand(3, -1, -1, -1)
        if image_positions:
            own = prefix.patch_positions[:, :, None].expand(-1, -1, N, -1)
            own = (
                own.gather(3, block.source.clamp(min=0).expand(3, -1, -1, -1)) if own.shape[3] else positions
            )
            positions = torch.where(block.is_patch, own, positions)
        next_position = prefix.next_position[:, None] + block.length  # (B, N)
        tail = torch.arange(S, device=self.device) + next_position[..., None]
        positions = torch.cat([positions, tail.expand(3, -1, -1, -1)], dim=-1)
        valid = torch.cat([block.valid, torch.ones(B, N, S, dtype=torch.bool, device=self.device)], dim=-1)
        if S:
            embeds = torch.cat([embeds, self._embed(tail_ids).expand(B, N, S, D)], dim=2)
        return _Assembled(
            embeds.flatten(1, 2), positions.flatten(2, 3), valid, block.thought_rows, next_position + S
        )

    def _block_embeds(self, prefix: Prefix, thoughts: Tensor, block: Block) -> Tensor:
        B, N, Q = block.source.shape
        which = (-block.source - 2).clamp(min=0)[..., None].expand(-1, -1, -1, self.width)
        embeds = thoughts.to(self.dtype).gather(2, which)
        if prefix.patches.shape[1]:
            flat = block.source.clamp(min=0).flatten(1)[..., None].expand(-1, -1, self.width)
            own = prefix.patches.gather(1, flat).view(B, N, Q, self.width)
            embeds = torch.where(block.is_patch[..., None], own, embeds)
        return embeds * (block.source != EMPTY)[..., None]

    def _forward(
        self,
        embeds: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: KVCache,
        probe: AttentionProbe | None,
    ) -> Tensor:
        return self._text_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask={"full_attention": mask},
            past_key_values=cache,
            use_cache=True,
            probe=probe,
        ).last_hidden_state

    def _head(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden)

    # ---- decode ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self,
        prefix: Prefix,
        thoughts: Tensor,
        patches: Tensor,
        style: BlockStyle,
        max_new_tokens: int,
        tail_ids: Tensor | None = None,
    ) -> list[Generation]:
        """Greedy continuation of prefix + block + tail, from the cache: thoughts (B, L, D), patches (B, L, M).

        The prefix cache is left as it was. A repetition penalty in the model's generation config is applied as
        `generate` applies it. See `decoding.greedy`.
        """
        tail = prefix.prompts[0].tail_ids if tail_ids is None else tail_ids
        parts = self._assemble(prefix, thoughts[:, None], patches[:, None], style, tail)
        size = parts.valid.shape[2]
        cache, kept = prefix.cache, prefix.cache.length
        cache.reserve(size)
        mask = block_mask(prefix.valid, parts.valid)
        hidden = self._forward(parts.embeds, parts.positions, mask, cache, None)[:, -1]
        cache.commit(size)
        start = decoding.Start(
            cache, torch.cat([prefix.valid, parts.valid[:, 0]], dim=1), parts.next_position[:, 0], hidden
        )
        greedy = decoding.greedy_fixed if self.fixed_shapes else decoding.greedy
        try:
            return greedy(
                start, self._next_hidden, self._head, self._stop_ids(), max_new_tokens, self._penalty(prefix)
            )
        finally:
            cache.length = kept

    def _next_hidden(self, ids: Tensor, position: Tensor, mask: Tensor | None, cache: KVCache) -> Tensor:
        """Hidden state (B, D) after one more token per row: ids, position (B,)."""
        place = position[None, :, None].expand(3, -1, 1)
        return self._forward(self._embed(ids[:, None]), place, mask, cache, None)[:, -1]

    def _stop_ids(self) -> Tensor:
        eos = self._generation_config.eos_token_id
        if eos is None:
            eos = self.tokenizer.eos_token_id
        return torch.tensor([eos] if isinstance(eos, int) else list(eos), device=self.device)

    def _penalty(self, prefix: Prefix) -> decoding.Penalty | None:
        value = self._generation_config.repetition_penalty
        if value is None or value == 1.0:
            return None
        seen = torch.zeros(len(prefix.prompts), self.model.lm_head.out_features, dtype=torch.bool)
        for row, prompt in zip(seen, prefix.prompts, strict=True):
            row[prompt.prefix_ids] = True
            row[prompt.tail_ids] = True
        return decoding.Penalty(value, seen.to(self.device))

    def text(self, generation: Generation) -> str:
        """The generated text, special tokens left out."""
        return self.tokenizer.decode(generation.token_ids, skip_special_tokens=True)
