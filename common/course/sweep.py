"""A grid of trainings, each a papermill run of the training lesson, in one table."""

import itertools
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.course import report, runner
from common.course.lessons import Lesson, assign_parameters, lesson_parameters
from common.errors import ConfigError
from common.files import read_json, write_json, write_text
from common.paths import outputs_dir


@dataclass(frozen=True)
class Combination:
    """One cell of the grid.

    Attributes:
        label: Its name in files, as "stages=2-blocks=1-seed=0".
        point: The values that tell it from the others.
        parameters: All that its notebook is handed.
    """

    label: str
    point: dict[str, Any]
    parameters: dict[str, Any]


def combinations(
    lesson: Lesson,
    name: str,
    grid: dict[str, list[Any]],
    fixed: dict[str, Any],
    seeds: list[int],
) -> list[Combination]:
    """The grid times the seeds, checked against the lesson's `parameters` cell.

    Raises:
        ConfigError: for a parameter that the lesson does not take, or one that is also fixed.
    """
    twice = sorted(set(fixed) & {*grid, "seed", "run_name"})
    if twice:
        raise ConfigError(f"{', '.join(twice)}: set by the sweep itself, not with --param.")
    # Ablations and the like within the lesson: turned off.
    quiet = {"explore": False} if "explore" in lesson_parameters(lesson) else {}
    found = []
    for values in itertools.product(*grid.values(), seeds):
        values = dict(zip((*grid, "seed"), values, strict=True))
        label = "-".join(f"{key}={_plain(value)}" for key, value in values.items())
        given = {**quiet, **fixed, **values, "run_name": f"{name}/{label}"}
        assign_parameters([lesson], given, {})
        found.append(Combination(label, values, given))
    return found


def _plain(value: Any) -> str:
    return re.sub(r"[^\w.+]+", "_", str(value)).strip("_")


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
        ConfigError: if a sweep of this name has been made with other parameters.
    """
    if not re.fullmatch(r"\w[\w.=+-]*", name):
        raise ConfigError(f"{name!r} cannot be a folder's name. Use letters, digits and . _ - = +.")
    folder = outputs_dir() / "sweeps" / name
    todo = combinations(lesson, name, grid, fixed, seeds)
    finished = {c.label: _finished(folder, c) for c in todo}
    rows = []
    with runner.progress_bar(len(todo), "run") as bar:
        for combination in todo:
            bar.set_description(combination.label)
            result = finished[combination.label]
            if result is None:
                result = _run(lesson, folder, combination)
                if result["failure"]:
                    failure = runner.Failure(**result["failure"])
                    bar.write(f"{combination.label}: FAILED in {failure}", file=bar.fp)
            rows.append(_row(combination, result))
            write_table(pd.DataFrame(rows), folder, list(grid), test)
            bar.update()
    return pd.DataFrame(rows), folder


def _finished(folder: Path, combination: Combination) -> dict | None:
    path = folder / f"{combination.label}.json"
    if not path.exists():
        return None
    result = read_json(path)
    if result["parameters"] != combination.parameters:
        before, now = result["parameters"], combination.parameters
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        raise ConfigError(
            f"The sweep {folder.name!r} was made with other values of {', '.join(changed)}. "
            f"Choose another --name, or delete {folder} and {outputs_dir() / 'runs' / folder.name}."
        )
    return result if result["failure"] is None else None


def _run(lesson: Lesson, folder: Path, combination: Combination) -> dict:
    notebook = folder / f"{combination.label}.ipynb"
    failure = runner.execute(lesson.path, notebook, combination.parameters)
    record = {}
    path = outputs_dir() / "runs" / combination.parameters["run_name"] / "record.json"
    if failure is None and path.exists():
        record = read_json(path)
    elif failure is None:
        failure = runner.Failure(0, "its end", "NoRecord", f"the notebook wrote no {path}")
    result = {
        "parameters": combination.parameters,
        "failure": asdict(failure) if failure else None,
        "record": {key: record.get(key) for key in ("parameters", "epochs", "seconds", "metrics")},
    }
    write_json(folder / f"{combination.label}.json", result)
    return result


def _row(combination: Combination, result: dict) -> dict:
    record, failure = result["record"], result["failure"]
    return {
        **combination.point,
        "state": "failed" if failure else "ok",
        **{key: record[key] for key in ("parameters", "epochs", "seconds")},
        **(record["metrics"] or {}),
        "error": f"{failure['error']}: {failure['message']}" if failure else None,
    }


def write_table(table: pd.DataFrame, folder: Path, keys: list[str], test: bool = False) -> None:
    """The table as CSV with every run; as Markdown and HTML with the seeds averaged."""
    write_text(folder / "table.csv", table.to_csv(index=False))
    averaged = average(table, keys, test)
    write_text(folder / "table.md", report.to_markdown(averaged) + "\n")
    title = f"Sweep {report.html.escape(folder.name)}"
    write_text(folder / "table.html", report.page(title, report.to_html(averaged)))


def average(table: pd.DataFrame, keys: list[str], test: bool = False) -> pd.DataFrame:
    """One row per cell of the grid: the number of runs that ended well, means, errors.

    A sweep is there to choose by: where there are validation metrics, test metrics stay out (the
    CSV has them), unless `test` says that nothing is to be chosen.
    """
    if not test and any(name.startswith("val_") for name in table):
        table = table[[name for name in table if not name.startswith("test_")]]
    rows = []
    # Lists, as widths, cannot be grouped by: their text can.
    for _, group in table.groupby([table[key].astype(str) for key in keys], sort=False):
        good = group[group["state"] == "ok"]
        row = {key: group[key].iloc[0] for key in keys} | {"n": len(good)}
        for name in table.columns.difference([*keys, "seed", "state", "error"], sort=False):
            row[name] = report.mean_and_deviation(name, good[name])
        row["error"] = "; ".join(group["error"].dropna().unique()) or None
        rows.append(row)
    return pd.DataFrame(rows)
