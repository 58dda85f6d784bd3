"""The output folder of a run: lock, journal, `results.json`, reward logs, latents, and checks of `--resume`.

Only the parent process uses it. The journal is the truth; `results.json` is derived from it, rewritten now
and then at a bounded share of the time, and at the end.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dmlr import __version__
from dmlr.config import FLAGS, Config
from dmlr.data import Dataset, Sample
from dmlr.entries import latents_file, make_entry, reward_csv
from dmlr.errors import UserError
from dmlr.files import write_bytes_atomic
from dmlr.journal import JOURNAL_VERSION, Journal, JournalContent, read_journal
from dmlr.prediction import Prediction
from dmlr.summary import summarise
from dmlr.verifier.verdict import Verdict

log = logging.getLogger(__name__)

JOURNAL, RESULTS, LOCK = "journal.jsonl", "results.json", ".lock"
_OWN_FOLDERS = ("reward_logs", "latents", "visual_token_viz")

# Settings that cannot change an answer or a file: a run may be resumed with other values of these. Where the
# run is computed (device, workers, batches) is among them: the same numbers up to rounding, see
# docs/FAILURES.md.
FREE_SETTINGS = frozenset(
    {
        *("device", "compile", "batch_size", "num_workers", "worker_device_round_robin", "gpus_per_worker"),
        *("ray_address", "limit_seconds", "trust_remote_code", "allow_remote_images", "skip_bad_rows"),
        *("base_url", "request_timeout"),
        *(
            "judge_concurrency",
            "verify_only",
            "output_dir",
            "resume",
            "overwrite",
            "verbose",
            "preset",
            "config",
        ),
        *("ckpt_suffix", "disable_save_logistics", "visual_token_viz_dir"),
    }
)
_SHARE_OF_TIME = 0.05  # spent at most on rewriting results.json during a run
_SHORTEST_INTERVAL = 10.0  # seconds between two rewritings


class Results:
    """Everything a run writes. `prepare` before the model loads, `open` after it, then `add` and `judge`.

    `entries` maps `data_idx` to the entry as it will stand in `results.json`.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.folder = Path(config.run.output_dir)
        self.entries: dict[int, dict[str, Any]] = {}
        self._config = config
        self._dataset = dataset
        self._journal: Journal | None = None
        self._sound_length = 0
        self._lock = FileLock(self.folder / LOCK)
        self._next_write = time.monotonic() + _SHORTEST_INTERVAL
        self._started = time.monotonic()

    # Before the model loads: look, refuse, write nothing.

    def prepare(self) -> None:
        """Refuse a folder that cannot be used, and read the journal of a run that is resumed.

        Raises `UserError`: the folder holds results and neither --resume nor --overwrite was given, another
        run is writing to it, it cannot be written, or --resume finds other settings (all of them named).
        """
        run = self._config.run
        _check_writable(self.folder)
        journal, results = self.folder / JOURNAL, self.folder / RESULTS
        if (journal.exists() or results.exists()) and not (run.resume or run.overwrite):
            raise UserError(
                f"--output_dir {self.folder}: holds results already; --resume continues them, "
                "--overwrite deletes them, or give another folder"
            )
        if self.folder.exists():
            self._take_lock()
        if run.resume and journal.exists():
            content = read_journal(journal)
            self._check_settings(content)
            self.entries, self._sound_length = content.entries, content.length
        elif run.resume and results.exists():
            raise UserError(f"--resume: {self.folder} has no {JOURNAL} to continue from; use --overwrite")

    def _take_lock(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"--output_dir {self.folder}: another run is writing there; wait, or give another folder"
            ) from None
        except OSError as error:
            raise _storage_error(self.folder, error) from None

    def _settings(self) -> dict[str, Any]:
        settings = {name: value for name, value in self._config.flat().items() if name not in FREE_SETTINGS}
        settings["dataset"] = {"name": _dataset_name(self._dataset), "sha256": self._dataset.digest}
        settings["model_name_or_path"] = {
            "name": self._config.model.model_name_or_path,
            "is": model_identity(self._config.model.model_name_or_path),
        }
        return settings

    def _check_settings(self, content: JournalContent) -> None:
        """Compare dataset and model by content: they may lie elsewhere on another machine."""
        was, now = content.header.get("settings", {}), self._settings()
        if not content.header:
            return
        problems = []
        for name in sorted(was.keys() | now.keys()):
            # a flag that is younger than the run had its default, in effect
            before = was.get(name, FLAGS[name].default if name in FLAGS else None)
            after = now.get(name)
            if isinstance(before, dict) and isinstance(after, dict):
                key = "sha256" if name == "dataset" else "is"
                if before.get(key) != after.get(key):
                    same = before["name"] == after["name"]
                    detail = (
                        "its content has changed" if same else f"was {before['name']}, now {after['name']}"
                    )
                    problems.append(f"--{name}: {detail}")
            elif before != after:
                problems.append(f"--{name}: was {before}, now {after}")
        if problems:
            start = f"--resume: {self.folder} was started with other settings"
            raise UserError(
                [f"{start}: {line}" for line in problems]
                + ["give the old settings, another --output_dir, or --overwrite to start again"]
            )

    # After the model loaded: the run begins.

    def open(self) -> None:
        """Create or continue the folder; from here on this run owns it. Raises `UserError`."""
        with self._storage():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.is_locked:
                self._take_lock()
                self._refuse_if_taken_meanwhile()
            if self._config.run.overwrite:
                self._delete_old()
            self._remove_torn_files()
            if not self._config.run.disable_save_logistics:
                self._journal = Journal(self.folder / JOURNAL, self._sound_length)
                if not self._sound_length:
                    self._journal.append([{"journal": JOURNAL_VERSION, "settings": self._settings()}])

    def _refuse_if_taken_meanwhile(self) -> None:
        if (self.folder / JOURNAL).exists() or (self.folder / RESULTS).exists():
            raise UserError(f"--output_dir {self.folder}: another run wrote there while this one was loading")

    def _delete_old(self) -> None:
        for name in (JOURNAL, RESULTS, f"{RESULTS}.bak"):
            (self.folder / name).unlink(missing_ok=True)
        for name in _OWN_FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _remove_torn_files(self) -> None:
        """Temporary files of atomic writes that a `kill -9` cut short."""
        for place in (self.folder, *(self.folder / name for name in _OWN_FOLDERS)):
            for pattern in (f".{RESULTS}.*", ".reward_steps_*", ".[0-9]*.safetensors.*"):
                for path in place.glob(pattern):
                    path.unlink(missing_ok=True)

    def finished(self) -> set[int]:
        """Indices with an answer. Entries with an error are not among them: --resume tries those again."""
        return {index for index, entry in self.entries.items() if not entry["error"]}

    def awaiting_verdict(self) -> list[int]:
        """Indices of answers whose verdict is not in the journal (the run was killed in between)."""
        return [i for i, entry in self.entries.items() if entry["verdict_reason"] == "not judged yet"]

    def add(self, answered: Sequence[tuple[Sample, Prediction]]) -> None:
        """Record predictions: their files first, then one journal line each, on the disk when this returns.

        Raises `UserError` when the disk is full or the folder cannot be written; the journal stays valid.
        """
        entries = [make_entry(sample, prediction) for sample, prediction in answered]
        with self._storage():
            for _, prediction in answered:
                self._write_files(prediction)
            if self._journal and entries:
                self._journal.append({"entry": entry} for entry in entries)
        for entry in entries:
            self.entries[entry["data_idx"]] = entry

    def _write_files(self, prediction: Prediction) -> None:
        run, name = self._config.run, f"{prediction.data_idx:06d}"
        if run.save_reward_csv and prediction.trace:
            write_bytes_atomic(
                self.folder / "reward_logs" / f"reward_steps_{name}.csv", reward_csv(prediction)
            )
        if run.save_latents and prediction.thoughts is not None:
            write_bytes_atomic(self.folder / "latents" / f"{name}.safetensors", latents_file(prediction))

    def judge(self, verdicts: Iterable[tuple[int, Verdict]]) -> None:
        """Record verdicts. Not fsynced: a lost one is judged again. Raises `UserError` on a full disk."""
        records = []
        for index, verdict in verdicts:
            fields = {
                "is_correct": verdict.is_correct,
                "verdict": verdict.verdict,
                "verdict_by": verdict.by,
                "verdict_reason": verdict.reason,
                "answer": verdict.answer,
            }
            self.entries[index].update(fields)
            records.append({"verdict": {"data_idx": index, **fields}})
        if self._journal and records:
            with self._storage():
                self._journal.append(records, sync=False)

    # results.json

    def summary(self) -> dict[str, Any]:
        """Counts and accuracy of the entries so far, and how many samples are still without one."""
        counts = dict(summarise(self._sorted()))
        remaining = sum(sample.data_idx not in self.entries for sample in self._dataset.samples)
        return counts | {"remaining": remaining}

    def write_now_and_then(self) -> None:
        """Rewrite `results.json` when it is due. Raises `UserError` on a full disk."""
        if time.monotonic() >= self._next_write:
            begun = time.monotonic()
            self.write()
            cost = time.monotonic() - begun
            self._next_write = time.monotonic() + max(_SHORTEST_INTERVAL, cost / _SHARE_OF_TIME)

    def write(self, metrics: dict[str, Any] | None = None) -> None:
        """Write `results.json` atomically: one line per entry, in the order of `data_idx`."""
        config = self._config
        counts = self.summary()
        entries = self._sorted()
        head = {
            "model": config.model.model_name_or_path,
            "dataset": _dataset_name(self._dataset),
            "accuracy": counts["accuracy"],
            "correct": counts["correct"],
            "total": counts["total"],
            "ci95": counts["ci95"],
            "unjudged": counts["unjudged"],
            "errors": counts["errors"],
            "remaining": counts["remaining"],
            "metrics": metrics or {},
            "config": {
                "max_new_tokens": config.decoding.max_new_tokens,
                "solver_prompt_idx": config.decoding.solver_prompt_idx,
                "min_pixels": config.model.min_pixels,
                "max_pixels": config.model.max_pixels,
            },
            "args": config.flat(),
            "timing": {
                "wall_seconds": round(
                    time.monotonic() - self._started, 3
                ),  # of this session, loading included
                "sample_seconds": round(sum(entry["seconds"] for entry in entries), 3),
                "generated_tokens": sum(entry["generated_tokens"] for entry in entries),
            },
            "versions": versions(),
        }
        text = json.dumps(head, ensure_ascii=False, indent=2, allow_nan=False)
        # Compact lines keep the C encoder: a hundred thousand entries take seconds, and `grep` finds one.
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries)
        whole = text.removesuffix("\n}") + ',\n  "entries": [\n' + lines + "\n]\n}\n"
        with self._storage():
            write_bytes_atomic(self.folder / RESULTS, whole.encode())

    def _sorted(self) -> list[dict[str, Any]]:
        return [self.entries[index] for index in sorted(self.entries)]

    def close(self) -> None:
        """Close the journal and give the folder free."""
        if self._journal:
            self._journal.close()
            self._journal = None
        self._lock.release()

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _storage_error(self.folder, error) from None


def model_identity(name: str) -> str:
    """What makes two names the same model: the hub id, or a digest of a folder's config and weight sizes.

    A folder is read for a few kilobytes only, and equal folders on two machines are the same model.
    """
    folder = Path(name)
    if not (folder / "config.json").is_file():
        return name
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computed the results. Reads package metadata, imports none of them."""
    found = {"dmlr": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "numpy", "qwen-vl-utils", "math-verify"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _dataset_name(dataset: Dataset) -> str:
    return dataset.path.as_posix() if dataset.path else ""


def _check_writable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder}: is a file, a folder is needed")
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--output_dir {folder}: {nearest} cannot be written to; give another folder")


def _storage_error(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"--output_dir {folder}: cannot write there ({error.strerror or error}); "
        "the journal is safe: make room or mend the folder, then --resume"
    )
