"""Runs one notebook headlessly through papermill, in a kernel of its own."""

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import psutil
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from common.course.environment import environment
from common.files import (
    check_output,
    not_written,
    own_prefix,
    remove_orphans,
    write_atomically,
    write_json,
    write_text,
)
from common.paths import home_dir

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


_COLOURS = re.compile(r"\x1b\[[\d;]*m")


def _plain(message: str) -> str:
    """An error's text without colours and empty lines, as Keras writes them."""
    return re.sub(r"\n\s*\n", "\n", _COLOURS.sub("", message))


def failed_line(error: PapermillExecutionError) -> str | None:
    """The line of the notebook's cell at which it stopped, from IPython's traceback."""
    trace = _COLOURS.sub("", "\n".join(error.traceback))
    # The first is of the cell itself, those that follow are of what it calls.
    found = re.search(r"Cell In ?\[\d+\], line (\d+)", trace)
    lines = error.source.splitlines()
    number = int(found[1]) if found else 0
    return lines[number - 1].strip() or None if 0 < number <= len(lines) else None


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


_UNCAPTURED = "--IPKernelApp.capture_fd_output=False"


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
            "argv": [sys.executable, str(launch), "-f", "{connection_file}", _UNCAPTURED],
            "display_name": "Python 3",
            "language": "python",
        }
        write_json(folder / "kernels" / KERNEL / "kernel.json", spec)
        paths = [str(folder), *filter(None, [os.environ.get("JUPYTER_PATH")])]
        jupyter = {"JUPYTER_PATH": os.pathsep.join(paths), **jupyter_home(folder)}
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


def jupyter_home(folder: str | Path) -> dict[str, str]:
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
            failure = Failure(**reached, error=error.ename, message=_plain(error.evalue))
        except Exception as error:  # a kernel that does not start, or dies: the rest still runs
            said = log.read_text(errors="replace")[-1000:] if log.exists() else ""
            failure = Failure(
                **reached, error=type(error).__name__, message=f"{error}\n{said}".strip()
            )
        if executed.exists():  # not if the kernel never started
            with write_atomically(target) as temporary:
                shutil.copyfile(executed, temporary)
    return failure
