"""How the course's HTML pages look: one style, tables that can be sorted, charts of plain SVG.

A page is one file that asks no other for anything, so that it can be read offline, sent, and kept.
"""

import html
import math
import numbers
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.paths import visible

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5c6269; --line: #d9dce0;
  --back: #fff; --box: #f5f6f8; --link: #0b57d0; --bad: #b00020; --good: #0b7a3e; --warn: #c77700;
  --c0: #0173b2; --c1: #de8f05; --c2: #029e73; --c3: #d55e00; --c4: #cc78bc; --c5: #8a6a4f; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6e9; --quiet: #a2a8b0; --line: #3b4047;
  --back: #16181b; --box: #212429; --link: #8ab4f8; --bad: #ff8a80; --good: #6fd39a;
  --warn: #f0b35c; --c0: #56b4e9; --c1: #f0b35c; --c2: #4cc9a0; --c3: #ff8f4d; --c4: #dda0d0;
  --c5: #c9a98c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 76rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .8rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
a { color: var(--link); }
.quiet { color: var(--quiet); }
.failed { color: var(--bad); } .ok { color: var(--good); }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .75rem .35rem 0; border: 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; overflow-wrap: normal; }
th { font-weight: 600; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, td.short { white-space: nowrap; }
td.text { min-width: 11rem; overflow-wrap: anywhere; }
tr.best td { background: var(--box); font-weight: 600; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  text-align: inherit; cursor: pointer; }
th button::after { content: "\\a0\\2195"; color: var(--quiet); font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; }
svg.chart { max-width: 100%; height: auto; display: block; }
svg.chart text { fill: var(--text); font: 12px system-ui, sans-serif; }
svg.chart .grid { stroke: var(--line); }
figure { margin: .4rem 0 1.4rem; } figcaption { font-weight: 600; margin-bottom: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: 0 2rem; }
.key { display: flex; flex-wrap: wrap; gap: 0 1.2rem; font-size: .88rem; color: var(--quiet); }
.key i { display: inline-block; width: 1.1em; height: .2em; margin-right: .4em;
  vertical-align: middle; }
img { max-width: 100%; height: auto; background: #fff; }
"""

HEADING = r"^#{1,6}[ \t]+(.+?)[ \t#]*$"  # of Markdown

# A page without it is only not sorted.
SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent;
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const number = head.classList.contains("number");
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a, i), key(b, i)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = number ? x - y : x.localeCompare(y, undefined, {numeric: true});
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    };
  });
}
"""


@dataclass(frozen=True)
class Markup:
    """A cell that is HTML already. All others are text, whatever signs they hold."""

    html: str


def escape(text: object) -> str:
    """Any text as HTML."""
    return html.escape(visible(text))


def link(target: str, text: str) -> Markup:
    """A link to a file beside the page, given by its path."""
    return Markup(f'<a href="{quote(target)}">{escape(text)}</a>')


def quote(target: str) -> str:
    """The path of a file beside a page as an address; names need not be UTF-8."""
    return urllib.parse.quote(os.fsencode(target), safe="/=+")


def page(title: str, *parts: str, above: str = "", style: str = "", meta: str = "") -> str:
    """A whole HTML page.

    Args:
        title: Text.
        parts: HTML.
        above: HTML that stands above the title, such as a way back.
        style: CSS besides `STYLE`.
        meta: HTML of the page's head.
    """
    title, body = escape(title), "\n".join(parts)
    script = f"<script>{SORT}</script>" if "<table class=sortable" in body else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{meta}'
        f"<title>{title}</title><style>{STYLE}{style}</style></head>\n"
        f"<body>{above}<h1>{title}</h1>\n{body}\n{script}</body></html>\n"
    )


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    keys: Sequence[Sequence[object]] | None = None,
    best: int | None = None,
) -> str:
    """A table in a box of its own that scrolls where it is too wide.

    Args:
        columns: Names of the columns, HTML.
        rows: Cells, HTML.
        keys: What the cells are sorted by, where that is a number.
        best: Number of the row to mark.
    """
    keys = keys or [[None] * len(columns) for _ in rows]
    numeric = [
        any(is_number(key[i]) for key in keys)
        and all(is_number(key[i]) or not row[i] for row, key in zip(rows, keys, strict=True))
        for i in range(len(columns))
    ]
    # Short words stay on their line, and need no room of their own.
    long = [any(_longest_line(row[i]) > _SHORT for row in rows) for i in range(len(columns))]
    kinds = [
        "number" if number else "text" if wide else "short"
        for number, wide in zip(numeric, long, strict=True)
    ]
    head = "".join(
        f"<th{_class(kind)}>{name}</th>" for name, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for number, (row, key) in enumerate(zip(rows, keys, strict=True)):
        cells = "".join(
            f"<td{_class(kind)}{_sort(value)}>{cell}</td>"
            for cell, value, kind in zip(row, key, kinds, strict=True)
        )
        body.append(f"<tr{_class('best' if number == best else '')}>{cells}</tr>")
    kind = "sortable" if len(rows) > 1 else "plain"
    return (
        f'<div class="scroll"><table class={kind}><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + "</tbody></table></div>"
    )


_SHORT = 24  # characters


def _longest_line(cell: str) -> int:
    return max(len(re.sub("<[^>]*>", "", line)) for line in cell.split("<br>"))


def is_number(value: object) -> bool:
    """Whether it has a place on an axis: no text, no truth, not infinite."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return bool(number and abs(value) < 1e300)  # False of NaN


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _sort(value: object) -> str:
    return f' data-sort="{float(value)!r}"' if is_number(value) else ""


# Charts -----------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 400, 230  # little, so that letters can be read on a telephone, too
_RIGHT, _TOP, _BOTTOM = 12, 10, 40
_MOST_MARKED = 20  # points of a line, each with a marker


def line_chart(
    title: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str = "epoch"
) -> str:
    """Lines over a common axis, as HTML with the chart in SVG; a single point is a marker.

    Args:
        title: What is drawn, above the chart.
        lines: The x and y of each line by its name. What is not a number is left out.
        xlabel: Below the chart.

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
        f'text-anchor="middle">{escape(xlabel)}</text>'
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


def bullets(items: Iterable[str]) -> str:
    """A list of HTML items."""
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"
