"""Tests of common.course.side_by_side: lessons in processes end as those one after the other."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from small_course import write_notebook

from common.course import lessons, side_by_side
from common.course.lessons import Lesson
from common.errors import CourseError
from common.files import read_json
from common.paths import outputs_dir

ROOT = Path(side_by_side.__file__).resolve().parents[2]


def test_trainings_come_first_and_what_uses_them_waits():
    names = [
        "phase1_a/01_eda", "phase1_a/02_training", "phase1_a/03_evaluation",
        "phase2_b/01_training", "phase2_b/02_evaluation", "phase2_b/03_more", "phase3_c/01_eda",
    ]  # fmt: skip
    found = side_by_side.plan([Lesson(Path(f"{name}.ipynb")) for name in names])
    assert [(str(lesson), before and str(before)) for lesson, before in found.items()] == [
        (names[3], None), (names[1], None), (names[2], names[1]), (names[4], names[3]),
        (names[5], names[3]), (names[6], None), (names[0], None),
    ]  # fmt: skip


def test_two_lessons_after_one_training_run_side_by_side(course):
    meet = "import pathlib, time\nfolder = pathlib.Path({!r})\n(folder / '{}').touch()\n" + (
        "while not (folder / '{}').exists():\n    time.sleep(0.1)"
    )
    for own, other in (("04_one", "05_two"), ("05_two", "04_one")):
        path = course / "phase1_tiny" / f"{own}.ipynb"
        write_notebook(path, meet.format(str(course), own, other))
    assigned = dict.fromkeys(lessons.find_lessons("phase1"), {})
    results = side_by_side.run_lessons(assigned, 2)
    assert [result.lesson for result in results if result.ok] == [
        "01_eda", "03_training", "04_one", "05_two",
    ]  # fmt: skip


def test_results_are_those_of_lessons_one_after_the_other(course, capsys):
    found = lessons.find_lessons()
    assigned = dict.fromkeys(found, {"seed": 1})
    one, two = (side_by_side.run_lessons(assigned, jobs) for jobs in (1, 2))
    assert [(r.phase, r.lesson, r.failure, r.runs, r.metrics) for r in one] == [
        (r.phase, r.lesson, r.failure, r.runs, r.metrics) for r in two
    ]
    assert [r.ok for r in two] == [True, False, True, True]
    told = capsys.readouterr().err
    assert told.count("phase1_tiny/02_model: FAILED in cell 4") == 2
    assert "phase2_small/01_eda: ok" in told


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_evaluation_examines_the_run_that_was_just_trained(course, jobs):
    write_notebook(course / "phase1_tiny" / "04_evaluation.ipynb", "print('run', run_name)")
    assigned = dict.fromkeys(lessons.find_lessons("phase1"), {"seed": 1})
    result = side_by_side.run_lessons(assigned, jobs)[-1]
    assert result.parameters == {"seed": 1, "run_name": "main-1"}
    assert result.runs == ["main-1"] and result.metrics["val_accuracy"] == pytest.approx(0.811)
    assigned = {lesson: {"run_name": "other"} for lesson in assigned}
    assert side_by_side.run_lessons(assigned, jobs)[-1].parameters == {"run_name": "other"}
    [alone] = lessons.find_lessons("phase1", "04")
    assert side_by_side.run_lessons({alone: {}}, jobs)[-1].parameters == {}


def test_the_bar_shows_that_time_goes_on(course, capsys, monkeypatch):
    write_notebook(course / "phase1_tiny" / "01_eda.ipynb", "import time\ntime.sleep(3)")
    waiting = threading.Event.wait
    monkeypatch.setattr(threading.Event, "wait", lambda self, t=None: waiting(self, t and t / 50))
    [lesson] = lessons.find_lessons("phase1", "01")
    side_by_side.run_lessons({lesson: {}})
    assert capsys.readouterr().err.count("phase1_tiny/01_eda 2/2") > 5


def test_a_worker_that_is_killed_is_a_failure_of_its_lesson_and_the_rest_runs(course):
    kill = "import os, psutil\npsutil.Process(os.getppid()).kill()"
    write_notebook(course / "phase1_tiny" / "02_model.ipynb", kill)
    results = side_by_side.run_lessons(dict.fromkeys(lessons.find_lessons(), {}), 2)
    assert [r.ok for r in results] == [True, False, True, True]
    assert "the process was ended" in str(results[1].failure)


def test_an_error_that_ends_the_command_comes_out_of_a_worker(course):
    [first, *_] = lessons.find_lessons("phase1", "01")
    folder = outputs_dir() / "notebooks" / first.phase
    folder.mkdir(parents=True)
    (folder / "01_eda.ipynb").mkdir()
    with pytest.raises(CourseError, match="01_eda.ipynb"):
        side_by_side.run_lessons(dict.fromkeys(lessons.find_lessons(), {}), 2)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_when_the_command_is_ended(number, course, tmp_path):
    started = tmp_path / "started"
    wait = f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(60)"
    write_notebook(course / "phase1_tiny" / "01_eda.ipynb", wait)
    other = course / "outputs/notebooks/phase2_small/01_eda.json"
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    script = (
        "from pathlib import Path\nfrom common.course import cli, lessons\n"
        "lessons.repository_root = Path.cwd\ncli.app(['run', '--jobs', '2'])"
    )
    environment = os.environ | {"TMPDIR": str(tmp), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=course, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (started.exists() and other.exists()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3  # workers and kernels
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    if number == signal.SIGINT:
        assert process.returncode == 130 and "run the same again" in told
        assert "Traceback" not in told
    if number != signal.SIGKILL:
        assert not list(tmp.iterdir())
    assert read_json(other, dict)["failure"] is None


def test_an_exit_that_python_ignores_is_not_told(monkeypatch):
    """As told by Python it looks like a fault, in the middle of a Ctrl-C."""
    told = []
    monkeypatch.setattr(sys, "__unraisablehook__", lambda args: told.append(args.exc_type))
    for error in (SystemExit, ValueError):
        side_by_side._tell_unraisable(SimpleNamespace(exc_type=error))
    assert told == [ValueError]


def deaf(connection):
    """A worker in which the exit by SIGTERM was raised where Python ignores it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send("ready")
    with suppress(EOFError):
        connection.recv()


def test_a_worker_that_waits_ends_though_it_did_not_notice_the_signal(monkeypatch):
    monkeypatch.setattr(side_by_side, "_work", deaf)
    with side_by_side._workers() as start:
        assert start().recv() == "ready"
        [worker] = multiprocessing.active_children()
    assert worker.exitcode == 0  # not killed after half a minute


def test_the_cores_are_divided(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert side_by_side.threads(2) == {"TF_NUM_INTRAOP_THREADS": "4"}
    assert side_by_side.threads(16) == {"TF_NUM_INTRAOP_THREADS": "1"}
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert side_by_side.threads(2) == {}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert side_by_side.threads(2) == {"OMP_NUM_THREADS": "4"}
