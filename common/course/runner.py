"""Runs lessons headlessly: papermill, a kernel each, one progress bar, HTML and a summary."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import psutil
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from common.choices import is_own
from common.course.environment import environment
from common.course.lessons import Lesson
from common.course.report import headline
from common.errors import DataError
from common.files import (
    JOURNAL,
    check_output,
    hold,
    kept_warnings,
    not_written,
    own_prefix,
    read_json,
    remove_orphans,
    write_atomically,
    write_json,
    write_text,
)
from common.paths import home_dir, outputs_dir

KERNEL = "python3"
# Of a connection file beside whose name a socket's fits: systems allow 103 bytes and more.
_LONGEST_SOCKET = 90


@dataclass
class Failure:
    """Where and why a notebook stopped.

    Attributes:
        cell: Number of the cell in the notebook, from 1, text cells counted.
        source: The line that failed, or the cell's first if that is not known.
        error: Class of the error.
        message: Its text.
    """

    cell: int
    source: str
    error: str
    message: str

    def __str__(self) -> str:
        return f"cell {self.cell} ({self.source}): {self.error}: {self.message}"


def failed_line(error: PapermillExecutionError) -> str | None:
    """The line of the notebook's cell at which it stopped, from IPython's traceback."""
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    # The first is of the cell itself, those that follow are of what it calls.
    found = re.search(r"Cell In ?\[\d+\], line (\d+)", trace)
    lines = error.source.splitlines()
    number = int(found[1]) if found else 0
    return lines[number - 1].strip() or None if 0 < number <= len(lines) else None


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
    failure: Failure | None = None
    runs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.failure is None


class _WatchedEngine(NBClientEngine):
    """Papermill's own engine, telling `on_cell` of each cell before it runs."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, on_cell=None, connection=None, **kwargs):
        # Else it would lie among the system's temporary files, and stay there after a kill.
        options = {"connection_file": str(connection)}
        # Ports are chosen before they are taken: two kernels that start at once may have the same.
        if os.name == "posix" and len(os.fsencode(connection)) < _LONGEST_SOCKET:
            options["transport"] = "ipc"
        kwargs["config"] = Config({"ConnectionFileMixin": options})
        cell_start = nb_man.cell_start

        def watched(cell, cell_index=None, **rest):
            on_cell(cell, cell_index)
            return cell_start(cell, cell_index, **rest)

        nb_man.cell_start = watched
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register("watched", _WatchedEngine)


# What a kernel writes past Python (TensorFlow's start-up messages) goes to a log. A kernel whose
# parent has been killed ends: ipykernel sees that only where orphans are given to process 1.
LAUNCH = """\
import os, runpy, sys, threading, time

def watch():
    while os.getppid() == {parent}:
        time.sleep(1)
    os._exit(1)

if os.name == "posix":
    threading.Thread(target=watch, daemon=True).start()
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
sys.path[0] = ""
runpy.run_module("ipykernel_launcher", run_name="__main__")
"""


@contextlib.contextmanager
def own_kernel() -> Iterator[Path]:
    """Makes the kernel `python3` run this very interpreter, whatever is registered elsewhere.

    Yields:
        A folder that is removed at the end: `kernel.log` takes what the kernel writes outside of
        its notebook.
    """
    place = Path(tempfile.gettempdir())
    remove_orphans(place, "course-kernel")
    try:
        folder = Path(tempfile.mkdtemp(prefix=own_prefix("course-kernel"), dir=place))
    except OSError as error:
        raise not_written(place / "course-kernel", error) from error
    try:
        launch = folder / "launch.py"
        write_text(launch, LAUNCH.format(log=str(folder / "kernel.log"), parent=os.getpid()))
        spec = {
            "argv": [
                sys.executable,
                str(launch),
                "-f",
                "{connection_file}",
                "--IPKernelApp.capture_fd_output=False",
            ],
            "display_name": "Python 3",
            "language": "python",
        }
        write_json(folder / "kernels" / KERNEL / "kernel.json", spec)
        paths = [str(folder), *filter(None, [os.environ.get("JUPYTER_PATH")])]
        jupyter = {"JUPYTER_PATH": os.pathsep.join(paths), **_home(folder)}
        with environment(**jupyter), ending_by_sigterm():
            yield folder
    finally:
        _end_kernels(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_kernels(folder: Path) -> None:
    """Ends what was interrupted while it started, and would still write into the folder."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(part.startswith(str(folder)) for part in process.cmdline()):
                process.kill()
                process.wait(timeout=10)


def _home(folder: str | Path) -> dict[str, str]:
    """A home for Jupyter, which cannot do without, where the user has none."""
    return {} if home_dir() else {"HOME": str(folder)}


@contextlib.contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """Ends by SIGTERM as by an exit, so that the kernel and temporary files go, too."""

    def leave(number, frame):
        signal.signal(number, signal.SIG_IGN)  # not in the midst of it again
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    on_cell: Callable[[], None] = lambda: None,
) -> Failure | None:
    """Runs one notebook in a fresh kernel and writes it, with its outputs, to `target`.

    What was there stays until the notebook has ended.

    Args:
        on_cell: Called before each code cell.

    Returns:
        `None`, or what stopped it; `target` then holds the outputs up to there.

    Raises:
        CourseError: if `target` cannot be written.
    """
    reached = {"cell": 0, "source": "the kernel's start"}
    injected = 0

    def watch(cell, index):
        nonlocal injected
        # Papermill puts its own cell after the one tagged `parameters`: not counted.
        injected += "injected-parameters" in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            reached.update(cell=index + 1 - injected, source=lines[0] if lines else "empty")
            on_cell()

    check_output(target)
    with own_kernel() as folder:
        log, executed = folder / "kernel.log", folder / "executed.ipynb"
        failure = None
        try:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=parameters,
                engine_name="watched",
                kernel_name=KERNEL,
                progress_bar=False,
                start_timeout=180,
                on_cell=watch,
                connection=folder / "connection.json",
            )
        except PapermillExecutionError as error:
            reached["source"] = failed_line(error) or reached["source"]
            failure = Failure(**reached, error=error.ename, message=error.evalue)
        except Exception as error:  # a kernel that does not start, or dies: the rest still runs
            said = log.read_text(errors="replace")[-1000:] if log.exists() else ""
            failure = Failure(
                **reached, error=type(error).__name__, message=f"{error}\n{said}".strip()
            )
        if executed.exists():  # not if the kernel never started
            with write_atomically(target) as temporary:
                shutil.copyfile(executed, temporary)
    return failure


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
        ending_by_sigterm(),
        tempfile.TemporaryDirectory(prefix=own_prefix("course-kernel")) as folder,
    ):
        journal = Path(folder) / "journal"
        start = time.perf_counter()
        with environment(**{JOURNAL: str(journal), **_sharp()}):
            failure = execute(lesson.path, target, parameters, on_cell)
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
            with environment(**_home(folder)):
                from common.course.html import write_html  # a second that no start needs

                write_html(target)
        write_json(kept, asdict(result))
    return result


def executed_notebook(lesson: Lesson) -> Path:
    """Where a lesson is left as it ran."""
    return outputs_dir() / "notebooks" / lesson.phase / lesson.path.name


def _sharp() -> dict[str, str]:
    name = "COURSE_FIGURE_SCALE"
    return {name: os.environ.get(name, "2")}


def expectation(assigned: dict[Lesson, dict[str, Any]], profile: str, jobs: int) -> str:
    """What a call of `run` will take, for who waits."""
    n = len(assigned)
    jobs = min(jobs, n)
    lessons = f"{n} lesson{'s' if n > 1 else ''} in profile {profile}"
    if jobs > 1:
        lessons += f", {jobs} at a time"
    # Measured on two cores without bfloat16: 15 lessons in 20 minutes, two at a time.
    least, most = (n, n + n // 3) if jobs > 1 else (n + n // 3, 2 * n)
    times = {
        "smoke": f"{least} to {most} minutes on two CPU cores" if n > 1 else "some minutes",
        "laptop": "up to an hour each on two CPU cores",
        "full": "meant for a GPU",
    }
    datasets = {str(p.get("dataset", "synthetic")) for p in assigned.values()}
    time, data = times[profile], "nothing is downloaded"
    if datasets != {"synthetic"}:
        time += ", on built-in data"
        if not all(map(is_own, datasets - {"synthetic"})):
            data = "data that are not there are downloaded"
    return (
        f"{lessons}: {time}; {data}; results go to {outputs_dir()}. "
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
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is no readable notebook: {error}") from error
    return sum(cell.cell_type == "code" for cell in notebook.cells)
