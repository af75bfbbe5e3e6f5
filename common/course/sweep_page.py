"""The page of a sweep: a chart with the best marked, the table, links to its runs."""

from pathlib import Path

import pandas as pd

from common.course import pages
from common.course.charts import dot_chart
from common.course.pages import escape, link
from common.course.report import FIRST, ODD, shown
from common.course.run_page import MOST, PAGE
from common.course.words import in_percent, in_words, is_number, show
from common.files import read_json
from common.paths import outputs_dir, visible

# Of these less is better.
_COSTS = ("loss", "error", "ece", "perplexity", "seconds")
_OF_RUNS = (*FIRST, "n", "state", "error")


def sweep_page(folder: Path, table: pd.DataFrame, averaged: pd.DataFrame, keys: list[str]) -> str:
    """A sweep as an HTML page.

    Args:
        folder: That of the sweep, whose name it has.
        table: A row per run.
        averaged: A row per combination, as `sweep.average` makes it.
        keys: The columns that vary.
    """
    rows = averaged.to_dict("records")
    points = [_point(row, keys) for row in rows]
    labels = [", ".join(f"{key} {show(key, row[key])}" for key in keys) or "all" for row in rows]
    chosen = _chosen_by(averaged, keys)
    means = [] if chosen is None else _means(table, points, keys, chosen)
    there = [i for i, mean in enumerate(means) if mean is not None]
    best, body = None, []
    if there:
        best = (min if _is_cost(chosen) else max)(there, key=means.__getitem__)
        factor, unit = (100, " (%)") if in_percent(chosen) else (1, "")
        drawn = sorted({*there[:MOST], best})
        dots = [(labels[i], factor * means[i], rows[i][chosen]) for i in drawn]
        body = [
            dot_chart(in_words(chosen) + unit, dots, drawn.index(best)),
            f"<p>Best by {escape(in_words(chosen))}: <b>{escape(labels[best])}</b> "
            f"({escape(rows[best][chosen])}).</p>",
        ]
    columns = list(shown(averaged, str))
    texts = shown(averaged, escape).to_numpy().tolist()
    sorted_by = {
        name: _means(table, points, keys, name)
        if name in table and name not in (*keys, "error")
        else averaged[name].tolist()
        for name in columns
    }
    links = _links(folder, keys)
    cells = [
        [*zip(text, (sorted_by[name][i] for name in columns), strict=True)]
        + ["<br>".join(links.get(points[i], []))]
        for i, text in enumerate(texts)
    ]
    names = [escape(in_words(name)) for name in columns]
    body.append(pages.table([*names, "runs"], cells, best))
    return pages.page(f"Sweep {folder.name}", *body, index="../../index.html")


def _point(values: dict, keys: list[str]) -> tuple[str, ...]:
    """Where in the grid it stands. Lists, as widths, can only be told apart as text."""
    return tuple(str(values[key]) for key in keys)


def _chosen_by(averaged: pd.DataFrame, keys: list[str]) -> str | None:
    """The metric to choose by: of validation, else one of which more is better, else the first."""
    metrics = [
        name
        for name in averaged
        if name not in (*_OF_RUNS, *keys, "seconds") and not name.endswith(("_low", "_high"))
    ]
    gains = [name for name in metrics if not _is_cost(name)]
    return next(iter([*(n for n in gains if n.startswith("val_")), *gains, *metrics]), None)


def _is_cost(name: str) -> bool:
    return any(part in name.split("_") for part in _COSTS)


def _means(
    table: pd.DataFrame, points: list[tuple[str, ...]], keys: list[str], metric: str
) -> list[float | None]:
    """The mean of a metric at each point; `None` where there is none."""
    found = {}
    for row in table.to_dict("records"):
        if is_number(row[metric]) and row["state"] == "ok":
            found.setdefault(_point(row, keys), []).append(row[metric])
    return [sum(found[point]) / len(found[point]) if point in found else None for point in points]


def _links(folder: Path, keys: list[str]) -> dict[tuple[str, ...], list[str]]:
    """For each point the pages of its runs, or the notebooks of those without one."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            parameters = read_json(path, dict)["parameters"]
            run, point = parameters["run_name"], _point(parameters, keys)
            finished = (outputs_dir() / "runs" / run / "record.json").exists()
            text = f"seed {visible(parameters.get('seed', 'run'))}"
        except ODD:
            continue
        if finished:
            found.setdefault(point, []).append(link(f"../../runs/{run}/{PAGE}", text))
        elif path.with_suffix(".ipynb").exists():
            notebook = link(f"{path.stem}.ipynb", f"{text} (notebook)")
            found.setdefault(point, []).append(notebook)
    return found
