"""Judging a finished run again: no torch, no model, no image.

Every other field of `results.json` stays, the file before is kept beside it, and what changed is reported. The
results files of the published code are read too.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from dmlr.benchmarks import official_metrics
from dmlr.errors import UserError
from dmlr.files import read_json, write_bytes_atomic
from dmlr.journal import Journal, read_journal
from dmlr.summary import summarise
from dmlr.verifier.joining import Joined, join_entries
from dmlr.verifier.verdict import Verdict

RESULTS, BACKUP, JOURNAL, LOCK = "results.json", "results.json.bak", "journal.jsonl", ".lock"


class Verifying(Protocol):
    """Whoever judges: `dmlr.verifier.Verifier`, or a stand-in of a test."""

    def submit(self, output: str, row: Mapping[str, Any], truncated: bool = False) -> "Future[Verdict]":
        """Start judging `output` against a dataset row."""


@dataclass(frozen=True)
class Loaded:
    """A results file with its dataset and how the two belong together."""

    path: Path
    results: dict[str, Any]
    dataset: Path
    rows: list[dict[str, Any]]
    joined: Joined

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of the results file, as read."""
        return self.results["entries"]

    def pairs(self) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Each entry with its dataset row, or with None."""
        return [
            (entry, self.rows[row] if row is not None else None)
            for entry, row in zip(self.entries, self.joined.rows)
        ]


def load_results(output: Path, dataset: Path | None) -> Loaded:
    """Read a results file (or the folder that holds it) and its dataset, and join them.

    Without `dataset` the one that the results file names is looked for. Raises `UserError`.
    """
    path = output / RESULTS if output.is_dir() else output
    if not path.exists():
        raise UserError(f"results file {path}: no such file; give the output folder of a run")
    results = read_json(path, "results file")
    if not isinstance(results, dict) or not isinstance(results.get("entries"), list):
        raise UserError(f"results file {path}: has no list of entries")
    if not all(isinstance(entry, dict) for entry in results["entries"]):
        raise UserError(f"results file {path}: an entry is not an object")
    recorded = results.get("args")
    arguments = recorded if isinstance(recorded, dict) else {}
    dataset = dataset or _recorded_dataset(results, arguments, path)
    rows = read_json(dataset, "dataset")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"dataset {dataset}: must be a JSON list of objects")
    return Loaded(path, results, dataset, rows, join_entries(results["entries"], rows, arguments))


def _recorded_dataset(results: Mapping[str, Any], arguments: Mapping[str, Any], path: Path) -> Path:
    from dmlr.data import find_dataset

    name = results.get("dataset") or arguments.get("dataset")
    if not isinstance(name, str):
        raise UserError(f"results file {path}: names no dataset; give it with --dataset")
    try:
        return find_dataset(name)
    except UserError:
        raise UserError(
            f"results file {path}: its dataset {name} is not there; give it with --dataset"
        ) from None


def reverify(output_dir: Path, dataset: Path | None, verifier: Verifying) -> dict[str, Any]:
    """Judge every entry of `output_dir/results.json` again and rewrite the file; the summary as a plain dict.

    `results.json.bak` holds the file as it was, the journal (if there is one) gets the new verdicts, so that
    `--resume` does not bring the old ones back. Official metrics are computed anew. Entries without a row keep their
    verdict. Raises `UserError` (nothing is written then), also while a run writes to the folder.
    """
    folder = output_dir if output_dir.is_dir() else output_dir.parent
    if not folder.is_dir():
        raise UserError(f"results file {output_dir}: no such file; give the output folder of a run")
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: a run is writing there; wait until it ends") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror or error})") from None
    try:
        loaded = load_results(output_dir, dataset)
        return _reverify(loaded, verifier)
    finally:
        lock.release()


def _reverify(loaded: Loaded, verifier: Verifying) -> dict[str, Any]:
    before = summarise(_failures_marked(loaded.entries))
    verdicts = judge_entries(loaded, verifier)
    changes: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for (entry, row), row_index, verdict in zip(loaded.pairs(), loaded.joined.rows, verdicts):
        if row is None or row_index is None or verdict is None:
            entries.append(entry)
            continue
        was = old_verdict(entry)
        entries.append(_updated(entry, row, row_index, verdict))
        if was != verdict.verdict:
            changes.append(
                {"data_idx": row_index, "before": was, "after": verdict.verdict, "reason": verdict.reason}
            )
    entries.sort(key=lambda entry: entry.get("data_idx", entry.get("idx", 0)))
    after = summarise(_failures_marked(entries))
    summary = {
        "results": str(loaded.path),
        "dataset": str(loaded.dataset),
        **after,
        "accuracy_before": before["accuracy"],
        "changes": dict(sorted(Counter(f"{c['before']} -> {c['after']}" for c in changes).items())),
        "changed": changes,
        "entries_without_row": [
            entry.get("data_idx") for entry, row in zip(loaded.entries, loaded.joined.rows) if row is None
        ],
        "rows_without_entry": list(loaded.joined.rows_without_entry),
        "indices": loaded.joined.indices,
    }
    usage = judge_usage(verifier)
    results = {key: value for key, value in loaded.results.items() if key != "entries"}
    results |= {
        **after,
        "metrics": _metrics(loaded.rows, entries),
        "verification": {"dataset": str(loaded.dataset), "changes": summary["changes"], "judge": usage},
        "entries": entries,
    }
    _write(loaded.path, results)
    _update_journal(loaded.path.parent / JOURNAL, entries)
    return summary | ({"judge": usage} if usage else {})


def judge_entries(loaded: Loaded, verifier: Verifying) -> list[Verdict | None]:
    """A verdict per entry (all in flight at once); None for an entry without a row."""
    waiting: list[Future[Verdict] | Verdict | None] = []
    for entry, row in loaded.pairs():
        failure = failure_of(entry)
        if row is None:
            waiting.append(None)
        elif failure:
            waiting.append(Verdict("unjudged", "none", f"no answer to judge: {failure}"))
        else:
            output = entry.get("model_output")
            truncated = entry.get("stop_reason") == "length"
            waiting.append(
                verifier.submit(output if isinstance(output, str) else "", row, truncated=truncated)
            )
    return [item.result() if isinstance(item, Future) else item for item in waiting]


def failure_of(entry: Mapping[str, Any]) -> str:
    """Why a sample failed; empty when it was answered. The published code records no error, only a stop reason."""
    if entry.get("error"):
        return str(entry["error"])
    if entry.get("stop_reason") in ("exception", "skipped_no_gt") and not entry.get("model_output"):
        return f"the sample ended with {entry['stop_reason']}"
    return ""


def old_verdict(entry: Mapping[str, Any]) -> str:
    """The verdict an entry carries; the published code has only `is_correct`."""
    verdict = entry.get("verdict")
    if verdict in ("correct", "wrong", "unjudged"):
        return str(verdict)
    is_correct = entry.get("is_correct")
    return "unjudged" if is_correct is None else "correct" if is_correct else "wrong"


def _failures_marked(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"is_correct": entry.get("is_correct"), "error": failure_of(entry) or None} for entry in entries]


def _updated(
    entry: dict[str, Any], row: Mapping[str, Any], row_index: int, verdict: Verdict
) -> dict[str, Any]:
    gold = str(row.get("solution") or "")
    text = row.get("answer_text")
    return entry | {
        "data_idx": row_index,
        "answer": verdict.answer,
        "ground_truth": gold,
        "ground_truth_text": gold if text is None else str(text),
        "is_correct": verdict.is_correct,
        "verdict": verdict.verdict,
        "verdict_by": verdict.by,
        "verdict_reason": verdict.reason,
        "error": failure_of(entry) or None,
    }


def _metrics(rows: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return official_metrics(
        list(rows), [entry for entry in entries if isinstance(entry.get("data_idx"), int)]
    )


def judge_usage(verifier: Any) -> dict[str, Any] | None:
    """Model, calls, tokens and cost of the verifier's judge; None without one."""
    judge = getattr(verifier, "judge", None)
    return None if judge is None else {"model": judge.config.model, **asdict(judge.usage)}


def _write(path: Path, results: dict[str, Any]) -> None:
    """Keep the old file as `results.json.bak` and put the new one in its place, each in one step."""
    head = {key: value for key, value in results.items() if key != "entries"}
    text = json.dumps(head, ensure_ascii=False, indent=2).removesuffix("\n}")
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in results["entries"])
    content = (text + ',\n  "entries": [\n' + lines + "\n]\n}\n").encode()
    try:
        write_bytes_atomic(path.with_name(path.name + ".bak"), path.read_bytes())
        write_bytes_atomic(path, content)
    except OSError as error:
        raise UserError(f"results file {path}: cannot be written ({error.strerror or error})") from None


def _update_journal(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    if not path.exists() or not os.path.getsize(path):
        return
    content = read_journal(path)
    fields = ("data_idx", "is_correct", "verdict", "verdict_by", "verdict_reason", "answer")
    records = [
        {"verdict": {name: entry.get(name) for name in fields}}
        for entry in entries
        if entry.get("data_idx") in content.entries
    ]
    journal = Journal(path, content.length)
    try:
        journal.append(records)
    finally:
        journal.close()
