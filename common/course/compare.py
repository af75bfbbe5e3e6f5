"""Two finished runs side by side: what differs in their settings, scores, curves and captions."""

import hashlib
import re
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from common.course.pages import page, section
from common.course.report import read_config, samples
from common.course.run_page import curve_chart, read_history
from common.course.tables import to_html
from common.course.words import flat, in_percent, in_words, interval, is_number, show
from common.errors import ConfigError
from common.files import read_json, write_text
from common.paths import outputs_dir, visible
from common.training.run_folders import run_folder


def compare(first: str | Path, second: str | Path) -> dict[str, pd.DataFrame]:
    """Tables with a column for each of two runs.

    Args:
        first: A run's name under `outputs/runs`, or its folder.
        second: Another one.

    Returns:
        `settings`: those of `config.json` that differ. `scores`: all numbers of the records'
        metrics and tests, and the `difference`, second less first. `samples`: what both wrote of
        the same images, for captioners; else empty.

    Raises:
        ConfigError: if one is not there or has not finished, or both are the same.
        DataError: if a record or a configuration is damaged.
    """
    runs = [run_folder(run) for run in (first, second)]
    if runs[0].samefile(runs[1]):
        raise ConfigError(f"Both runs are {visible(runs[0])}. Name two different ones.")
    records = [read_json(folder / "record.json", dict) for folder in runs]
    configs = [read_config(folder) for folder in runs]
    names = _names(runs, records)
    settings = pd.DataFrame(
        {name: flat(config) for name, config in zip(names, configs, strict=True)}, dtype=object
    )
    texts = settings.map(lambda value: visible(show("", value)))
    differ = texts.iloc[:, 0] != texts.iloc[:, 1]
    told = [{k: r.get(k) for k in ("parameters", "seconds", "metrics", "test")} for r in records]
    scores = pd.DataFrame(
        {
            name: {k: v if is_number(v) else None for k, v in flat(values).items()}
            for name, values in zip(names, told, strict=True)
        },
        dtype=float,
    )
    scores = scores.dropna(how="all")
    scores["difference"] = scores.iloc[:, 1] - scores.iloc[:, 0]
    one, other = (dict(samples(record)) for record in records)
    both = [[image, one[image], other[image]] for image in one if image in other]
    return {
        "settings": settings[differ]
        .map(lambda value: visible(_short(value)))
        .rename_axis("setting")
        .reset_index(),
        "scores": scores.rename_axis("score").reset_index(),
        "samples": pd.DataFrame(both, columns=["image", *names]),
    }


def _names(folders: list[Path], records: list[dict]) -> list[str]:
    """What the columns are called: the recorded names, or the folders if those are the same."""
    names = [
        visible(record.get("run_name") or folder.name)
        for record, folder in zip(records, folders, strict=True)
    ]
    if names[0] == names[1]:
        names = [visible(_place(folder)) for folder in folders]
    taken = ("image", "score", "setting", "difference")  # columns of the tables
    return [f"run {name}" if name in taken else name for name in names]


def _place(folder: Path) -> str:
    folder, root = folder.resolve(), (outputs_dir() / "runs").resolve()
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)


def write_comparison(first: str | Path, second: str | Path) -> tuple[dict[str, pd.DataFrame], Path]:
    """Writes the tables of `compare` to `outputs/comparisons/`, as HTML, and curves.

    Those of all that both have; but of two rewards neither the reward nor the dev score.

    Returns:
        The tables, and the page.

    Raises:
        ConfigError: as `compare`.
    """
    tables = compare(first, second)
    names = list(tables["scores"])[1:3]
    folders = map(run_folder, (first, second))
    histories = dict(zip(names, map(read_history, folders), strict=True))
    passed_over = {"epoch", "seconds"}
    if any(re.match(r"reward\b", name) for name in tables["settings"]["setting"]):
        passed_over |= {"reward", "val_score"}  # of another kind in each of them
    columns = [
        {column for column in history if is_numeric_dtype(history[column])}
        for history in histories.values()
    ]
    both = [c for c in histories[names[0]] if all(c in own for own in columns)]
    curves = [
        curve_chart(column, {name: h[["epoch", column]] for name, h in histories.items()})
        for column in (both[:_MOST_CURVES] if "epoch" in both else ())
        if column not in passed_over
    ]
    path = outputs_dir() / "comparisons" / f"{'_and_'.join(map(_file_name, names))}.html"
    text = page(
        " and ".join(names),
        *section("Curves", ['<div class="charts">', *curves, "</div>"] if any(curves) else []),
        *section("Scores", [to_html(_for_people(tables["scores"]))]),
        *section("Settings that differ", [to_html(tables["settings"])]),
        *section("Captions", [to_html(tables["samples"])] if len(tables["samples"]) else []),
        index="../index.html",
    )
    write_text(path, text)
    return tables, path


def _for_people(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with shares in per cent, and each interval beside its score, not below."""
    found = scores.set_index("score")
    rows = []
    for name, values in found.to_dict("index").items():
        if re.sub("_(low|high)$", "", name) in {*found.index} - {name}:
            continue
        row = {"score": in_words(name.removeprefix("metrics.")).replace(".", ": ")}
        for run, value in values.items():
            row[run] = show(name, value)
            between = interval(name, found[run])
            if between and row[run] and run != "difference":
                row[run] += f" ({between})"
        if in_percent(name):
            row["difference"] = row["difference"].replace(" %", " points")
        rows.append(row)
    return pd.DataFrame(rows, columns=list(scores))


def _short(value: object) -> str:
    """A setting with few digits, its thousands apart."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:,}"
    return show("", value)


_MOST_CURVES = 60
_LONGEST = 80  # characters of a run in a file's name


def _file_name(run: str) -> str:
    """The name of a run, or its folder, as part of a file's name; another for each."""
    name = re.sub(r"[^\w.=+-]", "_", run.replace("/", "+"))
    if name == run.replace("/", "+") and len(name.encode()) <= _LONGEST:
        return name
    start = name.encode()[:_LONGEST].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
