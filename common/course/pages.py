"""How the course's HTML pages look: one style, tables that can be sorted.

A page is one file that asks no other for anything, so that it can be read offline, sent, and kept.
"""

import html
import os
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.course.words import is_number
from common.paths import visible


def beside(name: str) -> str:
    """The text of a file of the package, on lines of its own."""
    return "\n" + Path(__file__).with_name(name).read_text(encoding="utf-8")


STYLE = beside("page.css")
SORT = beside("sort.js")  # a page without it is only not sorted
HEADING = r"^#{1,6}[ \t]+(.+?)[ \t#]*$"  # of Markdown

# HTML, alone or with the number that it is sorted by.
Cell = str | tuple[str, object]


def escape(text: object) -> str:
    """Any text as HTML."""
    return html.escape(visible(text))


def link(target: str, text: str) -> str:
    """A link to a file beside the page, given by its path."""
    return f'<a href="{quote(target)}">{escape(text)}</a>'


def quote(target: str) -> str:
    """The path of a file beside a page as an address; names need not be UTF-8."""
    return urllib.parse.quote(os.fsencode(target), safe="/=+")


def page(title: str, *parts: str, index: str | None = None, style: str = "", meta: str = "") -> str:
    """A whole HTML page.

    Args:
        title: Text.
        parts: HTML.
        index: Path of the page of all results, to which a link leads back.
        style: CSS besides `STYLE`.
        meta: HTML of the page's head.
    """
    title, body = escape(title), "\n".join(parts)
    script = f"<script>{SORT}</script>" if "<table class=sortable" in body else ""
    back = "" if index is None else f"<p>{link(index, 'All results')}</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{meta}'
        f"<title>{title}</title><style>{STYLE}{style}</style></head>\n"
        f"<body>{back}<h1>{title}</h1>\n{body}\n{script}</body></html>\n"
    )


def section(title: str, parts: Iterable[str]) -> list[str]:
    """HTML under a heading; nothing if there is none."""
    parts = list(parts)
    return [f"<h2>{title}</h2>", *parts] if parts else []


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], best: int | None = None) -> str:
    """A table in a box of its own that scrolls where it is too wide.

    Args:
        columns: Names of the columns, HTML.
        rows: Cells, HTML; each alone, or with the number that it is sorted by.
        best: Number of the row to mark.
    """
    rows = [[cell if isinstance(cell, tuple) else (cell, None) for cell in row] for row in rows]
    kinds = [_kind([row[i] for row in rows]) for i in range(len(columns))]
    head = "".join(
        f'<th class="{kind}">{name}</th>' for name, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for number, row in enumerate(rows):
        cells = "".join(
            f'<td class="{kind}"{_sort(key)}>{cell}</td>'
            for (cell, key), kind in zip(row, kinds, strict=True)
        )
        mark = ' class="best"' if number == best else ""
        body.append(f"<tr{mark}>{cells}</tr>")
    kind = "sortable" if len(rows) > 1 else "plain"
    return (
        f'<div class="scroll"><table class={kind}><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + "</tbody></table></div>"
    )


_SHORT = 24  # characters


def _kind(cells: list[tuple[str, object]]) -> str:
    """What a column holds: numbers; long texts; or short ones, which stay on their line."""
    filled = [is_number(key) for cell, key in cells if cell or is_number(key)]
    if filled and all(filled):
        return "number"
    lines = (line for cell, _ in cells for line in cell.split("<br>"))
    return "text" if any(len(re.sub("<[^>]*>", "", line)) > _SHORT for line in lines) else "short"


def _sort(value: object) -> str:
    return f' data-sort="{float(value)!r}"' if is_number(value) else ""


def bullets(items: Iterable[str]) -> list[str]:
    """A list of HTML items; nothing if there is none."""
    listed = "".join(f"<li>{item}</li>" for item in items)
    return [f"<ul>{listed}</ul>"] if listed else []
