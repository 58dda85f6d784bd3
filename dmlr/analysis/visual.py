"""Visual dependency of generated tokens (paper Eq. 1): how much likelier the image makes each of them.

S_t = log p(x_t | x_<t, image, question) - log p(x_t | x_<t, spoilt image, question), in nats. The spoilt
image also replaces the injected patches (they are features of that image), while the thoughts stay as they
were decoded.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmlr.analysis.replay import Replay, Replayed
from dmlr.analysis.teacher import continuation_logprobs
from dmlr.analysis.words import Words, groups_of
from dmlr.report.runs import outcome
from dmlr.report.statistics import Estimate, auroc, auroc_value, clustered, mean, quartiles
from dmlr.report.tables import interval, number, p_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VisualOptions:
    """Settings of the analysis: see `dmlr analyze visual-dependency --help`."""

    kind: str = "gaussian"
    strength: float = 1.0
    threshold: float = 1.0  # nats above which a token counts as dependent
    seed: int = 0
    batch_size: int = 8


def visual_dependency(
    replay: Replay, options: VisualOptions, words: Words, progress: Callable[[int], object] = lambda n: None
) -> dict[str, Any]:
    """Per-token S of every entry that can be replayed, and what follows from it. Plain data for JSON.

    One teacher-forced pass per image version and batch; `progress` gets the number of entries done.
    """
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in replay.batches(options.batch_size):
            for item, values in zip(batch, _dependency(replay, batch, options, Path(folder))):
                samples.append(_sample(item, values, words))
            progress(len(samples))
    samples.sort(key=lambda row: row["data_idx"])
    summary = summarise(samples, options.threshold)
    return {
        "settings": {
            "perturb": options.kind,
            "strength": options.strength,
            "threshold": options.threshold,
            "seed": options.seed,
            "thoughts": replay.thoughts_from,
        },
        "summary": summary,
        "lines": lines(summary, options),
        "skipped": replay.skipped,
        "samples": samples,
    }


def _dependency(
    replay: Replay, batch: Sequence[Replayed], options: VisualOptions, folder: Path
) -> list[np.ndarray]:
    """S of each output token of a batch, one (T,) float64 array per entry."""
    states = replay.with_start(batch)
    outputs = [[item.ids] for item in batch]
    spoilt = [
        replay.spoilt_prompt(item, options.kind, options.strength, options.seed, folder) for item in batch
    ]
    prompts = [item.prompt for item in batch]
    clean = continuation_logprobs(replay.backbone, prompts, states, outputs, replay.style)
    blind = continuation_logprobs(replay.backbone, spoilt, states, outputs, replay.style)
    return [(c[0] - b[0]).double().numpy() for c, b in zip(clean, blind)]


def _sample(item: Replayed, values: np.ndarray, words: Words) -> dict[str, Any]:
    text = item.entry["model_output"]
    # A token of several bytes of one character has the span of that character: show it once.
    starts = [max(a, previous) for (a, _), previous in zip(item.spans, [0, *(b for _, b in item.spans)])]
    return {
        "data_idx": item.sample.data_idx,
        "outcome": outcome(item.entry),
        "tokens": [text[a:b] for a, (_, b) in zip(starts, item.spans)],
        "spans": [list(span) for span in item.spans],
        "groups": groups_of(text, item.spans, words, item.sample.question),
        "s": [round(float(v), 4) for v in values],
        "mean": round(float(values.mean()), 5),
    }


def _share_above(threshold: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float((x > threshold).mean())


def _top_share(values: np.ndarray, top: float = 0.1) -> float | None:
    """Share of the summed positive S that the `top` share of all tokens carries."""
    positive = np.sort(np.clip(values, 0, None))[::-1]
    if positive.sum() == 0:
        return None
    return float(positive[: max(1, round(top * len(values)))].sum() / positive.sum())


def _content_auroc(values: np.ndarray, groups: np.ndarray, owners: Sequence[int]) -> Estimate:
    """Whether S is higher on content words than on function words; tokens of other groups are left out."""
    kept = np.isin(groups, ("content", "function"))
    return clustered(auroc_value, values[kept], groups[kept] == "content", np.asarray(owners)[kept])


def summarise(samples: Sequence[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """Distribution of S, its groups, and accuracy by quartile of an answer's mean S; intervals over
    samples.
    """
    values = np.array([v for row in samples for v in row["s"]], dtype=float)
    if not len(values):
        return {"samples": 0, "tokens": 0}
    owners = [row["data_idx"] for row in samples for _ in row["s"]]
    groups = np.array([g for row in samples for g in row["groups"]])
    judged = [row for row in samples if row["outcome"] in ("correct", "wrong")]
    means, right = [row["mean"] for row in judged], [row["outcome"] == "correct" for row in judged]
    by_group = {
        name: {"tokens": int((groups == name).sum()), "mean": float(values[groups == name].mean())}
        for name in ("content", "repeated", "function")
        if (groups == name).any()
    }
    naming = np.where(groups == "repeated", "content", groups)
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    return {
        "samples": len(samples),
        "tokens": len(values),
        "mean_per_answer": mean([row["mean"] for row in samples]).as_dict(),
        "quantiles": {f"{q:g}": float(v) for q, v in zip((5, 25, 50, 75, 95), quantiles)},
        "share_above": clustered(_share_above(threshold), values, values, owners).as_dict(),
        "top_tenth_share": _top_share(values),
        "groups": by_group,
        "content_against_function_auroc": _content_auroc(values, naming, owners).as_dict(),
        "new_content_against_function_auroc": _content_auroc(values, groups, owners).as_dict(),
        "accuracy_by_quartile": quartiles(means, right),
        "mean_against_correct_auroc": auroc(means, right).as_dict(),
    }


def lines(summary: dict[str, Any], options: VisualOptions) -> list[dict[str, str]]:
    """What the terminal and the report show."""
    if not summary["tokens"]:
        return [{"label": "visual dependency", "text": "no entry could be replayed"}]

    def line(label: str, text: str) -> dict[str, str]:
        return {"label": label, "text": text}

    share, quantile = summary["share_above"], summary["quantiles"]
    found = [
        line(
            "mean S per answer",
            f"{_estimate(summary['mean_per_answer'], sign=True)} nats over {summary['samples']} answers, "
            f"{summary['tokens']} tokens ({options.kind} {options.strength:g})",
        ),
        line(f"tokens with S above {options.threshold:g}", _estimate(share)),
        line(
            "distribution of S",
            "  ".join(f"{q} %: {number(v, sign=True)}" for q, v in quantile.items()),
        ),
        line(
            "share of all positive S in the top tenth of the tokens",
            number(summary["top_tenth_share"]),
        ),
    ]
    groups = summary["groups"]
    if "function" in groups and len(groups) > 1:
        names = {
            "content": "content words",
            "repeated": "content words of the question",
            "function": "function words",
        }
        text = ", ".join(
            f"{names[name]} {number(g['mean'], sign=True)} ({g['tokens']} tokens)"
            for name, g in groups.items()
        )
        found.append(line("mean S by word (content: colours, shapes, counts)", text))
        text = f"{_estimate(summary['content_against_function_auroc'])}; without words of the question "
        text += _estimate(summary["new_content_against_function_auroc"])
        found.append(line("AUROC of S, content against function words", text))
    quarter = summary["accuracy_by_quartile"]
    if quarter["bins"]:
        text = ", ".join(f"{number(b['accuracy']['value'])} of {b['accuracy']['n']}" for b in quarter["bins"])
        p = p_text(quarter["fisher_exact_p_highest_against_lowest"])
        text += f"; Fisher's exact test, highest against lowest: p {p}"
        found.append(line("accuracy by quartile of mean S, lowest first", text))
        found.append(
            line("AUROC of mean S for a right answer", _estimate(summary["mean_against_correct_auroc"]))
        )
    return found


def _estimate(value: dict[str, Any], sign: bool = False) -> str:
    return interval(Estimate(**value), sign=sign)
