import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_course import RECORD, write_notebook
from typer.testing import CliRunner

from common import __version__
from common.course import environment, kernel, lessons, sweep
from common.course.cli import app
from common.course.lessons import parse_grid
from common.errors import ConfigError, CourseError
from common.files import read_json, write_json


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def python(*arguments, **kwargs):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


# Help and usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "sweep", "report", "evaluate", "refresh"])
def test_help_of_each_command(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output or command == "refresh"
    assert command in call("--help").output


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom common.course.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print({'keras', 'tensorflow', 'jax', 'pandas', 'papermill', 'numpy'} & {*sys.modules})"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert "Exit codes:" in result.stdout and result.stdout.endswith("\nset()\n")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-h"], "Exit codes:"),
        (["help"], "Exit codes:"),
        (["run", "-h"], "Run lessons in order"),
        (["help", "run"], "Run lessons in order"),
        (["--version"], f"Course {__version__}, Python "),
    ],
)
def test_asked_for_help_or_version(arguments, shown):
    result = call(*arguments)
    assert result.exit_code == 0 and shown in result.stdout and result.stderr == ""


def test_help_of_a_command_that_is_none():
    result = call("help", "rnu")
    assert result.exit_code == 2 and "Did you mean 'run'?" in result.stderr


def test_wrong_usage_exits_with_2(course):
    for arguments in (
        ["run", "phase9"],
        ["run", "1", "--lesson", "77"],
        ["run", "1", "--param", "stages"],
        ["run", "1", "--param", "wings=2"],
        ["run", "--profile", "huge"],
        ["sweep", "1"],
        ["sweep", "1", "--grid", "wings=1,2"],
        ["sweep", "1", "--grid", "stages=1", "--seeds", "a"],
        ["sweep", "1", "--grid", "stages=1", "--param", "stages=2"],
        ["sweep", "1", "--grid", "stages=1", "--name", "../x"],
        ["evaluate", "phase2", "--data", "."],
        ["evaluate", "phase1", "--data", ".", "--batch-size", "0"],
        ["evaluate", "phase1"],
    ):
        result = call(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert "Error" in result.stderr and "Traceback" not in result.output
    assert not (course / "outputs").exists()


def test_one_message_and_no_stack_trace_from_the_shell():
    result = python("-m", "common.course", "report", "--where", "dataset")
    assert result.returncode == 2
    assert "'dataset' is not of the form" in result.stderr and "Traceback" not in result.stderr


RAISED = {
    "os": (OSError(28, "No space left on device", "x/y"), 1, "x/y: No space left on device. Free"),
    "permission": (PermissionError(13, "Permission denied", "x"), 1, "x: Permission denied. Allow"),
    "bare": (OSError(), 1, "Error: OSError"),
    "memory": (MemoryError(), 1, "There is not enough memory"),
    "torch": (RuntimeError("Allocator: can't allocate memory"), 1, "There is not enough memory"),
    "text": (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), 1, "A text cannot be"),
    "interrupt": (KeyboardInterrupt(), 130, "Interrupted: run the same again, it goes on."),
    "pipe": (BrokenPipeError(32, "Broken pipe"), 1, ""),
    "course": (CourseError("no \x1b[31m\u202eway\nout"), 1, "Error: no \\x1b[31m\\u202eway\nout"),
    "config": (ConfigError("caf\udce9"), 2, "Error: caf\\udce9"),
    "package": (ModuleNotFoundError("No module", name="cv2"), 2, "The package 'cv2' is not inst"),
}


@pytest.mark.parametrize("what", RAISED)
def test_one_message_of_whatever_happens(course, monkeypatch, what):
    error, code, message = RAISED[what]

    def fail(*_):
        raise error

    monkeypatch.setattr("common.course.lessons.find_lessons", fail)
    result = call("run")
    assert result.exit_code == code and isinstance(result.exception, SystemExit)
    assert message in result.stderr and "Traceback" not in result.output
    assert (result.stderr == "") == (message == "")


def test_tensorflows_word_for_too_little_memory(course, monkeypatch):
    class ResourceExhaustedError(Exception):
        pass

    def fail(*_):
        raise ResourceExhaustedError("OOM when allocating tensor with shape[32,50]")

    monkeypatch.setattr("common.course.lessons.find_lessons", fail)
    result = call("run")
    assert result.exit_code == 1 and "There is not enough memory" in result.stderr


def test_errors_of_ours_keep_their_trace(course, monkeypatch):
    monkeypatch.setattr("common.course.lessons.find_lessons", lambda *_: 1 / 0)
    assert isinstance(call("run").exception, ZeroDivisionError)


# Environment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COURSE_PROFILE", "huge", "COURSE_PROFILE='huge' is unknown. Choose one of: smoke, "),
        ("COURSE_DATASET", "cifr10", "COURSE_DATASET='cifr10': No data set and no folder is named"),
        ("KERAS_BACKEND", "theano", "KERAS_BACKEND='theano' is unknown. Choose one of: tensorflow"),
        ("COURSE_DATA", "~nosuchuser/x", "COURSE_DATA '~nosuchuser/x' begins with the home"),
        ("COURSE_OUTPUTS", "~nosuchuser", "COURSE_OUTPUTS '~nosuchuser' begins with the home"),
    ],
)
def test_variables_are_checked_before_a_kernel_starts(course, monkeypatch, name, value, message):
    monkeypatch.setattr(kernel, "execute", lambda *_: pytest.fail("started"))
    monkeypatch.setenv(name, value)
    (course / "phase1_tiny").rename(course / "phase1_cifar")
    for arguments in (["run", "1"], ["sweep", "1", "--grid", "stages=2"], ["refresh", "1"]):
        result = call(*arguments)
        assert result.exit_code == 2 and message in result.stderr
    assert not (course / "outputs").exists()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_that_is_not_installed(course, monkeypatch, backend):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    result = call("run", "1", "--backend", backend)
    assert result.exit_code == 2 and f"{backend} is not installed" in result.stderr
    assert f'{sys.executable} -m pip install -e ".[{backend}]"' in result.stderr


def test_a_python_without_the_packages(tmp_path):
    shutil.copytree(
        Path(lessons.__file__).parents[1],
        tmp_path / "common",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    result = python("-S", "-m", "common.course", "run", cwd=tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "is not installed for" in result.stderr and "pip install -e ." in result.stderr


def test_variables_are_named_as_they_were_meant(course, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflo")
    result = call("run", "1")
    assert result.exit_code == 2 and "Did you mean 'tensorflow'?" in result.stderr


def test_figures_do_not_depend_on_the_users_matplotlib(course, monkeypatch):
    seen = []

    def execute(*_):
        seen.append(os.environ["MPLBACKEND"])

    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setattr(kernel, "execute", execute)
    assert call("run", "2").exit_code == 0
    assert seen == ["module://matplotlib_inline.backend_inline"]
    assert os.environ["MPLBACKEND"] == "nonsense"


@pytest.mark.parametrize(
    "arguments", [["run", "1"], ["sweep", "1", "--grid", "stages=2"], ["report"]]
)
def test_outputs_that_are_a_file(course, monkeypatch, arguments):
    monkeypatch.setattr(kernel, "execute", lambda *_: pytest.fail("started"))
    (course / "file").write_text("")
    result = call(*arguments, "--output", course / "file")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "Could not write" in result.stderr and "A file stands where a folder" in result.stderr


@pytest.mark.parametrize("seed", ["-1", "2147483648", "99999999999999999999"])
def test_seeds_are_checked_before_a_kernel_starts(course, monkeypatch, seed):
    monkeypatch.setattr(kernel, "execute", lambda *_: pytest.fail("started"))
    for arguments in (
        ["run", "1", f"--seed={seed}"],
        ["run", "1", "--param", f"seed={seed}"],
        ["sweep", "1", "--grid", "stages=2", f"--seeds={seed}"],
    ):
        result = call(*arguments)
        assert result.exit_code == 2 and "whole number from 0 to 2,147,483,647" in result.stderr


# run --------------------------------------------------------------------------------------------


def test_a_failing_lesson_names_itself_its_cell_and_its_error_and_the_rest_runs(course):
    result = call("run", "--dataset", "cifar10", "--profile", "smoke", "--param", "stages=2")
    assert result.exit_code == 1
    message = "02_model, cell 4 (raise ValueError('no such layer')): ValueError: no such layer"
    assert message in result.stderr
    outputs = course / "outputs"
    states = {p.stem: json.loads(p.read_text()) for p in outputs.glob("notebooks/*/*.json")}
    assert states["02_model"]["failure"]["cell"] == 4
    assert states["03_training"]["failure"] is None
    assert states["03_training"]["runs"] == ["main-0"]
    assert states["03_training"]["metrics"]["val_accuracy"] == pytest.approx(0.71)
    assert states["03_training"]["parameters"] == {
        "dataset": "cifar10",
        "profile": "smoke",
        "stages": 2,
    }
    assert "cifar10" in (outputs / "notebooks/phase1_tiny/01_eda.html").read_text()
    index = (outputs / "index.html").read_text()
    assert "failed in cell 4" in index and "71.00 %" in index
    assert 'href="notebooks/phase2_small/01_eda.html"' in index
    assert 'href="runs/main-0/index.html"' in index
    # The kernel is this interpreter, activated or not.
    assert sys.executable in (outputs / "notebooks/phase2_small/01_eda.ipynb").read_text()


def test_run_of_one_lesson_elsewhere(course, tmp_path):
    result = call("run", "1", "--lesson", "3", "--seed", "2", "--output", tmp_path / "there")
    assert result.exit_code == 0, result.output
    assert "03_training" in result.stdout and "FAILED" not in result.output
    assert (tmp_path / "there" / "runs" / "main-2" / "record.json").exists()
    assert not (course / "outputs").exists()
    assert os.environ["COURSE_OUTPUTS"] == str(course / "outputs")


# sweep ------------------------------------------------------------------------------------------


def test_sweep_records_failures_and_goes_on_where_it_stopped(course):
    arguments = ["sweep", "phase1", "--grid", "stages=2,3", "blocks=1,13", "--name", "small"]
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    folder = course / "outputs" / "sweeps" / "small"
    table = pd.read_csv(folder / "table.csv")
    assert table[["stages", "blocks"]].to_numpy().tolist() == [[2, 1], [2, 13], [3, 1], [3, 13]]
    assert table["state"].tolist() == ["ok", "failed", "ok", "failed"]
    assert table["error"][1] == "ValueError: thirteen blocks"
    assert table["val_accuracy"][2] == pytest.approx(0.81)
    assert "| 3 | 1 | 1 | 300 |" in (folder / "table.md").read_text()
    assert "sweeps/small/table.html" in (course / "outputs" / "index.html").read_text()
    run = course / "outputs" / "runs" / "small" / "stages=2-blocks=1-seed=0"
    assert json.loads((run / "record.json").read_text())["explore"] is False

    # Finished ones are left alone, failed ones are run again.
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("stages=*.json")}
    assert call(*arguments).exit_code == 1
    again = {p.name for p in folder.glob("stages=*.json") if p.stat().st_mtime_ns != times[p.name]}
    assert again == {"stages=2-blocks=13-seed=0.json", "stages=3-blocks=13-seed=0.json"}

    # Other settings under the same name would mix two experiments.
    result = call(*arguments, "--dataset", "cifar10")
    assert result.exit_code == 2 and "dataset" in result.stderr


def test_sweep_averages_over_seeds(course):
    result = call("sweep", "1", "--grid", "stages=2", "--seeds", "0,1", "--name", "seeds")
    assert result.exit_code == 0, result.output
    folder = course / "outputs" / "sweeps" / "seeds"
    assert pd.read_csv(folder / "table.csv")["seed"].tolist() == [0, 1]
    assert "71.05 % ± 0.071" in (folder / "table.md").read_text()


def test_seeds_alone_are_a_grid(quick, course):
    """As the exercise of lesson 1.3 has it."""
    result = call("sweep", "phase1", "--seeds", "0,1,2")
    assert result.exit_code == 0, result.output
    assert quick == [f"phase1-seeds/seed={seed}" for seed in range(3)]
    table = (course / "outputs/sweeps/phase1-seeds/table.md").read_text()
    assert len(table.splitlines()) == 3 and table.splitlines()[2].startswith("| 3 |")
    assert call("sweep", "phase1", "--seeds", "").exit_code == 2
    result = call("sweep", "phase1")
    assert result.exit_code == 2 and "or which seeds, as in --seeds 0,1,2" in result.stderr


def test_sweep_of_a_lesson_by_name(course):
    write_notebook(course / "phase1_tiny" / "01_eda.ipynb", "1", parameters="stages = 1")
    result = call("sweep", "1", "--lesson", "03", "--grid", "stages=2", "--name", "third")
    assert result.exit_code == 0, result.output
    assert (course / "outputs/runs/third/stages=2-seed=0/record.json").exists()
    result = call("sweep", "1", "--lesson", "eda", "--grid", "stages=2")
    assert result.exit_code == 2 and "one lesson that trains" in result.stderr


TRAINED = {"parameters": 1, "epochs": 2, "seconds": 3.0, "metrics": {"val_accuracy": 0.5}}


@pytest.fixture
def quick(course, monkeypatch):
    """Sweeps whose lesson leaves its record at once; the names of the runs that were made."""
    made = []

    def execute(source, target, parameters):
        made.append(parameters["run_name"])
        if parameters.get("blocks") == 13:
            raise OSError(28, "No space left on device")
        folder = course / "outputs" / "runs" / parameters["run_name"]
        write_json(folder / "record.json", TRAINED)

    monkeypatch.setattr(kernel, "execute", execute)
    return made


def call_sweep(*arguments):
    return call("sweep", "phase1", *arguments, "--name", "s")


def test_values_and_seeds_given_twice_are_one(quick, course):
    result = call_sweep("--grid", "stages=2,2, 2", "--seeds", "0,0,00")
    assert result.exit_code == 0, result.output
    assert quick == ["s/stages=2-seed=0"]
    assert "| 2 | 1 |" in (course / "outputs/sweeps/s/table.md").read_text()


@pytest.mark.parametrize(
    ("values", "n"),
    [
        ("1e-3,0.001,0.0010", 1),
        ("1,1.0", 1),
        ("1,true", 2),
        ("-32,32", 2),
        ("a/b,a_b,a b,a-b", 4),
        ("[1,2],[12],1_2", 3),
        ("none,None", 2),
        ("A,a", 2),
        ("../x,./x", 2),
        (",".join("x" * 300 + c for c in "abc"), 3),
        ("\u732b" * 90 + ",b", 2),
    ],
)
def test_no_two_values_share_a_label(course, values, n):
    path = course / "phase1_tiny/03_training.ipynb"
    write_notebook(path, "1", parameters="seed = 0\nrun_name = None\nfree = None")
    grid = parse_grid([f"free={values}"])
    found = sweep.combinations(lessons.Lesson(path), "s", grid, {}, [0])
    labels = [c.label for c in found]
    assert len(found) == n and len({label.casefold() for label in labels} | {*labels}) >= n
    for c in found:
        assert len(c.label.encode()) < 200 and ".." not in c.label and "/" not in c.label
        assert c.parameters["run_name"] == f"s/{c.label}"
        assert [c.label] == [  # Whatever else is in the grid.
            other.label
            for other in sweep.combinations(
                lessons.Lesson(path), "s", {"free": [c.point["free"]]}, {}, [0]
            )
        ]


def test_plain_values_have_plain_labels(course):
    [lesson] = lessons.find_lessons("1", "03")
    for text in ("3", "-3"):
        [found] = sweep.combinations(lesson, "s", {"stages": [text]}, {}, [0])
        assert found.label == f"stages={text}-seed=0"


def test_another_backend_is_another_sweep(quick, course, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(environment, "_is_installed", lambda name: True)
    assert call_sweep("--grid", "stages=2").exit_code == 0
    result = call_sweep("--grid", "stages=2", "--backend", "jax")
    assert result.exit_code == 2 and "other values of backend" in result.stderr
    assert call("sweep", "phase1", "--grid", "stages=2", "--backend", "jax").exit_code == 0
    assert quick == ["s/stages=2-seed=0", "phase1-stages-jax/stages=2-seed=0"]


ODD = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"parameters": {}, "failure": null}',
    '{"parameters": [], "failure": null, "record": {}}',
    '{"parameters": {}, "failure": null, "record": {"metrics": null}}',
    '{"parameters": {}, "failure": "no", "record": {"metrics": null}}',
    '{"parameters": {}, "failure": null, "record": []}',
    json.dumps({"parameters": {}, "failure": None, "record": TRAINED | {"metrics": [1]}}),
    json.dumps({"parameters": {}, "failure": None, "record": TRAINED | {"epochs": [1]}}),
    "[" * 100_000,
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_file_of_a_sweep_is_made_again(quick, course, caplog, odd):
    path = course / "outputs/sweeps/s/stages=2-seed=0.json"
    path.parent.mkdir(parents=True)
    path.write_text(odd)
    result = call_sweep("--grid", "stages=2")
    assert result.exit_code == 0, result.output
    assert "stages=2-seed=0.json is left out" in caplog.text
    assert read_json(path)["record"] == TRAINED and len(quick) == 1


def test_a_combination_that_cannot_be_written_does_not_stop_the_others(quick, course):
    result = call_sweep("--grid", "blocks=13,1")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    table = pd.read_csv(course / "outputs/sweeps/s/table.csv")
    assert table["state"].tolist() == ["failed", "ok"]
    assert "No space left on device" in table["error"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--grid", "stages=2", "--name", "x" * 300], 1, "Choose a shorter name"),
        (["--grid", "stages=2", "--name", "a..b"], 2, "cannot be a folder's name"),
        (["--grid", "stages=2", "seed=1"], 2, "seed: set by the sweep itself"),
        (["--grid", "run_name=a,b"], 2, "run_name: set by the sweep itself"),
        (["--grid", "stages=2,x"], 2, "a whole number"),
    ],
)
def test_sweeps_that_are_refused(quick, course, arguments, code, message):
    result = call("sweep", "1", *arguments)
    assert result.exit_code == code and isinstance(result.exception, SystemExit)
    assert message in result.stderr and quick == []


def test_a_cell_of_a_sweep_is_one_captioner():
    for number, key, value in (("05", "decoder", "lstm"), ("06", "reward", "bleu_4")):
        [lesson] = lessons.find_lessons("phase3", number)
        fixed = {"dataset": "synthetic", "profile": "smoke"}
        with pytest.raises(ConfigError, match=f"trains several captioners.* unless {key} is named"):
            sweep.combinations(lesson, "s", {}, fixed, [0])
        assert len(sweep.combinations(lesson, "s", {}, {**fixed, key: value}, [0, 1])) == 2
        assert len(sweep.combinations(lesson, "s", {key: [value]}, fixed, [0])) == 1


def test_two_sweeps_of_one_name_wait_for_each_other(quick, course, monkeypatch):
    held = []

    class Hold:
        def __init__(self, path, what):
            held.append((path, what))

        def __enter__(self):
            assert not quick

        def __exit__(self, *_):
            assert quick

    monkeypatch.setattr(sweep, "hold", Hold)
    assert call_sweep("--grid", "stages=2").exit_code == 0
    assert held == [(course / "outputs/sweeps/s/.lock", "runs the sweep 's'")]


# report -----------------------------------------------------------------------------------------


def write_record(root, name, accuracy, **changes):
    record = RECORD | {"run_name": name, "metrics": {"test_accuracy": accuracy}}
    folder = root / "outputs" / "runs" / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record | changes))
    return folder


def test_report_filters_sorts_and_averages(course):
    for seed, accuracy in enumerate((0.90, 0.92, 0.91)):
        write_record(course, f"r{seed}", accuracy, seed=seed)
    write_record(course, "other", 0.5, dataset="synthetic")
    write_record(course, "folder/inner", 0.4, dataset="synthetic", epochs=1)
    lines = call("report", "--markdown", "--sort=-test_accuracy").stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| r1",
        "| r2",
        "| r0",
        "| other",
        "| folder/inner",
    ]
    lines = call("report", "--mean", "--markdown", "--where", "dataset=cifar10").stdout.splitlines()
    assert len(lines) == 3 and "91.00 % ± 1" in lines[2] and "| 3 |" in lines[2]
    lines = call(
        "report", "--mean", "--where", "dataset=cifar10", "--columns", "n,run"
    ).stdout.split()
    assert lines[:4] == ["n", "run", "3", "r0"]
    assert call("report", "--columns", "n,run").exit_code == 2
    assert "inner" not in call("report", "--where", "epochs=10").stdout
    assert call("report", "--where", "wings=2").exit_code == 2
    only = call("report", course / "outputs" / "runs" / "folder").stdout
    assert "folder/inner" in only and "r1" not in only


def test_report_tells_of_a_damaged_record_and_shows_the_rest(course):
    write_record(course, "good", 0.9)
    (write_record(course, "bad", 0.9) / "record.json").write_text('{"run_name": ')
    result = call("report")
    assert result.exit_code == 0
    assert "good" in result.stdout and "bad" not in result.stdout
    assert "bad/record.json left out" in result.stderr


def test_report_of_nothing(course):
    result = call("report")
    assert result.exit_code == 0 and "Nothing yet." in result.stdout
    assert "There are no runs yet." in result.stderr and "run phase1 --lesson 03" in result.stderr
    assert call("report", "--markdown", "--mean").exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["--where", "dataset=x"], ["--where", "wings=2"], ["--columns", "run"]]
)
def test_report_of_what_is_not_there_when_there_is_nothing(course, arguments):
    result = call("report", *arguments)
    assert result.exit_code == 2 and "There are no runs yet." in result.stderr
    (write_record(course, "bad", 0.9) / "record.json").write_text("{")
    result = call("report", *arguments)
    assert result.exit_code == 2 and "No run can be read." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "datset=cifar10"], "no column 'datset'. Did you mean 'dataset'?"),
        (["--where", "dataset=cifar"], "No run has dataset=cifar. Did you mean 'cifar10'?"),
        (["--where", "phase=phase1"], "Did you mean 'phase1_cifar'?"),
        (["--sort", "test_acuracy"], "Did you mean 'test_accuracy'?"),
        (["--columns", "run,sed"], "Did you mean 'seed'?"),
    ],
)
def test_report_names_the_nearest(course, arguments, message):
    write_record(course, "one", 0.9)
    result = call("report", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def write_captioner(root, name, decoder, bleu, caption):
    samples = [{"image": "a.jpg", "caption": caption}, {"image": f"{name}.jpg", "caption": "x"}]
    folder = write_record(
        root,
        name,
        0.5,
        metrics={"test_bleu_4": bleu},
        test={"greedy": {"bleu_4": bleu - 1, "meteor": None}},
        samples=samples,
    )
    config = {
        "decoder": {"name": decoder, "units": 512},
        "backbone": {"name": "mobilenet"},
        "reward": {"bleu_4": 0.5, "cider_d": 0.5} if decoder == "lstm" else None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    history = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, bleu / 10], "val_score": [18, 0.2]})
    history.to_csv(folder / "history.csv", index=False)


def test_report_compares_two_runs(course):
    write_captioner(course, "one", "rnn", 20.5, "a <b> dog")
    write_captioner(course, "sub/two", "lstm", 21.0, "a cat")
    table = call("report", "--columns", "run,decoder,backbone,reward", "--markdown").stdout
    assert "| one | rnn | mobilenet |  |" in table
    assert "| sub/two | lstm | mobilenet | 0.5 bleu_4 + 0.5 cider_d |" in table
    result = call("report", "--compare", "one", "sub/two")
    assert result.exit_code == 0, result.output
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "decoder.name rnn lstm" in rows and "reward.cider_d 0.5" in rows
    assert not any("units" in row or "meteor" in row for row in rows)
    assert "metrics.test_bleu_4 20.5 21 0.5" in rows
    assert "a.jpg a <b> dog a cat" in rows and "one.jpg" not in result.stdout
    html = (course / "outputs" / "comparisons" / "one_and_sub+two.html").read_text()
    assert "a &lt;b&gt; dog" in html and "<figcaption>loss</figcaption><svg" in html
    assert "validation score" not in html  # of another reward: not the same thing
    write_captioner(course, "three", "rnn", 20.0, "a cow")
    assert call("report", "--compare", "one", "three").exit_code == 0
    html = (course / "outputs" / "comparisons" / "one_and_three.html").read_text()
    assert "<figcaption>validation score</figcaption><svg" in html
    same = call("report", "--compare", "one", "one")
    assert same.exit_code == 2 and "two different ones" in same.stderr
    none = call("report", "--compare", "one", "four")
    assert none.exit_code == 2 and "no run 'four'" in none.stderr


def test_a_sweep_of_data_that_has_changed_is_told(quick, course):
    own = course / "pets"
    own.mkdir()
    (own / "a.png").write_bytes(b"1")
    arguments = ["--grid", "stages=2", "--dataset", f"folder:{own}"]
    assert call_sweep(*arguments).exit_code == 0
    assert call_sweep(*arguments).exit_code == 0
    (own / "b.png").write_bytes(b"2")
    result = call_sweep(*arguments)
    assert result.exit_code == 2 and "the files of the data set have changed" in result.stderr


def test_a_sweep_that_has_downloaded_its_data_goes_on(quick, course, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(course))
    arguments = ["--grid", "stages=2", "--dataset", "cifar10"]
    assert call_sweep(*arguments).exit_code == 0
    (course / "cifar10").mkdir()
    assert call_sweep(*arguments).exit_code == 0
