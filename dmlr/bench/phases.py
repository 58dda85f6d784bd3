"""Seconds per phase of the fast and the naive path on the same prompts, alternating, in one process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from dmlr import inference, naive
from dmlr.backbone import Backbone, Prompt
from dmlr.config import Config
from dmlr.scoring import Scorer


@dataclass
class Timing:
    """Seconds of one pass over a batch. `prefill` is 0 on the naive path, where every score repeats it."""

    prefill: float
    optimise: float
    decode: float
    steps: int
    tokens: int

    @property
    def step(self) -> float:
        """Seconds per optimisation step (the score of the untouched start counted in)."""
        return self.optimise / max(1, self.steps)

    @property
    def token(self) -> float:
        """Seconds per generated token and sample, all samples decoding side by side."""
        return self.decode / max(1, self.tokens)

    @property
    def whole(self) -> float:
        """Seconds of everything."""
        return self.prefill + self.optimise + self.decode


@dataclass
class Series:
    """Timings of repeated passes."""

    runs: list[Timing] = field(default_factory=list)

    def median(self, read: Callable[[Timing], float]) -> float:
        """Median over the passes of what `read` takes from each."""
        return float(torch.tensor([read(r) for r in self.runs], dtype=torch.float64).median())


def synchronise(backbone: Backbone) -> None:
    """Wait for the device, so that the clock counts its work."""
    if backbone.device.type == "cuda":
        torch.cuda.synchronize(backbone.device)


def time_fast(prompts: Sequence[Prompt], backbone: Backbone, config: Config) -> Timing:
    """One pass of the fast path over the prompts as one batch, phase by phase."""

    def now() -> float:
        synchronise(backbone)
        return time.perf_counter()

    L, style = inference.num_thoughts(config), inference.block_style(config)
    t0 = now()
    prefix = backbone.prefill(prompts, reserve=inference.reserve(config))
    start = backbone.initial_thoughts(prefix, L, config.visual.visual_only)
    t1 = now()
    if L:
        found = inference.optimise(start, prefix, Scorer(backbone, prefix, style, config), config)
        state = found.best
    else:
        state = inference.State(start, inference.no_patches(prefix, 0, 0))
    t2 = now()
    generations = backbone.decode(
        prefix, state.thoughts, state.patches, style, config.decoding.max_new_tokens
    )
    t3 = now()
    tokens = max(len(g.token_ids) for g in generations)
    return Timing(t1 - t0, t2 - t1, t3 - t2, config.latent.max_num_steps if L else 0, tokens)


def time_naive(prompt: Prompt, backbone: Backbone, config: Config) -> Timing:
    """One pass of the naive path over one prompt."""

    def now() -> float:
        synchronise(backbone)
        return time.perf_counter()

    scorer = naive.NaiveScorer(prompt, backbone, config)
    t0 = now()
    thoughts, patches = naive.optimise(scorer, backbone, config).best
    t1 = now()
    _, count, _ = scorer.decode(thoughts, patches, config.decoding.max_new_tokens)
    t2 = now()
    return Timing(0.0, t1 - t0, t2 - t1, config.latent.max_num_steps, count)


def compare(prompt: Prompt, backbone: Backbone, config: Config, repeats: int) -> tuple[Series, Series]:
    """Fast and naive on one prompt, A B A B, after one uncounted pass of each. Returns (fast, naive)."""
    fast, slow = Series(), Series()
    for repeat in range(repeats + 1):
        a, b = time_fast([prompt], backbone, config), time_naive(prompt, backbone, config)
        if repeat:
            fast.runs.append(a)
            slow.runs.append(b)
    return fast, slow
