"""First stage of the training: the vision tower learns to say, for every image token, what lies there.

A linear head on each projected image token classifies colour and shape of the thing in its cell and the cell's row and
column. The head is then thrown away, the tower frozen, and its features of all training scenes are cached for the
second stage.
"""

import logging
import random
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from dmlr.demo.fastpath import vision_features
from dmlr.demo.model import WIDTH
from dmlr.demo.questions import COLUMNS, plural
from dmlr.demo.shapes import CELL, COLOURS, GRID, SHAPES, SIDE, Scene, draw_scene, make_scene

log = logging.getLogger(__name__)

PATCH = 14
MERGE = 2
TOKENS_PER_SIDE = SIDE // (PATCH * MERGE)
IMAGE_TOKENS = TOKENS_PER_SIDE**2  # 144
FEATURE_RMS = 0.1  # scale of the projected features, near that of the token embeddings

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
_CLASSES = (len(COLOURS) + 1, len(SHAPES) + 1, GRID, GRID)


def patchify(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Pixel values (N * 576, 1176) float32 and grid (N, 3) of drawn scenes, equal to the processor's output.

    The processor's own code does the same through resizing checks and copies; a training loop needs no more than this.
    """
    side = SIDE // PATCH
    pixels = np.stack([np.asarray(draw_scene(scene)) for scene in scenes]).astype(np.float32) / 255.0
    pixels = (pixels - _MEAN) / _STD
    blocks = side // MERGE
    patches = pixels.reshape(len(scenes), blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3)
    patches = patches.transpose(
        0, 1, 4, 2, 5, 7, 3, 6
    )  # scene, block row, block column, row, column, RGB, y, x
    patches = np.repeat(patches[:, :, :, :, :, :, None], 2, axis=6)  # a still image is two equal frames
    values = torch.from_numpy(np.ascontiguousarray(patches).reshape(len(scenes) * side * side, -1))
    return values, torch.tensor([[1, side, side]] * len(scenes))


def token_labels(scene: Scene) -> Tensor:
    """Classes (144, 4) int64 of each image token in reading order: colour, shape (0 is empty), row, column."""
    cells = np.zeros((GRID, GRID, 4), dtype=np.int64)
    cells[:, :, 2] = np.arange(GRID)[:, None]
    cells[:, :, 3] = np.arange(GRID)[None, :]
    for thing in scene.things:
        cells[thing.row, thing.column, 0] = list(COLOURS).index(thing.colour) + 1
        cells[thing.row, thing.column, 1] = SHAPES.index(thing.shape) + 1
    per_cell = CELL // (PATCH * MERGE)
    return torch.from_numpy(cells.repeat(per_cell, axis=0).repeat(per_cell, axis=1).reshape(-1, 4))


def project(model: Qwen2_5_VLForConditionalGeneration, scenes: Sequence[Scene]) -> Tensor:
    """Projected image features (N, 144, D) of the scenes, as the model scatters them into its input."""
    values, grid = patchify(scenes)
    return vision_features(model.model.visual, values.to(model.device), grid.to(model.device))


def warm_up(
    model: Qwen2_5_VLForConditionalGeneration, seed: int, updates: int, batch: int, lr: float = 2e-3
) -> dict[str, float]:
    """Train `model`'s vision tower in place; returns the accuracies on 64 fresh scenes by class name."""
    rng = random.Random(f"vision:{seed}")
    torch.manual_seed(seed)
    head = nn.Linear(WIDTH, sum(_CLASSES)).to(model.device)
    tower = model.model.visual
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=updates, pct_start=0.1)
    started = time.monotonic()
    for update in range(updates):
        scenes = [make_scene(rng, 4, 24) for _ in range(batch)]
        labels = torch.stack([token_labels(scene) for scene in scenes]).to(model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = head(project(model, scenes))
        loss = sum(
            nn.functional.cross_entropy(part.float().flatten(0, 1), labels[..., i].flatten())
            for i, part in enumerate(logits.split(_CLASSES, dim=-1))
        )
        assert isinstance(loss, Tensor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if update % 20 == 0 or update == updates - 1:
            log.info("vision update %d loss %.4f (%.0f s)", update, loss.item(), time.monotonic() - started)
    with torch.no_grad():
        scenes = [make_scene(rng) for _ in range(64)]
        labels = torch.stack([token_labels(scene) for scene in scenes]).to(model.device)
        features = project(model, scenes)
        parts = head(features).split(_CLASSES, dim=-1)
        accuracy = {
            name: (part.argmax(-1) == labels[..., i]).float().mean().item()
            for i, (name, part) in enumerate(zip(("colour", "shape", "row", "column"), parts, strict=True))
        }
    log.info("vision accuracy per image token: %s", accuracy)
    return accuracy


@torch.no_grad()
def whitening(features: Tensor, floor: float = 0.05) -> tuple[Tensor, Tensor]:
    """Matrix (D, D) and offset (D,) that even out the spread of features (..., D), to an overall RMS of `FEATURE_RMS`.

    After the warm-up two directions (place, occupied or not) carry most of the variance and those that tell
    colours and shapes apart very little, which the language model is slow to pick up. Directions under
    `floor` of the largest spread are amplified no further: they hold the jitter of the drawing.
    """
    flat = features.float().flatten(0, -2)
    mean = flat.mean(0)
    _, spread, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    gain = 1 / spread.clamp(min=floor * spread[0])
    matrix = directions.T @ (gain[:, None] * directions)
    matrix *= FEATURE_RMS / ((flat - mean) @ matrix).pow(2).mean().sqrt()
    return matrix, -(matrix @ mean)


@torch.no_grad()
def whiten(model: Qwen2_5_VLForConditionalGeneration, scenes: Sequence[Scene]) -> None:
    """Fold the whitening of the features of `scenes` into the last layer of the vision tower."""
    matrix, offset = whitening(project(model, scenes))
    last = model.model.visual.merger.mlp[-1]
    assert isinstance(last, nn.Linear)
    last.weight.copy_(matrix @ last.weight)
    last.bias.copy_(matrix @ last.bias + offset)


@torch.no_grad()
def cache_features(
    model: Qwen2_5_VLForConditionalGeneration, scenes: Sequence[Scene], batch: int = 48
) -> Tensor:
    """Projected features of all scenes, (N, 144, D) bfloat16 on the CPU."""
    parts = [
        project(model, scenes[i : i + batch]).to("cpu", torch.bfloat16) for i in range(0, len(scenes), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def align_words(
    model: Qwen2_5_VLForConditionalGeneration,
    vocabulary: Mapping[str, int],
    scenes: Sequence[Scene],
    features: Tensor,
) -> None:
    """Start the embeddings of the words of shapes world from what the tower says about them.

    A word's token (`vocabulary`, singular and plural) gets the direction in which the image tokens (N, 144, D) of its
    colour, shape, row or column lie, plus half of its random start, at the norm that it had. The alignment that large
    models get from captions: a head that compares a word with an object begins with something to compare.
    """
    table = model.model.language_model.embed_tokens.weight
    labels = torch.stack([token_labels(scene) for scene in scenes]).flatten(0, 1)
    flat = features.float().flatten(0, 1)
    occupied = labels[:, 0] > 0
    centre = flat[occupied].mean(0)
    named: list[tuple[tuple[str, ...], int, int]] = [
        (words, 0, i + 1) for i, words in enumerate((f" {colour}",) for colour in COLOURS)
    ]
    named += [((f" {shape}", f" {plural(shape)}"), 1, i + 1) for i, shape in enumerate(SHAPES)]
    named += [((str(row + 1),), 2, row) for row in range(GRID)]
    named += [((f" {COLUMNS[column]}",), 3, column) for column in range(GRID)]
    for words, axis, value in named:
        direction = flat[occupied & (labels[:, axis] == value)].mean(0) - centre
        for word in words:
            token = vocabulary[word.replace(" ", "\u0120")]  # how byte-level BPE writes a space
            start = table[token].clone()
            mixed = direction / direction.norm() + 0.5 * start / start.norm()
            table[token] = mixed * (start.norm() / mixed.norm())
