"""The bandwidth bound of a forward: every weight of the language model is read once."""

import time

import torch

from dmlr.backbone import Backbone
from dmlr.bench.phases import synchronise

_COPY_BYTES = {"cuda": 4 * 2**30, "cpu": 256 * 2**20}  # far beyond any cache


def copy_bandwidth(device: torch.device, repeats: int = 10) -> float:
    """Bytes per second of a large device-to-device copy, read and written bytes counted; median of the passes."""
    source = torch.randint(0, 127, (_COPY_BYTES[device.type],), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    times = []
    for repeat in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat >= 2:
            times.append(time.perf_counter() - started)
    return 2 * source.numel() / float(torch.tensor(times, dtype=torch.float64).median())


def weight_read_seconds(backbone: Backbone) -> float:
    """Bytes of the language model's weights (layers and output layer) over the measured copy bandwidth."""
    synchronise(backbone)
    weights = [*backbone.model.model.language_model.layers.parameters(), *backbone.model.lm_head.parameters()]
    return sum(w.numel() * w.element_size() for w in weights) / copy_bandwidth(backbone.device)
