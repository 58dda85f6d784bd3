"""Second stage of the training: the language model learns to answer the project's prompts about the cached images.

Every row is one image with several questions behind it (`packing.py`); a part of the questions carries a thought
block, whose thoughts are the placeholder's embedding plus Gaussian noise and whose patches are random image tokens,
so that the model answers the same with 0 to 8 thoughts, perturbed or not, with patches or without.
"""

import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from dmlr.demo import fastpath
from dmlr.demo.model import build_model, build_processor, save_checkpoint
from dmlr.demo.packing import IGNORE, LONG, SHORT, Packer, Segments
from dmlr.demo.shapes import Scene, make_scene
from dmlr.demo.tokenizer import build_tokenizer
from dmlr.demo.vision import align_words, cache_features, warm_up, whiten

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the whole training; everything random derives from `seed`."""

    seed: int = 7
    scenes: int = 6000  # training images
    vision_updates: int = 160
    vision_batch: int = 32
    updates: int = 1300
    images: int = 8  # per update
    shorts: int = 6  # short segments per image, beside one long one
    lr: float = 4e-3
    warm_up_updates: int = 100
    cooling: int = 200  # updates of the final decay
    weight_decay: float = 0.02
    save_every: int = 100


def training_scenes(config: TrainConfig) -> list[Scene]:
    """The scenes that the language model is trained on (layouts only, nothing is drawn)."""
    rng = random.Random(f"train:{config.seed}")
    return [make_scene(rng) for _ in range(config.scenes)]


def train(config: TrainConfig, folder: Path) -> None:
    """Run or continue the training in `folder`: vision tower, cached features, language model.

    Writes `vision.pt`, `features.pt`, `state.pt` (to continue from) and one checkpoint `step-NNNNN/` every
    `config.save_every` updates. Finished stages are not repeated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, config.seed)
    scenes = training_scenes(config)
    features = _vision_stage(model, scenes, config, folder)
    model.model.visual.requires_grad_(False)
    align_words(model, tokenizer.get_vocab(), scenes[:500], features[:500])
    _language_stage(model, processor, scenes, features, config, folder)


def _vision_stage(
    model: Qwen2_5_VLForConditionalGeneration, scenes: list[Scene], config: TrainConfig, folder: Path
) -> Tensor:
    weights, cached = folder / "vision.pt", folder / "features.pt"
    if not weights.exists():
        warm_up(model, config.seed, config.vision_updates, config.vision_batch)
        whiten(model, scenes[:100])
        torch.save(model.model.visual.state_dict(), weights)
    model.model.visual.load_state_dict(torch.load(weights, weights_only=True))
    if not cached.exists():
        log.info("caching the features of %d scenes", len(scenes))
        torch.save(cache_features(model, scenes), cached)
    return torch.load(cached, weights_only=True)


class LanguageTrainer:
    """Forward pass and loss of one update."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, packer: Packer, config: TrainConfig
    ) -> None:
        self.model = model
        self.config = config
        self.prefix_ids = torch.tensor(packer.prefix_ids)
        self.image_id = packer.image_id
        prefix, long, short = packer.positions(model)
        self.cos, self.sin = fastpath.rotary(model, [prefix, long, *[short] * config.shorts])
        self.sizes = (len(packer.prefix_ids), 1, LONG, config.shorts, SHORT)

    def loss(self, images: Tensor, long: Segments, short: Segments) -> Tensor:
        """Mean cross-entropy of the answer tokens; `images` are projected features (B, 144, D)."""
        images = images.float()
        table = self.model.model.language_model.embed_tokens
        prefix = table(self.prefix_ids).expand(len(images), -1, -1)
        slots = self.prefix_ids.eq(self.image_id).nonzero()[:, 0]
        prefix = prefix.index_copy(1, slots, images)
        hidden = torch.cat((prefix, *(self._embed(s, images).flatten(1, 2) for s in (long, short))), dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer in self.model.model.language_model.layers:
                hidden = fastpath.decoder_layer(layer, hidden, self.cos, self.sin, self.sizes)
        labels = torch.cat((long.labels.flatten(1), short.labels.flatten(1)), dim=1)
        wanted = labels != IGNORE
        norm = self.model.model.language_model.norm
        rows = fastpath.rms_norm(hidden[:, self.sizes[0] :][wanted], norm.weight, norm.variance_epsilon)
        return nn.functional.cross_entropy(rows @ table.weight.T, labels[wanted])

    def _embed(self, segments: Segments, images: Tensor) -> Tensor:
        """Input embeddings (B, S, length, D): words, patches from the image, thoughts with noise."""
        table = self.model.model.language_model.embed_tokens
        embedded = table(segments.ids)
        index = segments.patches.clamp(min=0).flatten(1)
        patches = images.gather(1, index[..., None].expand(-1, -1, images.shape[-1])).view_as(embedded)
        embedded = torch.where((segments.patches >= 0)[..., None], patches, embedded)
        # Noise as the optimisation will bring it: up to 60 % of the embedding's RMS, in one segment of ten up to 200 %.
        shape = (*segments.ids.shape[:2], 1, 1)
        level = torch.rand(shape) * torch.where(torch.rand(shape) < 0.1, 2.0, 0.6)
        level = level * (torch.rand(shape) < 0.85)
        scale = table.weight[0].detach().pow(2).mean().sqrt()  # id 0 is the placeholder
        noise = torch.randn_like(embedded) * level * scale
        return embedded + noise * segments.thoughts[..., None]


def _language_stage(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    scenes: list[Scene],
    features: Tensor,
    config: TrainConfig,
    folder: Path,
) -> None:
    rng = random.Random(f"language:{config.seed}")
    packer = Packer(processor.tokenizer, rng)
    trainer = LanguageTrainer(model, packer, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers = _optimizers(model, config)
    first = 0
    state_file = folder / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        first = state["update"]
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        log.info("continuing after update %d", first)
    started, running = time.monotonic(), 0.0
    for update in range(first, config.updates):
        # Seeded per update, so that a continued training sees the rows that an uninterrupted one would have seen.
        rng.seed(f"language:{config.seed}:{update}")
        torch.manual_seed(config.seed * 1_000_003 + update)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _schedule(update, config)
        chosen = rng.sample(range(len(scenes)), config.images)
        long, short = packer.batch([scenes[i] for i in chosen], config.shorts)
        loss = trainer.loss(features[chosen], long, short)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        running = loss.item() if update == first else 0.95 * running + 0.05 * loss.item()
        done = update + 1
        if done % 20 == 0 or done == config.updates or done - first <= 3:
            pace = (time.monotonic() - started) / (done - first)
            log.info("update %d/%d loss %.4f, %.2f s per update", done, config.updates, running, pace)
        if done % config.save_every == 0 or done == config.updates:
            save_checkpoint(model, processor, folder / f"step-{done:05d}")
            state = {
                "update": done,
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            }
            torch.save(state, folder / "state.tmp")
            (folder / "state.tmp").replace(state_file)


def _optimizers(
    model: Qwen2_5_VLForConditionalGeneration, config: TrainConfig
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of the decoder layers, AdamW for the embedding, the norms and the biases."""
    core = model.model.language_model
    matrices = [p for p in core.layers.parameters() if p.ndim == 2]
    others = [core.embed_tokens.weight, *(p for p in core.parameters() if p.ndim < 2)]
    return (
        torch.optim.Muon(
            matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=config.lr, weight_decay=0.0, betas=(0.9, 0.98)),
    )


def _schedule(update: int, config: TrainConfig) -> float:
    """Linear warm-up, constant, linear down to nothing over the last `config.cooling` updates."""
    return min(1.0, (update + 1) / config.warm_up_updates, (config.updates - update) / config.cooling)
