"""Verdicts of the judge on disk, so that a resumed run and a second verification ask nothing twice.

An sqlite file: safe against a crash, readable by any tool, and without pickles. It holds digests of the questions,
the verdicts and the judge's reasons; no key and no endpoint.
"""

import hashlib
import json
import logging
import sqlite3
import threading
from pathlib import Path

from dmlr.verifier.judge_protocol import Reply

log = logging.getLogger(__name__)

CACHE_NAME = "judge_cache.sqlite"


def cache_key(*parts: str) -> str:
    """SHA-256 over the parts; their borders count."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


class JudgeCache:
    """Replies by key; any thread may use it. `path` None keeps nothing.

    The file is opened when it is first used: a run that fails before its first verdict leaves nothing behind. A file
    that cannot be used costs the memory of the replies, not the verdicts, and is warned about.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection | None:
        if self._connection is not None or self._path is None:
            return self._connection
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, check_same_thread=False, timeout=30, isolation_level=None
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, equivalent INTEGER NOT NULL, "
                "reason TEXT NOT NULL, model TEXT NOT NULL, created TEXT DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            log.warning("judge cache %s cannot be used (%s): verdicts are not remembered", self._path, error)
            self._path = None
            return None
        self._connection = connection
        return connection

    def get(self, key: str) -> Reply | None:
        """The reply stored under `key`, if there is one."""
        with self._lock:
            connection = self._open()
            if connection is None:
                return None
            try:
                query = "SELECT equivalent, reason FROM replies WHERE key = ?"
                row = connection.execute(query, (key,)).fetchone()
            except sqlite3.Error as error:
                log.warning("judge cache: cannot be read (%s)", error)
                return None
        return Reply(bool(row[0]), row[1]) if row else None

    def put(self, key: str, reply: Reply, model: str) -> None:
        """Store a reply; a full disk is warned about."""
        with self._lock:
            connection = self._open()
            if connection is None:
                return
            try:
                connection.execute(
                    "INSERT OR REPLACE INTO replies (key, equivalent, reason, model) VALUES (?, ?, ?, ?)",
                    (key, int(reply.equivalent), reply.reason, model),
                )
            except sqlite3.Error as error:
                log.warning("judge cache: a verdict was not kept (%s)", error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
