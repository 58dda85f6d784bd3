"""How time grows with each size of the problem, as a table and a plot."""

from pathlib import Path
from typing import Any

import numpy as np

from dmlr.backbone import Backbone
from dmlr.bench import phases, workload
from dmlr.bench.tables import table
from dmlr.config import Config, resolve

BASE = {"num_thought_tokens": 4, "max_num_steps": 8, "initial_patch_count": 2, "num_selected_patches": 8}
AXES: dict[str, list[int]] = {
    "samples": [1, 2, 4, 8],
    "thoughts": [1, 2, 4, 8, 16],
    "steps": [2, 4, 8, 16, 32],
    "image tokens": [64, 144, 256, 576],
    "candidates K": [1, 2, 4, 8, 16],
    "batch": [1, 2, 4, 8, 16],
}
_FLAGS = {"thoughts": "num_thought_tokens", "steps": "max_num_steps", "candidates K": "num_candidates"}


def run_growth(model: str, device: str, repeats: int, plot: Path) -> tuple[str, dict[str, Any]]:
    """Measure every axis with the others at their base value; the slope is that of log time on log size.

    A slope of 1 is linear growth, below 1 better. `samples` runs one after the other, `batch` side by side.
    """
    backbone = workload.load_backbone(model, device, "auto", 256)
    workload.never_stop(backbone)
    config = resolve(["--device", device, "--max_new_tokens", "16"]).replace(**BASE)
    series: dict[str, list[float]] = {}
    for axis, values in AXES.items():
        series[axis] = [_seconds(backbone, config, axis, value, repeats) for value in values]
    slopes = {axis: slope(AXES[axis], seconds) for axis, seconds in series.items()}
    rows = [
        [
            axis,
            ", ".join(map(str, AXES[axis])),
            ", ".join(f"{s:.3g}" for s in series[axis]),
            slopes[axis],
            "met" if slopes[axis] <= 1.05 else "NOT met",
        ]
        for axis in AXES
    ]
    _plot(series, plot)
    machine = workload.describe(backbone)
    named = ", ".join(f"{k} {v}" for k, v in machine.items())
    text = f"{model}; {named}\n\n" + table(
        ["against", "values", "seconds", "log-log slope", "slope <= 1.05"], rows
    )
    return text, {"machine": machine, "model": model, "seconds_by_axis": series, "slopes": slopes}


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Least-squares slope of log seconds on log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _seconds(backbone: Backbone, config: Config, axis: str, value: int, repeats: int) -> float:
    image_tokens = value if axis == "image tokens" else 256
    backbone.min_tokens = backbone.max_tokens = image_tokens
    if axis in _FLAGS:
        config = config.replace(**{_FLAGS[axis]: value})
    count = value if axis in ("samples", "batch") else 1
    prompts = workload.make_prompts(backbone, config, count, image_tokens, image_tokens + 120)
    batches = [[p] for p in prompts] if axis == "samples" else [prompts]
    times = []
    for repeat in range(repeats + 1):
        total = sum(phases.time_fast(batch, backbone, config).whole for batch in batches)
        if repeat:
            times.append(total)
    return float(np.median(times))


def _plot(series: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9, 5), constrained_layout=True)
    for panel, (axis, seconds) in zip(axes.flat, series.items(), strict=True):
        panel.plot(AXES[axis], seconds, "o-")
        panel.set_xlabel(axis)
        panel.set_ylabel("seconds")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
