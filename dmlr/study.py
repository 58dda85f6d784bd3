"""Controls in one command: named arms, several seeds, one table (`dmlr study`).

An arm is a set of flags laid over the study's own. Each arm and seed is an ordinary run in
`DIR/ARM/seed_N`, so a study that is interrupted continues where it stopped, and every run can be reported,
compared and analysed by itself. The unit of every statistic is the question: its correctness is averaged
over the seeds first.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dmlr.batching import Answer, Engine, load_engine
from dmlr.config import Config, ModelConfig, resolve
from dmlr.errors import UserError
from dmlr.files import write_bytes_atomic, write_json_atomic
from dmlr.report.compare import check_comparable
from dmlr.report.evidence import patch_evidence
from dmlr.report.runs import Run, load_runs, outcome
from dmlr.report.statistics import Estimate, holm, mcnemar_p, mean, paired_difference, sign_flip_p
from dmlr.report.tables import aligned, interval, markdown, number, p_text
from dmlr.runner import run as run_dataset

log = logging.getLogger(__name__)

# Each control takes one ingredient of the method away (ours; the paper compares with vanilla only).
ARMS: dict[str, dict[str, Any]] = {
    "vanilla": {"method": "vanilla"},  # no thoughts at all
    "unoptimised": {"max_num_steps": 0},  # thoughts in the prompt, untouched
    "random_thoughts": {
        "thought_init": "random",
        "max_num_steps": 0,
    },  # as far from the start, in no direction
    "no_injection": {"num_selected_patches": 0},  # optimised thoughts, no patches
    "random_patches": {"patch_choice": "random"},  # as many patches, chosen blindly
    "dmlr": {},
}


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    arm: str
    seed: int
    config: Config


@dataclass(frozen=True)
class ArmResult:
    """One arm over its seeds. `runs_per_seed` is 1 where no noise enters: then one run stands for every
    seed.
    """

    arm: str
    seeds: list[int]
    accuracy: Estimate  # over questions, each averaged over the seeds
    per_seed: list[float | None]
    unjudged: int
    errors: int
    tokens: float | None
    seconds: float | None
    initial_reward: float | None
    best_reward: float | None
    reward_gain: Estimate
    patches_inside: Estimate  # share of injected patches inside the evidence boxes
    patches_chance: float | None  # what patches drawn blindly would reach on the same images
    difference: Estimate | None = None  # accuracy minus the first arm's, paired by question
    p_value: float | None = None  # sign-flip permutation test over questions
    p_holm: float | None = None
    mcnemar: list[float] = field(default_factory=list)  # per seed, exact
    gained: list[int] = field(default_factory=list)  # per seed: wrong in the first arm, right here
    lost: list[int] = field(default_factory=list)


def parse_arms(names: Sequence[str], file: Path | None) -> dict[str, dict[str, Any]]:
    """Flags of the arms called `names`, from the built-in ones and those of a YAML file (`name: {flag:
    value}`).

    Raises `UserError` with every unknown name and everything wrong with the file.
    """
    known: dict[str, Any] = dict(ARMS)
    problems: list[str] = []
    if file is not None:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"--arms_file {file}: cannot be read ({' '.join(str(error).split())})") from None
        if not isinstance(content, dict):
            raise UserError(
                f"--arms_file {file}: must map arm names to flags, like `long: {{max_num_steps: 50}}`"
            )
        for name, flags in content.items():
            if not isinstance(flags, dict | None):
                problems.append(f"--arms_file {file}: arm {name} must map flags to values")
            elif not _is_folder_name(str(name)):
                problems.append(f"--arms_file {file}: arm {name!r} cannot be a folder name")
            else:
                known[str(name)] = flags or {}
    problems += [f"--arms {n}: no such arm; one of {', '.join(known)}" for n in names if n not in known]
    problems += [f"--arms {n}: given twice" for n in dict.fromkeys(names) if list(names).count(n) > 1]
    if not names:
        problems.append("--arms: empty; name at least one")
    if problems:
        raise UserError(problems)
    return {name: known[name] for name in names}


def _is_folder_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set('/\\:*?"<>|\0')


def plan(
    arms: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], folder: Path, flags: Sequence[str]
) -> list[Job]:
    """The runs of a study in their order: every arm, and every seed where noise enters at all.

    `flags` are words of a `dmlr run` command line that hold for all arms. Raises `UserError` with the
    problems of every arm at once, before any model loads.
    """
    resolve(
        [*flags, "--seed", str(seeds[0]), "--output_dir", str(folder)]
    )  # what is wrong for all is said once
    jobs: list[Job] = []
    problems: list[str] = []
    for arm, overrides in arms.items():
        own = [word for name, value in overrides.items() for word in (f"--{name}", _word(value))]
        for seed in seeds:
            place = [
                "--seed",
                str(seed),
                "--output_dir",
                str(folder / arm / f"seed_{seed}"),
                "--resume",
                "true",
            ]
            try:
                config = resolve([*flags, *own, *place])
            except UserError as error:
                problems += [f"arm {arm}: {problem}" for problem in error.problems]
                break
            jobs.append(Job(arm, seed, config))
            if not uses_noise(config):
                break
    if problems:
        raise UserError(problems)
    return jobs


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def uses_noise(config: Config) -> bool:
    """Whether the seed can change anything: decoding is greedy, only the policy and blind choices draw
    numbers.
    """
    latent, visual = config.latent, config.visual
    if config.decoding.method == "vanilla" or latent.num_thought_tokens == 0:
        return False
    if latent.thought_init == "random":
        return True
    if latent.max_num_steps == 0:
        return False
    blind_patches = visual.patch_choice == "random" and visual.num_selected_patches > 0
    return not latent.use_auto_grad or blind_patches


class SharedModel:
    """An `Engine` that loads each model once for all the runs of a study (they differ in flags, not in
    weights).
    """

    def __init__(self) -> None:
        self._loaded: dict[ModelConfig, Any] = {}

    def __call__(self, config: Config) -> Answer:
        """See `dmlr.batching.load_engine`."""
        from dmlr.backbone import Backbone
        from dmlr.engine import Answerer

        if config.model not in self._loaded:
            self._loaded = {config.model: Backbone.load(config.model)}
        return Answerer(self._loaded[config.model], config)


def run_study(jobs: Sequence[Job], tell: Callable[[str], None], engine: Engine | None = None) -> bool:
    """Run what is not finished yet; False when it was interrupted or stopped early. `tell` gets a line per
    run.
    """
    alone = all(job.config.run.num_workers == 1 and job.config.run.ray_address is None for job in jobs)
    engine = engine or (SharedModel() if alone else load_engine)
    for number_, job in enumerate(jobs, 1):
        tell(f"[{number_}/{len(jobs)}] {job.arm}, seed {job.seed}")
        done = run_dataset(job.config, engine)
        if done.interrupted or done.stopped:
            return False
    return True


# ---- statistics
# ---------------------------------------------------------------------------------------------------


def collect(jobs: Sequence[Job]) -> dict[str, list[Run]]:
    """The finished runs by arm. Raises `UserError` when one is missing or they are not over the same
    questions.
    """
    runs = load_runs([job.config.run.output_dir for job in jobs])
    found: dict[str, list[Run]] = {}
    for job, run in zip(jobs, runs):
        found.setdefault(job.arm, []).append(run)
    check_comparable(runs)
    return found


def question_scores(runs: Sequence[Run]) -> dict[int, float]:
    """Share of the seeds that answer each question right; questions without a verdict in any run are left
    out.
    """
    scores = {}
    for index in runs[0].entries:
        verdicts = [outcome(run.entries[index]) for run in runs]
        judged = [v == "correct" for v in verdicts if v in ("correct", "wrong")]
        if judged:
            scores[index] = float(np.mean(judged))
    return scores


def tabulate(found: Mapping[str, Sequence[Run]]) -> list[ArmResult]:
    """One result per arm; differences are against the first one."""
    rows = [_arm(name, runs) for name, runs in found.items()]
    first_name, first_runs = next(iter(found.items()))
    baseline = question_scores(first_runs)
    tested: list[tuple[Estimate, float, list[tuple[int, int]]]] = []
    for name, runs in found.items():
        if name == first_name:
            continue
        scores = question_scores(runs)
        shared = sorted(scores.keys() & baseline.keys())
        before, after = [baseline[i] for i in shared], [scores[i] for i in shared]
        flips = [_flips(first_runs[min(k, len(first_runs) - 1)], run) for k, run in enumerate(runs)]
        tested.append((paired_difference(before, after), sign_flip_p(before, after), flips))
    corrected = holm([p for _, p, _ in tested])
    results = [rows[0]]
    for row, (difference, p, flips), adjusted in zip(rows[1:], tested, corrected):
        extra = {
            "difference": difference,
            "p_value": p,
            "p_holm": adjusted,
            "mcnemar": [mcnemar_p(lost, gained) for gained, lost in flips],
            "gained": [gained for gained, _ in flips],
            "lost": [lost for _, lost in flips],
        }
        results.append(ArmResult(**{**row.__dict__, **extra}))
    return results


def _flips(baseline: Run, run: Run) -> tuple[int, int]:
    pairs = [(outcome(baseline.entries[i]), outcome(run.entries[i])) for i in baseline.entries]
    return pairs.count(("wrong", "correct")), pairs.count(("correct", "wrong"))


def _arm(name: str, runs: Sequence[Run]) -> ArmResult:
    per_seed = []
    for run in runs:
        verdicts = [outcome(entry) for entry in run.entries.values()]
        judged = verdicts.count("correct") + verdicts.count("wrong")
        per_seed.append(verdicts.count("correct") / judged if judged else None)
    inside, chance = [], []
    for run in runs:
        for scored in patch_evidence(run).values():
            inside.append(scored.inside)
            chance.append(scored.chance)
    return ArmResult(
        arm=name,
        seeds=[int(run.args.get("seed", -1)) for run in runs],
        accuracy=mean(list(question_scores(runs).values())),
        per_seed=per_seed,
        unjudged=sum(outcome(e) == "unjudged" for run in runs for e in run.entries.values()),
        errors=sum(outcome(e) == "error" for run in runs for e in run.entries.values()),
        tokens=_average(runs, "generated_tokens"),
        seconds=_average(runs, "seconds"),
        initial_reward=_average(runs, "initial_reward"),
        best_reward=_average(runs, "best_reward"),
        reward_gain=mean(_gains(runs)),
        patches_inside=mean(inside),
        patches_chance=float(np.mean(chance)) if chance else None,
    )


def _average(runs: Sequence[Run], key: str) -> float | None:
    values = [value for run in runs for value in run.values(key)]
    return float(np.mean(values)) if values else None


def _gains(runs: Sequence[Run]) -> list[float]:
    """Reward gain of each question, averaged over the seeds."""
    gains: dict[int, list[float]] = {}
    for run in runs:
        for index, entry in run.entries.items():
            if entry.get("best_reward") is not None and entry.get("initial_reward") is not None:
                gains.setdefault(index, []).append(entry["best_reward"] - entry["initial_reward"])
    return [float(np.mean(values)) for values in gains.values()]


# ---- output
# -------------------------------------------------------------------------------------------------------

HEADER = (
    "arm",
    "accuracy [95 %]",
    "per seed",
    "minus first [95 %]",
    "p",
    "p (Holm)",
    "gained",
    "lost",
    "first reward",
    "gain [95 %]",
    "in evidence",
    "chance",
    "tokens",
    "s/sample",
)


def row_of(result: ArmResult) -> tuple[str, ...]:
    """Cells of `HEADER`."""
    return (
        result.arm,
        interval(result.accuracy),
        " ".join(number(value) for value in result.per_seed),
        interval(result.difference, sign=True) if result.difference else "-",
        p_text(result.p_value),
        p_text(result.p_holm),
        " ".join(map(str, result.gained)) or "-",
        " ".join(map(str, result.lost)) or "-",
        number(result.initial_reward),
        interval(result.reward_gain, sign=True),
        number(result.patches_inside.value),
        number(result.patches_chance),
        number(result.tokens, 1),
        number(result.seconds),
    )


NOTES = (
    "Accuracy: share of right answers among judged questions, each question averaged over the seeds; intervals are "
    "bootstrap intervals over questions. p: sign-flip permutation test over questions against the first arm; Holm: "
    "corrected for the number of arms. Gained and lost: flips against the first arm, per seed. In evidence: share of "
    "the injected patches' area inside the boxes that decide the answer; chance: the share of the image that they "
    "cover. Arms with one number per seed draw no noise: one run stands for every seed."
)


def write_tables(results: Sequence[ArmResult], jobs: Sequence[Job], folder: Path) -> str:
    """Write `study.json` and `study.md` to `folder`; returns the table as text for the terminal."""
    rows = [row_of(result) for result in results]
    write_json_atomic(
        folder / "study.json",
        {
            "arms": [asdict(result) for result in results],
            "runs": [{"arm": j.arm, "seed": j.seed, "folder": j.config.run.output_dir} for j in jobs],
            "unjudged": sum(result.unjudged for result in results),
            "errors": sum(result.errors for result in results),
        },
    )
    write_bytes_atomic(folder / "study.md", f"{markdown(HEADER, rows)}\n\n{NOTES}\n".encode())
    return aligned(HEADER, rows)
