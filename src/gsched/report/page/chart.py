"""Charts as SVG: one function draws them all, and a page's script reads values back from what was drawn."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

from gsched.report.scales import LOG, Scale
from gsched.workload import Floats

WIDTH, HEIGHT = 380, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 10, 8, 36
_MOST_DOTS = 24
_LETTER = 0.02  # of the width of a plot


class Axis(NamedTuple):
    """An axis.

    Args:
        label: what it shows, with its unit.
        low, high: its range.
        log: from where on it is logarithmic, as a `Scale` tells.
        whole: whether only whole numbers are labelled.
        at: what to label instead, where there is room.
    """

    label: str
    low: float
    high: float
    log: float = 0.0
    whole: bool = False
    at: tuple[float, ...] = ()

    def place(self, value: float) -> float:
        """Return where a value is, 0 at the low end and 1 at the high one."""
        if not self.log:
            return _clipped((value - self.low) / (self.high - self.low))
        linear = 1.0 if self.log > self.low else 0.0  # in the length of a decade
        at = math.log10(value / self.log) if value > self.log else (value - self.log) / ((self.log - self.low) or 1.0)
        return _clipped((at + linear) / (math.log10(self.high / self.log) + linear))


def _clipped(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def axis_of(label: str, scale: Scale, *, whole: bool = False, at: tuple[float, ...] = ()) -> Axis:
    """Return an axis with a scale, which its label tells where it is not linear."""
    return Axis(label + LOG * bool(scale.log), *scale, whole, at)


def axis_to(label: str, highest: float) -> Axis:
    """Return an axis from 0 to a little above the highest value."""
    return Axis(label, 0.0, highest * 1.06 if highest > 0 else 1.0)


@dataclass(frozen=True)
class Line:
    """A curve through k points.

    Args:
        name: in the key.
        colour: in CSS.
        x, y: its points, x ascending.
        dashes: lengths of strokes and gaps; empty for a solid line.
        steps: whether y holds from one x to the next.
        notes: what a pointer on each point is told, k texts or none.
        low, high: the intervals around them, k values each or none.
        aside: by how much it is moved to the right, in the chart's units, so that no other line hides it.
    """

    name: str
    colour: str
    x: Sequence[float] | Floats
    y: Sequence[float] | Floats
    dashes: Sequence[float] = ()
    steps: bool = False
    notes: Sequence[str] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    aside: float = 0.0


@dataclass(frozen=True)
class Layers:
    """Quantities over k bins, stacked on each other.

    Args:
        names: of the layers, from the lowest up.
        colours: of the layers, in CSS.
        edges: of the bins, shape (k + 1,).
        values: shape (layers, k).
    """

    names: Sequence[str]
    colours: Sequence[str]
    edges: Floats
    values: Floats


def chart(title: str, x: Axis, y: Axis, marks: Sequence[Line] | Layers, *, note: str = "", key: bool = True) -> str:
    """Return a figure with its title, key and axes.

    Args:
        title: what it shows.
        x: the horizontal axis.
        y: the vertical axis.
        marks: lines, or layers.
        note: more about it, beside the title.
        key: whether to explain the colours.
    """
    frame = _Frame(x, y)
    drawn = _layers(marks, frame) if isinstance(marks, Layers) else "".join(_line(line, frame) for line in marks)
    plot = f"{_LEFT} {WIDTH - _RIGHT} {_TOP} {HEIGHT - _BOTTOM}"
    ranges = f'data-x="{_range(x)}" data-y="{_range(y)}" data-plot="{plot}"'
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" {ranges}>'
    caption = f"<figcaption>{escape(title)} <span>{escape(note)}</span></figcaption>"
    explained = "" if not key else _areas(marks) if isinstance(marks, Layers) else key_of_lines(marks)
    return f'<figure class="chart">{caption}{svg}{_axes(frame)}{drawn}</svg>{explained}</figure>'


class _Frame(NamedTuple):
    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> str:
        return f"{self.left(x)} {self.top(y)}"

    def left(self, x: float) -> str:
        return _short(_LEFT + self.x.place(x) * (WIDTH - _LEFT - _RIGHT))

    def top(self, y: float) -> str:
        return _short(HEIGHT - _BOTTOM - self.y.place(y) * (HEIGHT - _TOP - _BOTTOM))


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _range(axis: Axis) -> str:
    return f"{axis.low!r} {axis.high!r} {axis.log!r}"


def _line(line: Line, frame: _Frame) -> str:
    x, y = (list(map(float, column)) for column in (line.x, line.y))
    if line.steps:
        path = f"M{frame.at(x[0], y[0])}" + "".join(
            f"H{frame.left(at)}V{frame.top(to)}" for at, to in zip(x[1:], y[1:], strict=True)
        )
    else:
        path = f"M{'L'.join(map(frame.at, x, y))}"
    dashes = f";stroke-dasharray:{' '.join(f'{2 * dash:g}' for dash in line.dashes)}" if line.dashes else ""
    drawn = f'<path class="line" data-name="{escape(line.name)}" d="{path}" style="stroke:{line.colour}{dashes}"/>'
    if len(line.low):
        bars = "".join(
            f"M{frame.at(at, low)}V{frame.top(high)}" for at, low, high in zip(x, line.low, line.high, strict=True)
        )
        drawn = f'<path class="bars" d="{bars}" style="stroke:{line.colour}"/>{drawn}'
    if len(x) <= _MOST_DOTS and not line.steps:
        notes = line.notes or [""] * len(x)
        drawn += "".join(
            f'<circle cx="{frame.left(at)}" cy="{frame.top(to)}" r="2.6" style="fill:{line.colour}">'
            f"<title>{escape(note)}</title></circle>"
            for at, to, note in zip(x, y, notes, strict=True)
        )
    return f'<g transform="translate({line.aside:g} 0)">{drawn}</g>' if line.aside else drawn


def _layers(layers: Layers, frame: _Frame) -> str:
    """Return the layers, the highest first, as each is drawn down to the axis."""
    tops = layers.values.cumsum(axis=0)
    names = list(zip(layers.names, layers.colours, tops, strict=True))
    return "".join(
        f'<path class="layer" data-name="{escape(name)}" d="{_outline(top, layers.edges, frame)}" '
        f'style="fill:{colour}"/>'
        for name, colour, top in reversed(names)
    )


def _outline(top: Floats, edges: Floats, frame: _Frame) -> str:
    floor = frame.top(frame.y.low)
    path, level = f"M{frame.left(edges[0])} {floor}", floor
    for left, height in zip(edges.tolist(), top.tolist(), strict=False):
        if (to := frame.top(height)) != level:
            path += f"H{frame.left(left)}V{to}"
            level = to
    return f"{path}H{frame.left(edges[-1])}V{floor}Z"


def _axes(frame: _Frame) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for value in ticks(frame.y, 5):
        at = frame.top(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {at}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{float(at) + 3.5:g}" class="end">{tick_text(value)}</text>')
    for value in ticks(frame.x, 6):
        at = frame.left(value)
        anchor = ' class="end"' if float(at) > right - 12 else ' class="mid"'
        parts.append(f'<path class="grid" d="M{at} {bottom}v4"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}"{anchor}>{tick_text(value)}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="mid name" x="{middle:g}" y="{HEIGHT - 4}">{escape(frame.x.label)}</text>')
    upright = f'transform="translate(10 {(_TOP + bottom) / 2:g}) rotate(-90)"'
    parts.append(f'<text class="mid name" {upright}>{escape(frame.y.label)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


def ticks(axis: Axis, most: int) -> list[float]:
    """Return round values to label on an axis, at most about so many."""
    if axis.at and len(axis.at) <= 2 * most and _apart(axis):
        return list(axis.at)
    if axis.log:
        return _log_ticks(axis, most)
    span = axis.high - axis.low
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(math.ceil(step), 1) if axis.whole else step
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _apart(axis: Axis) -> bool:
    """Return whether there is room for the labels that an axis asks for."""
    return all(
        axis.place(after) - axis.place(before) > _LETTER * (len(tick_text(before) + tick_text(after)) / 2 + 1)
        for before, after in pairwise(axis.at)
    )


def _log_ticks(axis: Axis, most: int) -> list[float]:
    powers = range(math.floor(math.log10(axis.log)), math.ceil(math.log10(axis.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in powers for f in factors if axis.log <= f * 10.0**p <= axis.high]
        if len(found) <= most + 1:
            break
    zero = [axis.low] if axis.low < axis.log else []
    return zero + found[:: max(1, -(-len(found) // (most + 1)))]


def tick_text(value: float) -> str:
    """Return a number in few characters."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if size >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):,.6g}{letter}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def _areas(layers: Layers) -> str:
    return key_of(zip(layers.names, layers.colours, strict=True))


def key_of_lines(lines: Iterable[Line]) -> str:
    """Return a key of lines, each name once."""
    samples = {line.name: _sample(line) for line in lines}
    return f'<ul class="key">{"".join(f"<li>{sample}{escape(name)}</li>" for name, sample in samples.items())}</ul>'


def key_of(entries: Iterable[tuple[str, str]]) -> str:
    """Return a key of colours for areas."""
    items = (f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in entries)
    return f'<ul class="key">{"".join(items)}</ul>'


def _sample(line: Line) -> str:
    dashes = f";stroke-dasharray:{' '.join(f'{2 * dash:g}' for dash in line.dashes)}" if line.dashes else ""
    style = f"stroke:{line.colour}{dashes}"
    return f'<svg viewBox="0 0 30 10" aria-hidden="true"><path class="line" d="M0 5H30" style="{style}"/></svg>'
