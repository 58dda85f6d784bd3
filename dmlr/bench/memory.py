"""Peak memory of a piece of work: allocated bytes on CUDA, resident bytes elsewhere."""

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


def resident_bytes() -> int:
    """Resident size of this process, 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
