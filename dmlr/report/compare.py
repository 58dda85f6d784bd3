"""Two or more runs over the same questions, side by side, with the statistics that such a comparison needs.

The first run is the baseline of every paired difference. Samples without a verdict in either run of a pair
are left out of that pair and counted. Runs over different questions are refused; runs whose settings differ
in a way that moves accuracy by itself (image size, prompt, judge, versions) are compared with a warning each.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dmlr.errors import UserError
from dmlr.report.runs import OUTCOMES, Run, outcome
from dmlr.report.statistics import Estimate, holm, mcnemar_p, mean, paired_difference, proportion

# Settings that change accuracy without being the method: what they are called in a warning.
_WATCHED = {
    "min_pixels": "image size",
    "max_pixels": "image size",
    "solver_prompt_idx": "prompt",
    "max_new_tokens": "longest answer",
    "use_llm_verify": "judge",
    "judge_all": "judge",
    "dtype": "precision",
}


@dataclass(frozen=True)
class RunSummary:
    """One row of the table. Means are over the samples that have the number; rewards need not exist
    (vanilla).
    """

    name: str
    model: str
    samples: int
    outcomes: dict[str, int]
    accuracy: Estimate
    tokens: Estimate
    seconds: Estimate
    initial_reward: Estimate
    best_reward: Estimate
    reward_gain: Estimate
    cut_off: int  # answers that ended at --max_new_tokens
    metrics: dict[str, Any]  # the benchmark's official metrics, as the run computed them


@dataclass(frozen=True)
class Pair:
    """`run` against `baseline` over the samples that both were judged on."""

    baseline: str
    run: str
    samples: int
    left_out: int
    difference: Estimate  # accuracy of run minus baseline
    gained: list[int]  # data_idx: wrong in the baseline, correct in the run
    lost: list[int]
    p_value: float  # McNemar's exact test
    p_holm: float  # the same, corrected for the number of pairs in this comparison


@dataclass(frozen=True)
class Comparison:
    """Everything `dmlr compare` prints."""

    dataset: str
    samples: int
    runs: list[RunSummary]
    pairs: list[Pair]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def summarise(run: Run) -> RunSummary:
    """The row of one run."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for entry in run.entries.values():
        counts[outcome(entry)] += 1
    gains = [
        entry["best_reward"] - entry["initial_reward"]
        for entry in run.entries.values()
        if entry.get("best_reward") is not None and entry.get("initial_reward") is not None
    ]
    return RunSummary(
        name=run.name,
        model=str(run.results.get("model", "unknown")),
        samples=len(run.entries),
        outcomes=counts,
        accuracy=proportion(counts["correct"], counts["correct"] + counts["wrong"]),
        tokens=mean(run.values("generated_tokens")),
        seconds=mean(run.values("seconds")),
        initial_reward=mean(run.values("initial_reward")),
        best_reward=mean(run.values("best_reward")),
        reward_gain=mean(gains),
        cut_off=sum(entry.get("stop_reason") == "length" for entry in run.entries.values()),
        metrics=run.results.get("metrics") or {},
    )


def check_comparable(runs: Sequence[Run]) -> list[str]:
    """Warnings about settings that differ. Raises `UserError` naming every reason why the runs cannot be
    paired.
    """
    first = runs[0]
    problems, warnings = [], []
    for run in runs[1:]:
        missing = sorted(first.entries.keys() - run.entries.keys())
        extra = sorted(run.entries.keys() - first.entries.keys())
        if missing or extra:
            problems.append(
                f"{first.name} and {run.name} cover different rows: {len(missing)} only in the first"
                f"{_some(missing)}, {len(extra)} only in the second{_some(extra)}; run the same slice twice"
            )
        changed = [i for i in first.entries.keys() & run.entries.keys() if not _same_row(first, run, i)]
        if changed:
            problems.append(
                f"{first.name} and {run.name} are not the same dataset: question or gold answer differ in "
                f"{len(changed)} rows{_some(sorted(changed))}"
            )
        elif first.results.get("dataset") != run.results.get("dataset"):
            warnings.append(
                f"{first.name} and {run.name} name different dataset files ({first.results.get('dataset')}, "
                f"{run.results.get('dataset')}) with the same questions"
            )
    if problems:
        raise UserError(problems)
    return warnings + _setting_warnings(runs)


def _some(indices: list[int]) -> str:
    if not indices:
        return ""
    return f" ({', '.join(map(str, indices[:5]))}{', ...' if len(indices) > 5 else ''})"


def _same_row(first: Run, second: Run, index: int) -> bool:
    one, other = first.entries[index], second.entries[index]
    return all(one.get(key) == other.get(key) for key in ("question", "ground_truth"))


def _settings(run: Run) -> dict[str, tuple[str, Any]]:
    """What is watched: label -> (kind of setting, value). Unknown settings are absent, not None."""
    known = {**(run.results.get("config") or {}), **run.args}
    found: dict[str, tuple[str, Any]] = {
        name: (kind, known[name]) for name, kind in _WATCHED.items() if name in known
    }
    found["model"] = ("model", run.results.get("model"))
    for package, version in (run.results.get("versions") or {}).items():
        found[f"version of {package}"] = ("versions", version)
    judges = {
        str(e["verdict_by"])
        for e in run.entries.values()
        if str(e.get("verdict_by") or "").startswith("judge:")
    }
    found["judge models"] = ("judge", ", ".join(sorted(judges)) or "none")
    prompts = {str(entry["sys_prompt"]) for entry in run.entries.values() if entry.get("sys_prompt")}
    if len(prompts) == 1:
        found["system prompt"] = ("prompt", prompts.pop())
    return found


def _setting_warnings(runs: Sequence[Run]) -> list[str]:
    settings = [_settings(run) for run in runs]
    warnings = []
    for name in dict.fromkeys(name for setting in settings for name in setting):
        values = [setting[name][1] for setting in settings if name in setting]
        if any(value != values[0] for value in values):
            kind = next(setting[name][0] for setting in settings if name in setting)
            listed = "; ".join(
                f"{run.name}: {_clip(setting[name][1]) if name in setting else 'not recorded'}"
                for run, setting in zip(runs, settings)
            )
            warnings.append(f"{kind} differs, {name}: {listed}")
    return warnings


def _clip(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _paired(baseline: Run, run: Run) -> tuple[list[int], list[float], list[float]]:
    judged = [
        i
        for i in baseline.entries
        if {outcome(baseline.entries[i]), outcome(run.entries[i])} <= {"correct", "wrong"}
    ]
    return (
        judged,
        [float(outcome(baseline.entries[i]) == "correct") for i in judged],
        [float(outcome(run.entries[i]) == "correct") for i in judged],
    )


def compare(runs: Sequence[Run]) -> Comparison:
    """Table, paired differences against the first run, and warnings.

    Raises `UserError` when the runs do not cover the same rows of the same dataset.
    """
    warnings = check_comparable(runs)
    baseline = runs[0]
    found = []
    for run in runs[1:]:
        judged, first, second = _paired(baseline, run)
        gained = [i for i, a, b in zip(judged, first, second) if b > a]
        lost = [i for i, a, b in zip(judged, first, second) if b < a]
        found.append((run, judged, paired_difference(first, second), gained, lost))
    p_values = [mcnemar_p(len(lost), len(gained)) for *_, gained, lost in found]
    pairs = [
        Pair(
            baseline.name,
            run.name,
            len(judged),
            len(baseline.entries) - len(judged),
            difference,
            gained,
            lost,
            p,
            corrected,
        )
        for (run, judged, difference, gained, lost), p, corrected in zip(found, p_values, holm(p_values))
    ]
    return Comparison(
        dataset=str(baseline.results.get("dataset", "unknown")),
        samples=len(baseline.entries),
        runs=[summarise(run) for run in runs],
        pairs=pairs,
        warnings=warnings,
    )
