"""The tables of goals: `cpu`, `gpu` and `growth`. Each row is a ratio measured in one process; none is an estimate."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dmlr import inference, loading, naive
from dmlr.backbone import Backbone
from dmlr.bench import bandwidth, phases, workload
from dmlr.bench.compare import compare_paths
from dmlr.bench.growth import run_growth
from dmlr.bench.memory import peak_memory
from dmlr.bench.tables import table
from dmlr.config import Config, resolve
from dmlr.data import load_dataset

FEW = {
    "num_thought_tokens": 2,
    "max_num_steps": 15,
    "initial_patch_count": 1,
    "patch_increment": 1,
    "num_selected_patches": 16,
}
MANY = {
    "num_thought_tokens": 8,
    "max_num_steps": 20,
    "initial_patch_count": 2,
    "patch_increment": 2,
    "num_selected_patches": 16,
}
BIG = "random:qwen2.5-vl-7b"


@dataclass(frozen=True)
class Row:
    """One line of a table: `better` says whether the goal is a floor (`>=`) or a ceiling (`<=`)."""

    what: str
    where: str
    achieved: float | None
    better: str
    goal: float

    def cells(self) -> list[object]:
        """What, where, achieved, goal, verdict."""
        if self.achieved is None:
            return [self.what, self.where, None, f"{self.better} {self.goal:g}", "-"]
        met = self.achieved >= self.goal if self.better == ">=" else self.achieved <= self.goal
        return [
            self.what,
            self.where,
            self.achieved,
            f"{self.better} {self.goal:g}",
            "met" if met else "NOT met",
        ]


def run(name: str, repeats: int, command: str) -> tuple[str, dict[str, Any]]:
    """Run a suite; returns its text and its record. A row that this machine cannot measure stays "not measured"."""
    started = time.perf_counter()
    text, record = SUITES[name](repeats)
    seconds = time.perf_counter() - started
    title = f"Suite `{name}`, `{command}`, {seconds:.0f} s"
    return f"{title}\n\n{text}", record | {"suite": name, "seconds": seconds}


def cpu(repeats: int) -> tuple[str, dict[str, Any]]:
    """Goals for two CPU cores, float32 on both sides."""
    rows, details = [], {}
    for model, few_goal, many_goal in (("random:512x8", 14.0, 7.0), ("random:1024x12", 10.0, 5.5)):
        backbone = workload.load_backbone(model, "cpu", "float32", 256)
        for name, flags, goal in (("few", FEW, few_goal), ("many", MANY, many_goal)):
            config = Config().replace(device="cpu", max_new_tokens=17, **flags)
            _, record = compare_paths(backbone, config, 256, 430, repeats)
            details[f"{model} {name}"] = record
            what = f"{config.latent.num_thought_tokens} thoughts, {config.latent.max_num_steps} steps"
            rows += [
                Row(f"optimisation loop, naive / fast; {what}", model, record["loop_ratio"], ">=", goal),
                Row("the same, prefill counted in", model, record["loop_with_prefill_ratio"], ">=", goal),
                Row(f"step time / floor; {what}", model, record["step_over_floor"], "<=", 1.3),
                Row(
                    f"batch 8 / batch 1, optimisation per sample; {what}",
                    model,
                    record["batch_per_sample_over_single"],
                    "<=",
                    1.0,
                ),
                Row(
                    "decode per token / generate from cache", model, record["decode_over_generate"], "<=", 1.0
                ),
            ]
        del backbone
        gc.collect()
    ratio, detail = whole_evaluation(32, 8)
    details["whole evaluation"] = detail
    rows.append(
        Row("whole evaluation, samples/s, batch 32 / naive", "demo, reference preset", ratio, ">=", 6.0)
    )
    machine = details["random:512x8 few"]["machine"]
    return _text(rows, machine), {"rows": [r.cells() for r in rows], "machine": machine, "details": details}


def whole_evaluation(batch: int, naive_samples: int) -> tuple[float, dict[str, Any]]:
    """Samples per second on the demo, everything counted (images, decoding): one batch against the naive path."""
    config = resolve(["--model_name_or_path", "demo", "--device", "cpu", "--max_new_tokens", "256"])
    backbone = Backbone(loading.load(config.model), config.model.min_pixels, config.model.max_pixels)
    samples = load_dataset(config.run).samples[:batch]
    inference.answer(samples[:2], backbone, config)
    started = time.perf_counter()
    inference.answer(samples, backbone, config)
    fast = (time.perf_counter() - started) / len(samples)
    started = time.perf_counter()
    for sample in samples[:naive_samples]:
        naive.answer(sample, backbone, config)
    slow = (time.perf_counter() - started) / naive_samples
    return slow / fast, {"fast_s": fast, "naive_s": slow, "batch": batch, "naive_samples": naive_samples}


def gpu(repeats: int) -> tuple[str, dict[str, Any]]:
    """Goals for one GPU at the size of Qwen2.5-VL-7B; without CUDA every row stays "not measured"."""
    if not torch.cuda.is_available():
        rows = [Row(*names, None, better, goal) for names, better, goal in _GPU_GOALS]
        return _text(rows, {"device": "no CUDA device"}), {"rows": [r.cells() for r in rows]}
    return gpu_on(BIG, "cuda", "bfloat16", repeats, new_tokens=256, batch=16)


_GPU_GOALS: list[tuple[tuple[str, str], str, float]] = [
    (("whole sample, naive float32 / fast", "7B"), ">=", 60.0),
    (("step time / (weight bytes / copy bandwidth), batch 1", "7B"), "<=", 2.0),
    (("decode per token / the same bound, batch 1", "7B"), "<=", 1.5),
    (("decode throughput, batch 32 / batch 1", "7B"), ">=", 20.0),
    (("full DMLR / vanilla with as many tokens, batch 16", "7B"), "<=", 1.15),
    (("K = 8 packed / K = 1, 4 thoughts with 4 patches, batch 1", "7B"), "<=", 1.5),
    (("peak memory above the weights, batch 16, GB", "7B"), "<=", 8.0),
]


def gpu_on(
    model: str, device: str, dtype: str, repeats: int, new_tokens: int, batch: int
) -> tuple[str, dict[str, Any]]:
    """The rows of the GPU table for any model and device (a test runs them on a tiny model on the CPU)."""
    config = resolve(["--preset", "paper", "--device", device, "--max_new_tokens", str(new_tokens)])
    measured, single, record = _fast_rows(model, device, dtype, repeats, config, batch)
    gc.collect()
    slow = _naive_float32(model, device, config)
    rows = [
        Row(what, model, value, better, goal)
        for ((what, _), better, goal), value in zip(_GPU_GOALS, [slow / single, *measured], strict=True)
    ]
    return _text(rows, record["machine"]), record | {"rows": [r.cells() for r in rows]}


def _fast_rows(
    model: str, device: str, dtype: str, repeats: int, config: Config, batch: int
) -> tuple[list[float], float, dict[str, Any]]:
    """Every GPU row but the first, the seconds of one whole sample, and the record."""
    backbone = workload.load_backbone(model, device, dtype, 256)
    workload.never_stop(backbone)
    prompts = workload.make_prompts(backbone, config, max(batch, 32), 256, 430)
    bound = bandwidth.weight_read_seconds(backbone)

    def median(count: int, settings: Config, read: Callable[[phases.Timing], float]) -> float:
        series = phases.Series()
        for repeat in range(repeats + 1):
            timing = phases.time_fast(prompts[:count], backbone, settings)
            if repeat:
                series.runs.append(timing)
        return series.median(read)

    packed = config.replace(num_candidates=8, initial_patch_count=4, num_selected_patches=4)
    with peak_memory(backbone.device) as peak:
        phases.time_fast(prompts[:batch], backbone, config)
    single = median(1, config, lambda t: t.whole)
    vanilla = config.replace(method="vanilla")
    measured = [
        median(1, config, lambda t: t.step) / bound,
        median(1, config, lambda t: t.token) / bound,
        32 * median(1, vanilla, lambda t: t.token) / median(32, vanilla, lambda t: t.token),
        median(batch, config, lambda t: t.whole) / median(batch, vanilla, lambda t: t.whole),
        median(1, packed, lambda t: t.optimise)
        / median(1, packed.replace(num_candidates=1), lambda t: t.optimise),
        peak.bytes / 1e9,
    ]
    record = {"machine": workload.describe(backbone), "weight_read_s": bound, "fast_whole_s": single}
    return measured, single, record


def _naive_float32(model: str, device: str, config: Config) -> float:
    """Seconds of the naive path on one sample in float32 (one counted pass: it is slow)."""
    if device == "cuda":
        torch.cuda.empty_cache()
    backbone = workload.load_backbone(model, device, "float32", 256)
    workload.never_stop(backbone)
    prompt = workload.make_prompts(backbone, config, 1, 256, 430)[0]
    short = config.replace(max_num_steps=1, max_new_tokens=2)
    phases.time_naive(prompt, backbone, short)
    return phases.time_naive(prompt, backbone, config).whole


def growth(repeats: int) -> tuple[str, dict[str, Any]]:
    """Seconds against samples, thoughts, steps, image tokens, K and batch; writes docs/images/growth.png."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = BIG if device == "cuda" else "random:512x4"
    plot = Path(__file__).resolve().parents[2] / "docs" / "images" / f"growth-{device}.png"
    return run_growth(model, device, repeats, plot)


def _text(rows: list[Row], machine: dict[str, Any]) -> str:
    named = ", ".join(f"{k} {v}" for k, v in machine.items())
    return f"{named}\n\n" + table(["what", "where", "achieved", "goal", ""], list(_cells(rows)))


def _cells(rows: list[Row]) -> Iterator[list[object]]:
    for row in rows:
        yield row.cells()


SUITES: dict[str, Callable[[int], tuple[str, dict[str, Any]]]] = {"cpu": cpu, "gpu": gpu, "growth": growth}
