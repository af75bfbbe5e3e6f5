"""Two finished runs side by side: what differs in their settings, scores, curves and captions."""

import hashlib
import re
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from common.course.checks import check_run
from common.course.overview import curve_chart, read_history, to_html
from common.course.pages import link, page
from common.course.report import flat, in_percent, in_words, show
from common.errors import ConfigError
from common.files import read_json, write_text
from common.paths import expand, outputs_dir, visible


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
    runs = [_folder(run) for run in (first, second)]
    if runs[0].samefile(runs[1]):
        raise ConfigError(f"Both runs are {visible(runs[0])}. Name two different ones.")
    records = [read_json(folder / "record.json", dict) for folder in runs]
    configs = [_config(folder) for folder in runs]
    names = _names(runs, records)
    settings = pd.DataFrame(
        {name: flat(config) for name, config in zip(names, configs, strict=True)}, dtype=object
    )
    texts = settings.map(lambda value: visible(show("", value)))
    differ = texts.iloc[:, 0] != texts.iloc[:, 1]
    told = [{k: r.get(k) for k in ("parameters", "seconds", "metrics", "test")} for r in records]
    scores = pd.DataFrame(
        {
            name: {key: _number(value) for key, value in flat(values).items()}
            for name, values in zip(names, told, strict=True)
        },
        dtype=float,
    )
    scores = scores.dropna(how="all")
    scores["difference"] = scores.iloc[:, 1] - scores.iloc[:, 0]
    one, other = (_captions(record) for record in records)
    both = [[image, one[image], other[image]] for image in one if image in other]
    return {
        "settings": settings[differ]
        .map(lambda value: visible(_short(value)))
        .rename_axis("setting")
        .reset_index(),
        "scores": scores.rename_axis("score").reset_index(),
        "samples": pd.DataFrame(both, columns=["image", *names]),
    }


def _folder(run: str | Path) -> Path:
    check_run(run)
    return next(f for f in (outputs_dir() / "runs" / run, expand(run)) if f.is_dir())


def _config(folder: Path) -> dict:
    """None of a run from elsewhere that came without."""
    path = folder / "config.json"
    return read_json(path, dict) if path.exists() else {}


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


def _number(value: object) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and abs(value) < 1e300 else None


def _captions(record: dict) -> dict[str, str]:
    """The caption of each image that the record shows; nothing of records of another form."""
    samples = record.get("samples")
    return {
        visible(sample["image"]): visible(sample["caption"])
        for sample in (samples if isinstance(samples, list) else ())
        if isinstance(sample, dict) and {"image", "caption"} <= sample.keys()
    }


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
    histories = {
        name: read_history(_folder(run)) for name, run in zip(names, (first, second), strict=True)
    }
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
    parts = []
    if any(curves):
        parts += ["<h2>Curves</h2>", '<div class="charts">', *curves, "</div>"]
    parts += ["<h2>Scores</h2>", to_html(_for_people(tables["scores"]))]
    parts += ["<h2>Settings that differ</h2>", to_html(tables["settings"])]
    if len(tables["samples"]):
        parts += ["<h2>Captions</h2>", to_html(tables["samples"])]
    path = outputs_dir() / "comparisons" / f"{'_and_'.join(map(_file_name, names))}.html"
    above = f"<p>{link('../index.html', 'All results').html}</p>"
    write_text(path, page(" and ".join(names), *parts, above=above))
    return tables, path


def _for_people(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with shares in per cent, and each interval beside its score, not below."""
    names = scores["score"].tolist()
    rows = []
    for values in scores.to_dict("records"):
        name = values.pop("score")
        if re.sub("_(low|high)$", "", name) in {*names} - {name}:
            continue
        row = {"score": in_words(name.removeprefix("metrics.")).replace(".", ": ")}
        for run, value in values.items():
            ends = [_end(scores, f"{name}_{end}", run) for end in ("low", "high")]
            row[run] = show(name, value)
            if all(ends) and row[run] and run != "difference":
                row[run] += f" ({' to '.join(ends)})"
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


def _end(scores: pd.DataFrame, name: str, run: str) -> str:
    found = scores.loc[scores["score"] == name, run].tolist()
    return show(name, found[0]).removesuffix(" %") if found else ""


_MOST_CURVES = 60
_LONGEST = 80  # characters of a run in a file's name


def _file_name(run: str) -> str:
    """The name of a run, or its folder, as part of a file's name; another for each."""
    name = re.sub(r"[^\w.=+-]", "_", run.replace("/", "+"))
    if name == run.replace("/", "+") and len(name.encode()) <= _LONGEST:
        return name
    start = name.encode()[:_LONGEST].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
