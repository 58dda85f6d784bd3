"""Comparisons and other estimates as text: aligned columns for the terminal, pipes for Markdown."""

from collections.abc import Sequence

from dmlr.report.compare import Comparison, Pair, RunSummary
from dmlr.report.statistics import Estimate

SUMMARY_HEADER = (
    "run", "accuracy [95 %]", "right", "wrong", "unjudged", "failed", "cut off", "tokens", "s/sample",
    "reward", "gain",
)  # fmt: skip
PAIR_HEADER = ("run - baseline", "difference [95 %]", "gained", "lost", "p (McNemar)", "p (Holm)", "pairs")


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """`value` with fixed digits, `-` when there is none."""
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def interval(estimate: Estimate, digits: int = 3, sign: bool = False) -> str:
    """`0.750 [0.666, 0.819]`; without the bracket when there is no interval."""
    text = number(estimate.value, digits, sign)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{number(estimate.low, digits, sign)}, {number(estimate.high, digits, sign)}]"


def p_text(p: float | None) -> str:
    """Three decimals, and never 0."""
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def summary_row(run: RunSummary) -> tuple[str, ...]:
    """Cells of `SUMMARY_HEADER`."""
    counts = run.outcomes
    return (
        run.name,
        interval(run.accuracy),
        str(counts["correct"]),
        str(counts["wrong"]),
        str(counts["unjudged"]),
        str(counts["error"]),
        str(run.cut_off),
        number(run.tokens.value, 1),
        number(run.seconds.value, 3),
        number(run.best_reward.value, 3),
        number(run.reward_gain.value, 3, sign=True),
    )


def pair_row(pair: Pair) -> tuple[str, ...]:
    """Cells of `PAIR_HEADER`."""
    return (
        f"{pair.run} - {pair.baseline}",
        interval(pair.difference, sign=True),
        str(len(pair.gained)),
        str(len(pair.lost)),
        p_text(pair.p_value),
        p_text(pair.p_holm),
        str(pair.samples) + (f" ({pair.left_out} left out)" if pair.left_out else ""),
    )


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal: the first one left, the others right."""
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes inside cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join([" --- "] + [" ---: "] * (len(header) - 1)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def _indices(label: str, indices: Sequence[int]) -> str:
    return f"{label} ({len(indices)}): {', '.join(map(str, indices)) or 'none'}"


def comparison_text(comparison: Comparison) -> str:
    """What `dmlr compare` prints."""
    parts = [f"{comparison.dataset}: {comparison.samples} samples"]
    parts += [f"warning: {line}" for line in comparison.warnings]
    parts += ["", aligned(SUMMARY_HEADER, [summary_row(run) for run in comparison.runs])]
    if comparison.pairs:
        parts += ["", aligned(PAIR_HEADER, [pair_row(pair) for pair in comparison.pairs])]
        for pair in comparison.pairs:
            parts += ["", f"flips, {pair.run} against {pair.baseline} (data_idx)"]
            parts.append("  " + _indices("wrong to right", pair.gained))
            parts.append("  " + _indices("right to wrong", pair.lost))
            if pair.difference.note:
                parts.append(f"  {pair.difference.note}")
    return "\n".join(parts)


def comparison_markdown(comparison: Comparison) -> str:
    """The same as Markdown."""
    parts = [f"`{comparison.dataset}`, {comparison.samples} samples. Accuracy is over judged samples.", ""]
    parts += [f"- **Warning:** {line}" for line in comparison.warnings] + [""] * bool(comparison.warnings)
    parts += [markdown(SUMMARY_HEADER, [summary_row(run) for run in comparison.runs])]
    if comparison.pairs:
        parts += ["", markdown(PAIR_HEADER, [pair_row(pair) for pair in comparison.pairs]), ""]
        for pair in comparison.pairs:
            gained, lost = _indices("wrong to right", pair.gained), _indices("right to wrong", pair.lost)
            parts.append(f"- Flips of {pair.run} against {pair.baseline}: {gained}; {lost}.")
    return "\n".join(parts) + "\n"
