"""math-verify in a process that can be killed: started when first needed, restarted after a time-out."""

import atexit
import functools
import json
import logging
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)

# by path, so that it starts from a checkout that is not installed; it imports nothing of this package
WORKER = Path(__file__).with_name("math_worker.py")
START_SECONDS = 60.0  # importing sympy on a busy machine
ANSWER_SECONDS = 3.0
MAX_TEXT = 1000  # characters of one expression; longer ones are not decided


class MathProcess:
    """One worker process behind a lock. `equal` never raises; what it cannot decide in time is None."""

    def __init__(self, command: list[str] | None = None, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._command = command or [sys.executable, "-P", str(WORKER)]
        self._answer_seconds = answer_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.starts = 0

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether math-verify finds the two LaTeX expressions equal; None when undecided, late, or too long."""
        if len(gold) > MAX_TEXT or len(answer) > MAX_TEXT:
            return None
        with self._lock:
            process = self._running()
            if process is None or process.stdin is None:
                return None
            try:
                process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
                process.stdin.flush()
            except OSError:
                self._kill()
                return None
            reply = self._read(process, self._answer_seconds)
            if reply is None:
                logger.debug("math-verify gave no answer in %.0f s and was stopped", self._answer_seconds)
                self._kill()
                return None
            return reply.get("equal")

    def close(self) -> None:
        """Stop the worker process; the next `equal` would start another one."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes] | None:
        if self._process is not None and self._process.poll() is None:
            return self._process
        # its own session: Ctrl-C in the terminal stops the run, not this process in the middle of an answer
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.starts += 1
        if self._read(self._process, START_SECONDS) is None:
            logger.warning("math-verify could not be started; open answers stay undecided by rules")
            self._kill()
        return self._process

    def _kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    @staticmethod
    def _read(process: subprocess.Popen[bytes], seconds: float) -> dict | None:
        """One line of JSON from the process, or None when it is late or gone."""
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                chunk = process.stdout.read1(4096)  # type: ignore[attr-defined]
                if not chunk:
                    return None
                line += chunk
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            return None


@functools.cache
def shared_math_process() -> MathProcess:
    """The one worker of this process: starting it takes a second, so every verdict uses the same one."""
    process = MathProcess()
    atexit.register(process.close)
    return process
