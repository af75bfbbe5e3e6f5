"""Finished runs as a table: read, chosen, averaged over seeds, written as text."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from common.course.words import in_percent, in_words, interval, missing, show
from common.errors import ConfigError, DataError, did_you_mean
from common.files import read_json
from common.paths import outputs_dir, visible

# What a phase is judged by, the most important first.
HEADLINES = {
    "phase1": ("test_accuracy", "test_accuracy_tta", "val_accuracy", "test_ece_calibrated"),
    "phase2": (
        *("left_out_f1", "left_out_balanced_accuracy", "left_out_average_precision"),
        *("test_f1", "test_balanced_accuracy", "test_average_precision", "val_f1"),
    ),
    "phase3": (
        *("test_true_captions", "test_bleu_4", "test_cider_d", "val_true_captions", "val_bleu_4"),
        "test_bleu_1",
    ),
}
MOST_HEADLINES, FEWEST_HEADLINES = 5, 3

# In this order, then the metrics by name of appearance. Parts: of captioners.
PARTS = ("decoder", "backbone", "embedding", "reward")
FIRST = ("run", "phase", "dataset", "profile", "seed", *PARTS, "epochs", "parameters", "minutes")
# Not for readers.
HIDDEN = ("settings", "folder")
# What a damaged file, or one that was not written by the course, can raise on its way into a row.
ODD = (DataError, AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError)

_LONGEST = 200  # characters of a value that is no text, such as a list, and of a message
NO_RUNS = (
    "There are no runs yet. The training lessons make them, in a minute or two: "
    "python -m common.course run phase1 --lesson 03 --profile smoke --dataset synthetic"
)


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
            rows.append(_row(read_json(path, dict), read_config(path.parent), path.parent))
        except ODD as error:
            problems.append(left_out(path, error))
    table = pd.DataFrame(rows)
    if rows:
        between = [name for name in table if name not in (*FIRST, "created", *HIDDEN)]
        table = table[[*FIRST, *between, "created", *HIDDEN]]
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


def left_out(path: Path, error: Exception) -> str:
    """What to say of a file that could not be used."""
    why = str(error).replace(str(path), "it")
    if not isinstance(error, (DataError, OSError)):
        why = f"it is of another form than the course writes ({type(error).__name__}: {why})"
    return visible(f"{path} left out: {why[:_LONGEST]}")


def read_config(folder: Path) -> dict:
    """The settings of a run; none of one from elsewhere that came without.

    Raises:
        DataError: if the file is damaged.
    """
    path = folder / "config.json"
    return read_json(path, dict) if path.exists() else {}


def samples(record: dict) -> list[tuple[str, str]]:
    """Images that a record shows and their captions; nothing of records of another form."""
    found = record.get("samples")
    return [
        (visible(sample["image"]), visible(sample["caption"]))
        for sample in (found if isinstance(found, list) else ())
        if isinstance(sample, dict) and {"image", "caption"} <= sample.keys()
    ]


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
        **_metrics(record),
        "created": visible(created) if isinstance(created, str) else None,
        "settings": json.dumps(settings, sort_keys=True),
        "folder": os.fsencode(folder),  # bytes: a name need not be text
    }


def _metrics(record: dict) -> dict:
    """The metrics of a record as cells; one that is named as a column is already gets a prefix."""
    metrics = {} if record.get("metrics") is None else record["metrics"]
    if not isinstance(metrics, dict):
        raise DataError("its metrics are no object.")
    return {
        f"metrics.{name}" if name in (*FIRST, "created", *HIDDEN) else visible(name): _value(value)
        for name, value in metrics.items()
    }


def _value(value: object) -> object:
    """A value from JSON as a cell of a table."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:_LONGEST]
    return visible(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:_LONGEST]
    )


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
            values = dict.fromkeys("none" if missing(cell) else str(cell) for cell in table[name])
            near = did_you_mean(value, values)
            raise ConfigError(f"No run has {name}={value}.{near} There are: {_some(values)}.")
        table = table[chosen]
    return table.iloc[_order(table[sort.removeprefix("-")], sort.startswith("-"))]


def _is(cell: object, value: object) -> bool:
    """Whether a cell is what a user typed: 3 and 3.0 are the same, and `None` is nothing."""
    if missing(cell) or value is None:
        return missing(cell) and value is None
    return str(cell) == str(value) or (isinstance(value, (int, float)) and bool(cell == value))


def _order(values: pd.Series, downwards: bool) -> list[int]:
    """Places of the values in order: numbers, then texts; what is missing comes last."""
    cells = values.tolist()

    def key(place: int) -> tuple:
        number = isinstance(cells[place], (int, float))
        return (0, cells[place], "") if number else (1, 0, str(cells[place]))

    there = [place for place, cell in enumerate(cells) if not missing(cell)]
    gaps = [place for place, cell in enumerate(cells) if missing(cell)]
    return sorted(there, key=key, reverse=downwards) + gaps


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
            near = did_you_mean(name, _columns(table))
            raise ConfigError(f"There is no column {name!r}.{near} There are: {there}.")


def _columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table if column not in HIDDEN]


def average(table: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: the mean over its seeds, with the standard deviation where n > 1."""
    if table.empty:
        return table
    rows = []
    for _, group in table.groupby("settings", sort=False):
        first = group.iloc[0]
        row = {"run": first["run"], "n": len(group)}
        row |= {name: first[name] for name in FIRST[1:] if name not in ("seed", "minutes")}
        row["minutes"] = group["minutes"].mean()
        row |= {name: mean_and_deviation(name, group[name]) for name in metric_columns(table)}
        rows.append(row)
    return pd.DataFrame(rows)


def mean_and_deviation(name: str, values: pd.Series) -> str:
    """ "91.20 % ± 0.11" of a column of numbers; without the deviation if there is only one."""
    values = pd.Series([float(v) for v in values if isinstance(v, (int, float))]).dropna()
    if values.empty:
        return ""
    text = show(name, values.mean())
    fixed = name in FIRST and values.min() == values.max()  # such as the number of parameters
    if len(values) > 1 and not name.endswith(("_low", "_high")) and not fixed:
        scale = 100 if in_percent(name) else 1
        text += f" ± {scale * values.std():.2g}"
    return text


def shown(table: pd.DataFrame, write: Callable[[str], str] = visible) -> pd.DataFrame:
    """The table as text, without columns that are empty or hidden.

    Args:
        table: Values.
        write: How a text is written where it is going to be read.
    """
    ends = {
        f"{name}_{end}"
        for name in table
        if {f"{name}_low", f"{name}_high"} <= {*table}
        for end in ("low", "high")
    }
    rows = table.to_dict("records")
    texts = pd.DataFrame(
        {
            name: [write(_with_interval(name, row)) for row in rows]
            for name in _columns(table)
            if name not in ends
        }
    )
    return texts[[name for name in texts if texts[name].any()]].rename(columns=write)


def _with_interval(name: str, row: dict) -> str:
    """`f1`, `f1_low` and `f1_high` as one: "85.31 % (80.20 to 89.97)"."""
    ends = interval(name, row)
    return show(name, row[name]) + (f" ({ends})" if ends else "")


def by_phase(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each phase; those without one come last."""
    names = [str(phase) if isinstance(phase, str) else "" for phase in table["phase"]]
    order = sorted({*names}, key=lambda name: (not name, name))
    return {name or "other": table[[n == name for n in names]] for name in order}


def headline_metrics(phase: str, runs: pd.DataFrame) -> list[str]:
    """The columns that the runs of a phase are judged by; others where it has too few of them."""
    there = [name for name in metric_columns(runs) if not all(map(missing, runs[name].tolist()))]
    first = [name for name in HEADLINES.get(phase.split("_")[0], ()) if name in there]
    ends = {name for name in there if name.endswith(("_low", "_high"))}
    more = [name for name in there if name not in (*first, *ends)]
    return [*first[:MOST_HEADLINES], *more[: max(0, FEWEST_HEADLINES - len(first))]]


def headline(phase: str, metrics: dict) -> tuple[str, str] | None:
    """The first of the metrics that a phase is judged by, in words, and its value."""
    values = {visible(name): value for name, value in metrics.items()}
    names = headline_metrics(phase, pd.DataFrame([{n: [v] for n, v in values.items()}]))
    return (in_words(names[0]), show(names[0], values[names[0]])) if names else None


def metric_columns(table: pd.DataFrame) -> list[str]:
    """The columns of metrics, in their order."""
    return [name for name in table if name not in (*FIRST, "n", "created", *HIDDEN)]
