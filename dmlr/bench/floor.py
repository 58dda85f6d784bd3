"""The floor of a forward: its matrix products alone, timed at their own shapes with the model's own weights.

Operations counted over the rate that the hardware reaches at those very shapes is the time of the products run one
after the other and nothing else, so that is what is measured: in the order of the run, because the output layer
pushes the weights of the layers out of the processor's cache. Attention products are left out (under 2 % here).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from dmlr.backbone import Backbone
from dmlr.bench.phases import synchronise


@dataclass
class Shapes:
    """Token counts of the forwards and row counts of the output layer seen while recording, each in its order."""

    forwards: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)


@contextmanager
def record_shapes(backbone: Backbone) -> Iterator[Shapes]:
    """Note the number of tokens of every language-model forward and of rows of every output layer inside."""
    shapes = Shapes()

    def forward(_module: nn.Module, _args: tuple, kwargs: dict) -> None:
        shapes.forwards.append(kwargs["inputs_embeds"].shape[:2].numel())

    def head(_module: nn.Module, args: tuple) -> None:
        shapes.heads.append(args[0].shape[:-1].numel())

    hooks = [
        backbone.model.model.language_model.register_forward_pre_hook(forward, with_kwargs=True),
        backbone.model.lm_head.register_forward_pre_hook(head),
    ]
    try:
        yield shapes
    finally:
        for hook in hooks:
            hook.remove()


class Floor:
    """Measured seconds of the matrix products of forwards, each with its output layer behind it."""

    def __init__(self, backbone: Backbone, repeats: int = 5) -> None:
        self._backbone = backbone
        self._repeats = repeats
        layers = backbone.model.model.language_model.layers
        self._layers = [m for m in layers.modules() if isinstance(m, nn.Linear)]
        self._head = backbone.model.lm_head

    def operations(self, shapes: Shapes) -> float:
        """Floating-point operations of those products (a multiply and an add are two)."""
        per_token = 2 * sum(m.weight.numel() for m in self._layers)
        per_row = 2 * self._head.weight.numel()
        return float(per_token * sum(shapes.forwards) + per_row * sum(shapes.heads))

    @torch.no_grad()
    def seconds(self, shapes: Shapes) -> float:
        """Median over the repeats of the time of all products in `shapes`, forward after forward."""
        widths = {m.in_features for m in (*self._layers, self._head)}
        inputs = {
            (rows, width): torch.randn(rows, width, dtype=self._backbone.dtype, device=self._backbone.device)
            for rows in {*shapes.forwards, *shapes.heads}
            for width in widths
        }
        times = []
        for repeat in range(self._repeats + 1):
            synchronise(self._backbone)
            started = time.perf_counter()
            for tokens, rows in zip(shapes.forwards, shapes.heads, strict=True):
                for module in self._layers:
                    module(inputs[tokens, module.in_features])
                self._head(inputs[rows, self._head.in_features])
            synchronise(self._backbone)
            if repeat:
                times.append(time.perf_counter() - started)
        return float(torch.tensor(times, dtype=torch.float64).median())
