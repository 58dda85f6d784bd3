r"""The paper's three observations, each with an interval: does confidence mean correctness, do reasoning
steps raise the confidence in the answer (Eq. 2), and do the steps that look at the image raise it more?

G_t = log p(answer | steps up to t) - log p(answer | steps before t), in nats, for the answer that the model
gave (or the gold one), read right after `\boxed{` behind that many steps of its own output.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dmlr.analysis.replay import Replay, Replayed
from dmlr.analysis.steps import Chain, answer_after, mean_by_step, split_steps
from dmlr.analysis.teacher import continuation_logprobs
from dmlr.report.runs import Run, outcome
from dmlr.report.statistics import Estimate, auroc, clustered, mean, reliability, spearman_value
from dmlr.report.tables import interval, number


def reward_and_correctness(run: Run) -> dict[str, Any]:
    """AUROC (0.5 is chance) and reliability of the first and the best reward for being right; no model
    needed.
    """
    found: dict[str, Any] = {}
    for key in ("initial_reward", "best_reward"):
        judged = [
            (float(entry[key]), outcome(entry) == "correct")
            for entry in run.entries.values()
            if entry.get(key) is not None and outcome(entry) in ("correct", "wrong")
        ]
        scores, right = [score for score, _ in judged], [label for _, label in judged]
        found[key] = {
            "samples": len(judged),
            "auroc": auroc(scores, right).as_dict(),
            "reliability": [asdict(b) for b in reliability(scores, right)],
        }
    return found


def answer_gains(
    replay: Replay, gold: bool, batch_size: int, progress: Callable[[int], object] = lambda n: None
) -> list[dict[str, Any]]:
    """Log p of the answer after each number of steps, per entry: `log_p` has one more item than `gains`."""
    rows: list[dict[str, Any]] = []
    for batch in replay.batches(batch_size):
        kept = []
        for item in batch:
            chain, answer = split_steps(item.entry["model_output"]), _answer(item, gold)
            if answer and chain.steps:
                kept.append((item, chain, answer))
            else:
                replay.skipped.setdefault("no reasoning steps or no answer", []).append(item.sample.data_idx)
        if kept:
            rows += _score(replay, kept)
        progress(len(rows))
    return sorted(rows, key=lambda row: row["data_idx"])


def _answer(item: Replayed, gold: bool) -> str:
    value = item.entry.get("ground_truth_text" if gold else "answer")
    return "" if value is None else str(value)


def _score(replay: Replay, kept: Sequence[tuple[Replayed, Chain, str]]) -> list[dict[str, Any]]:
    def encode(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        made = replay.backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(made["input_ids"]), [tuple(span) for span in made["offset_mapping"]]

    items = [item for item, _, _ in kept]
    sequences, places = [], []
    for _, chain, answer in kept:
        made = [answer_after(chain, t, answer, encode) for t in range(len(chain.steps) + 1)]
        sequences.append([ids for ids, _ in made])
        places.append([where for _, where in made])
    prompts, states = [item.prompt for item in items], replay.with_start(items)
    scored = continuation_logprobs(replay.backbone, prompts, states, sequences, replay.style)
    rows = []
    for (item, chain, answer), where, logs in zip(kept, places, scored):
        log_p = [float(log[positions].sum()) for log, positions in zip(logs, where)]
        rows.append(
            {
                "data_idx": item.sample.data_idx,
                "outcome": outcome(item.entry),
                "answer": answer,
                "steps": [chain.text[a:b].strip() for a, b in chain.steps],
                "log_p": [round(v, 4) for v in log_p],
                "gains": [round(b - a, 4) for a, b in itertools.pairwise(log_p)],
            }
        )
    return rows


def with_dependency(rows: list[dict[str, Any]], run: Run, dependency: dict[int, dict[str, Any]]) -> None:
    """Add to each row the mean S of each step's tokens (`s`), from a saved visual-dependency analysis."""
    for row in rows:
        tokens = dependency.get(row["data_idx"])
        if tokens:
            chain = split_steps(run.entries[row["data_idx"]]["model_output"])
            row["s"] = mean_by_step(chain, [tuple(span) for span in tokens["spans"]], tokens["s"])


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gains over steps and answers, and their correlation with visual dependency; intervals over samples."""
    gains = [gain for row in rows for gain in row["gains"]]
    owners = [row["data_idx"] for row in rows for _ in row["gains"]]
    pairs = [
        (s, gain, row["data_idx"])
        for row in rows
        for s, gain in zip(row.get("s", []), row["gains"])
        if s is not None
    ]
    totals = {
        name: mean([sum(row["gains"]) for row in rows if row["outcome"] == name]).as_dict()
        for name in ("correct", "wrong")
    }
    judged = [row for row in rows if row["outcome"] in ("correct", "wrong")]
    return {
        "samples": len(rows),
        "steps": len(gains),
        "gain_per_step": clustered(_mean_of_first, gains, gains, owners).as_dict(),
        "share_of_steps_that_gain": clustered(_share_positive, gains, gains, owners).as_dict(),
        "total_gain": totals,
        "answer_log_p_against_correct_auroc": auroc(
            [row["log_p"][-1] for row in judged], [row["outcome"] == "correct" for row in judged]
        ).as_dict(),
        "dependency_and_gain_spearman": clustered(
            spearman_value, [p[0] for p in pairs], [p[1] for p in pairs], [p[2] for p in pairs]
        ).as_dict(),
        "steps_with_dependency": len(pairs),
    }


def _mean_of_first(x: np.ndarray, y: np.ndarray) -> float:
    return float(x.mean())


def _share_positive(x: np.ndarray, y: np.ndarray) -> float:
    return float((x > 0).mean())


def lines(reward: dict[str, Any], summary: dict[str, Any] | None) -> list[dict[str, str]]:
    """What the terminal and the report show."""
    found = []
    for key, name in (("initial_reward", "first reward"), ("best_reward", "best reward")):
        part = reward[key]
        if part["samples"]:
            bins = ", ".join(f"{number(b['accuracy']['value'])}" for b in part["reliability"])
            text = f"{_text(part['auroc'])} over {part['samples']} answers; accuracy from low to high reward: {bins}"
            found.append({"label": f"AUROC of the {name} for a right answer", "text": text})
    if summary and summary["steps"]:
        count = f"over {summary['steps']} steps of {summary['samples']} answers"
        found += [
            {
                "label": "confidence gain G per step (nats)",
                "text": f"{_text(summary['gain_per_step'], True)} {count}",
            },
            {"label": "share of steps with G above 0", "text": _text(summary["share_of_steps_that_gain"])},
            {
                "label": "total gain of an answer (nats)",
                "text": ", ".join(
                    f"{name} {_text(part, True)}" for name, part in summary["total_gain"].items()
                ),
            },
            {
                "label": "AUROC of log p(answer) after all steps for a right answer",
                "text": _text(summary["answer_log_p_against_correct_auroc"]),
            },
        ]
        correlation = summary["dependency_and_gain_spearman"]
        text = f"{_text(correlation, True)} over {summary['steps_with_dependency']} steps"
        if not summary["steps_with_dependency"]:
            text = "run `dmlr analyze visual-dependency` first"
        found.append({"label": "Spearman correlation of a step's mean S with its G", "text": text})
    return found or [
        {"label": "confidence", "text": "nothing to analyse: no rewards and no replayed entries"}
    ]


def _text(estimate: dict[str, Any], sign: bool = False) -> str:
    return interval(Estimate(**estimate), sign=sign)
