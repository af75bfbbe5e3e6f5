import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from small_course import write_notebook

from common.course import html, kernel, refresh, runner
from common.course.bootstrap import CELL
from common.course.lessons import Lesson, find_lessons
from common.errors import CourseError, DataError
from common.files import own_prefix


def test_a_kernel_that_dies_is_a_failure_of_its_cell(tmp_path):
    source = write_notebook(tmp_path / "in.ipynb", "import os\nos._exit(1)")
    failure = kernel.execute(source, tmp_path / "out.ipynb", {"seed": 1})
    assert (failure.cell, failure.source) == (3, "import os")
    assert failure.error == "DeadKernelError"


def test_a_kernel_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "LAUNCH", kernel.LAUNCH.replace("ipykernel", "no_kernel"))
    source = write_notebook(tmp_path / "in.ipynb", "x = 1")
    failure = kernel.execute(source, tmp_path / "out.ipynb", {})
    assert failure.cell == 0 and "No module named no_kernel_launcher" in failure.message


@pytest.mark.parametrize("length", [0, 120])
def test_a_kernel_is_reached_wherever_temporary_files_lie(length, tmp_path, monkeypatch):
    """Through a socket in its folder, which no other kernel can take, if its path is not long."""
    place = tmp_path.parent / ("long" * 40)[:length] if length else Path(tempfile.gettempdir())
    place.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    code = "from ipykernel.kernelapp import IPKernelApp\nprint(IPKernelApp.instance().transport)"
    path = tmp_path / "out.ipynb"
    assert kernel.execute(write_notebook(tmp_path / "in.ipynb", code), path, {}) is None
    wanted = "tcp" if length or os.name == "nt" else "ipc"
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].text == f"{wanted}\n"


def test_temporary_files_go_also_those_of_killed_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    ended = tmp_path / "tmp" / own_prefix("course-kernel").replace(f"-{os.getpid()}-", "-999999-")
    living = tmp_path / "tmp" / f"{own_prefix('course-kernel')}x"
    for folder in (ended, living):
        folder.mkdir()
        (folder / "kernel.log").touch()
    source = write_notebook(tmp_path / "in.ipynb", "x = 1")
    assert kernel.execute(source, tmp_path / "out.ipynb", {}) is None
    assert list((tmp_path / "tmp").iterdir()) == [living]


def test_a_kernel_whose_parent_was_killed_at_once_ends(tmp_path):
    """Also under a process that takes in orphans, here the test's own."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is None:
        pytest.skip("only Linux gives orphans to whom one chooses")
    script = (
        "import subprocess, sys, time\n"
        "from common.course.kernel import own_kernel\n"
        "with own_kernel() as folder:\n"
        "    command = [sys.executable, folder / 'launch.py', '-f', folder / 'connection.json']\n"
        "    print(subprocess.Popen(command).pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    try:
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        kernel = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while os.waitpid(kernel, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline, "the kernel goes on for ever"
            time.sleep(0.1)
    finally:
        prctl(36, 0)


def test_what_was_there_stays_until_a_notebook_has_ended(tmp_path):
    target = tmp_path / "out.ipynb"
    target.write_text("the other process's")
    code = f'assert open({str(target)!r}).read() == "the other process\'s"'
    assert kernel.execute(write_notebook(tmp_path / "in.ipynb", code), target, {}) is None
    assert "assert open" in target.read_text()


def test_own_kernel_wins_over_a_registered_one(tmp_path, monkeypatch):
    other = tmp_path / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"argv": ["/no/python"], "display_name": "x", "language": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = write_notebook(tmp_path / "in.ipynb", "import sys\nprint(sys.executable)")
    assert kernel.execute(source, tmp_path / "out.ipynb", {}) is None
    assert sys.executable in (tmp_path / "out.ipynb").read_text()


def test_html_has_no_start_up_messages_and_of_a_bar_its_end(tmp_path):
    code = """\
import os
from common.progress import progress_bar
os.write(2, b"low-level message")
with progress_bar(None, "bar", total=4, mininterval=0, miniters=1) as bar:
    for _ in range(4):
        bar.update()
print("after it")
"""
    executed = tmp_path / "out.ipynb"
    assert kernel.execute(write_notebook(tmp_path / "in.ipynb", code), executed, {}) is None
    text = html.write_html(executed).read_text()
    assert "bar: 100%" in text and "bar:  50%" not in text
    assert "stderr" not in executed.read_text()  # drawn in red
    assert text.count("low-level message") == 1  # in the code


def test_finished_runs_are_shown_again_for_the_same_parameters(course):
    lesson = find_lessons("1", "training")[0]
    first = runner.run_lesson(lesson, {"seed": 1})
    # The next time the lesson finds its run finished and writes no record.
    write_notebook(lesson.path, "done = True")
    assert runner.run_lesson(lesson, {"seed": 1}).metrics == first.metrics != {}
    assert runner.run_lesson(lesson, {"seed": 2}).runs == []


def test_what_the_code_warns_of_comes_out_of_the_notebook(course):
    lesson = find_lessons("1", "eda")[0]
    code = (
        "from common.files import keep_warnings\n"
        "keep_warnings()\n"
        "import logging\n"
        "for _ in range(2):\n"
        "    logging.getLogger('common.data').warning('3 passed over:\\n- \\udce9.txt')\n"
        "logging.getLogger('other').warning('not ours')"
    )
    write_notebook(lesson.path, code)
    assert runner.run_lesson(lesson, {}).warnings == ["3 passed over:\n- \\udce9.txt"]
    shown = (course / "outputs/notebooks/phase1_tiny/01_eda.ipynb").read_text()
    assert "3 passed over" in shown


@pytest.mark.parametrize(
    ("datasets", "said", "unsaid"),
    [
        (["synthetic"], ["some minutes; nothing is downloaded"], ["at a time", "built-in"]),
        (
            ["cifar10"],
            ["(measured on built-in data); to be downloaded, ", ": cifar10 (170 MB) (nothing"],
            [],
        ),
        (["flickr8k"], [": flickr8k (1.1 GB), pretrained weights and word vectors that"], []),
        (["coco:50"], [": coco:50 (250 MB of captions, and 160 MB for 1,000 photos), pre"], []),
        (["histopathology"], ["(measured on built-in data); nothing is downloaded"], []),
        (["mine"], ["(measured on built-in data); nothing is downloaded"], []),
        (["mine", "synthetic"], ["2 lessons", "2 at a time", "nothing is downloaded"], []),
    ],
)
def test_what_a_run_will_take(course, monkeypatch, datasets, said, unsaid):
    for name in ("COURSE_DATA", "KERAS_HOME"):
        monkeypatch.setenv(name, str(course))
    (course / "histopathology").mkdir()
    assigned = {
        lesson: {"dataset": dataset}
        for lesson, dataset in zip(find_lessons("1"), datasets, strict=False)
    }
    told = runner.expectation(assigned, "smoke", 2)
    assert all(part in told for part in said) and not any(part in told for part in unsaid), told


def test_photos_of_ones_own_take_pretrained_weights():
    lesson = Lesson(Path("phase3_captioning/05_training.ipynb"))
    assert "pretrained weights" in runner.expectation({lesson: {"dataset": "mine"}}, "smoke", 1)
    told = runner.expectation({lesson: {"dataset": "synthetic"}}, "smoke", 1)
    assert "nothing is downloaded" in told


def test_a_lesson_is_given_the_runs_that_it_made_itself(course):
    """Not those that another process finishes meanwhile."""
    lesson = find_lessons("1", "training")[0]
    other = course / "outputs/runs/other/record.json"
    code = (
        "import pathlib\n"
        f"path = pathlib.Path({str(other)!r})\n"
        "path.parent.mkdir(parents=True)\n"
        'path.write_text(\'{"run_name": "other", "metrics": {"val_accuracy": 0.9}}\')'
    )
    write_notebook(lesson.path, code)
    result = runner.run_lesson(lesson, {})
    assert result.ok and other.exists() and result.runs == [] and result.metrics == {}
    write_notebook(lesson.path, "from common.files import note_run\nnote_run('other')")
    assert runner.run_lesson(lesson, {}).metrics == {"val_accuracy": 0.9}


def test_a_second_process_waits_for_the_lesson(course, caplog):
    lesson = find_lessons("2", "eda")[0]
    lock = course / "outputs/notebooks/phase2_small/.01_eda.lock"
    script = (
        "import sys, time\nfrom common.files import hold\n"
        "with hold(sys.argv[1], 'x'):\n    print('held', flush=True)\n    time.sleep(3)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert runner.run_lesson(lesson, {}).ok and other.wait(0.1) == 0
    assert "Waiting for another process that runs the lesson phase2_small/01_eda" in caplog.text


@pytest.mark.parametrize("record", ["{", "[]", '{"metrics": 3}', "[" * 99_999])
def test_an_odd_record_has_no_metrics(course, record):
    folder = course / "outputs/runs/odd"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record)
    assert runner._metrics(["odd"]) == {}


def test_a_user_without_a_home(course, monkeypatch):
    """As in many containers: Jupyter itself cannot do without one."""
    monkeypatch.setattr("common.course.kernel.home_dir", lambda: None)
    lesson = find_lessons("2", "eda")[0]
    write_notebook(lesson.path, "import os\nprint('home', os.environ['HOME'])")
    assert runner.run_lesson(lesson, {}).ok
    assert "course-kernel" in (course / "outputs/notebooks/phase2_small/01_eda.html").read_text()


def test_outputs_that_cannot_be_written(course, monkeypatch):
    (course / "outputs").write_text("a file")
    with pytest.raises(CourseError, match="Could not write .*outputs"):
        runner.run_lesson(find_lessons("2", "eda")[0], {})


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "bad.ipynb").write_text("{")
    with pytest.raises(DataError, match="bad.ipynb"):
        runner.count_cells(tmp_path / "bad.ipynb")


# refresh ----------------------------------------------------------------------------------------


def test_refresh_keeps_clean_outputs_only(course, monkeypatch):
    monkeypatch.setattr("common.course.refresh.course_root", lambda: course)
    path = write_notebook(
        course / "phase2_small" / "01_eda.ipynb",
        "import sys\nfrom common.progress import progress_bar\nprint('warning', file=sys.stderr)\n"
        "for _ in progress_bar(range(3), 'three'):\n    pass\nprint(dataset, profile)",
        f"print('{course}/outputs')\n6 * 7",
    )
    assert refresh.refresh(find_lessons("2"), "smoke", "cifar10") == []
    notebook = nbformat.read(path, as_version=4)
    assert len(notebook.cells) == 4  # no cell of papermill's
    assert 'dataset = "synthetic"' in notebook.cells[1].source
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert [output.text for output in notebook.cells[2].outputs] == ["cifar10 smoke\n"]
    printed, result = notebook.cells[3].outputs
    assert printed.text == "outputs\n"
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


def test_refresh_takes_real_data_or_says_that_they_are_not_there(course, monkeypatch, caplog):
    (course / "phase2_small").rename(course / "phase2_histopathology")
    path = write_notebook(course / "phase2_histopathology/01_eda.ipynb", "print(dataset)")
    monkeypatch.setenv("COURSE_DATA", str(course))
    monkeypatch.delenv("COURSE_DATASET")

    def said():
        caplog.clear()
        assert refresh.refresh(find_lessons("2"), "smoke", None) == []
        [output] = nbformat.read(path, as_version=4).cells[2].outputs
        return output.text.strip(), caplog.text

    taken, told = said()
    assert taken == "synthetic"
    assert f"histopathology is not in {course}: phase2_histopathology gets outputs of the" in told
    (course / "histopathology").mkdir()
    assert said() == ("histopathology", "")


def test_refresh_refuses_a_notebook_that_grows_too_large(course):
    path = write_notebook(course / "phase2_small" / "01_eda.ipynb", "print('x' * 2_000_000)")
    with pytest.raises(CourseError, match="2000 kB"):
        refresh.refresh(find_lessons("2"), "smoke", "synthetic")
    assert path.stat().st_size < 10_000
