"""Tables as text: for a terminal, a README, a page."""

import html
import re
import shutil

import pandas as pd

from common.course import pages
from common.course.report import PARTS, by_phase, headline_metrics, shown
from common.course.words import show
from common.paths import cut, display, visible

WIDTH = 100  # characters of a line in a terminal


def to_markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    table = shown(table, _for_markdown)
    lines = [list(table), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _for_markdown(text: str) -> str:
    text = html.escape(visible(text), quote=False)
    return re.sub(r"[\\|`*~]|(?<!\w)_|_(?!\w)|\](?=\()", r"\\\g<0>", text)


def to_text(table: pd.DataFrame) -> str:
    """Columns side by side, for a terminal."""
    table = table if table.empty else shown(table, display)
    return "Nothing yet." if table.empty else table.to_string(index=False)


def to_narrow_text(table: pd.DataFrame, width: int | None = None) -> str:
    """The runs of each phase with what they are judged by, in lines of at most so many characters.

    Args:
        width: `None` for the terminal's, from 60 to `WIDTH`.
    """
    if width is None:
        width = min(max(shutil.get_terminal_size((WIDTH, 24)).columns, 60), WIDTH)
    if table.empty:
        return "Nothing yet."
    parts = []
    for phase, runs in by_phase(table).items():
        metrics = headline_metrics(phase, runs)
        wanted = ["run", "n", *metrics, "minutes", "seed", *PARTS, "profile", "dataset", "epochs"]
        columns = {}
        for name in (name for name in wanted if name in runs):
            cells = [display(show(name, value)) for value in runs[name].tolist()]
            telling = any(cells) and (name in ("n", "minutes", *metrics) or len({*cells}) > 1)
            if telling or name == "run":
                columns[name] = cells
        parts.append("\n".join([cut(display(phase), width), *_side_by_side(columns, width)]))
    return "\n\n".join(parts)


def _side_by_side(columns: dict[str, list[str]], width: int) -> list[str]:
    """As many of the columns, the first ones before others, as there is room for."""
    blocks, room = [], width
    longest_run = width - 30  # so that there is room for a metric or two
    for name, cells in columns.items():
        align = str.rjust
        if not blocks:
            cells, align = [cut(cell, longest_run) for cell in cells], str.ljust
        longest = max(map(len, cells))
        head = _folded(name, max(longest, 9))
        wide = max(longest, *map(len, head))
        if wide <= room:
            blocks.append((align, wide, head, cells))
            room -= wide + 2
    height = max(len(head) for _, _, head, _ in blocks)
    lines = [
        [align(line, wide) for line in (*[""] * (height - len(head)), *head, *cells)]
        for align, wide, head, cells in blocks
    ]
    return ["  ".join(line).rstrip() for line in zip(*lines, strict=True)]


def _folded(name: str, width: int) -> list[str]:
    """A column's name on as many lines as it needs, broken behind `_`."""
    lines = [""]
    for word in re.findall(r"[^_]*_|[^_]+", display(name)):
        if lines[-1] and len(lines[-1] + word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def to_html(table: pd.DataFrame) -> str:
    """Any table as HTML, sorted by its numbers."""
    texts = table if table.empty else shown(table, pages.escape)
    if texts.empty:
        return "<p>Nothing yet.</p>"
    keys = table[list(shown(table, str))].to_numpy().tolist()
    pairs = zip(texts.to_numpy().tolist(), keys, strict=True)
    return pages.table(list(texts), [[*zip(row, key, strict=True)] for row, key in pairs])
