"""One comparison: fast against naive on one prompt, with batch and decoding beside it."""

import time
from dataclasses import asdict
from typing import Any

import torch

from dmlr import naive
from dmlr.backbone import Backbone, Prompt
from dmlr.bench import phases, workload
from dmlr.bench.floor import Floor, record_shapes
from dmlr.bench.memory import peak_memory
from dmlr.bench.tables import table
from dmlr.config import Config

BATCH = 8


def compare_paths(
    backbone: Backbone, config: Config, image_tokens: int, prompt_tokens: int, repeats: int
) -> tuple[str, dict[str, Any]]:
    """Table (text) and record of one comparison. Decoding runs to `max_new_tokens`, end tokens ignored."""
    workload.never_stop(backbone)
    prompts = workload.make_prompts(backbone, config, BATCH, image_tokens, prompt_tokens)
    fast, slow = phases.compare(prompts[0], backbone, config, repeats)
    batch = phases.Series()
    for repeat in range(repeats + 1):
        timing = phases.time_fast(prompts, backbone, config)
        if repeat:
            batch.runs.append(timing)
    with peak_memory(backbone.device) as fast_peak:
        phases.time_fast(prompts[:1], backbone, config)
    with peak_memory(backbone.device) as slow_peak:
        phases.time_naive(prompts[0], backbone, config)
    with record_shapes(backbone) as shapes:
        phases.time_fast(
            prompts[:1], backbone, config.replace(max_new_tokens=1)
        )  # prefill, steps, block with tail and one head
    shapes.forwards, shapes.heads = shapes.forwards[1:-1], shapes.heads[:-1]  # the optimisation alone
    floor = Floor(backbone)
    floor_s = floor.seconds(shapes)
    library, own = decode_rates(prompts[0], backbone, config, repeats)

    def row(name: str, read: Any, per_sample: int = 1) -> list[object]:
        a, b, c = fast.median(read), slow.median(read), batch.median(read) / per_sample
        return [name, b or "-", a, c, b / a if a and b else "-"]

    rows = [
        row("prefill", lambda t: t.prefill, BATCH),
        row("optimisation", lambda t: t.optimise, BATCH),
        row("optimisation + prefill", lambda t: t.optimise + t.prefill, BATCH),
        row("step", lambda t: t.step, BATCH),
        row("decode", lambda t: t.decode, BATCH),
        row("whole sample", lambda t: t.whole, BATCH),
    ]
    text = table(
        ["phase, seconds", "naive", "fast", f"fast, batch {BATCH}, per sample", "naive / fast"], rows
    )
    step = fast.median(lambda t: t.optimise)
    record: dict[str, Any] = {
        "prompt_tokens": prompts[0].length,
        "image_tokens": image_tokens,
        "loop_ratio": slow.median(lambda t: t.optimise) / step,
        "loop_with_prefill_ratio": slow.median(lambda t: t.optimise)
        / fast.median(lambda t: t.optimise + t.prefill),
        "whole_ratio": slow.median(lambda t: t.whole) / fast.median(lambda t: t.whole),
        "batch_per_sample_over_single": batch.median(lambda t: t.optimise) / BATCH / step,
        "step_over_floor": step / floor_s,
        "floor_gflops": floor.operations(shapes) / floor_s / 1e9,
        "decode_token_s": own,
        "generate_token_s": library,
        "decode_over_generate": own / library,
        "peak_mb_fast": fast_peak.bytes / 1e6,
        "peak_mb_naive": slow_peak.bytes / 1e6,
        "repeats": repeats,
        "fast": [asdict(r) for r in fast.runs],
        "naive": [asdict(r) for r in slow.runs],
        "machine": workload.describe(backbone),
    }
    extra = [
        ["optimisation loop, naive / fast", record["loop_ratio"]],
        ["the same, prefill counted as part of the loop", record["loop_with_prefill_ratio"]],
        ["step time / floor (its matrix products alone)", record["step_over_floor"]],
        ["rate of those products, GFLOP/s", record["floor_gflops"]],
        [f"batch {BATCH} / batch 1, optimisation per sample", record["batch_per_sample_over_single"]],
        ["decode per token: own / generate with cache", record["decode_over_generate"]],
        ["peak above what was held before, fast, MB", record["peak_mb_fast"]],
        ["peak above what was held before, naive, MB", record["peak_mb_naive"]],
    ]
    return text + "\n\n" + table(["figure", "value"], extra), record


def decode_rates(prompt: Prompt, backbone: Backbone, config: Config, repeats: int) -> tuple[float, float]:
    """Seconds per token of the library's `generate` and of our decoding, both from a cache, alternating.

    Each is the slope between one token and `max_new_tokens`, so that the prefill does not enter. No thoughts.
    """
    config = config.replace(method="vanilla")
    many = config.decoding.max_new_tokens

    def ours(count: int) -> float:
        return phases.time_fast([prompt], backbone, config.replace(max_new_tokens=count)).decode

    scorer = naive.NaiveScorer(prompt, backbone, config)

    def theirs(count: int) -> float:
        started = time.perf_counter()
        scorer.decode(torch.zeros(0, backbone.width), [], count)
        phases.synchronise(backbone)
        return time.perf_counter() - started

    slopes: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):
        pair = tuple((read(many) - read(1)) / (many - 1) for read in (theirs, ours))
        if repeat:
            slopes.append((pair[0], pair[1]))
    middle = len(slopes) // 2
    return sorted(s[0] for s in slopes)[middle], sorted(s[1] for s in slopes)[middle]
