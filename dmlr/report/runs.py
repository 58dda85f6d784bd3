"""Reading finished runs: `results.json`, the reward logs beside it, and the dataset it was made from.

Works on any folder that holds a `results.json` of `dmlr run` (also on results of the published code, which
have no `verdict`: theirs is read from `is_correct`). Nothing is written.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlr.errors import UserError
from dmlr.files import read_json
from dmlr.prediction import StepTrace

OUTCOMES = ("correct", "wrong", "unjudged", "error")


@dataclass(frozen=True)
class Run:
    """One run folder. `entries` maps `data_idx` to the entry, in ascending order; `results` is the whole
    file.
    """

    name: str  # short, unique among the runs that were loaded together
    folder: Path
    results: dict[str, Any]
    entries: dict[int, dict[str, Any]] = field(repr=False)

    @property
    def args(self) -> dict[str, Any]:
        """Every flag of the run as it was resolved; empty when the file does not record them."""
        return self.results.get("args") or {}

    def values(self, key: str) -> list[float]:
        """The numbers that the entries hold under `key`, those without one left out."""
        found = (entry.get(key) for entry in self.entries.values())
        return [
            float(value) for value in found if isinstance(value, int | float) and not isinstance(value, bool)
        ]


def outcome(entry: dict[str, Any]) -> str:
    """One of `OUTCOMES`: a failed sample is `error`, whatever its verdict says."""
    if entry.get("error"):
        return "error"
    verdict = entry.get("verdict")
    if verdict in OUTCOMES:
        return str(verdict)
    if isinstance(entry.get("is_correct"), bool):
        return "correct" if entry["is_correct"] else "wrong"
    return "unjudged"


def load_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Read the runs at `paths` (folders, or their `results.json`) and give them short unique names.

    Raises `UserError` with a line for every folder that cannot be used.
    """
    problems: list[str] = []
    loaded: list[tuple[Path, dict[str, Any], dict[int, dict[str, Any]]]] = []
    for path in map(Path, paths):
        file = path if path.suffix == ".json" else path / "results.json"
        try:
            results = read_json(file, "results file")
            entries = _entries(file, results)
        except UserError as error:
            problems += error.problems
        else:
            loaded.append((file.parent, results, entries))
    if problems:
        raise UserError(problems)
    names = short_names([folder for folder, _, _ in loaded])
    return [Run(name, *rest) for name, rest in zip(names, loaded)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Trailing parts of each folder, as few as tell all of them apart (the same folder twice gets a
    number).
    """
    parts = [folder.resolve().parts for folder in folders]
    names = ["/".join(part) for part in parts]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        tails = ["/".join(part[-depth:]) for part in parts]
        if len(set(tails)) == len(set(parts)):
            names = tails
            break
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


def _entries(file: Path, results: Any) -> dict[int, dict[str, Any]]:
    if not isinstance(results, dict) or not isinstance(results.get("entries"), list):
        raise UserError(f"results file {file}: no list called `entries`; is it a results.json of `dmlr run`?")
    problems = []
    entries: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(results["entries"]):
        index = entry.get("data_idx") if isinstance(entry, dict) else None
        if not isinstance(index, int) or isinstance(index, bool):
            problems.append(f"results file {file}: entry {position} has no integer `data_idx`")
        elif index in entries:
            problems.append(f"results file {file}: data_idx {index} occurs twice (entry {position})")
        else:
            entries[index] = entry
    if not entries and not problems:
        problems.append(f"results file {file}: holds no entries yet")
    if problems:
        raise UserError(problems)
    return dict(sorted(entries.items()))


def load_trace(run: Run, data_idx: int) -> list[StepTrace]:
    """Reward log of one sample, an empty list when none was written.

    Logs of the published code lack the last two columns; they are read as NaN. Raises `UserError` when the
    file is there and is not such a log.
    """
    file = run.folder / "reward_logs" / f"reward_steps_{data_idx:06d}.csv"
    if not file.is_file():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            return [
                StepTrace(
                    step=int(row["step"]),
                    reward=float(row["reward"]),
                    sigma=float(row["sigma"]),
                    is_new_best=row["is_new_best"].strip().lower() in ("true", "1"),
                    patch_count=int(row["patch_count"]),
                    patch_budget=int(row["patch_budget"]),
                    candidate_reward_mean=float(row.get("candidate_reward_mean") or "nan"),
                    top_k_mass=float(row.get("top_k_mass") or "nan"),
                )
                for row in csv.DictReader(handle)
            ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"reward log {file}: not a reward log ({error})") from None


def dataset_file(run: Run) -> Path | None:
    """The JSON file the run was made from, as its settings name it; None when it is not on this machine.

    Recorded paths are tried as they stand (from the working directory) and, for runs that moved together
    with their data, from the run's folder upwards.
    """
    recorded = run.results.get("dataset") or run.args.get("dataset")
    if not recorded:
        return None
    names = [Path(str(recorded))]
    if names[0].suffix != ".json":
        names += [Path("data") / f"{recorded}.json", Path("data") / str(recorded) / f"{names[0].name}.json"]
    for base in (Path(), *run.folder.resolve().parents):
        for name in names:
            if (base / name).is_file():
                return base / name
    return None


def dataset_rows(run: Run) -> dict[int, dict[str, Any]]:
    """Rows of the run's dataset by `data_idx` (evidence boxes and categories live there); empty when it is
    gone.
    """
    file = dataset_file(run)
    if file is None:
        return {}
    rows = read_json(file, "dataset")
    return {i: row for i, row in enumerate(rows) if isinstance(row, dict)} if isinstance(rows, list) else {}


def image_file(run: Run, entry: dict[str, Any]) -> Path | None:
    """Where the entry's image lies: beside the dataset file or under the working directory; None when it is
    gone.
    """
    recorded = entry.get("image_path")
    if not recorded or "://" in str(recorded):
        return None
    dataset = dataset_file(run)
    for base in ([dataset.parent] if dataset else []) + [Path(), run.folder]:
        if (base / str(recorded)).is_file():
            return base / str(recorded)
    return None


def load_analysis(run: Run, name: str) -> dict[int, dict[str, Any]]:
    """Per-sample part of an analysis that was saved beside the run, by `data_idx`; empty when there is
    none.
    """
    file = run.folder / "analysis" / f"{name}.json"
    if not file.is_file():
        return {}
    content = read_json(file, "analysis")
    if not isinstance(content, dict) or not isinstance(content.get("samples"), list):
        raise UserError(
            f"analysis {file}: not written by `dmlr analyze`; delete it or run the analysis again"
        )
    return {row["data_idx"]: row for row in content["samples"]}
