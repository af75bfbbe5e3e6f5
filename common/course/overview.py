"""`outputs/index.html`, with all that was made; a page of each run is written along with it."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from common.course import pages, report
from common.course.pages import escape, link
from common.course.run_page import PAGE, cell, run_page
from common.course.words import duration, in_words, is_number, show
from common.errors import CourseError
from common.files import read_json, write_text
from common.paths import cut, outputs_dir, visible

logger = logging.getLogger(__name__)

PHASES = {
    "phase1_cifar": "Phase 1: CIFAR",
    "phase2_histopathology": "Phase 2: histopathology",
    "phase3_captioning": "Phase 3: captioning",
}
_LONGEST = 300  # characters of an error's message


def write_index(tell: bool = True) -> Path:
    """Writes `outputs/index.html`: the lessons that ran, all runs, comparisons and sweeps.

    Each run gets a page in its folder. Of files that cannot be read it tells at its end, and with
    `tell` on the log, too.
    """
    root = outputs_dir()
    lessons, problems = {}, []
    for path in _seen(root, "notebooks/*/*.json"):
        try:
            result = read_json(path, dict)
            row = _lesson_row(path, root, result)
            lessons.setdefault(str(result["phase"]), []).append(row)
        except report.ODD as error:
            problems.append(report.left_out(path, error))
    runs, others = report.read_runs([root / "runs"])
    problems += others
    for problem in problems if tell else ():
        logger.warning("%s", problem)
    tables = [
        part
        for phase, rows in lessons.items()
        for part in (f"<h3>{_phase(phase)}</h3>", pages.table(_LESSON_COLUMNS, rows))
    ]
    pairs = {
        path: path.stem.replace("_and_", " and ") for path in _seen(root, "comparisons/*.html")
    }
    sweeps = {p: p.parent.name for p in _seen(root, "sweeps/*/table.html")}
    path = root / "index.html"
    page = pages.page(
        "Course outputs",
        *pages.section("Lessons", tables or ["<p>None has run yet.</p>"]),
        *pages.section("Runs", _runs(runs, root)),
        *pages.section("Comparisons", _links(pairs, root)),
        *pages.section("Sweeps", _links(sweeps, root)),
        *pages.section("Left out", pages.bullets(map(escape, problems))),
    )
    write_text(path, page)
    return path


def _seen(root: Path, pattern: str) -> list[Path]:
    """The files of a pattern, without those that are being written."""
    return [path for path in sorted(root.glob(pattern)) if not path.name.startswith(".")]


def _links(names: dict[Path, str], root: Path) -> list[str]:
    targets = ((path.relative_to(root).as_posix(), name) for path, name in names.items())
    return pages.bullets(link(target, name) for target, name in targets)


def _phase(name: str) -> str:
    return escape(PHASES.get(name, name))


_LESSON_COLUMNS = ("lesson", "state", "time", "headline", "notebook", "runs")


def _lesson_row(path: Path, root: Path, result: dict) -> list[pages.Cell]:
    def beside(suffix: str, text: str, otherwise: str) -> str:
        """A link to a file of the same name, if it is there."""
        file = path.with_suffix(suffix)
        return link(file.relative_to(root).as_posix(), text) if file.exists() else otherwise

    name = visible(result["lesson"])
    title = _title(path.with_suffix(".ipynb")) or name.replace("_", " ")
    number = re.match(r"\d+", name)
    text = f"{int(number[0])}. {title}" if number else title
    data = (result.get("parameters") or {}).get("dataset")
    of = f' <span class="quiet">{escape(cut(visible(data), 40))}</span>' if data else ""
    failure = result["failure"]
    state = '<span class="ok">ok</span>'
    if failure:
        said = " ".join(f"{failure['error']}: {failure['message']}".split())
        where = f"failed in cell {failure['cell']} ({failure['source']}): {said[:_LONGEST]}"
        state = f'<span class="failed">{escape(where)}</span>'
    runs = [
        link(f"runs/{run}/{PAGE}", run)
        if any((root / "runs" / run / file).exists() for file in (PAGE, "record.json"))
        else escape(run)
        for run in result["runs"]
        if isinstance(run, str)
    ]
    seconds = result["seconds"]
    told = report.headline(str(result["phase"]), result["metrics"] or {}) or ()
    return [
        beside(".html", text, escape(text)) + of,
        state,
        (escape(duration(seconds)), seconds),
        "<br>".join(map(escape, told)),
        beside(".ipynb", "ipynb", ""),
        "<br>".join(runs),
    ]


def _title(notebook: Path) -> str | None:
    """The first heading of a notebook, as plain text; `None` if it has none, or is none."""
    try:
        cells = read_json(notebook, dict)["cells"]
        texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    except report.ODD:
        return None
    found = re.search(pages.HEADING, "\n".join(texts), re.MULTILINE)
    return re.sub(r"[*`$]|\[([^]]*)\]\([^)]*\)", r"\1", found[1]) if found else None


def _runs(runs: pd.DataFrame, root: Path) -> Iterator[str]:
    """A table of the runs of each phase, the newest first; writes a page for each run."""
    if runs.empty:
        yield f"<p>{escape(report.NO_RUNS)}</p>"
        return
    for phase, table in report.by_phase(runs[::-1]).items():
        metrics = report.headline_metrics(phase, table)
        facts, shared = [], []
        for name in ("dataset", "profile", "seed", *report.PARTS, "epochs", "parameters"):
            values = dict.fromkeys(cell(name, value)[0] for value in table[name].tolist())
            if len(values) == 1 and len(table) > 1:
                shared += [f"{in_words(name)} {value}" for value in values if value]
            elif any(values):
                facts.append(name)
        rows = []
        for row in table.to_dict("records"):
            folder = Path(os.fsdecode(row["folder"]))
            page = PAGE if _write_run_page(folder, root) else ""
            minutes = row["minutes"]
            time = escape(duration(60 * minutes)) if is_number(minutes) else ""
            rows.append(
                [
                    link(f"{folder.relative_to(root).as_posix()}/{page}", row["run"]),
                    *(cell(name, row[name]) for name in facts),
                    (time, minutes),
                    *(cell(name, row[name], row) for name in metrics),
                    escape(show("created", row["created"])[:10]),
                ]
            )
        names = [escape(in_words(name)) for name in ("run", *facts, "time", *metrics, "made on")]
        yield f"<h3>{_phase(phase)}</h3>"
        if shared:
            yield f'<p class="quiet">All: {", ".join(shared)}.</p>'
        yield pages.table(names, rows)


def _write_run_page(folder: Path, root: Path) -> bool:
    """Whether the run has a page now; none is made where nothing can be written."""
    try:
        up = "../" * len(folder.relative_to(root).parts)
        text = run_page(folder, f"{up}index.html")
        path = folder / PAGE
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    except (CourseError, *report.ODD):
        return False
    return True
