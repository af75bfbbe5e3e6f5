"""Tables of runs, and `outputs/index.html` with all that was made."""

import html
import json
import logging
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.errors import ConfigError, DataError
from common.files import read_json, write_text
from common.paths import display, outputs_dir, visible

logger = logging.getLogger(__name__)

# Metrics told in per cent, all whose names hold one of these.
PERCENT = ("accuracy", "f1", "precision", "recall", "specificity", "true_captions")

# In this order, then the metrics by name of appearance. Parts: of captioners.
PARTS = ("decoder", "backbone", "embedding", "reward")
FIRST = ("run", "phase", "dataset", "profile", "seed", *PARTS, "epochs", "parameters", "minutes")
# Not for readers.
HIDDEN = ("settings", "folder")
# What a damaged file, or one that was not written by the course, can raise on its way into a row.
ODD = (DataError, AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError)

_LONGEST = 200  # characters of a value that is no text, such as a list, and of a message


@dataclass(frozen=True)
class Markup:
    """A cell that is HTML already. All others are text, whatever signs they hold."""

    html: str


def read_runs(folders: Iterable[Path]) -> tuple[pd.DataFrame, list[str]]:
    """A row per finished run found anywhere under `folders`, oldest first.

    Returns:
        The table, with hidden last columns `settings` (all but the seed) and `folder`, and a
        message for each record that could not be read.

    Raises:
        ConfigError: for a folder that is not there, but for that of all runs.
    """
    rows, problems = [], []
    for path in _find_records(folders):
        try:
            beside = path.with_name("config.json")
            config = read_json(beside, dict) if beside.exists() else {}
            rows.append(_row(read_json(path, dict), config, path.parent))
        except ODD as error:
            problems.append(_left_out(path, error))
    table = pd.DataFrame(rows)
    if rows:
        metrics = [name for name in table if name not in (*FIRST, "created", *HIDDEN)]
        table = table[[*FIRST, *metrics, "created", *HIDDEN]]
        table = table.iloc[_order(table["created"], False)].reset_index(drop=True)
    return table, problems


def _find_records(folders: Iterable[Path]) -> list[Path]:
    found = set()
    for folder in folders:
        try:
            if not folder.is_dir() and folder != outputs_dir() / "runs":
                where = visible(folder)
                raise ConfigError(f"There is no folder {where}. Name one that holds runs.")
            found |= set(folder.rglob("record.json"))
        except OSError as error:
            raise ConfigError(f"Could not look for runs in {visible(folder)}: {error}") from error
    return sorted(found)


def _left_out(path: Path, error: Exception) -> str:
    why = str(error).replace(str(path), "it")
    if not isinstance(error, (DataError, OSError)):
        why = f"it is of another form than the course writes ({type(error).__name__}: {why})"
    return visible(f"{path} left out: {why[:_LONGEST]}")


def _row(record: dict, config: dict, folder: Path) -> dict:
    if not isinstance(record.get("run_name"), (str, int)):
        raise DataError("it has no run_name.")
    seconds = _value(record.get("seconds"))
    created = record.get("created")
    # What two runs share that differ by their seed alone.
    settings = {key: record.get(key) for key in ("phase", "dataset", "profile", "config")} | config
    settings = {k: v for k, v in settings.items() if k not in ("seed", "run_name")}
    return {
        "run": visible(record["run_name"]),
        **{key: _value(record.get(key)) for key in FIRST[1:-1]},
        **{key: _value(_name_of(config.get(key))) for key in PARTS},
        "minutes": seconds / 60 if isinstance(seconds, (int, float)) else None,
        **_metrics(record, (*FIRST, "created", *HIDDEN, "FOLDER")),
        "created": visible(created) if isinstance(created, str) else None,
        "settings": json.dumps(settings, sort_keys=True),
        "folder": os.fsencode(folder),  # bytes: a name need not be text
    }


def _metrics(record: dict, taken: Iterable[str]) -> dict:
    """The metrics of a record as cells; one that is named as a column is already gets a prefix."""
    metrics = {} if record.get("metrics") is None else record["metrics"]
    if not isinstance(metrics, dict):
        raise DataError("its metrics are no object.")
    return {
        f"metrics.{name}" if name in taken else visible(name): _value(value)
        for name, value in metrics.items()
    }


def _value(value: object) -> object:
    """A value from JSON as a cell of a table."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:_LONGEST]
    return visible(value if isinstance(value, str) else json.dumps(value)[:_LONGEST])


def _name_of(part: object) -> object:
    """A decoder or backbone by its name, a reward by its weights."""
    if not isinstance(part, dict):
        return part
    if "name" in part:
        return part["name"]
    weights = [
        f"{weight:g} {score}" if isinstance(weight, (int, float)) else f"{weight} {score}"
        for score, weight in part.items()
    ]
    return " + ".join(weights).removeprefix("1 ")


def select(table: pd.DataFrame, where: dict[str, object], sort: str) -> pd.DataFrame:
    """Rows in which each column of `where` has its value, sorted by a column; `-name` downwards.

    Raises:
        ConfigError: for an unknown column, or a value that no run has.
    """
    if table.empty:
        return table
    _check_columns(table, [*where, sort.removeprefix("-")])
    for name, value in where.items():
        chosen = [_is(cell, value) for cell in table[name]]
        if not any(chosen):
            values = dict.fromkeys("none" if _missing(cell) else str(cell) for cell in table[name])
            raise ConfigError(f"No run has {name}={value}. There are: {_some(values)}.")
        table = table[chosen]
    return table.iloc[_order(table[sort.removeprefix("-")], sort.startswith("-"))]


def _missing(cell: object) -> bool:
    return cell is None or cell != cell


def _is(cell: object, value: object) -> bool:
    """Whether a cell is what a user typed: 3 and 3.0 are the same, and `None` is nothing."""
    if _missing(cell) or value is None:
        return _missing(cell) and value is None
    return str(cell) == str(value) or (isinstance(value, (int, float)) and bool(cell == value))


def _order(values: pd.Series, downwards: bool) -> list[int]:
    """Places of the values in order: numbers, then texts; what is missing comes last."""
    cells = values.tolist()
    numbers = [isinstance(cell, (int, float)) for cell in cells]
    keys = [
        (0, cell, "") if number else (1, 0, str(cell))
        for cell, number in zip(cells, numbers, strict=True)
    ]
    there = [place for place, cell in enumerate(cells) if not _missing(cell)]
    missing = [place for place, cell in enumerate(cells) if _missing(cell)]
    return sorted(there, key=keys.__getitem__, reverse=downwards) + missing


def _some(names: Iterable[str], most: int = 20) -> str:
    names = [visible(name)[:60] for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def keep(table: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Only the columns named in a list with commas, in that order.

    Raises:
        ConfigError: for an unknown column.
    """
    names = list(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip()))
    if table.empty:
        return table
    _check_columns(table, names)
    if not names:
        raise ConfigError(f"No column is named. There are: {_some(_columns(table))}.")
    return table[names]


def _check_columns(table: pd.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in _columns(table):
            there = _some(_columns(table), most=60)
            raise ConfigError(f"There is no column {name!r}. There are: {there}.")


def _columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table if column not in HIDDEN]


def average(table: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: the mean over its seeds, with the standard deviation where n > 1."""
    if table.empty:
        return table
    rows = []
    skip = (*FIRST, "created", *HIDDEN)
    for _, group in table.groupby("settings", sort=False):
        first = group.iloc[0]
        row = {"run": first["run"], "n": len(group)}
        row |= {name: first[name] for name in FIRST[1:] if name not in ("seed", "minutes")}
        row["minutes"] = group["minutes"].mean()
        for name in (column for column in table if column not in skip):
            row[name] = mean_and_deviation(name, group[name])
        rows.append(row)
    return pd.DataFrame(rows)


def mean_and_deviation(name: str, values: pd.Series) -> str:
    """ "91.20 % ± 0.11" of a column of numbers; without the deviation if there is only one."""
    values = pd.Series([float(v) for v in values if isinstance(v, (int, float))]).dropna()
    if values.empty:
        return ""
    text = show(name, values.mean())
    if len(values) > 1 and not name.endswith(("_low", "_high")):
        scale = 100 if _in_percent(name) else 1
        text += f" ± {scale * values.std():.2g}"
    return text


def _in_percent(name: str) -> bool:
    return any(part in name for part in PERCENT)


def show(name: str, value: object) -> str:
    """A value as a reader wants it: shares in per cent, few digits, nothing for nothing."""
    if isinstance(value, (list, dict)):
        try:
            return json.dumps(value)
        except RecursionError:
            return "nested too deeply"
    if _missing(value):
        return ""
    if isinstance(value, float):
        if _in_percent(name):
            return f"{100 * value:.2f} %"
        if value.is_integer():
            return f"{value:.0f}"
        return f"{value:.1f}" if name in ("minutes", "seconds") else f"{value:.4g}"
    return str(value)


def shown(table: pd.DataFrame, write: Callable[[str], str] = visible) -> pd.DataFrame:
    """The table as text, without columns that are empty or hidden.

    Args:
        table: Values, or `Markup`.
        write: How a text is written where it is going to be read.
    """
    texts = pd.DataFrame(
        {
            name: [
                value.html if isinstance(value, Markup) else write(show(name, value))
                for value in table[name].tolist()
            ]
            for name in _columns(table)
        }
    )
    texts = _with_intervals(texts)
    return texts[[name for name in texts if texts[name].any()]].rename(columns=write)


def _with_intervals(texts: pd.DataFrame) -> pd.DataFrame:
    """`f1`, `f1_low` and `f1_high` as one column: "85.31 % (80.20 to 89.97)"."""
    for name in list(texts):
        low, high = f"{name}_low", f"{name}_high"
        if low not in texts or high not in texts:
            continue
        ends = [
            f" ({a.removesuffix(' %')} to {b.removesuffix(' %')})" if a and b else ""
            for a, b in zip(texts[low], texts[high], strict=True)
        ]
        texts[name] = texts[name] + ends
        texts = texts.drop(columns=[low, high])
    return texts


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


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: left; }
.failed { color: #b00020; font-weight: 600; }
"""


def page(title: str, *parts: str) -> str:
    """A whole HTML page; the title is text, the parts are HTML."""
    title = _for_html(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n" + "\n".join(parts) + "</body>"
        "</html>\n"
    )


def to_html(table: pd.DataFrame) -> str:
    """The table as HTML; what is not `Markup` is text."""
    if table.empty:
        return "<p>Nothing yet.</p>"
    return shown(table, _for_html).to_html(index=False, escape=False, border=0)


def _for_html(text: object) -> str:
    return html.escape(visible(text))


def write_index(tell: bool = True) -> Path:
    """Writes `outputs/index.html`: the lessons that ran, all runs, all sweeps.

    Of files that cannot be read it tells at its end, and with `tell` on the log, too.
    """
    root = outputs_dir()
    lessons, left_out = [], []
    for path in sorted(root.glob("notebooks/*/*.json")):
        if path.name.startswith("."):  # being written
            continue
        try:
            lessons.append(_lesson_row(path, root))
        except ODD as error:
            left_out.append(_left_out(path, error))
    runs, problems = read_runs([root / "runs"])
    left_out += problems
    if not runs.empty:
        folders = [Path(os.fsdecode(name)).relative_to(root) for name in runs["folder"]]
        runs.insert(0, "FOLDER", [link(f"{folder.as_posix()}/", "open") for folder in folders])
    sweeps = [
        f"<li>{link(path.relative_to(root).as_posix(), path.parent.name).html}</li>"
        for path in sorted(root.glob("sweeps/*/table.html"))
    ]
    body = ["<h2>Lessons</h2>", to_html(pd.DataFrame(lessons)), "<h2>Runs</h2>", to_html(runs)]
    if sweeps:
        body += ["<h2>Sweeps</h2>", "<ul>", *sweeps, "</ul>"]
    for problem in left_out if tell else ():
        logger.warning("%s", problem)
    if left_out:
        body += ["<h2>Left out</h2>", "<ul>"]
        body += [*(f"<li>{_for_html(problem)}</li>" for problem in left_out), "</ul>"]
    path = root / "index.html"
    write_text(path, page("Course outputs", *body))
    return path


def _lesson_row(path: Path, root: Path) -> dict:
    result = read_json(path, dict)
    place = path.relative_to(root)
    failure = result["failure"]
    state: str | Markup = "ok"
    if failure:
        text = f"cell {failure['cell']} ({failure['source']}): {failure['error']}"
        state = Markup(f'<span class="failed">failed in {_for_html(text)}</span>')
    links = [
        link(place.with_suffix(suffix).as_posix(), suffix[1:]).html
        for suffix in (".html", ".ipynb")
        if path.with_suffix(suffix).exists()
    ]
    runs = [link(f"runs/{name}/", name).html for name in result["runs"] if isinstance(name, str)]
    return {
        "lesson": f"{result['phase']}/{result['lesson']}",
        "STATE": state,
        "seconds": _value(result["seconds"]),
        **_metrics(result, ("lesson", "STATE", "seconds", "NOTEBOOK", "RUNS")),
        "NOTEBOOK": Markup(" ".join(links)),
        "RUNS": Markup("<br>".join(runs)),
    }


def link(target: str, text: str) -> Markup:
    """A link to a file beside the page, given by its path."""
    return Markup(f'<a href="{quote(target)}">{_for_html(text)}</a>')


def quote(target: str) -> str:
    """The path of a file beside a page as an address; names need not be UTF-8."""
    return urllib.parse.quote(os.fsencode(target), safe="/=+")
