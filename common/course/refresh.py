"""Runs the lessons and keeps their outputs in the notebooks, as they are committed."""

import json
import logging
import re
from pathlib import Path

import nbformat

from common.choices import PHASES, resolve_dataset
from common.course.bootstrap import CELL
from common.course.html import merged
from common.course.kernel import Failure
from common.course.lessons import Lesson, assign_parameters, course_root
from common.course.runner import Result, executed_notebook
from common.course.side_by_side import run_lessons
from common.data.loading import is_there
from common.errors import CourseError
from common.files import write_text
from common.paths import data_dir, outputs_dir

logger = logging.getLogger(__name__)

# Of which no picture may be passed on.
CLOSED = ("flickr8k", "flickr30k", "coco", "coco-karpathy")
MAX_BYTES = 1_500_000
MAX_FIGURE_BYTES = 1_000_000


def refresh(lessons: list[Lesson], profile: str, dataset: str | None) -> list[Failure]:
    """Writes the bootstrap cell and fresh outputs into each notebook.

    Runs the lessons as `run` does. One that fails is left as it was. The parameters handed over
    are not written down.

    Args:
        dataset: `None` for `COURSE_DATASET`, else the phase's real data; where they are not under
            `COURSE_DATA`, `synthetic`, which is told.

    Raises:
        CourseError: if a notebook is too large with its outputs (it is not written then).
    """
    data_dir()  # a wrong one is told before anything runs
    phases = dict.fromkeys(lesson.phase for lesson in lessons)
    datasets = {phase: dataset or _without_download(phase) for phase in phases}
    assigned = {}
    for lesson in lessons:
        notebook = nbformat.read(lesson.path, as_version=4)
        set_bootstrap(notebook)
        save(notebook, lesson.path)
        given = {"profile": profile, "dataset": datasets[lesson.phase]}
        assigned |= assign_parameters([lesson], given, {})

    def keep(lesson: Lesson, result: Result) -> None:
        if result.ok:
            notebook = nbformat.read(lesson.path, as_version=4)
            executed = nbformat.read(executed_notebook(lesson), as_version=4)
            take_outputs(notebook, executed, assigned[lesson].get("dataset") not in CLOSED)
            check_size(notebook, lesson)
            save(notebook, lesson.path)

    results = run_lessons(assigned, then=keep)
    return [result.failure for result in results if result.failure is not None]


def _without_download(phase: str) -> str:
    """The data set of a phase; `synthetic` if it is not on the disk."""
    dataset = resolve_dataset(phase) if phase in PHASES else "synthetic"
    if is_there(dataset):
        return dataset
    logger.warning(
        "%s is not in %s: %s gets outputs of the built-in data. Interrupt this, and run a lesson "
        "of it, which downloads it, to have others.",
        *(dataset, data_dir(), phase),
    )
    return "synthetic"


def set_bootstrap(notebook: nbformat.NotebookNode) -> None:
    """Brings the bootstrap cell up to date."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "common.course.bootstrap" in cell.source:
            cell.source = CELL.strip()


PICTURES_LEFT_OUT = (
    "Pictures of the data set are not kept in the repository: run the lesson to see them.\n"
)


def take_outputs(
    notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode, own_pictures: bool = True
) -> None:
    """Copies outputs, cell by cell: no progress bars, warnings or paths of this machine.

    Args:
        own_pictures: Whether the images are ours to publish; if not, figures of cells tagged
            `pictures` are left out.
    """
    ran = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    count = 0
    for cell, source in zip(notebook.cells, ran, strict=True):
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        outputs = _without_noise(source.outputs)
        if not own_pictures and "pictures" in cell.metadata.get("tags", []):
            outputs = [o for o in outputs if "image/png" not in o.get("data", {})]
            outputs.append(nbformat.v4.new_output("stream", text=PICTURES_LEFT_OUT))
        cell.outputs = [_portable(o, count) for o in outputs]


def _without_noise(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    widget = "application/vnd.jupyter.widget-view+json"
    kept = [o for o in outputs if o.get("name") != "stderr" and widget not in o.get("data", {})]
    kept = merged(kept)  # a bar comes in pieces
    for output in kept:
        if output.get("name") == "stdout":
            output.text = re.sub(r"(\r[^\r\n]*)+\n?", "", output.text)  # bars
    return [output for output in kept if output.get("text") != ""]


def _portable(output: nbformat.NotebookNode, count: int) -> nbformat.NotebookNode:
    text = json.dumps(output, ensure_ascii=False)
    for folder, name in ((data_dir(), "data"), (outputs_dir(), "outputs"), (course_root(), ".")):
        text = text.replace(str(folder.resolve()), name)
    output = nbformat.from_dict(json.loads(text))
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def check_size(notebook: nbformat.NotebookNode, lesson: Lesson) -> None:
    """Keeps notebooks small enough to read on GitHub and to keep in git."""
    figures = sum(
        len(text) * 3 // 4  # base64
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind, text in output.get("data", {}).items()
        if kind.startswith("image/")
    )
    size = len(nbformat.writes(notebook).encode())
    if size > MAX_BYTES or figures > MAX_FIGURE_BYTES:
        raise CourseError(
            f"{lesson} would have {size // 1000} kB, {figures // 1000} kB of it figures; at most "
            f"{MAX_BYTES // 1000} and {MAX_FIGURE_BYTES // 1000} are allowed. Draw fewer or "
            "smaller figures."
        )


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes a notebook whole or not at all."""
    write_text(path, nbformat.writes(notebook) + "\n")
