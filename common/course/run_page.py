"""The page of a run: settings, curves, figures, metrics with intervals, captions, files."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from common.course import pages, words
from common.course.charts import line_chart
from common.course.pages import escape, link
from common.course.report import read_config, samples
from common.files import read_json
from common.paths import visible

PAGE = "index.html"  # of a run, in its folder
MOST = 200  # files, figures or captions on a page
_FIGURES = (".png", ".jpg", ".jpeg", ".svg", ".webp")


def run_page(folder: Path, index: str) -> str:
    """A run as an HTML page.

    Args:
        folder: That of the run.
        index: Address of the page of all runs.

    Raises:
        DataError: if its record cannot be read.
    """
    record = read_json(folder / "record.json", dict)
    facts = {"time": escape(words.duration(record.get("seconds")))}
    for name in ("phase", "dataset", "profile", "seed", "epochs", "parameters", "created"):
        facts[name] = cell(name, record.get(name))[0]
    hardware = record.get("hardware")
    facts["on"] = escape(
        words.show("", hardware.get("processor") if isinstance(hardware, dict) else None)
    )
    captions = [[escape(text) for text in pair] for pair in samples(record)[:MOST]]
    told = ("versions", "hardware", "device", "git_revision", "source")
    return pages.page(
        visible(record.get("run_name") or folder.name),
        '<p class="quiet">'
        + " · ".join(f"{name} {text}" for name, text in facts.items() if text)
        + "</p>",
        *pages.section("Metrics", _scores(record.get("metrics"))),
        *pages.section("Test, by way of decoding", _scores(record.get("test"))),
        *pages.section("Curves", curves(folder)),
        *pages.section("Figures", _figures(folder)),
        *pages.section("Captions", _table(["image", "caption"], captions)),
        *pages.section("Settings", _settings(read_config(folder))),
        *pages.section("Made with", _settings({key: record.get(key) for key in told})),
        *pages.section("Files", _files(folder)),
        index=index,
    )


def cell(name: str, value: object, row: dict | None = None) -> pages.Cell:
    """A value with its interval below, if the row has one, and what it is sorted by."""
    text = escape(words.show(name, value))
    if name == "parameters" and isinstance(value, (int, float)) and words.is_number(value):
        text = f"{value:,.0f}"
    between = words.interval(name, row or {})
    if text and between:
        text += f'<br><small class="quiet">{escape(between)}</small>'
    return text, value if words.is_number(value) else None


def _table(columns: list[str], rows: list[list[pages.Cell]]) -> Iterator[str]:
    if rows:
        yield pages.table(columns, rows)


def _scores(values: object) -> Iterator[str]:
    scores = words.flat(values) if isinstance(values, dict) else {}
    rows = []
    for name, value in scores.items():
        base = name.removesuffix("_low").removesuffix("_high")
        if (base == name or base not in scores) and value is not None:
            told = escape(words.in_words(name).replace(".", ": "))
            between = escape(" to ".join(words.ends(name, scores)))
            rows.append([told, cell(name.rsplit(".", 1)[-1], value), between])
    columns = ["metric", "value", *["95 % interval"] * any(row[2] for row in rows)]
    yield from _table(columns, [row[: len(columns)] for row in rows])


def curves(folder: Path) -> Iterator[str]:
    """A chart per column of the history, training and validation together."""
    history = read_history(folder)
    if "epoch" not in history:
        return
    names = [name for name in history if name not in ("epoch", "seconds")]
    charts = []
    for name in names[:MOST]:
        base = name.removeprefix("val_")
        if name != base and base in names:
            continue
        both = {"training": base, "validation": f"val_{base}"}
        lines = {k: history[["epoch", column]] for k, column in both.items() if column in names}
        charts.append(curve_chart(base, lines))
    if any(charts):
        yield '<div class="charts">' + "".join(charts) + "</div>"


def curve_chart(name: str, curves: dict[str, pd.DataFrame]) -> str:
    """A metric over the epochs.

    Args:
        name: That of the metric.
        curves: A table of two columns, epoch and value, for each line.
    """
    factor, unit = (100, " (%)") if words.in_percent(name) else (1, "")
    lines = {}
    for label, table in curves.items():
        numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
        x, y = (numbers.iloc[:, i].tolist() for i in range(2))
        lines[label] = (x, [factor * value for value in y])
    return line_chart(words.in_words(name) + unit, lines)


def read_history(folder: Path) -> pd.DataFrame:
    """The curves of a run; none if the file is missing or damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return pd.read_csv(folder / "history.csv", encoding="utf-8", index_col=False)
    except (OSError, ValueError):  # pandas's own errors are ValueErrors
        return pd.DataFrame()


def _figures(folder: Path) -> Iterator[str]:
    for path in _found(folder):
        if path.suffix.lower() in _FIGURES:
            place = path.relative_to(folder).as_posix()
            name = escape(path.stem.replace("_", " "))
            yield (
                f'<figure><figcaption>{name}</figcaption><img loading="lazy" alt="{name}" '
                f'src="{pages.quote(place)}"></figure>'
            )


def _settings(values: dict) -> Iterator[str]:
    told = {name: value for name, value in words.flat(values).items() if value is not None}
    rows = [[escape(name), escape(words.show("", value)[:2000])] for name, value in told.items()]
    return _table(["name", "value"], rows)


def _files(folder: Path) -> Iterator[str]:
    rows = []
    for path in _found(folder):
        size = path.stat().st_size
        place = path.relative_to(folder).as_posix()
        text = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
        rows.append([link(place, place), (text, size)])
    yield from _table(["file", "size"], rows[:MOST])
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
