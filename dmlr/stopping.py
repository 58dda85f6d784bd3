"""When a run has to end early: Ctrl-C, SIGTERM (a cluster takes its machine back), or its time is up."""

import signal
import threading
import time
from types import FrameType


class Stop:
    """Context in which Ctrl-C and SIGTERM ask for an orderly end instead of killing the run.

    The run asks `reason()` between batches. A second Ctrl-C raises `KeyboardInterrupt` at once. Handlers are
    only installed in the main thread (Python allows no other).
    """

    def __init__(self, limit_seconds: float | None = None) -> None:
        """`limit_seconds` counts from here."""
        self._deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
        self._limit = limit_seconds
        self._signal: str | None = None
        self._old: dict[int, object] = {}

    def reason(self) -> str | None:
        """Why the run should end, in words; None as long as it should go on."""
        if self._signal:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return f"time limit of {self._limit:g} s"
        return None

    @property
    def interrupted(self) -> bool:
        """True when a signal, not the time limit, ends the run."""
        return self._signal is not None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
