"""A study's pictures as inline SVG: values over trials, parallel coordinates, ellipses of CMA-ES in real units."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from medtrain.charts import COLOURS, Frame, svg, ticks
from medtrain.search.history import Ellipse
from medtrain.search.space import Choices, Parameter, Range, Space, Values

GREY, BLUE, GREEN, RED = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
DRAWN = 12
"""So many ellipses of a search are drawn, from its first to its last."""
CORNERS = np.linspace(0, 2 * math.pi, 60, endpoint=False)


@dataclass(frozen=True)
class Mark:
    """A trial: its id, its setting, its value if it has one, and whether that counts."""

    id: int
    values: Values
    value: float | None
    counts: bool


@dataclass(frozen=True)
class Axis:
    """A parameter on [0, 1]: its name, and where which values stand."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    at: Callable[[object], float]


def axis(name: str, parameter: Parameter) -> Axis:
    """The axis of a range, logarithmic where the range is, or of choices, evenly apart."""
    if isinstance(parameter, Choices):
        count, texts = len(parameter.choices), [_short(choice) for choice in parameter.choices]
        places = tuple((number + 0.5) / count for number in range(count))
        return Axis(name, tuple(zip(places, texts, strict=True)), lambda value: places[parameter.number(value)])
    assert isinstance(parameter, Range)
    marks = [(parameter.coordinate(value), f"{value:g}") for value in _round_values(parameter)]
    return Axis(name, tuple(marks), parameter.coordinate)


def shown(values: Sequence[float], mode: str) -> tuple[float, float]:
    """The lowest and highest value of a picture: of all but those so bad that the others would be a line."""
    sign = 1.0 if mode == "min" else -1.0
    ranked = sorted(sign * value for value in values)
    best, middle = ranked[0], ranked[len(ranked) // 2]
    worst = min(ranked[-1], best + 4 * (middle - best)) if middle > best else ranked[-1]
    low, high = sorted((sign * best, sign * worst))
    return low, high


def history(marks: Sequence[Mark], mode: str, metric: str, width: int = 1040, height: int = 260) -> Markup:
    """Each trial's value in the order of their ends, and the best so far; trials without one are ticks at the floor."""
    values = [(mark.counts, mark.value) for mark in marks if mark.value is not None]
    if not values:
        return Markup("")
    low, high = shown([value for counts, value in values if counts] or [value for _, value in values], mode)
    lines = ticks(low, high)
    frame = Frame(width, height, (1.0, float(max(2, len(marks)))), (lines[0], lines[-1]), left=62)
    parts, stair, best = frame.grid(lines), list[str](), math.inf
    sign = 1.0 if mode == "min" else -1.0
    for number, mark in enumerate(marks, 1):
        x = frame.at_x(number)
        if mark.counts and mark.value is not None and sign * mark.value < best:
            stair += [f"{x:.1f},{frame.at_y(sign * best):.1f}"] if stair else []
            best = sign * mark.value
            stair.append(f"{x:.1f},{frame.at_y(mark.value):.1f}")
        parts.append(_dot(mark, x, frame))
    stair.append(f"{frame.at_x(len(marks)):.1f},{frame.at_y(sign * best):.1f}" if stair else "")
    parts.append(f'<polyline points="{" ".join(stair)}" fill="none" stroke="{BLUE}" stroke-width="2.2"/>')
    names = f'<text x="{width - 12}" y="{height - 4}" class="tick" text-anchor="end">trials by their end</text>'
    numbers = [tick for tick in ticks(1, len(marks), 8) if 1 <= tick <= len(marks) and tick == round(tick)]
    parts += [_text(frame.at_x(tick), height - 14, f"{tick:g}", "middle") for tick in numbers]
    return svg(width, height, [*parts, names, _text(6, 10, metric, "start")])


def parallel(space: Space, marks: Sequence[Mark], mode: str, metric: str, height: int = 300) -> Markup:
    """A line for each trial that counts, over its parameters to its value: the better, the darker; the best red."""
    axes = [axis(name, one) for name, one in space.parameters.items() if isinstance(one, Range | Choices)]
    drawn = [(mark, mark.value) for mark in marks if mark.counts and mark.value is not None]
    if not drawn:
        return Markup("")
    low, high = shown([value for _, value in drawn], mode)
    lines = [tick for tick in ticks(low, high) if low <= tick <= high]
    span = (high - low) or 1.0
    axes.append(Axis(metric, tuple(((tick - low) / span, f"{tick:g}") for tick in lines), lambda value: 0.0))
    width = 130 + 170 * (len(axes) - 1)
    frame = Frame(width, height, (0.0, float(len(axes) - 1)), (0.0, 1.0), left=70, right=60, top=30, bottom=12)
    ranked = sorted(drawn, key=lambda pair: pair[1], reverse=mode == "min")  # the best on top
    parts = []
    for number, (mark, value) in enumerate(ranked, 1):
        places = [one.at(mark.values[one.name]) for one in axes[:-1]] + [min(max((value - low) / span, 0.0), 1.0)]
        points = " ".join(f"{frame.at_x(i):.1f},{frame.at_y(at):.1f}" for i, at in enumerate(places))
        share, is_best = number / len(ranked), number == len(ranked)
        style = f'stroke="{RED if is_best else BLUE}" opacity="{1.0 if is_best else 0.06 + 0.6 * share**3:.2f}"'
        title = f"<title>trial {mark.id}: {escape(metric)} {value:.6g}</title>"
        wide = 2.4 if is_best else 1.3
        parts.append(f'<polyline points="{points}" fill="none" stroke-width="{wide}" {style}>{title}</polyline>')
    for number, one in enumerate(axes):
        x = frame.at_x(number)
        parts.append(f'<path d="M{x:.1f} {frame.at_y(0):.1f}V{frame.at_y(1):.1f}" class="whisker"/>')
        parts.append(f'<text x="{x:.1f}" y="14" class="name" text-anchor="middle">{escape(_last(one.name))}</text>')
        parts += [_text(x - 6, frame.at_y(at) + 4, text, "end") for at, text in one.ticks]
    return svg(width, height, parts)


def plane(space: Space, names: tuple[str, str], shape: Sequence[Ellipse], marks: Sequence[Mark]) -> Markup:
    """Two ranges against each other: trials, and one deviation of the search around its mean, from pale to dark."""
    across, up = (axis(name, space.parameters[name]) for name in names)
    places = [_place(space, name) for name in names]
    frame = Frame(430, 330, (0.0, 1.0), (0.0, 1.0), left=70, top=20, bottom=46)
    left, top, right, floor = frame.left, frame.top, frame.width - frame.right, frame.height - frame.bottom
    box = f'x="{left}" y="{top}" width="{right - left}" height="{floor - top}"'
    parts = [f'<rect {box} fill="none" class="grid"/>']
    for at, text in across.ticks:
        parts.append(f'<path d="M{frame.at_x(at):.1f} {top}V{floor}" class="grid"/>')
        parts.append(_text(frame.at_x(at), floor + 15, text, "middle"))
    for at, text in up.ticks:
        parts.append(f'<path d="M{left} {frame.at_y(at):.1f}H{right}" class="grid"/>')
        parts.append(_text(left - 6, frame.at_y(at) + 4, text, "end"))
    parts.append(_text(right, floor + 34, names[0], "end"))
    parts.append(_text(4, 9, names[1], "start"))
    # What reaches over the edge is cut off by an inner picture of the same pixels.
    parts.append(f'<svg {box} viewBox="{left} {top} {right - left} {floor - top}">')
    for mark in marks:
        x, y = frame.at_x(across.at(mark.values[names[0]])), frame.at_y(up.at(mark.values[names[1]]))
        colour = GREY if mark.counts else RED
        title = f"<title>trial {mark.id}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}">{title}</circle>')
    chosen = picked(shape)
    for number, ellipse in enumerate(chosen, 1):
        ring = " ".join(f"{frame.at_x(x):.1f},{frame.at_y(y):.1f}" for x, y in outline(ellipse, (places[0], places[1])))
        style = f'stroke="{BLUE}" stroke-width="1.6" opacity="{0.15 + 0.85 * number / len(chosen):.2f}"'
        parts.append(f'<polygon points="{ring}" fill="none" {style}><title>update {ellipse.update}</title></polygon>')
    way = " ".join(f"{frame.at_x(e.mean[places[0]]):.1f},{frame.at_y(e.mean[places[1]]):.1f}" for e in shape)
    parts.append(f'<polyline points="{way}" fill="none" stroke="{GREEN}" stroke-width="1.2"/></svg>')
    return svg(frame.width, frame.height, parts)


def outline(ellipse: Ellipse, places: tuple[int, int]) -> list[tuple[float, float]]:
    """Points one standard deviation from the mean in the plane of two coordinates."""
    chosen = list(places)
    squares, axes = np.linalg.eigh(ellipse.covariance[np.ix_(chosen, chosen)])
    circle = np.stack([np.cos(CORNERS), np.sin(CORNERS)])  # (2, n)
    points = ellipse.mean[chosen][:, None] + axes @ (np.sqrt(np.maximum(squares, 0.0))[:, None] * circle)
    return [(float(x), float(y)) for x, y in points.T]


def picked(shape: Sequence[Ellipse]) -> list[Ellipse]:
    """At most `DRAWN`, evenly apart, the first and the last among them."""
    numbers = np.linspace(0, len(shape) - 1, min(DRAWN, len(shape))).round().astype(int)
    return [shape[number] for number in numbers]


def band(space: Space, name: str, shape: Sequence[Ellipse], width: int = 560, height: int = 250) -> Markup:
    """A range over updates: the mean of the search, and one deviation around it."""
    place, scale = _place(space, name), axis(name, space.parameters[name])
    frame = Frame(width, height, (0.0, float(max(1, len(shape) - 1))), (0.0, 1.0), left=70)
    parts = []
    for at, text in scale.ticks:
        y = frame.at_y(at)
        parts.append(f'<path d="M{frame.left} {y:.1f}H{width - frame.right}" class="grid"/>')
        parts.append(_text(frame.left - 6, y + 4, text, "end"))
    deviations = [math.sqrt(max(0.0, ellipse.covariance[place, place])) for ellipse in shape]
    ends: list[list[str]] = [[], [], []]
    for ellipse, deviation in zip(shape, deviations, strict=True):
        for line, by in zip(ends, (-deviation, 0.0, deviation), strict=True):
            at = min(max(float(ellipse.mean[place]) + by, 0.0), 1.0)
            line.append(f"{frame.at_x(ellipse.update):.1f},{frame.at_y(at):.1f}")
    parts.append(f'<polygon points="{" ".join(ends[0] + ends[2][::-1])}" fill="{BLUE}" opacity="0.15"/>')
    parts.append(f'<polyline points="{" ".join(ends[1])}" fill="none" stroke="{BLUE}" stroke-width="2"/>')
    marks = [tick for tick in ticks(0, max(1, len(shape) - 1), 6) if tick <= len(shape) - 1 and tick == round(tick)]
    parts += [_text(frame.at_x(tick), height - 12, f"{tick:g}", "middle") for tick in marks]
    return svg(width, height, [*parts, _text(width - 12, height - 1, "update", "end")])


def _dot(mark: Mark, x: float, frame: Frame) -> str:
    """A trial in the history: a point, a triangle at the edge that it lies beyond, or a tick where it has no value."""
    title = f"<title>trial {mark.id}: {'no value' if mark.value is None else f'{mark.value:.6g}'}</title>"
    floor = frame.height - frame.bottom
    if mark.value is None:
        return f'<path d="M{x:.1f} {floor}v-7" stroke="{RED}" stroke-width="2">{title}</path>'
    low, high = frame.y
    colour = GREY if mark.counts else RED
    if not low <= mark.value <= high:
        way = f"{frame.top + 1} l4 7h-8z" if mark.value > high else f"{floor - 1} l4 -7h-8z"
        return f'<path d="M{x:.1f} {way}" fill="{colour}">{title}</path>'
    return f'<circle cx="{x:.1f}" cy="{frame.at_y(mark.value):.1f}" r="3" fill="{colour}">{title}</circle>'


def _round_values(parameter: Range) -> list[float]:
    """A few values of a range to write at its axis."""
    low, high = parameter.low, parameter.high
    if parameter.cells is not None:
        chosen = sorted({round(i * (parameter.cells - 1) / 4) for i in range(5)})
        return [low + number * (parameter.step or 1.0) for number in chosen]
    if not parameter.log:
        return [tick for tick in ticks(low, high) if low <= tick <= high]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        inside = [value for value in found if low <= value <= high and not (parameter.int and value != round(value))]
        if len(inside) >= 3:
            return inside
    return [low, high]


def _place(space: Space, name: str) -> int:
    """The coordinate of a range."""
    return next(number for number, coordinate in enumerate(space.coordinates) if coordinate.name == name)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 12 else text[:11] + "…"


def _last(name: str) -> str:
    """A dotted name that fits above an axis."""
    return name if len(name) <= 24 else "…" + name[-23:]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    edge = 'stroke="#fff" stroke-width="3" paint-order="stroke"'  # to be read across lines
    return f'<text x="{x:.1f}" y="{y:.1f}" class="tick" text-anchor="{anchor}" {edge}>{escape(text)}</text>'
