"""A chain of thought as text: its steps, and the answer after any number of them. Pure functions on
strings.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STEP_END = re.compile(r"(?<=[.!?;])\s+|\n+")

Encode = Callable[[str], tuple[list[int], list[tuple[int, int]]]]  # text -> token ids and their characters


@dataclass(frozen=True)
class Chain:
    """Steps as character spans (start, stop) of `text`, which is the output up to its final box."""

    text: str
    steps: list[tuple[int, int]]


def split_steps(output: str) -> Chain:
    r"""Sentences and lines of the reasoning: everything before the last `\boxed`, or the whole output
    without one.

    Steps without a letter or digit are joined to the one before. A reasoning that is empty has no steps.
    """
    text = output[: output.rfind("\\boxed")] if "\\boxed" in output else output
    spans: list[tuple[int, int]] = []
    start = 0
    for end in [*(match.end() for match in _STEP_END.finditer(text)), len(text)]:
        if any(ch.isalnum() for ch in text[start:end]):
            spans.append((start, end))
        elif spans:
            spans[-1] = (spans[-1][0], end)
        start = end
    return Chain(text, spans)


def answer_after(chain: Chain, steps: int, answer: str, encode: Encode) -> tuple[list[int], list[int]]:
    r"""Token ids of the first `steps` steps followed by the boxed answer, and the positions of the answer's
    tokens.

    Only the answer itself is scored, not the `\boxed{` that announces it: how willing the model is to end
    there is another question.
    """
    reasons = chain.text[: chain.steps[steps - 1][1]].rstrip() if steps else ""
    lead = f"{reasons} \\boxed{{" if reasons else "\\boxed{"
    ids, spans = encode(f"{lead}{answer}}}")
    inside = range(len(lead), len(lead) + len(answer))
    return ids, [i for i, (a, b) in enumerate(spans) if a < inside.stop and b > inside.start]


def mean_by_step(
    chain: Chain, spans: Sequence[tuple[int, int]], values: Sequence[float]
) -> list[float | None]:
    """Mean of per-token `values` within each step, None for a step that holds no token start."""
    found: list[float | None] = []
    for start, stop in chain.steps:
        inside = [value for (a, _), value in zip(spans, values) if start <= a < stop]
        found.append(sum(inside) / len(inside) if inside else None)
    return found
