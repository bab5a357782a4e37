"""Pictures as inline SVG text: bars with intervals, curves, heat maps. No fonts, no scripts, no other file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = ("#8a94a0", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#b58900")
"""One for each system in their order, told apart by colour-blind readers too."""


def colour(number: int) -> str:
    """The colour of the system or curve with this number."""
    return COLOURS[number % len(COLOURS)]


@dataclass(frozen=True)
class Bar:
    """A value with its interval."""

    label: str
    value: float
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Curve:
    """Points by rising x; `bold` draws on top of pale ones, `dotted` marks each point."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: str
    bold: bool = True
    dotted: bool = False


@dataclass(frozen=True)
class Frame:
    """A plot's area in pixels and the values at its edges."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 46
    right: int = 12
    top: int = 10
    bottom: int = 28

    def at_x(self, value: float) -> float:
        low, high = self.x
        return self.left + (value - low) / ((high - low) or 1) * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        low, high = self.y
        return self.height - self.bottom - (value - low) / ((high - low) or 1) * (self.height - self.top - self.bottom)

    def grid(self, ticks: Sequence[float]) -> list[str]:
        """Horizontal lines with their values."""
        lines = []
        for tick in ticks:
            y = self.at_y(tick)
            lines.append(
                f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            )
            lines.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">{tick:g}</text>')
        return lines


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from at most `low` to at least `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def bars(found: Sequence[Bar], width: int = 245, height: int = 180) -> Markup:
    """One bar for each system with its 95 % interval, from 0 up."""
    marks = ticks(0.0, max([bar.high for bar in found] + [1e-6]))
    frame = Frame(width, height, (0.0, float(len(found))), (0.0, marks[-1]))
    parts = frame.grid(marks)
    for number, bar in enumerate(found):
        middle, half = frame.at_x(number + 0.5), min(30.0, (frame.at_x(1) - frame.at_x(0)) * 0.33)
        top, floor = frame.at_y(bar.value), frame.at_y(0.0)
        parts.append(
            f'<rect x="{middle - half:.1f}" y="{top:.1f}" width="{2 * half:.1f}" height="{max(0.0, floor - top):.1f}" '
            f'rx="2" fill="{bar.colour}"><title>{escape(bar.label)}: {bar.value:.4g}</title></rect>'
        )
        low, high = frame.at_y(bar.low), frame.at_y(bar.high)
        ends = f"M{middle - 5:.1f} {low:.1f}h10M{middle - 5:.1f} {high:.1f}h10"
        parts.append(f'<path d="M{middle:.1f} {low:.1f}V{high:.1f}{ends}" class="whisker"/>')
        label = bar.label if len(bar.label) <= 14 else bar.label[:13] + "…"
        parts.append(
            f'<text x="{middle:.1f}" y="{height - 10}" class="name" text-anchor="middle">{escape(label)}</text>'
        )
    return svg(width, height, parts)


def curves(found: Sequence[Curve], x_label: str, width: int = 560, height: int = 250) -> Markup:
    """Curves over a shared x axis that starts at the first point."""
    xs = [x for curve in found for x, _ in curve.points]
    ys = [y for curve in found for _, y in curve.points if math.isfinite(y)]
    if not xs or not ys:
        return Markup("")
    marks = ticks(min(ys), max(ys))
    frame = Frame(width, height, (min(xs), max(xs)), (marks[0], marks[-1]))
    parts = frame.grid(marks)
    for tick in (t for t in ticks(min(xs), max(xs), 6) if min(xs) <= t <= max(xs)):
        parts.append(
            f'<text x="{frame.at_x(tick):.1f}" y="{height - 12}" class="tick" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text x="{width - frame.right}" y="{height - 1}" class="tick" text-anchor="end">{escape(x_label)}</text>'
    )
    for curve in sorted(found, key=lambda one: one.bold):
        points = [(frame.at_x(x), frame.at_y(y)) for x, y in curve.points if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = 'stroke-width="2.2"' if curve.bold else 'stroke-width="1" opacity="0.35"'
        parts.append(f'<polyline points="{path}" fill="none" stroke="{curve.colour}" {style}/>')
        if curve.dotted:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>' for x, y in points]
    return svg(width, height, parts)


def heat(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], outlined: Sequence[str | None]
) -> Markup:
    """A table whose cells are the darker the larger their values; negative ones have another colour.

    Args:
        rows: their names, from top to bottom.
        columns: their names, from left to right.
        values: of each row, of each column.
        outlined: the column that each row marks, if any.
    """
    most = max((abs(value) for row in values for value in row), default=0.0) or 1.0
    wide, high = 44, 26
    left, top = 20 + 7 * max(map(len, rows)), 16 + 5 * max(map(len, columns))
    parts = []
    for number, name in enumerate(columns):
        x = left + wide * (number + 0.5)
        turn = f'transform="rotate(-45 {x:.0f} {top - 8})"'
        parts.append(f'<text x="{x:.0f}" y="{top - 8}" class="name" {turn}>{escape(name)}</text>')
    for line, (name, row, marked) in enumerate(zip(rows, values, outlined, strict=True)):
        y = top + high * line
        parts.append(f'<text x="{left - 8}" y="{y + 17}" class="name" text-anchor="end">{escape(name)}</text>')
        for number, (column, value) in enumerate(zip(columns, row, strict=True)):
            share = abs(value) / most
            place = f'x="{left + wide * number + 1}" y="{y + 1}" width="{wide - 2}" height="{high - 2}" rx="2"'
            edge = ' stroke="#1c2530" stroke-width="1.6"' if column == marked else ""
            fill = f'fill="{COLOURS[1 if value >= 0 else 3]}" fill-opacity="{share:.3f}"'
            title = f"<title>{escape(name)}, {escape(column)}: {value:.4f}</title>"
            parts.append(f"<rect {place} {fill}{edge}>{title}</rect>")
            ink = "#fff" if share > 0.55 else "#1c2530"
            middle = f'x="{left + wide * (number + 0.5):.0f}" y="{y + 17}" text-anchor="middle"'
            parts.append(f'<text {middle} font-size="11" fill="{ink}" pointer-events="none">{value:.2f}</text>')
    room = 4 * max(map(len, columns))  # the last name leans out of its column
    return svg(left + wide * len(columns) + room, top + high * len(rows) + 6, parts)


def smooth(points: Sequence[tuple[float, float]], window: int) -> tuple[tuple[float, float], ...]:
    """The running mean of the last `window` points, at each point."""
    kept: list[tuple[float, float]] = []
    for i, (x, _) in enumerate(points):
        last = [y for _, y in points[max(0, i - window + 1) : i + 1]]
        kept.append((x, sum(last) / len(last)))
    return tuple(kept)


def svg(width: int, height: int, parts: Sequence[str]) -> Markup:
    """A picture of so many pixels from its parts, which are SVG text."""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'
    )
