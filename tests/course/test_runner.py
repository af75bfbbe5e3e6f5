import json
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from small_course import write_notebook

from common.course import refresh, runner
from common.course.bootstrap import CELL
from common.course.lessons import find_lessons
from common.errors import CourseError, DataError


def test_a_kernel_that_dies_is_a_failure_of_its_cell(tmp_path):
    source = write_notebook(tmp_path / "in.ipynb", "import os\nos._exit(1)")
    failure = runner.execute(source, tmp_path / "out.ipynb", {"seed": 1})
    assert (failure.cell, failure.source) == (3, "import os")
    assert failure.error == "DeadKernelError"


def test_a_kernel_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LAUNCH", runner.LAUNCH.replace("ipykernel", "no_kernel"))
    source = write_notebook(tmp_path / "in.ipynb", "x = 1")
    failure = runner.execute(source, tmp_path / "out.ipynb", {})
    assert failure.cell == 0 and "No module named no_kernel_launcher" in failure.message


def test_own_kernel_wins_over_a_registered_one(tmp_path, monkeypatch):
    other = tmp_path / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"argv": ["/no/python"], "display_name": "x", "language": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = write_notebook(tmp_path / "in.ipynb", "import sys\nprint(sys.executable)")
    assert runner.execute(source, tmp_path / "out.ipynb", {}) is None
    assert sys.executable in (tmp_path / "out.ipynb").read_text()


def test_html_has_no_start_up_messages_and_of_a_bar_its_end(tmp_path):
    code = """\
import os, sys
os.write(2, b"low-level message")
for percent in (0, 50, 100):
    print(f"\\rbar {percent} %", end="", file=sys.stderr)
"""
    executed = tmp_path / "out.ipynb"
    assert runner.execute(write_notebook(tmp_path / "in.ipynb", code), executed, {}) is None
    text = runner.write_html(executed).read_text()
    assert "bar 100 %" in text and "bar 50 %" not in text
    assert text.count("low-level message") == 1  # in the code


def test_finished_runs_are_shown_again_for_the_same_parameters(course):
    lesson = find_lessons("1", "training")[0]
    first = runner.run_lesson(lesson, {"seed": 1})
    # The next time the lesson finds its run finished and writes no record.
    write_notebook(lesson.path, "done = True")
    assert runner.run_lesson(lesson, {"seed": 1}).metrics == first.metrics != {}
    assert runner.run_lesson(lesson, {"seed": 2}).runs == []


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "bad.ipynb").write_text("{")
    with pytest.raises(DataError, match="bad.ipynb"):
        runner.count_cells(tmp_path / "bad.ipynb")


# refresh ----------------------------------------------------------------------------------------


def test_refresh_keeps_clean_outputs_only(course, monkeypatch):
    monkeypatch.setattr("common.course.refresh.course_root", lambda: course)
    path = write_notebook(
        course / "phase2_small" / "01_eda.ipynb",
        "import sys\nprint(dataset, profile)\nprint('warning', file=sys.stderr)",
        f"print('{course}/outputs')\n6 * 7",
    )
    assert refresh.refresh(find_lessons("2"), "smoke", "cifar10") == []
    notebook = nbformat.read(path, as_version=4)
    assert len(notebook.cells) == 4  # no cell of papermill's
    assert 'dataset = "synthetic"' in notebook.cells[1].source
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert [output.text for output in notebook.cells[2].outputs] == ["cifar10 smoke\n"]
    printed, result = notebook.cells[3].outputs
    assert printed.text == "./outputs\n"
    assert (result.data["text/plain"], result.execution_count) == ("42", 3)
    assert "papermill" not in notebook.metadata


def test_refresh_brings_the_first_cell_up_to_date():
    old = "from common.course.bootstrap import start\nstart(1)"
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_code_cell(old)])
    refresh.set_bootstrap(notebook)
    assert [cell.source for cell in notebook.cells] == ["x = 1", CELL.strip()]


def test_refresh_leaves_a_failing_lesson_as_it_was(course):
    path = course / "phase1_tiny" / "02_model.ipynb"
    before = nbformat.read(path, as_version=4)
    (failure,) = refresh.refresh(find_lessons("1", "2"), "smoke", "synthetic")
    assert failure.cell == 4
    assert nbformat.read(path, as_version=4) == before


def test_refresh_refuses_a_notebook_that_grows_too_large(course):
    path = write_notebook(course / "phase2_small" / "01_eda.ipynb", "print('x' * 500_000)")
    with pytest.raises(CourseError, match="500 kB"):
        refresh.refresh(find_lessons("2"), "smoke", "synthetic")
    assert path.stat().st_size < 10_000
