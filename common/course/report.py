"""Tables of runs, and `outputs/index.html` with all that was made."""

import html
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from common.errors import ConfigError, DataError
from common.files import read_json, write_text
from common.paths import outputs_dir

# Metrics told in per cent, all whose names hold one of these.
PERCENT = ("accuracy", "f1", "precision", "recall", "specificity", "true_captions")

# In this order, then the metrics by name of appearance. Parts: of captioners.
PARTS = ("decoder", "backbone", "embedding", "reward")
FIRST = ("run", "phase", "dataset", "profile", "seed", *PARTS, "epochs", "parameters", "minutes")


def read_runs(folders: Iterable[Path]) -> tuple[pd.DataFrame, list[str]]:
    """A row per finished run found anywhere under `folders`, oldest first.

    Returns:
        The table, with a hidden last column `settings` (all but the seed), and a message for
        each record that could not be read.
    """
    rows, problems = [], []
    for path in sorted({p for folder in folders for p in folder.rglob("record.json")}):
        try:
            beside = path.with_name("config.json")
            rows.append(_row(read_json(path), read_json(beside) if beside.exists() else {}))
        except (DataError, AttributeError, KeyError, TypeError) as error:
            problems.append(f"{path} left out: {error}")
    table = pd.DataFrame(rows)
    if rows:
        metrics = [name for name in table if name not in (*FIRST, "created", "settings")]
        table = table[[*FIRST, *metrics, "created", "settings"]]
        table = table.sort_values("created", kind="stable", ignore_index=True)
    return table, problems


def _row(record: dict, config: dict) -> dict:
    seconds = record.get("seconds")
    # What two runs share that differ by their seed alone.
    settings = {key: record.get(key) for key in ("phase", "dataset", "profile", "config")} | config
    settings = {k: v for k, v in settings.items() if k not in ("seed", "run_name")}
    return {
        "run": record["run_name"],
        **{key: record.get(key) for key in FIRST[1:-1]},
        **{key: _name_of(config.get(key)) for key in PARTS},
        "minutes": None if seconds is None else seconds / 60,
        **record.get("metrics", {}),
        "created": record.get("created"),
        "settings": json.dumps(settings, sort_keys=True),
    }


def _name_of(part: object) -> str | None:
    """A decoder or backbone by its name, a reward by its weights."""
    if not isinstance(part, dict):
        return part
    if "name" in part:
        return part["name"]
    return " + ".join(f"{weight:g} {score}" for score, weight in part.items()).removeprefix("1 ")


def select(table: pd.DataFrame, where: dict[str, object], sort: str) -> pd.DataFrame:
    """Rows in which each column of `where` has its value, sorted by a column; `-name` downwards.

    Raises:
        ConfigError: for an unknown column.
    """
    if table.empty:
        return table
    _check_columns(table, [*where, sort.removeprefix("-")])
    for name, value in where.items():
        table = table[table[name].astype(str) == str(value)]
    return table.sort_values(
        sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable"
    )


def keep(table: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Only the columns named in a list with commas, in that order.

    Raises:
        ConfigError: for an unknown column.
    """
    names = [name.strip() for name in columns.split(",")]
    if table.empty:
        return table
    _check_columns(table, names)
    return table[names]


def _check_columns(table: pd.DataFrame, names: Iterable[str]) -> None:
    columns = [column for column in table if column != "settings"]
    for name in names:
        if name not in columns:
            raise ConfigError(f"There is no column {name!r}. There are: {', '.join(columns)}.")


def average(table: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: the mean over its seeds, with the standard deviation where n > 1."""
    if table.empty:
        return table
    rows = []
    skip = (*FIRST, "created", "settings")
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
    values = pd.to_numeric(values, errors="coerce").dropna()
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
        return json.dumps(value)
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        if _in_percent(name):
            return f"{100 * value:.2f} %"
        if value.is_integer():
            return f"{value:.0f}"
        return f"{value:.1f}" if name in ("minutes", "seconds") else f"{value:.4g}"
    return str(value)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, without columns that are empty or hidden."""
    texts = pd.DataFrame(
        {
            name: [show(name, value) for value in table[name].tolist()]
            for name in table
            if name != "settings"
        }
    )
    texts = _with_intervals(texts)
    return texts[[name for name in texts if texts[name].any()]]


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
    table = shown(table)
    lines = [list(table), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def to_text(table: pd.DataFrame) -> str:
    """Columns side by side, for a terminal."""
    return shown(table).to_string(index=False) if not table.empty else "Nothing yet."


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: left; }
.failed { color: #b00020; font-weight: 600; }
"""


def page(title: str, *parts: str) -> str:
    """A whole HTML page."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n" + "\n".join(parts) + "</body>"
        "</html>\n"
    )


def to_html(table: pd.DataFrame) -> str:
    """The table as HTML; cells of columns named in capitals are HTML already."""
    if table.empty:
        return "<p>Nothing yet.</p>"
    table = shown(table)
    for name in table:
        if not name.isupper():
            table[name] = table[name].map(html.escape)
    return table.to_html(index=False, escape=False, border=0)


def write_index() -> Path:
    """Writes `outputs/index.html`: the lessons that ran, all runs, all sweeps."""
    root = outputs_dir()
    lessons = [_lesson_row(path, root) for path in sorted(root.glob("notebooks/*/*.json"))]
    runs, _ = read_runs([root / "runs"])
    if not runs.empty:
        runs.insert(0, "FOLDER", [_link(f"runs/{name}/", "open") for name in runs["run"]])
    sweeps = [
        f"<li>{_link(path.relative_to(root).as_posix(), path.parent.name)}</li>"
        for path in sorted(root.glob("sweeps/*/table.html"))
    ]
    body = ["<h2>Lessons</h2>", to_html(pd.DataFrame(lessons)), "<h2>Runs</h2>", to_html(runs)]
    if sweeps:
        body += ["<h2>Sweeps</h2>", "<ul>", *sweeps, "</ul>"]
    path = root / "index.html"
    write_text(path, page("Course outputs", *body))
    return path


def _lesson_row(path: Path, root: Path) -> dict:
    result = read_json(path)
    place = path.relative_to(root)
    failure = result["failure"]
    state = "ok"
    if failure:
        text = f"cell {failure['cell']} ({failure['source']}): {failure['error']}"
        state = f'<span class="failed">failed in {html.escape(text)}</span>'
    links = [
        _link(place.with_suffix(suffix).as_posix(), suffix[1:])
        for suffix in (".html", ".ipynb")
        if path.with_suffix(suffix).exists()
    ]
    runs = [_link(f"runs/{name}/", name) for name in result["runs"]]
    return {
        "lesson": f"{result['phase']}/{result['lesson']}",
        "STATE": state,
        "seconds": result["seconds"],
        **result["metrics"],
        "NOTEBOOK": " ".join(links),
        "RUNS": "<br>".join(runs),
    }


def _link(target: str, text: str) -> str:
    return f'<a href="{html.escape(target, quote=True)}">{html.escape(text)}</a>'
