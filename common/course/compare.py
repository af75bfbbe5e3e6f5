"""Two finished runs side by side: what differs in their settings, scores, curves and captions."""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from common import plots
from common.course.report import page, show, to_html
from common.errors import ConfigError
from common.files import read_json, write_text
from common.paths import outputs_dir
from common.training.runs import run_folder


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
    """
    records = {}
    configs = {}
    for run in (first, second):
        folder = run_folder(run)
        record = read_json(folder / "record.json")
        records[record["run_name"]] = record
        configs[record["run_name"]] = read_json(folder / "config.json")
    if len(records) < 2:
        raise ConfigError(f"Both runs are {next(iter(records))!r}. Name two different ones.")
    settings = pd.DataFrame({name: _flat(config) for name, config in configs.items()}, dtype=object)
    texts = settings.map(lambda value: show("", value))
    differ = texts.iloc[:, 0] != texts.iloc[:, 1]
    scores = pd.DataFrame(
        {
            name: _flat({k: record.get(k) for k in ("parameters", "seconds", "metrics", "test")})
            for name, record in records.items()
        }
    ).apply(pd.to_numeric, errors="coerce")
    scores = scores.dropna(how="all")
    scores["difference"] = scores.iloc[:, 1] - scores.iloc[:, 0]
    captions = [
        pd.DataFrame(record.get("samples", []), columns=["image", "caption"])
        .set_index("image")["caption"]
        .rename(name)
        for name, record in records.items()
    ]
    return {
        "settings": texts[differ].rename_axis("setting").reset_index(),
        "scores": scores.rename_axis("score").reset_index(),
        "samples": pd.concat(captions, axis=1, join="inner").reset_index(),
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
    folder = outputs_dir() / "comparisons"
    stem = "_and_".join(name.replace("/", "+") for name in names)
    histories = {
        name: pd.read_csv(run_folder(run) / "history.csv")
        for name, run in zip(names, (first, second), strict=True)
    }
    both = [column for column in histories[names[0]] if column in histories[names[1]]]
    passed_over = {"epoch", "seconds"}
    if tables["settings"]["setting"].str.match(r"reward\b").any():
        passed_over |= {"reward", "val_score"}  # of another kind in each of them
    curves = []
    for column in both:
        told = all(is_numeric_dtype(history[column]) for history in histories.values())
        if told and column not in passed_over:
            figure = plots.compare_runs(histories, column, title=column)
            file = plots.save_figure(figure, folder / stem / f"{column}.png")
            curves.append(f'<p><img src="{stem}/{file.name}" alt="{column} of both runs"></p>')
    parts = ["<h2>Scores</h2>", to_html(tables["scores"])]
    parts += ["<h2>Settings that differ</h2>", to_html(tables["settings"])]
    if curves:
        parts += ["<h2>Curves</h2>", *curves]
    if len(tables["samples"]):
        parts += ["<h2>Captions</h2>", to_html(tables["samples"])]
    path = folder / f"{stem}.html"
    write_text(path, page(" and ".join(names), *parts))
    return tables, path


def _flat(values: dict, before: str = "") -> dict:
    """Nested dictionaries as one, with names such as `recipe.epochs`."""
    found = {}
    for key, value in values.items():
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
