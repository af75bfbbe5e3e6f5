"""Charts of plain SVG, as HTML figures with the name above and the key below."""

import math
from collections.abc import Mapping, Sequence

from common.course.pages import escape
from common.course.words import is_number

_WIDTH, _HEIGHT = 400, 230  # little, so that letters can be read on a telephone, too
_RIGHT, _TOP, _BOTTOM = 12, 10, 40
_MOST_MARKED = 20  # points of a line, each with a marker


def line_chart(title: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Lines over the epochs, as HTML with the chart in SVG; a single point is a marker.

    Args:
        title: What is drawn, above the chart.
        lines: The x and y of each line by its name. What is not a number is left out.

    Returns:
        The chart; nothing if there is no number in it.
    """
    points = {
        name: [(x, y) for x, y in zip(xs, ys, strict=True) if is_number(x) and is_number(y)]
        for name, (xs, ys) in lines.items()
    }
    points = {name: found for name, found in points.items() if found}
    if not points:
        return ""
    xs, ys = zip(*(point for line in points.values() for point in line), strict=True)
    xticks, yticks = _ticks(min(xs), max(xs), whole=True), _ticks(min(ys), max(ys))
    (left, right), (low, high) = (xticks[0], xticks[-1]), (yticks[0], yticks[-1])
    if min(xs) < max(xs):
        left, right = min(xs), max(xs)
    margin = 12 + 7 * max(len(_tick(y)) for y in yticks)

    def x_at(x: float) -> float:
        return margin + (_WIDTH - margin - _RIGHT) * (x - left) / (right - left)

    def y_at(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)

    drawn = []
    for y in yticks:
        drawn.append(
            f'<line class="grid" x1="{margin}" x2="{_WIDTH - _RIGHT}" y1="{y_at(y):.1f}" '
            f'y2="{y_at(y):.1f}"/><text x="{margin - 8}" y="{y_at(y) + 4:.1f}" '
            f'text-anchor="end">{_tick(y)}</text>'
        )
    for x in xticks:
        if left <= x <= right:
            drawn.append(
                f'<text x="{x_at(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
                f"{_tick(x)}</text>"
            )
    drawn.append(
        f'<text x="{(margin + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 5}" '
        'text-anchor="middle">epoch</text>'
    )
    key = []
    for number, (name, line) in enumerate(points.items()):
        colour = f"var(--c{number % 6})"
        places = [(x_at(x), y_at(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(places) <= _MOST_MARKED:
            drawn += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places
            ]
        key.append(f'<span><i style="background:{colour}"></i>{escape(name)}</span>')
    keys = f'<div class="key">{"".join(key)}</div>' if len(key) > 1 else ""
    return _figure(title, "".join(drawn), _HEIGHT, keys)


def dot_chart(title: str, dots: Sequence[tuple[str, float, str]], best: int | None) -> str:
    """A dot per value over a common axis, as HTML with the chart in SVG.

    Dots, not bars: those would have to begin at zero, where all look the same.

    Args:
        title: What is drawn, above the chart.
        dots: A name, a value and the value as text each.
        best: Number of the dot to mark.
    """
    values = [value for _, value, _ in dots]
    ticks = _ticks(min(values), max(values))
    row, space = 38, 14  # a name above its line, so that there is room for both
    height = row * len(dots)

    def at(value: float) -> float:
        return space + (_WIDTH - 2 * space) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    drawn = [
        f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="0" y2="{height}"/>'
        f'<text x="{at(tick):.1f}" y="{height + 16}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in ticks
    ]
    for number, (name, value, text) in enumerate(dots):
        y, marked = row * number, number == best
        colour, weight = ("var(--c3)", 600) if marked else ("var(--c0)", 400)
        name = name if len(name) <= 36 else f"{name[:21]}…{name[-14:]}"
        drawn.append(
            f'<text x="{space}" y="{y + 14}" style="font-weight:{weight}">{escape(name)}</text>'
            f'<text x="{_WIDTH - space}" y="{y + 14}" text-anchor="end" '
            f'style="font-weight:{weight}">{"best: " * marked}{escape(text)}</text>'
            f'<line class="grid" x1="{space}" x2="{_WIDTH - space}" y1="{y + 26}" y2="{y + 26}"/>'
            f'<circle cx="{at(value):.1f}" cy="{y + 26}" r="{6 if marked else 5}" '
            f'fill="{colour}"/>'
        )
    return _figure(title, "".join(drawn), height + 22, "")


def _figure(title: str, drawn: str, height: int, key: str) -> str:
    title = escape(title)
    return (
        f'<figure><figcaption>{title}</figcaption><svg class="chart" role="img" '
        f'aria-label="{title}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}">{drawn}</svg>{key}</figure>'
    )


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers from below `low` to above `high`, some five of them."""
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size:  # as good as one value
        low, high = (low - 1, high + 1) if whole else (low - size / 10, high + size / 10)
    if high - low < 1e-300:
        low, high = -1.0, 1.0
    size = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 5)
    step = max(step, 1) if whole else step
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:.6g}"
