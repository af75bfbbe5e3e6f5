"""Runs lessons: what comes of each, its page, and the runs that it made."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from common.choices import CAPTION_DATASETS, DOWNLOADS
from common.course import kernel
from common.course.environment import environment
from common.course.lessons import Lesson
from common.course.report import headline
from common.data.loading import is_there
from common.errors import DataError
from common.files import JOURNAL, hold, kept_warnings, own_prefix, read_json, write_json
from common.paths import data_dir, outputs_dir


@dataclass
class Result:
    """What came of one lesson; kept beside the executed notebook as JSON.

    Attributes:
        runs: Names of the run folders that the lesson made, its main one first; or of the one that
            it was given.
        metrics: Those of the main run.
        warnings: What the course's code said of the data, as of files that were passed over.
    """

    phase: str
    lesson: str
    parameters: dict[str, Any]
    seconds: float
    failure: kernel.Failure | None = None
    runs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.failure is None


def run_lesson(
    lesson: Lesson, parameters: dict[str, Any], on_cell: Callable[[], None] = lambda: None
) -> Result:
    """Runs one lesson, turns it into HTML and keeps the result beside it.

    Another process that runs the same lesson into the same outputs is waited for.
    """
    target = executed_notebook(lesson)
    kept = target.with_suffix(".json")
    with (
        hold(target.with_name(f".{lesson.name}.lock"), f"runs the lesson {lesson}"),
        kernel.ending_by_sigterm(),
        tempfile.TemporaryDirectory(prefix=own_prefix("course-kernel")) as folder,
    ):
        journal = Path(folder) / "journal"
        start = time.perf_counter()
        with environment(**{JOURNAL: str(journal)}):
            failure = kernel.execute(lesson.path, target, parameters, on_cell)
        seconds = time.perf_counter() - start
        runs = _runs_made(journal)
        if not runs and failure is None:
            given = parameters.get("run_name")
            runs = _runs_of_before(kept, parameters) or _there([given] if given else [])
        result = Result(
            lesson.phase,
            lesson.name,
            parameters,
            round(seconds, 1),
            failure,
            runs,
            _metrics(runs),
            kept_warnings(journal),
        )
        if target.exists():
            with environment(**kernel.jupyter_home(folder)):
                from common.course.html import write_html  # a second that no start needs

                write_html(target)
        write_json(kept, asdict(result))
    return result


def executed_notebook(lesson: Lesson) -> Path:
    """Where a lesson is left as it ran."""
    return outputs_dir() / "notebooks" / f"{lesson}.ipynb"


def expectation(assigned: dict[Lesson, dict[str, Any]], profile: str, jobs: int) -> str:
    """What a call of `run` will take, for who waits."""
    n = len(assigned)
    jobs = min(jobs, n)
    lessons = f"{n} lesson{'s' if n > 1 else ''} in profile {profile}"
    if jobs > 1:
        lessons += f", {jobs} at a time"
    # Measured on two cores without bfloat16: 15 lessons in 12 to 15 minutes, two at a time.
    least, most = (n - n // 5, n + 1) if jobs > 1 else (n + n // 3, 2 * n)
    times = {
        "smoke": f"{least} to {most} minutes on two CPU cores" if n > 1 else "some minutes",
        "laptop": "up to an hour each on two CPU cores",
        "full": "meant for a GPU",
    }
    datasets = sorted({str(p.get("dataset", "synthetic")) for p in assigned.values()})
    time, data = times[profile], "nothing is downloaded"
    if datasets != ["synthetic"]:
        time += " (measured on built-in data)"
    wanted = [f"{d} ({DOWNLOADS[d.partition(':')[0]]})" for d in datasets if not is_there(d)]
    captioned = {d for d in datasets if d.partition(":")[0] in CAPTION_DATASETS}
    captioned |= {
        str(p.get("dataset")) for lesson, p in assigned.items() if "caption" in lesson.phase
    }
    if captioned - {"synthetic"}:
        wanted.append("pretrained weights and word vectors that are absent")
    if wanted:
        data = f"to be downloaded, data sets into {data_dir()}: {', '.join(wanted)} (nothing with "
        data += "--dataset synthetic)"
    return (
        f"{lessons}: {time}; {data}; results go to {outputs_dir()}"
        f"{' (0.1 GB for all lessons)' * (profile == 'smoke')}. "
        "Ctrl-C stops, the same command goes on."
    )


def summary(results: list[Result]) -> pd.DataFrame:
    """What ran, how long it took, and what it is judged by."""
    rows = [
        {
            "lesson": f"{result.phase}/{result.lesson}",
            "state": "ok" if result.ok else "FAILED",
            "seconds": result.seconds,
            "headline": " ".join(headline(result.phase, result.metrics) or ()),
        }
        for result in results
    ]
    return pd.DataFrame(rows)


def _runs_made(journal: Path) -> list[str]:
    """The runs whose records the lesson's own process wrote, its main one first."""
    if not journal.exists():
        return []
    made = dict.fromkeys(reversed(journal.read_text(encoding="utf-8").splitlines()))
    # A lesson keeps the runs of an ablation in a folder of runs: the main run has no `/`.
    return sorted(made, key=lambda name: name.count("/"))


def _runs_of_before(kept: Path, parameters: dict[str, Any]) -> list[str]:
    """The runs of the same lesson with the same parameters earlier: finished, so not run again."""
    try:
        before = read_json(kept, dict)
        return _there(before["runs"] if before["parameters"] == parameters else [])
    except (DataError, KeyError, TypeError, ValueError, OSError):
        return []


def _there(runs: list[str]) -> list[str]:
    return [name for name in runs if (outputs_dir() / "runs" / name / "record.json").exists()]


def _metrics(runs: list[str]) -> dict[str, float]:
    if not runs:
        return {}
    try:
        record = read_json(outputs_dir() / "runs" / runs[0] / "record.json", dict)
    except DataError:  # deleted or damaged meanwhile; `report` tells
        return {}
    metrics = record.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def count_cells(path: Path) -> int:
    """Number of code cells of a notebook.

    Raises:
        DataError: if the file is no notebook.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable notebook: {error}") from error
    return sum(cell.cell_type == "code" for cell in notebook.cells)
