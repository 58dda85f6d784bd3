"""Training rows: many questions of one image share its prefix, each with its own segment behind it.

The prefix (system turn, image) is the same text for every row, so its ids and positions are constants. A segment is
question, instruction, perhaps a thought block, the assistant's turn, padded to a fixed length on the right: then one
causal mask serves all rows.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from dmlr import prompts
from dmlr.demo.questions import KINDS, answer_text, make_question
from dmlr.demo.shapes import Scene
from dmlr.demo.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, IMAGE_PAD, TURN_END
from dmlr.demo.vision import IMAGE_TOKENS, TOKENS_PER_SIDE

LONG = 240  # tokens of a segment with a full description or a large thought block
SHORT = 144  # tokens of the other segments
IGNORE = -100

_MARK = "\x00"


@dataclass
class Segments:
    """Segments of one length for a batch of images: all tensors (B, S, length).

    `ids` tokens (patch slots hold the image placeholder), `labels` next-token targets or `IGNORE`, `thoughts` true on
    thought tokens, `patches` image token whose feature replaces the embedding, or -1.
    """

    ids: Tensor
    labels: Tensor
    thoughts: Tensor
    patches: Tensor


class Packer:
    """Turns scenes into segments; holds the tokenizer and the constant prefix."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        self.tokenizer = tokenizer
        self.rng = rng
        text = tokenizer.apply_chat_template(
            prompts.messages(_MARK, has_image=True),
            chat_template=CHAT_TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
        )
        head, turn_change = str(text).split(_MARK)
        self.prefix_ids: list[int] = tokenizer(head.replace(IMAGE_PAD, IMAGE_PAD * IMAGE_TOKENS))["input_ids"]
        self.thought_id, self.image_id, self.end_id = (
            int(tokenizer.vocab[name]) for name in (END_OF_TEXT, IMAGE_PAD, TURN_END)
        )
        self.turn_change_ids: list[int] = tokenizer(turn_change)["input_ids"]

    def batch(self, scenes: list[Scene], shorts: int) -> tuple[Segments, Segments]:
        """One long and `shorts` short segments for every scene.

        Long ones: half a full description with reasons, half reasons (or now and then the direct answer) behind a large
        thought block. Short ones: reasons, one in ten the direct answer. Four in ten short ones have a thought block.
        """
        long_rows, short_rows = [], []
        for scene in scenes:
            if self.rng.random() < 0.5:
                long_rows.append(self._segment(scene, 1, LONG, self.rng.choice((0, 0, 1, 2))))
            else:
                long_rows.append(self._segment(scene, self.rng.choices((0, 2), weights=(9, 1))[0], LONG, 16))
            for _ in range(shorts):
                instruction = self.rng.choices((0, 2), weights=(9, 1))[0]
                short_rows.append(self._segment(scene, instruction, SHORT, self.rng.choice((0, 0, 1, 2, 4))))
        return _stack(long_rows, len(scenes)), _stack(short_rows, len(scenes))

    def _segment(self, scene: Scene, instruction: int, length: int, budget: int) -> tuple[list[Any], ...]:
        """One padded segment as four lists (see `Segments`); redraws the question until it fits."""
        while True:
            question = make_question(scene, self.rng.choice(KINDS), self.rng)
            if question is None:
                continue
            blocks = self.rng.randint(1, 8) if budget > 4 or self.rng.random() < 0.4 else 0
            asked = self.tokenizer(prompts.user_text(question.prompt, instruction, 0))["input_ids"]
            told = self.tokenizer(answer_text(question, scene, instruction))["input_ids"]
            ids, thoughts, patches = list(asked), [False] * len(asked), [-1] * len(asked)
            if blocks:
                lead = self.tokenizer(prompts.user_text(question.prompt, instruction, 1))["input_ids"][:-1]
                ids, thoughts, patches = list(lead), [False] * len(lead), [-1] * len(lead)
            room = length - len(ids) - blocks - len(self.turn_change_ids) - len(told) - 1
            if room < 0:
                continue
            after = self.rng.random() < 0.25
            for _ in range(blocks):
                chosen = self.rng.sample(range(IMAGE_TOKENS), min(self.rng.randint(0, budget), room))
                room -= len(chosen)
                block_ids = [self.image_id] * len(chosen) + [self.thought_id]
                block_patches = [*chosen, -1]
                if after:
                    block_ids.reverse()
                    block_patches.reverse()
                ids += block_ids
                patches += block_patches
                thoughts += [i == self.thought_id for i in block_ids]
            before = len(ids) + len(self.turn_change_ids)
            ids = [*ids, *self.turn_change_ids, *told, self.end_id]
            labels = [IGNORE] * (before - 1) + ids[before:] + [IGNORE]
            pad = length - len(ids)
            return (
                ids + [self.thought_id] * pad,
                labels + [IGNORE] * pad,
                thoughts + [False] * (length - len(thoughts)),
                patches + [-1] * (length - len(patches)),
            )

    def positions(self, model: Qwen2_5_VLForConditionalGeneration) -> tuple[Tensor, Tensor, Tensor]:
        """M-RoPE positions (3, length) of the prefix, of a long and of a short segment (text after the prefix)."""
        ids = torch.tensor([self.prefix_ids])
        side = 2 * TOKENS_PER_SIDE
        prefix, _ = model.model.get_rope_index(
            ids, ids.eq(self.image_id).int(), image_grid_thw=torch.tensor([[1, side, side]])
        )
        start = int(prefix.max()) + 1
        long, short = (torch.arange(start, start + n).expand(3, -1) for n in (LONG, SHORT))
        return prefix[:, 0], long, short


def _stack(rows: list[tuple[list[Any], ...]], images: int) -> Segments:
    columns = [torch.tensor(column).unflatten(0, (images, -1)) for column in zip(*rows, strict=True)]
    return Segments(*columns)
