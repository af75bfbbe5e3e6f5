"""A grid of trainings, each a papermill run of the training lesson, in one table."""

import hashlib
import itertools
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.course import kernel
from common.course.environment import BACKENDS, backend
from common.course.lessons import Lesson, assign_parameters, lesson_parameters, parse_value
from common.course.report import mean_and_deviation
from common.course.sweep_page import sweep_page
from common.course.tables import to_markdown
from common.data import data_state
from common.errors import ConfigError, CourseError, DataError
from common.files import check_output, hold, read_json, write_json, write_text
from common.paths import cut, display, outputs_dir, visible
from common.progress import progress_bar

logger = logging.getLogger(__name__)

_RECORDED = ("parameters", "epochs", "seconds", "metrics")
# The parameter, and its value, with which a lesson trains several captioners one after the other.
_SEVERAL = {
    "phase3_captioning/05_training": ("decoder", "all"),
    "phase3_captioning/06_reward": ("reward", None),
}
_LONGEST = 120  # characters of a label, which becomes a file's name


@dataclass(frozen=True)
class Combination:
    """One cell of the grid.

    Attributes:
        label: Its name in files, as "stages=2-blocks=1-seed=0".
        point: The values that tell it from the others.
        parameters: All that its notebook is handed.
        made_of: What its result depends on besides: the backend, and the state of the data.
    """

    label: str
    point: dict[str, Any]
    parameters: dict[str, Any]
    made_of: dict[str, Any]


def default_name(lesson: Lesson, grid: dict[str, list[Any]]) -> str:
    """The phase, what varies, and the backend if it is not the usual one."""
    others = [backend()] if backend() != BACKENDS[0] else []
    return "-".join([lesson.phase.split("_")[0], *(grid or ["seeds"]), *others])


def combinations(
    lesson: Lesson, name: str, grid: dict[str, list[Any]], fixed: dict[str, Any], seeds: list[int]
) -> list[Combination]:
    """The grid times the seeds, each once, checked against the lesson's `parameters` cell.

    Raises:
        ConfigError: for a parameter that the lesson does not take, or one that is also fixed; or
            if a call of the lesson would train several captioners, each in a run of its own.
    """
    twice = sorted({*fixed} & {*grid, "seed", "run_name"} | {*grid} & {"seed", "run_name"})
    if twice:
        raise ConfigError(f"{', '.join(twice)}: set by the sweep itself (--grid, --seeds, --name).")
    # Ablations and the like within the lesson: turned off.
    taken = lesson_parameters(lesson)
    quiet = {"explore": False} if "explore" in taken else {}
    key, several = _SEVERAL.get(str(lesson), ("", None))
    usual = parse_value(taken[key].default) if key in taken else None
    found, states = {}, {}
    for values in itertools.product(*grid.values(), seeds):
        values = dict(zip((*grid, "seed"), values, strict=True))
        given = assign_parameters([lesson], {**quiet, **fixed, **values, "run_name": name}, {})
        if key in taken and given[lesson].get(key, usual) == several:
            raise ConfigError(
                f"{lesson} trains several captioners, one after the other, unless {key} is named. "
                f"Add {key} to --grid, or --param {key}=..."
            )
        point = {key: given[lesson][key] for key in values}
        label = _label(point)
        # 1 and 1.0 are one value; true and "1" are others.
        numbers = [int(v) if isinstance(v, float) and v == int(v) else v for v in point.values()]
        parameters = {**given[lesson], "run_name": f"{name}/{label}"}
        dataset = parameters.get("dataset", "synthetic")
        if dataset not in states:
            states[dataset] = data_state(dataset)
        made_of = {"backend": backend(), "data": states[dataset]}
        found.setdefault(json.dumps(numbers), Combination(label, point, parameters, made_of))
    return list(found.values())


def _label(point: dict[str, Any]) -> str:
    label = "-".join(f"{key}={_plain(value)}" for key, value in point.items())
    return label if len(label.encode()) <= _LONGEST else f"{label[:60]}-{_digest(point)}"


def _plain(value: Any) -> str:
    """The value as a part of a file's name: no two values share one."""
    text = str(value)
    plain = re.sub(r"[^\w.+-]+|\.(?=\.)", "_", text).strip("_")
    ambiguous = isinstance(value, str) and (parse_value(text) != text or text != text.casefold())
    return f"{plain[:40]}_{_digest(value)}" if ambiguous or plain != text else plain


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def run_sweep(
    lesson: Lesson,
    name: str,
    grid: dict[str, list[Any]],
    fixed: dict[str, Any],
    seeds: list[int],
    test: bool = False,
) -> tuple[pd.DataFrame, Path]:
    """Runs what is not finished yet, and writes `outputs/sweeps/<name>/table.csv`, .md and .html.

    With `test` the .md and .html show test metrics too, see `average`.

    A combination that fails is recorded with its error; calling again tries it once more. The
    table is written after each combination, so an interrupted sweep has one too.

    Returns:
        The table, a row per combination and seed, and the sweep's folder.

    Raises:
        ConfigError: if a sweep of this name has been made with other parameters, or on another
            backend.
        CourseError: if its folder cannot be written, which is found out before the work.
    """
    if not re.fullmatch(r"\w[\w.=+-]*", name) or ".." in name:
        raise ConfigError(f"{name!r} cannot be a folder's name. Use letters, digits and . _ - = +.")
    folder = outputs_dir() / "sweeps" / name
    todo = combinations(lesson, name, grid, fixed, seeds)
    check_output(folder / f"{max((c.label for c in todo), key=len)}.ipynb")
    with hold(folder / ".lock", f"runs the sweep {name!r}"):
        return _run_all(lesson, todo, folder, list(grid), test), folder


def _run_all(lesson, todo: list[Combination], folder: Path, keys: list[str], test: bool):
    finished = {c.label: _finished(folder, c) for c in todo}
    rows = []
    with progress_bar(total=len(todo), unit=" runs") as bar:
        for combination in todo:
            bar.set_description(display(combination.label))
            result = finished[combination.label]
            if result is None:
                result = _run(lesson, folder, combination)
                if result["failure"]:
                    failure = kernel.Failure(**result["failure"])
                    told = display(f"{combination.label}: FAILED in {failure}", lines=True)
                    bar.write(told, file=bar.fp)
            rows.append(_row(combination, result))
            write_table(pd.DataFrame(rows), folder, keys, test)
            bar.update()
    return pd.DataFrame(rows)


def _finished(folder: Path, combination: Combination) -> dict | None:
    """What is kept of a combination that ended well; `None` if it is to be run."""
    path = folder / f"{combination.label}.json"
    if not path.exists():
        return None
    try:
        result = read_json(path, dict)
        before = combination.made_of | {"backend": BACKENDS[0]}
        # Data without a state were downloaded by the run itself.
        before |= {key: result[key] for key in ("backend", "data") if result.get(key)}
        before = result["parameters"] | before
        failed = result["failure"] is not None
        row = _row(combination, result)
        if any(isinstance(row[key], (list, dict)) for key in {*row} - {*combination.point}):
            raise TypeError("its record is of another form")
    except (DataError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s is left out (%s): made again.", display(path), display(error)[:200])
        return None
    now = combination.parameters | combination.made_of
    changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    if changed:
        raise ConfigError(
            f"The sweep {folder.name!r} was made with other values of {', '.join(changed)}"
            f"{' (the files of the data set have changed since)' if 'data' in changed else ''}. "
            f"Choose another --name, or delete {folder} and {outputs_dir() / 'runs' / folder.name}."
        )
    return None if failed else result


def _run(lesson: Lesson, folder: Path, combination: Combination) -> dict:
    path = outputs_dir() / "runs" / combination.parameters["run_name"] / "record.json"
    record = {}
    try:
        notebook = folder / f"{combination.label}.ipynb"
        failure = kernel.execute(lesson.path, notebook, combination.parameters)
        if failure is None and path.exists():
            record = read_json(path, dict)
        elif failure is None:
            failure = kernel.Failure(0, "its end", "NoRecord", f"the notebook wrote no {path}")
    except (CourseError, OSError) as error:  # The others are still run.
        failure = kernel.Failure(0, "its files", type(error).__name__, str(error))
    result = {
        "parameters": combination.parameters,
        **combination.made_of,
        "failure": asdict(failure) if failure else None,
        "record": {key: record.get(key) for key in _RECORDED},
    }
    write_json(folder / f"{combination.label}.json", result)
    return result


def _row(combination: Combination, result: dict) -> dict:
    record, failure = result["record"], result["failure"]
    return {
        **combination.point,
        "state": "failed" if failure else "ok",
        **{key: record[key] for key in _RECORDED[:-1]},
        **(record["metrics"] or {}),
        "error": _told(failure) if failure else None,
    }


def _told(failure: dict) -> str:
    """In one line, and not too long for a table."""
    return cut(visible(" ".join(f"{failure['error']}: {failure['message']}".split())), 200)


def write_table(table: pd.DataFrame, folder: Path, keys: list[str], test: bool = False) -> None:
    """The table as CSV with every run; as Markdown and HTML with the seeds averaged."""
    write_text(folder / "table.csv", table.to_csv(index=False))
    averaged = average(table, keys, test)
    write_text(folder / "table.md", to_markdown(averaged) + "\n")
    write_text(folder / "table.html", sweep_page(folder, table, averaged, keys))


def average(table: pd.DataFrame, keys: list[str], test: bool = False) -> pd.DataFrame:
    """One row per cell of the grid: the number of runs that ended well, means, errors.

    Without a grid, where only seeds differ, there is one row.

    A sweep is there to choose by: where there are validation metrics, test metrics stay out (the
    CSV has them), unless `test` says that nothing is to be chosen.
    """
    if not test and any(name.startswith("val_") for name in table):
        table = table[[name for name in table if not name.startswith("test_")]]
    rows = []
    # Lists, as widths, cannot be grouped by: their text can.
    cells = [table[key].astype(str) for key in keys] or [pd.Series("", table.index)]
    for _, group in table.groupby(cells, sort=False):
        good = group[group["state"] == "ok"]
        row = {key: group[key].iloc[0] for key in keys} | {"n": len(good)}
        names = table.columns.difference([*keys, "seed", "state", "error"], sort=False)
        row |= {name: mean_and_deviation(name, good[name]) for name in names}
        row["error"] = "; ".join(group["error"].dropna().unique()) or None
        rows.append(row)
    return pd.DataFrame(rows)
