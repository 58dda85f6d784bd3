"""Peak memory of a piece of work: allocated bytes on CUDA, resident bytes elsewhere."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Peak:
    """Bytes above what was in use when the measurement began."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device, interval_s: float = 0.005) -> Iterator[Peak]:
    """Measure the peak inside. Off CUDA the resident size is sampled every `interval_s` seconds (Linux only)."""
    peak = Peak()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    before, stop = resident_bytes(), threading.Event()

    def watch() -> None:
        while not stop.wait(interval_s):
            peak.bytes = max(peak.bytes, resident_bytes() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def resident_bytes(process: int | str = "self") -> int:
    """Resident size of a process (its number, or this one), 0 where the system does not tell or it has ended."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def family_bytes() -> int:
    """Resident size of this process and all its descendants (Linux; elsewhere 0). Pages that they share count twice."""
    waiting, total = [os.getpid()], 0
    while waiting:
        process = waiting.pop()
        total += resident_bytes(process)
        for listed in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                waiting += [int(child) for child in listed.read_text().split()]
    return total
