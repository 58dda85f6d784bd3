"""Charts of the HTML report as inline SVG: lines with bands, bars, reliability. Colours come from the
page's CSS.

Every function returns `Markup` (safe HTML): numbers are formatted here, every label is escaped. No scripts,
no inline styles, no external fonts.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from dmlr.report.statistics import Bin

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 40


@dataclass(frozen=True)
class Line:
    """One line: points (x, y), optionally a band (x, low, high) around it; `colour` indexes the page's
    palette.
    """

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = field(default_factory=tuple)
    colour: int = 0
    dashed: bool = False


class _Frame:
    """Maps data to pixels and draws the axes."""

    def __init__(
        self,
        x: Sequence[float],
        y: Sequence[float],
        width: int = WIDTH,
        height: int = HEIGHT,
        integer_x: bool = False,
        small: bool = False,
    ) -> None:
        self.width, self.height, self.small = width, height, small
        self.left, self.right = (38, 8) if small else (LEFT, RIGHT)
        self.top, self.bottom = (8, 20) if small else (TOP, BOTTOM)
        self.x_ticks = _ticks(x, 4 if small else 6, integer_x)
        self.y_ticks = _ticks(y, 3 if small else 5, False)
        self.x0, self.x1 = _range(x)
        self.y0, self.y1 = min(self.y_ticks[0], min(y)), max(self.y_ticks[-1], max(y))

    def x(self, value: float) -> float:
        return round(
            self.left + (value - self.x0) / (self.x1 - self.x0) * (self.width - self.left - self.right), 1
        )

    def y(self, value: float) -> float:
        inner = self.height - self.top - self.bottom
        return round(self.height - self.bottom - (value - self.y0) / (self.y1 - self.y0) * inner, 1)

    def axes(self, x_label: str, y_label: str) -> list[Markup]:
        parts = []
        floor, end = self.height - self.bottom, self.width - self.right
        for value in self.y_ticks:
            y = self.y(value)
            parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(self.left, end, y, y)
            )
            parts.append(_text(self.left - 6, y + 4, _tick(value, self.y_ticks), "tick end"))
        for value in self.x_ticks:
            if self.x0 <= value <= self.x1:
                parts.append(_text(self.x(value), floor + 15, _tick(value, self.x_ticks), "tick mid"))
        parts.append(
            Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                self.left, end, floor, floor
            )
        )
        if x_label:
            parts.append(_text((self.left + end) / 2, self.height - 6, x_label, "label mid"))
        if y_label:
            middle = (self.top + floor) / 2
            parts.append(
                Markup('<text class="label mid" transform="translate(12 {}) rotate(-90)">{}</text>').format(
                    round(middle, 1), y_label
                )
            )
        return parts

    def svg(self, parts: Sequence[Markup], title: str, kind: str = "chart") -> Markup:
        head = Markup(
            '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}" data-left="{}" data-right="{}">'
        ).format(kind, self.width, self.height, title, self.x(self.x0), self.x(self.x1))
        return head + Markup("").join(parts) + Markup("</svg>")


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(values: Sequence[float], count: int, integer: bool) -> list[float]:
    low, high = _range(values)
    return [
        float(v)
        for v in MaxNLocator(nbins=count, integer=integer, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ]


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    digits += 1 if round(step, digits) != round(step, digits + 1) else 0
    return f"{value:.{digits}f}"


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, round(x, 1), round(y, 1), text)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def line_chart(lines: Sequence[Line], title: str, x_label: str, y_label: str) -> Markup:
    """Lines over a shared integer x axis, with their bands behind them. Lines without points are left out."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("")
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    ys += [v for line in drawn for _, low, high in line.band for v in (low, high)]
    frame = _Frame(xs, ys, integer_x=True)
    parts = frame.axes(x_label, y_label)
    for line in drawn:
        if line.band:
            upper = [(frame.x(x), frame.y(high)) for x, _, high in line.band]
            lower = [(frame.x(x), frame.y(low)) for x, low, _ in reversed(line.band)]
            parts.append(Markup('<path class="band c{}" d="{}Z"/>').format(line.colour, _path(upper + lower)))
    for line in drawn:
        points = [(frame.x(x), frame.y(y)) for x, y in line.points]
        kind = f"line c{line.colour}{' dashed' if line.dashed else ''}"
        parts.append(
            Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, _path(points), line.name)
        )
    return frame.svg(parts, title)


def sparkline(trace: Sequence[tuple[int, float]], best_step: int | None, title: str) -> Markup:
    """Reward of one sample over its steps, small, with the best step marked and a cursor for the slider to
    move.
    """
    if not trace:
        return Markup("")
    frame = _Frame([x for x, _ in trace], [y for _, y in trace], 330, 120, integer_x=True, small=True)
    points = [(frame.x(x), frame.y(y)) for x, y in trace]
    parts = frame.axes("", "")
    parts.append(Markup('<path class="line c0" d="{}"/>').format(_path(points)))
    marked = [p for (x, _), p in zip(trace, points) if x == best_step]
    parts += [Markup('<circle class="best" cx="{}" cy="{}" r="4"/>').format(*p) for p in marked]
    parts.append(
        Markup('<line class="cursor" x1="0" x2="0" y1="{}" y2="{}" visibility="hidden"/>').format(
            frame.top, frame.height - frame.bottom
        )
    )
    return frame.svg(parts, title, "spark")


def bar_chart(
    series: Sequence[tuple[str, Sequence[float], int]],
    labels: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
) -> Markup:
    """Grouped bars: `series` holds (name, one height per label, palette colour)."""
    if not series or not labels:
        return Markup("")
    frame = _Frame([0.0, float(len(labels))], [0.0, *(v for _, values, _ in series for v in values)])
    frame.x_ticks = []
    parts = frame.axes(x_label, y_label)
    every = math.ceil(len(labels) / 12)
    slot = 0.84 / len(series)
    for i, label in enumerate(labels):
        if i % every == 0:
            parts.append(_text(frame.x(i + 0.5), frame.height - frame.bottom + 15, label, "tick mid"))
        for s, (name, values, colour) in enumerate(series):
            x0, x1 = frame.x(i + 0.08 + s * slot), frame.x(i + 0.08 + (s + 1) * slot)
            y = frame.y(values[i])
            parts.append(
                Markup(
                    '<rect class="bar c{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                ).format(
                    colour,
                    x0,
                    y,
                    round(max(0.5, x1 - x0 - 1), 1),
                    round(frame.y(0) - y, 1),
                    f"{name}, {label}: {values[i]:g}",
                )
            )
    return frame.svg(parts, title)


def reliability_chart(curves: Sequence[tuple[str, Sequence[Bin], int]], title: str, x_label: str) -> Markup:
    """Accuracy by confidence: one point per bin with its Wilson interval; `curves` holds (name, bins,
    colour).
    """
    drawn = [(name, bins, colour) for name, bins, colour in curves if bins]
    if not drawn:
        return Markup("")
    frame = _Frame([b.score for _, bins, _ in drawn for b in bins], [0.0, 1.0])
    pad = 0.04 * (frame.x1 - frame.x0)
    frame.x0, frame.x1 = frame.x0 - pad, frame.x1 + pad
    parts = frame.axes(x_label, "accuracy")
    for name, bins, colour in drawn:
        points = [(frame.x(b.score), frame.y(b.accuracy.value or 0.0)) for b in bins]
        parts.append(Markup('<path class="line c{}" d="{}"/>').format(colour, _path(points)))
        for b, (x, y) in zip(bins, points):
            if b.accuracy.low is not None and b.accuracy.high is not None:
                parts.append(
                    Markup('<line class="whisker c{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                        colour, x, x, frame.y(b.accuracy.low), frame.y(b.accuracy.high)
                    )
                )
            note = f"{name}: {b.accuracy.value:.3f} of {b.accuracy.n} samples"
            note += f", {b.low_score:.3f} to {b.high_score:.3f}"
            parts.append(
                Markup('<circle class="dot c{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
                    colour, x, y, note
                )
            )
    return frame.svg(parts, title)


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Names with their colour swatches."""
    items = [Markup('<span class="key"><i class="swatch c{}"></i>{}</span>').format(c, n) for n, c in names]
    return Markup('<div class="legend">') + Markup("").join(items) + Markup("</div>")
