"""The four overview charts of the report, from entries and reward logs."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from markupsafe import Markup

from dmlr.prediction import StepTrace
from dmlr.report.curves import Line, bar_chart, line_chart, reliability_chart
from dmlr.report.runs import Run, outcome
from dmlr.report.statistics import auroc, reliability
from dmlr.report.tables import interval

Traces = dict[int, list[StepTrace]]


class Chart(TypedDict):
    """One figure of the page."""

    title: str
    svg: Markup
    caption: str


def charts(runs: Sequence[Run], traces: Sequence[Traces]) -> list[Chart]:
    """Reward over steps, best step, patches over steps, accuracy by confidence; without data a chart is
    left out.
    """
    found = [_rewards(runs, traces), _best_steps(runs), _patches(runs, traces), _reliability(runs)]
    return [chart for chart in found if chart["svg"]]


def best_so_far(run: Run, logs: Traces) -> np.ndarray:
    """(samples, steps + 1) float64: best reward up to each step, step 0 the untouched start.

    A sample that stopped early keeps its best reward; samples without a log or a start are left out.
    """
    rows = []
    longest = max((len(log) for log in logs.values()), default=0)
    for index, log in logs.items():
        start = run.entries[index].get("initial_reward")
        if start is None or not log:
            continue
        values = np.array([float(start), *(step.reward for step in log)])
        rows.append(np.pad(np.maximum.accumulate(values), (0, longest + 1 - len(values)), mode="edge"))
    return np.array(rows) if rows else np.zeros((0, longest + 1))


def _rewards(runs: Sequence[Run], traces: Sequence[Traces]) -> Chart:
    lines = []
    for colour, (run, logs) in enumerate(zip(runs, traces)):
        best = best_so_far(run, logs)
        if not len(best):
            continue
        low, high = np.percentile(best, [25, 75], axis=0)
        points = [(float(t), float(v)) for t, v in enumerate(best.mean(axis=0))]
        band = [(float(t), float(a), float(b)) for t, (a, b) in enumerate(zip(low, high))]
        lines.append(Line(f"{run.name}: best so far", points, band, colour))
        proposed = [
            [log[t].reward for log in logs.values() if len(log) > t] for t in range(best.shape[1] - 1)
        ]
        mean = [(float(t + 1), float(np.mean(values))) for t, values in enumerate(proposed) if values]
        lines.append(Line(f"{run.name}: state of that step", mean, (), colour, dashed=True))
    return {
        "title": "Reward over the steps",
        "svg": line_chart(lines, "mean reward over the optimisation steps", "step", "reward"),
        "caption": "Solid: mean of the best reward so far, with the middle half of the samples. "
        "Dashed: mean of the state that was scored at that step.",
    }


def _best_steps(runs: Sequence[Run]) -> Chart:
    steps = [run.values("best_reward_step") for run in runs]
    last = int(max((max(values) for values in steps if values), default=-1))
    series = []
    for colour, (run, values) in enumerate(zip(runs, steps)):
        if values:
            counts = np.bincount(np.asarray(values, dtype=int), minlength=last + 1)
            series.append((run.name, (counts / len(values)).tolist(), colour))
    labels = [str(t) for t in range(last + 1)]
    return {
        "title": "Step of the best reward",
        "svg": bar_chart(
            series, labels, "histogram of the best step", "step (0: the start)", "share of samples"
        ),
        "caption": "Much weight at the last steps means that more steps would still raise the reward.",
    }


def _patches(runs: Sequence[Run], traces: Sequence[Traces]) -> Chart:
    lines = []
    for colour, (run, logs) in enumerate(zip(runs, traces)):
        longest = max((len(log) for log in logs.values()), default=0)
        at = [[log[t] for log in logs.values() if len(log) > t] for t in range(longest)]
        budget = [
            (float(t + 1), float(np.mean([s.patch_budget for s in steps]))) for t, steps in enumerate(at)
        ]
        count = [(float(t + 1), float(np.mean([s.patch_count for s in steps]))) for t, steps in enumerate(at)]
        if any(value for _, value in count):
            lines.append(Line(f"{run.name}: patches in the scored state", count, (), colour))
            lines.append(Line(f"{run.name}: budget per thought", budget, (), colour, dashed=True))
    return {
        "title": "Patches over the steps",
        "svg": line_chart(lines, "patches and budget over the steps", "step", "image patches"),
        "caption": "Solid: patches in the scored state, over all thoughts. Dashed: budget per thought. "
        "Means over samples.",
    }


def _reliability(runs: Sequence[Run]) -> Chart:
    curves, texts = [], []
    for colour, run in enumerate(runs):
        judged = [
            (entry["best_reward"], outcome(entry) == "correct")
            for entry in run.entries.values()
            if entry.get("best_reward") is not None and outcome(entry) in ("correct", "wrong")
        ]
        if judged:
            scores, labels = [score for score, _ in judged], [right for _, right in judged]
            curves.append((run.name, reliability(scores, labels), colour))
            area = auroc(scores, labels)
            texts.append(f"{run.name} {interval(area)}" if area.value is not None else f"{run.name} -")
    return {
        "title": "Accuracy by confidence",
        "svg": reliability_chart(curves, "accuracy by best reward", "best reward (bins of equal size)"),
        "caption": "Bars: 95 % intervals. AUROC of the best reward for being right: "
        + "; ".join(texts)
        + ". 0.5 is chance.",
    }
