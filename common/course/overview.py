"""`outputs/index.html`, with all that was made, and the page of each run and each sweep."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from common.course import pages
from common.course.pages import escape, is_number, link
from common.course.report import (
    FIRST,
    NO_RUNS,
    ODD,
    PARTS,
    by_phase,
    flat,
    headline,
    headline_metrics,
    in_percent,
    in_words,
    left_out,
    read_runs,
    show,
    shown,
)
from common.errors import CourseError
from common.files import read_json, write_text
from common.paths import outputs_dir, visible

logger = logging.getLogger(__name__)

PHASES = {
    "phase1_cifar": "Phase 1: CIFAR",
    "phase2_histopathology": "Phase 2: histopathology",
    "phase3_captioning": "Phase 3: captioning",
}
PAGE = "index.html"  # of a run, in its folder
_MOST = 200  # files, figures or captions on a page
_LONGEST = 300  # characters of an error's message


def write_index(tell: bool = True) -> Path:
    """Writes `outputs/index.html`: the lessons that ran, all runs, comparisons and sweeps.

    Each run gets a page in its folder. Of files that cannot be read it tells at its end, and with
    `tell` on the log, too.
    """
    root = outputs_dir()
    lessons, problems = {}, []
    for path in sorted(root.glob("notebooks/*/*.json")):
        if path.name.startswith("."):  # being written
            continue
        try:
            result = read_json(path, dict)
            row = _lesson_row(path, root, result)
            lessons.setdefault(str(result["phase"]), []).append(row)
        except ODD as error:
            problems.append(left_out(path, error))
    runs, others = read_runs([root / "runs"])
    problems += others
    body = ["<h2>Lessons</h2>"]
    for phase, rows in lessons.items():
        body += [f"<h3>{_phase(phase)}</h3>", _table(_LESSON_COLUMNS, rows)]
    body += [] if lessons else ["<p>None has run yet.</p>"]
    body += ["<h2>Runs</h2>", *_runs(runs, root)]
    pairs = [*_links(root, "comparisons/*.html")]
    body += ["<h2>Comparisons</h2>", pages.bullets(pairs)] if pairs else []
    sweeps = [*_links(root, "sweeps/*/table.html")]
    body += ["<h2>Sweeps</h2>", pages.bullets(sweeps)] if sweeps else []
    for problem in problems if tell else ():
        logger.warning("%s", problem)
    if problems:
        body += ["<h2>Left out</h2>", pages.bullets(map(escape, problems))]
    path = root / "index.html"
    write_text(path, pages.page("Course outputs", *body))
    return path


def _phase(name: str) -> str:
    return escape(PHASES.get(name, name))


def _links(root: Path, pattern: str) -> Iterator[str]:
    for path in sorted(root.glob(pattern)):
        name = path.parent.name if path.stem == "table" else path.stem.replace("_and_", " and ")
        if not path.name.startswith("."):
            yield link(path.relative_to(root).as_posix(), name).html


def _table(columns: Iterable[str], rows: list[list], **options) -> str:
    """A table of rows whose cells are HTML, each alone or with what it is sorted by."""
    pairs = [[cell if isinstance(cell, tuple) else (cell, None) for cell in row] for row in rows]
    cells = [[html for html, _ in row] for row in pairs]
    keys = [[key for _, key in row] for row in pairs]
    return pages.table(list(columns), cells, keys, **options)


_LESSON_COLUMNS = ("lesson", "state", "time", "headline", "notebook", "runs")


def _lesson_row(path: Path, root: Path, result: dict) -> list:
    place = path.relative_to(root)
    name = visible(result["lesson"])
    notebook = path.with_suffix(".ipynb")
    title = _title(notebook) or name.replace("_", " ")
    number = re.match(r"\d+", name)
    text = f"{int(number[0])}. {title}" if number else title
    read = path.with_suffix(".html").exists()
    lesson = link(place.with_suffix(".html").as_posix(), text).html if read else escape(text)
    failure = result["failure"]
    state = '<span class="ok">ok</span>'
    if failure:
        said = f"{failure['error']}: {failure['message']}"
        where = f"failed in cell {failure['cell']} ({failure['source']}): {said[:_LONGEST]}"
        state = f'<span class="failed">{escape(where)}</span>'
    runs = [
        link(f"runs/{run}/{PAGE}", run).html
        if (root / "runs" / run / PAGE).exists() or (root / "runs" / run / "record.json").exists()
        else escape(run)
        for run in result["runs"]
        if isinstance(run, str)
    ]
    own = link(place.with_suffix(".ipynb").as_posix(), "ipynb").html if notebook.exists() else ""
    seconds = result["seconds"]
    time = (_time(seconds), seconds)
    told = headline(str(result["phase"]), result["metrics"] or {})
    metrics = "<br>".join(map(escape, told or ()))
    return [lesson, state, time, metrics, own, "<br>".join(runs)]


def _title(notebook: Path) -> str | None:
    """The first heading of a notebook, as plain text; `None` if it has none, or is none."""
    try:
        cells = read_json(notebook, dict)["cells"]
        texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    except ODD:
        return None
    found = re.search(pages.HEADING, "\n".join(texts), re.MULTILINE)
    return re.sub(r"[*`$]|\[([^]]*)\]\([^)]*\)", r"\1", found[1]) if found else None


def _time(seconds: object) -> str:
    if not is_number(seconds):
        return escape(show("seconds", seconds))
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# Runs -------------------------------------------------------------------------------------------


def _runs(runs: pd.DataFrame, root: Path) -> Iterator[str]:
    """A table of the runs of each phase, the newest first; writes a page for each run."""
    if runs.empty:
        yield f"<p>{escape(NO_RUNS)}</p>"
        return
    for phase, table in by_phase(runs[::-1]).items():
        metrics = headline_metrics(phase, table)
        facts, shared = [], []
        for name in ("dataset", "profile", "seed", *PARTS, "epochs", "parameters"):
            values = dict.fromkeys(_cell(name, value)[0] for value in table[name].tolist())
            if len(values) == 1 and len(table) > 1:
                shared += [f"{in_words(name)} {value}" for value in values if value]
            elif any(values):
                facts.append(name)
        rows = []
        for row in table.to_dict("records"):
            folder = Path(os.fsdecode(row["folder"]))
            place = folder.relative_to(root).as_posix()
            page = _write_run_page(folder, root)
            cells = [link(f"{place}/{PAGE}" if page else f"{place}/", row["run"]).html]
            cells += [_cell(name, row[name]) for name in facts]
            minutes = row["minutes"]
            cells.append((_time(60 * minutes) if is_number(minutes) else "", minutes))
            cells += [_cell(name, row[name], row) for name in metrics]
            cells.append(escape(show("created", row["created"])[:10]))
            rows.append(cells)
        names = [escape(in_words(name)) for name in ("run", *facts, "time", *metrics, "made on")]
        yield f"<h3>{_phase(phase)}</h3>"
        if shared:
            yield f'<p class="quiet">All: {", ".join(shared)}.</p>'
        yield _table(names, rows)


def _cell(name: str, value: object, row: dict | None = None) -> tuple[str, object]:
    """A value with its interval below, and what it is sorted by."""
    text = escape(show(name, value))
    if name == "parameters" and isinstance(value, (int, float)) and is_number(value):
        text = f"{value:,.0f}"
    ends = [show(name, (row or {}).get(f"{name}_{end}")) for end in ("low", "high")]
    if text and all(ends):
        ends = " to ".join(end.removesuffix(" %") for end in ends)
        text += f'<br><small class="quiet">{escape(ends)}</small>'
    return text, value if is_number(value) else None


def _write_run_page(folder: Path, root: Path) -> bool:
    """Whether the run has a page now; none is made where nothing can be written."""
    try:
        up = "../" * len(folder.relative_to(root).parts)
        text = run_page(folder, f"{up}index.html")
        path = folder / PAGE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    except (CourseError, *ODD):
        return False
    return True


def run_page(folder: Path, index: str) -> str:
    """A run as an HTML page: settings, curves, figures, metrics with intervals, files.

    Args:
        folder: That of the run.
        index: Address of the page of all runs.

    Raises:
        DataError: if its record cannot be read.
    """
    record = read_json(folder / "record.json", dict)
    config = folder / "config.json"
    settings = read_json(config, dict) if config.exists() else {}
    facts = {"time": _time(record.get("seconds"))}
    for name in ("phase", "dataset", "profile", "seed", "epochs", "parameters", "created"):
        facts[name] = _cell(name, record.get(name))[0]
    hardware = record.get("hardware")
    processor = hardware.get("processor") if isinstance(hardware, dict) else None
    facts["on"] = escape(show("", processor))
    body = [
        '<p class="quiet">'
        + " · ".join(f"{name} {text}" for name, text in facts.items() if text)
        + "</p>"
    ]
    body += _scores(record)
    body += _section("Curves", _curves(folder))
    body += _section("Figures", _figures(folder))
    body += _captions(record)
    told = ("versions", "hardware", "device", "git_revision", "source")
    body += _settings("Settings", settings)
    body += _settings("Made with", {key: record.get(key) for key in told})
    body += _section("Files", _files(folder))
    above = f"<p>{link(index, 'All results').html}</p>"
    return pages.page(visible(record.get("run_name") or folder.name), *body, above=above)


def _section(title: str, parts: Iterable[str]) -> list[str]:
    parts = list(parts)
    return [f"<h2>{title}</h2>", *parts] if parts else []


def _scores(record: dict) -> Iterator[str]:
    for title, key in (("Metrics", "metrics"), ("Test, by way of decoding", "test")):
        values = record.get(key)
        scores = flat(values) if isinstance(values, dict) else {}
        rows = []
        for name, value in scores.items():
            base = name.removesuffix("_low").removesuffix("_high")
            if (base != name and base in scores) or value is None:
                continue
            last = name.rsplit(".", 1)[-1]
            ends = [show(last, scores.get(f"{name}_{end}")) for end in ("low", "high")]
            interval = " to ".join(ends) if all(ends) else ""
            cells = [escape(in_words(name).replace(".", ": ")), _cell(last, value), interval]
            rows.append(cells)
        if rows:
            between = any(row[2] for row in rows)
            columns = ["metric", "value", *["95 % interval"] * between]
            yield f"<h2>{title}</h2>"
            yield _table(columns, [row[: len(columns)] for row in rows])


def _curves(folder: Path) -> Iterator[str]:
    """A chart per column of the history, training and validation together."""
    history = read_history(folder)
    if "epoch" not in history:
        return
    names = [name for name in history if name not in ("epoch", "seconds")]
    charts = []
    for name in names[:_MOST]:
        base = name.removeprefix("val_")
        if name != base and base in names:
            continue
        both = {"training": base, "validation": f"val_{base}"}
        both = {label: column for label, column in both.items() if column in names}
        charts.append(curve_chart(base, {k: history[["epoch", c]] for k, c in both.items()}))
    if any(charts):
        yield '<div class="charts">' + "".join(charts) + "</div>"


def curve_chart(name: str, curves: dict[str, pd.DataFrame]) -> str:
    """A metric over the epochs.

    Args:
        name: That of the metric.
        curves: A table of two columns, epoch and value, for each line.
    """
    factor, unit = (100, " (%)") if in_percent(name) else (1, "")
    lines = {}
    for label, table in curves.items():
        numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
        x, y = (numbers.iloc[:, i].tolist() for i in range(2))
        lines[label] = (x, [factor * value for value in y])
    return pages.line_chart(in_words(name) + unit, lines)


def read_history(folder: Path) -> pd.DataFrame:
    """The curves of a run; none if the file is missing or damaged."""
    import warnings

    try:
        with warnings.catch_warnings(action="ignore"):
            return pd.read_csv(folder / "history.csv", encoding="utf-8", index_col=False)
    except (OSError, ValueError):  # pandas's own errors are ValueErrors
        return pd.DataFrame()


def _figures(folder: Path) -> Iterator[str]:
    kinds = (".png", ".jpg", ".jpeg", ".svg", ".webp")
    for path in _found(folder):
        if path.suffix.lower() in kinds:
            place = path.relative_to(folder).as_posix()
            name = escape(path.stem.replace("_", " "))
            yield (
                f'<figure><figcaption>{name}</figcaption><img loading="lazy" alt="{name}" '
                f'src="{pages.quote(place)}"></figure>'
            )


def _captions(record: dict) -> list[str]:
    samples = record.get("samples")
    rows = [
        [escape(sample["image"]), escape(sample["caption"])]
        for sample in (samples[:_MOST] if isinstance(samples, list) else ())
        if isinstance(sample, dict) and {"image", "caption"} <= sample.keys()
    ]
    return ["<h2>Captions</h2>", pages.table(["image", "caption"], rows)] if rows else []


def _settings(title: str, values: dict) -> list[str]:
    rows = [
        [escape(name), escape(show("", value)[:2000])]
        for name, value in flat(values).items()
        if value is not None
    ]
    return [f"<h2>{title}</h2>", pages.table(["name", "value"], rows)] if rows else []


def _files(folder: Path) -> Iterator[str]:
    rows = []
    for path in _found(folder):
        size = path.stat().st_size
        place = path.relative_to(folder).as_posix()
        text = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
        rows.append([link(place, place).html, (text, size)])
    if rows:
        yield _table(["file", "size"], rows[:_MOST])
    if (folder / "tensorboard").is_dir():
        yield "<p>Live curves: <code>tensorboard --logdir .</code> in this folder.</p>"


def _found(folder: Path) -> list[Path]:
    """The files of a run and of folders right within it, but those of other runs, and hidden."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "tensorboard" and not (path / "config.json").exists():
            found += sorted(inner for inner in path.iterdir() if inner.is_file())
        elif path.is_file() and path.name != PAGE:
            found.append(path)
    return [path for path in found if not path.name.startswith(".")]


# Sweeps -----------------------------------------------------------------------------------------

# Of these less is better.
_COSTS = ("loss", "error", "ece", "perplexity", "seconds")
_OF_RUNS = (*FIRST, "n", "state", "error")


def sweep_page(folder: Path, table: pd.DataFrame, averaged: pd.DataFrame, keys: list[str]) -> str:
    """A sweep as an HTML page: a chart with the best marked, the table, links to runs.

    Args:
        folder: That of the sweep, whose name it has.
        table: A row per run.
        averaged: A row per combination, as `sweep.average` makes it.
        keys: The columns that vary.
    """
    metrics = [n for n in averaged if n not in (*_OF_RUNS, *keys, "seconds")]
    metrics = [n for n in metrics if not n.endswith(("_low", "_high"))]
    chosen = next((n for n in metrics if n.startswith("val_") and not _is_cost(n)), None)
    chosen = chosen or next((n for n in metrics if not _is_cost(n)), next(iter(metrics), None))
    labels = [
        ", ".join(f"{key} {show(key, row[key])}" for key in keys) or "all"
        for row in averaged.to_dict("records")
    ]
    best, body = None, []
    if chosen is not None:
        means = _means(table, averaged, keys, chosen)
        there = [i for i, mean in enumerate(means) if mean is not None]
        if there:
            best = (min if _is_cost(chosen) else max)(there, key=means.__getitem__)
            factor, unit = (100, " (%)") if in_percent(chosen) else (1, "")
            shown_ones = sorted({*there[:_MOST], best})
            dots = [(labels[i], factor * means[i], averaged[chosen].iloc[i]) for i in shown_ones]
            title = in_words(chosen) + unit
            body.append(pages.dot_chart(title, dots, shown_ones.index(best)))
            body.append(
                f"<p>Best by {escape(in_words(chosen))}: <b>{escape(labels[best])}</b> "
                f"({escape(averaged[chosen].iloc[best])}).</p>"
            )
    texts = shown(averaged, escape)
    links = _sweep_links(folder, averaged, keys)
    columns = list(shown(averaged, str))
    names = [escape(in_words(name)) for name in columns]
    of_runs = [name for name in columns if name in table and name not in (*keys, "error")]
    numbers = {name: _means(table, averaged, keys, name) for name in of_runs}
    rows = []
    for i, row in enumerate(texts.to_numpy().tolist()):
        cells = [
            (cell, numbers[name][i] if name in numbers else averaged[name].iloc[i])
            for cell, name in zip(row, columns, strict=True)
        ]
        rows.append([*cells, links[i]])
    body.append(_table([*names, "runs"], rows, best=best))
    above = f"<p>{link('../../index.html', 'All results').html}</p>"
    return pages.page(f"Sweep {folder.name}", *body, above=above)


def _is_cost(name: str) -> bool:
    return any(part in name.split("_") for part in _COSTS)


def _means(
    table: pd.DataFrame, averaged: pd.DataFrame, keys: list[str], metric: str
) -> list[float | None]:
    """The mean of a metric for each row of `averaged`; `None` where there is none."""
    found = {}
    for row in table.to_dict("records"):
        if is_number(row[metric]) and row["state"] == "ok":
            found.setdefault(tuple(str(row[key]) for key in keys), []).append(row[metric])
    wanted = [tuple(str(row[key]) for key in keys) for row in averaged.to_dict("records")]
    return [sum(found[key]) / len(found[key]) if key in found else None for key in wanted]


def _sweep_links(folder: Path, averaged: pd.DataFrame, keys: list[str]) -> list[str]:
    """For each row the pages of its runs, or the notebooks of those without one."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            parameters = read_json(path, dict)["parameters"]
            key = tuple(str(parameters[name]) for name in keys)
            seed = visible(parameters.get("seed", "run"))
            record = outputs_dir() / "runs" / parameters["run_name"] / "record.json"
        except ODD:
            continue
        text = f"seed {seed}"
        if record.exists():
            page = f"../../runs/{parameters['run_name']}/{PAGE}"
            found.setdefault(key, []).append(link(page, text).html)
        elif path.with_suffix(".ipynb").exists():
            notebook = link(f"{path.stem}.ipynb", f"{text} (notebook)").html
            found.setdefault(key, []).append(notebook)
    wanted = [tuple(str(row[key]) for key in keys) for row in averaged.to_dict("records")]
    return ["<br>".join(found.get(key, [])) for key in wanted]


def to_html(table: pd.DataFrame) -> str:
    """Any table as HTML, sorted by its numbers."""
    texts = table if table.empty else shown(table, escape)
    if texts.empty:
        return "<p>Nothing yet.</p>"
    keys = table[list(shown(table, str))].to_numpy().tolist()
    return pages.table(list(texts), texts.to_numpy().tolist(), keys)
