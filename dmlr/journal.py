"""The journal of a run: one JSON line per event, on the disk before the run goes on.

Line 1 is the header (what was started). Then, in order of arrival, `{"entry": {...}}` for every answered
sample and `{"verdict": {...}}` for every judged one. A later line about a sample replaces an earlier one. A
crash can leave at most a torn last line, which `read_journal` leaves out and `Journal` cuts off before it
appends.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlr.errors import UserError

JOURNAL_VERSION = 1


@dataclass
class JournalContent:
    """Header, entries by `data_idx`, and the length in bytes of the journal's sound part."""

    header: dict[str, Any] = field(default_factory=dict)
    entries: dict[int, dict[str, Any]] = field(default_factory=dict)
    length: int = 0


def encode(record: dict[str, Any]) -> bytes:
    """One journal line. NaN is refused (`ValueError`): it is not JSON."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def read_journal(path: Path) -> JournalContent:
    """Read a journal; entries carry the verdicts of their later lines.

    Raises `UserError` for a journal that no crash of ours can leave: damaged before its last line, or written
    by another version.
    """
    content = JournalContent()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # torn by a crash while it was written
            try:
                record = json.loads(line)
                _apply(record, number, content)
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"journal {path}: line {number} is damaged; --overwrite starts again, or remove that line"
                ) from None
            content.length += len(line)
    if content.header and content.header.get("journal") != JOURNAL_VERSION:
        raise UserError(
            f"journal {path}: version {content.header.get('journal')}, this is version {JOURNAL_VERSION}; "
            "use the dmlr that wrote it, or --overwrite"
        )
    return content


def _apply(record: dict[str, Any], number: int, content: JournalContent) -> None:
    if number == 1:
        if "journal" not in record:
            raise ValueError("no header")
        content.header = record
    elif "entry" in record:
        entry = record["entry"]
        content.entries[int(entry["data_idx"])] = entry
    else:
        verdict = record["verdict"]
        content.entries[int(verdict.pop("data_idx"))].update(verdict)


class Journal:
    """An open journal. After a failed write (disk full) it is cut back to its last whole line."""

    def __init__(self, path: Path, sound_length: int = 0) -> None:
        """Open for appending behind the first `sound_length` bytes (0: empty). Raises `OSError`."""
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        self._length = sound_length
        os.ftruncate(self._file, sound_length)

    def append(self, records: Iterable[dict[str, Any]], sync: bool = True) -> None:
        """Write the records as whole lines; with `sync` they have reached the disk when this returns.

        Without `sync` they survive the death of this process, not that of the machine. Raises `OSError`; the
        journal then holds what it held before.
        """
        data = memoryview(b"".join(map(encode, records)))
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._length + written)
            if sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._length)
            raise
        self._length += len(data)

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        os.close(self._file)
