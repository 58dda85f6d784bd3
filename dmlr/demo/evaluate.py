"""Accuracy of a demo checkpoint by plain library calls.

It uses no part of the toolkit's engine, so it can serve as a check on it.
"""

import logging
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from dmlr import prompts
from dmlr.files import read_json
from dmlr.summary import wilson_interval

log = logging.getLogger(__name__)

_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


@dataclass(frozen=True)
class Condition:
    """How the questions are put: instruction, thought block, and whether every question gets another row's image."""

    solver_prompt_idx: int = 0
    thoughts: int = 0
    noise: float = 0.0  # standard deviation, share of the placeholder embedding's RMS
    patches: int = 0  # random image tokens before every thought
    shuffled: bool = False


def boxed(text: str) -> str | None:
    """Content of the last box of an answer, or None."""
    found = _BOX.findall(text)
    return found[-1].strip() if found else None


class Evaluator:
    """A checkpoint with its processor, asked in left-padded greedy batches."""

    def __init__(self, folder: Path, batch: int = 16, max_new_tokens: int = 220, seed: int = 0) -> None:
        self.processor: Qwen2_5_VLProcessor = AutoProcessor.from_pretrained(folder)
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.batch = batch
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        tokenizer = self.processor.tokenizer
        self.thought_id = tokenizer.convert_tokens_to_ids(prompts.THOUGHT_PLACEHOLDER)

    def answers(self, rows: list[dict[str, Any]], base: Path, condition: Condition) -> list[str]:
        """Generated texts, one per row; image paths are relative to `base`."""
        paths = [base / row["image_path"] for row in rows]
        if condition.shuffled:
            paths = _other_images(paths)
        texts: list[str] = []
        for start in range(0, len(rows), self.batch):
            part = slice(start, start + self.batch)
            texts += self._generate(rows[part], paths[part], condition, start)
        return texts

    @torch.no_grad()
    def _generate(
        self, rows: list[dict[str, Any]], paths: list[Path], condition: Condition, start: int
    ) -> list[str]:
        chats = [
            self.processor.apply_chat_template(
                prompts.messages(
                    prompts.user_text(row["prompt"], condition.solver_prompt_idx, condition.thoughts), True
                ),
                add_generation_prompt=True,
                tokenize=False,
            )
            for row in rows
        ]
        images = [Image.open(path).convert("RGB") for path in paths]
        inputs = self.processor(text=chats, images=images, padding=True, return_tensors="pt")
        if condition.thoughts:
            embeds, mask, positions = self._with_block(inputs, condition, start)
            ids = self.model.generate(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=positions,
                max_new_tokens=self.max_new_tokens,
            )
        else:
            ids = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens)
            ids = ids[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(ids, skip_special_tokens=True)

    def _with_block(self, inputs: Any, condition: Condition, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, S, D), mask (B, S) and positions (3, B, S) with noisy thoughts and patches before them."""
        core = self.model.model
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        table = core.language_model.embed_tokens
        features = core.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        positions, _ = core.get_rope_index(
            ids, inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"], attention_mask=mask
        )
        scale = table.weight[self.thought_id].pow(2).mean().sqrt()
        grown, grown_positions = [], []
        for i, row_mask in enumerate(mask.bool()):
            row_ids = ids[i, row_mask]
            embeds = table(row_ids)
            embeds[row_ids == self.core_image_id] = features[i]
            # The placeholder is the padding token too; the padding lies outside the mask.
            places = (row_ids == self.thought_id).nonzero()[:, 0]
            generator = torch.Generator().manual_seed(self.seed * 100_003 + start + i)
            noise = torch.randn((len(places), embeds.shape[1]), generator=generator)
            embeds[places] += condition.noise * scale * noise
            pieces = [embeds[: places[0]]]
            for place in places.tolist():
                chosen = torch.randperm(len(features[i]), generator=generator)[: condition.patches]
                pieces += [features[i][chosen], embeds[place : place + 1]]
            pieces.append(embeds[places[-1] + 1 :])
            grown.append(torch.cat(pieces))
            head = positions[:, i, row_mask][:, : places[0]]
            first = int(head.max()) + 1
            rest = torch.arange(first, first + len(grown[-1]) - head.shape[1]).expand(3, -1)
            grown_positions.append(torch.cat((head, rest), dim=1))
        width = max(len(g) for g in grown)
        pads = [width - len(g) for g in grown]
        full = torch.stack(
            [torch.nn.functional.pad(g, (0, 0, pad, 0)) for g, pad in zip(grown, pads, strict=True)]
        )
        new_mask = torch.stack([(torch.arange(width) >= pad).long() for pad in pads])
        places3 = [torch.nn.functional.pad(p, (pad, 0)) for p, pad in zip(grown_positions, pads, strict=True)]
        return full, new_mask, torch.stack(places3, dim=1)

    @property
    def core_image_id(self) -> int:
        """Id of the image placeholder token."""
        return self.model.config.image_token_id


def _other_images(paths: list[Path]) -> list[Path]:
    """Every row gets the image of another scene (a fixed rotation over the distinct images)."""
    distinct = sorted(set(paths))
    step = max(1, len(distinct) // 2)
    return [distinct[(distinct.index(path) + step) % len(distinct)] for path in paths]


def score(rows: list[dict[str, Any]], texts: list[str]) -> dict[str, Any]:
    """Right answers per kind and in all, with Wilson 95 % intervals.

    `chance` is the share of the commonest answer: what a model would reach that never looks at the image.
    """
    right: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    golds: dict[str, list[str]] = defaultdict(list)
    for row, text in zip(rows, texts, strict=True):
        gold = boxed(row["solution"]) or row["solution"]
        for group in (row["category"], "all"):
            total[group] += 1
            right[group] += boxed(text) == gold
            golds[group].append(row.get("answer_letter") or gold)
    table = {}
    for group, count in total.items():
        low, high = wilson_interval(right[group], count)
        commonest = max(golds[group].count(g) for g in golds[group])
        table[group] = {
            "right": right[group],
            "total": count,
            "accuracy": round(right[group] / count, 4),
            "interval": [round(low, 4), round(high, 4)],
            "chance": round(commonest / count, 4),
        }
    unboxed = sum(boxed(text) is None for text in texts)
    return {"kinds": table, "unboxed": unboxed}


def evaluate_file(
    dataset: Path, model: Path, conditions: list[Condition], limit: int | None = None
) -> list[dict[str, Any]]:
    """Score `model` on the first `limit` rows of `dataset` under every condition."""
    rows = read_json(dataset, "dataset")[:limit]
    evaluator = Evaluator(model)
    results = []
    for condition in conditions:
        texts = evaluator.answers(rows, dataset.parent, condition)
        result = {"condition": condition.__dict__, **score(rows, texts)}
        log.info("%s", result)
        results.append(result)
    return results


def sample_texts(
    rows: list[dict[str, Any]], texts: list[str], count: int, seed: int = 0
) -> list[tuple[str, str, str]]:
    """A few (question, gold, text) triples to read."""
    chosen = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))
    return [(rows[i]["prompt"], rows[i]["solution"], texts[i]) for i in chosen]
