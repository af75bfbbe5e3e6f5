import subprocess
import sys

import pytest
from small_course import write_notebook

from common.course import lessons
from common.errors import ConfigError, DataError


@pytest.mark.parametrize("phase", ["phase1_tiny", "phase1", "1"])
def test_phase_by_any_of_its_names(course, phase):
    found = lessons.find_lessons(phase)
    assert [item.name for item in found] == ["01_eda", "02_model", "03_training"]


def test_names_of_the_courses_phases():
    for name in ("phase2_histopathology", "phase2", "2"):
        assert lessons.phase_name(name) == "phase2_histopathology"
    assert lessons.phase_name("phase9") == "phase9"


@pytest.mark.parametrize("lesson", ["03_training", "training", "03", "3"])
def test_lesson_by_any_of_its_names(course, lesson):
    assert [str(item) for item in lessons.find_lessons("1", lesson)] == ["phase1_tiny/03_training"]


def test_a_lesson_and_its_solutions(course):
    [lesson] = lessons.find_lessons("1", "3")
    assert lesson.solution is None
    write_notebook(lesson.path.parent / "solutions" / lesson.path.name, "1")
    assert str(lesson.solution) == "phase1_tiny/solutions/03_training"
    assert (lesson.solution.phase, lesson.solution.name) == (lesson.phase, lesson.name)
    assert lessons.find_lessons("1", "3") == [lesson]


def test_a_lesson_of_every_phase(course):
    assert [item.phase for item in lessons.find_lessons(lesson="1")] == [
        "phase1_tiny",
        "phase2_small",
    ]


@pytest.mark.parametrize(
    ("phase", "lesson", "message"),
    [("phase9", None, "phase1_tiny, phase2_small"), ("1", "9", "01_eda, 02_model, 03_training")],
)
def test_unknown_names_list_the_known(course, phase, lesson, message):
    with pytest.raises(ConfigError, match=message):
        lessons.find_lessons(phase, lesson)


def test_no_lessons_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("common.course.lessons.repository_root", lambda: tmp_path)
    with pytest.raises(ConfigError, match="no lessons"):
        lessons.find_lessons()


VALUES = {
    "3": 3,
    "1e-3": 1e-3,
    "None": None,
    "True": True,
    "false": False,
    "none": "none",  # a choice of that name: imbalance=none
    "cifar10": "cifar10",
    "'3'": "3",
    "folder:a=b": "folder:a=b",
    "16,32": [16, 32],
    "[(1, 2), 'a']": [[1, 2], "a"],
    "{'bleu_4': 0.5}": {"bleu_4": 0.5},
}


@pytest.mark.parametrize("text", VALUES)
def test_values_are_read_as_typed(text):
    value = lessons.parse_value(text)
    assert value == VALUES[text] and type(value) is type(VALUES[text])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{{}}",
            "{[]}",
            "{{1}: 2}",
            "{1: 2}",
            "{1, 2}",
            "b'x'",
            "[b'x']",
            "1+2j",
            "f'{1}'",
            "...",
        ),
        *("1e999", "[-1e999]", "nan", "inf", "9" * 30, "0x" + "f" * 900, "9" * 5000, "007", "1_"),
        *(
            "-" * 300 + "...1",
            "-" * 10_000 + "1",
            "(" * 900,
            "[" * 10_000 + "]" * 10_000,
            "1+" * 499,
        ),
        *(
            "0or 1",
            r"'\d",
            "1if 1else 2",
            "(1)(2)",
            "\0",
            "\ud800",
            "'\n'",
            "",
            "lambda: 1",
            "__x__",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_all_else_is_a_text(text):
    assert lessons.parse_value(text) == text


def test_assignments_are_texts():
    given = lessons.parse_assignments(["a=3", "b = x=y", "c="])
    assert given == {"a": "3", "b": "x=y", "c": ""}


def test_grid_splits_at_commas_outside_brackets():
    grid = lessons.parse_grid(["stages=2, 3", "widths=[16,32],[24,(4,8)]", "r={'a':1,'b':2},mix"])
    assert grid["stages"] == ["2", "3"] and grid["widths"] == ["[16,32]", "[24,(4,8)]"]
    assert grid["r"] == ["{'a':1,'b':2}", "mix"]
    assert lessons.parse_grid(["a=b],c,(d"])["a"] == ["b]", "c", "(d"]  # brackets of no pair
    with pytest.raises(ConfigError, match="empty value") as caught:
        lessons.parse_grid(["a=" + "[," * 50_000])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["stages", "=3", "2x=3"])
def test_assignment_without_a_name_or_value(text):
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        lessons.parse_assignments([text])


def test_assignment_given_twice_or_empty():
    with pytest.raises(ConfigError, match="twice"):
        lessons.parse_assignments(["a=1", "a=2"])
    with pytest.raises(ConfigError, match="empty value"):
        lessons.parse_grid(["a=1,,2"])


def test_parameters_go_to_the_lessons_that_take_them(course):
    found = lessons.find_lessons("1")
    assigned = lessons.assign_parameters(found, {"seed": 1}, {"stages": 2})
    assert list(assigned.values()) == [{"seed": 1}, {"seed": 1}, {"seed": 1, "stages": 2}]


def test_no_data_set_is_the_one_that_it_means(monkeypatch):
    """A run, a page and a sweep are the same by any of the ways."""
    found = lessons.find_lessons("1", "3") + lessons.find_lessons("3", "1")
    given = lessons.assign_parameters(found, {"dataset": "synthetic"}, {})
    assert [values["dataset"] for values in given.values()] == ["synthetic"] * 2
    for extra in ({}, {"dataset": "None"}):
        assert lessons.assign_parameters(found, {}, extra) == given
    monkeypatch.delenv("COURSE_DATASET")
    real = lessons.assign_parameters(found, {}, {})
    assert [values["dataset"] for values in real.values()] == ["cifar10", "flickr8k"]
    monkeypatch.setenv("COURSE_DATASET", "cifar10")
    with pytest.raises(ConfigError, match="COURSE_DATASET='cifar10': .* phase3_captioning has"):
        lessons.assign_parameters(found, {}, {})


def test_unknown_parameter_names_the_known(course):
    with pytest.raises(ConfigError, match="'stage'.*dataset, profile, seed, run_name, stages"):
        lessons.assign_parameters(lessons.find_lessons("1"), {}, {"stage": 2})


def test_parameter_of_another_type(course):
    with pytest.raises(ConfigError, match="stages='many'.*a whole number"):
        lessons.assign_parameters(lessons.find_lessons("1"), {}, {"stages": "many"})


DECLARED = """\
run_name = None  # folder under outputs/runs
from_run = None
model = None  # such as "resnet20"
weights = "imagenet"
free = None  # of anything
epochs: int | None = None  # 0, "none at all" or more
rate: Optional[float] = None
name: "str | None" = None
sizes: list[int] = [1, 2]
mode: Literal["a", "b"] = "a"
reward: str | dict | None = None
explore = True  # "yes"
share = 0.5
seed = 0
profile = None  # "smoke" # or not
a = b = 1
"""


def assign(course, text):
    path = write_notebook(course / "phase3_typed" / "01_typed.ipynb", parameters=DECLARED)
    lesson = lessons.Lesson(path)
    given = lessons.assign_parameters([lesson], {}, lessons.parse_assignments([text]))[lesson]
    (value,) = given.values()
    return value


RIGHT = {
    "run_name=2024": "2024",
    "run_name=1e3": "1e3",
    "run_name=True": "True",
    "run_name=007": "007",
    "run_name=20240131_a": "20240131_a",
    "run_name='2024'": "2024",
    "run_name=None": None,
    "run_name=[1]": "[1]",
    "from_run=12": "12",
    "model=18": "18",
    "weights=1": "1",
    "weights=None": None,
    "free=2024": 2024,
    "free=a": "a",
    "epochs=3": 3,
    "epochs=None": None,
    "rate=1": 1.0,
    "rate=1e-3": 1e-3,
    "name=5": "5",
    "sizes=16,32": [16, 32],
    "mode=1": "1",
    "reward=mix": "mix",
    "reward=5": "5",
    "reward={'bleu_4': 1}": {"bleu_4": 1},
    "explore=false": False,
    "share=1": 1.0,
    "seed=2147483647": 2147483647,
    "profile=smoke": "smoke",
}


@pytest.mark.parametrize("text", RIGHT)
def test_the_lesson_says_what_a_text_means(course, text):
    value = assign(course, text)
    assert value == RIGHT[text] and type(value) is type(RIGHT[text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs=1e3", "epochs='1e3': phase3_typed/01_typed takes a whole number here"),
        ("epochs=many", "a whole number"),
        ("epochs=" + "9" * 5000, r"epochs='9+\.\.\.: .* takes a whole number"),
        ("rate=nan", "a number"),
        ("rate=1e999", "a number"),
        ("rate=True", "a number"),
        ("sizes=16", "a list"),
        ("explore=1", "True or False"),
        ("seed=-1", "a seed is a whole number from 0 to 2,147,483,647"),
        ("seed=2147483648", "a seed is"),
        ("seed=None", "a seed is"),
        ("profile=huge", "Choose one of: smoke, laptop, full"),
        ("a=2", "no parameter 'a'"),
    ],
)
def test_values_of_other_types_are_refused(course, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        assign(course, text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", ["{", "[]", "dear diary", None])
def test_a_damaged_notebook_is_named(course, content):
    path = write_notebook(course / "phase3_typed" / "01_typed.ipynb", parameters="a = (")
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match="01_typed.ipynb is no readable notebook"):
        lessons.lesson_parameters(lessons.Lesson(path))


def test_todays_lessons_declare_their_parameters():
    found = {str(item): lessons.lesson_parameters(item) for item in lessons.find_lessons()}
    for parameters in found.values():
        for name in ("dataset", "profile", "run_name"):
            assert parameters[name].kinds == (str,)
    kinds = {name: p.kinds for name, p in found["phase2_histopathology/03_training"].items()}
    assert all(kinds[name] == (str,) for name in ("split", "lists", "model", "imbalance"))
    kinds = {name: p.kinds for name, p in found["phase3_captioning/06_reward"].items()}
    assert all(kinds[name] == (str,) for name in ("from_run", "baseline"))


# --- in the notebook ---


RIGHT_VARIABLES = {"dataset": "synthetic", "profile": None, "seed": 0, "run_name": None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "cifar"}, "Did you mean 'cifar10'"),
        ({"dataset": "folder:nowhere"}, "There is no folder 'nowhere'"),
        ({"profile": "smok"}, "Did you mean 'smoke'"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"model": "resnet21"}, "Did you mean 'resnet20'"),
        ({"epochs": "three"}, "epochs='three': the lesson takes a whole number"),
        ({"epochs": 0}, "1 or more"),
        ({"run_name": 2024}, "run_name=2024: the lesson takes a text"),
        ({"from_run": "nosuch"}, "There is no run 'nosuch'"),
        ({"validation": "few"}, "validation='few': the lesson takes a number"),
        ({"reward": ["mix"]}, "takes a text or a dictionary"),
    ],
)
def test_a_notebook_checks_its_parameters(changed, message):
    kinds = {"profile": str, "run_name": str, "epochs": int, "rate": float, "from_run": str}
    variables = RIGHT_VARIABLES | {"__annotations__": kinds, "epochs": None, "rate": 1}
    lessons.check_variables(variables)
    lessons.check_variables(variables | {"dataset": None})
    with pytest.raises((ConfigError, DataError), match=message):
        lessons.check_variables(variables | changed)


def test_variables_of_another_program_are_passed_over():
    lessons.check_variables({"dataset": "cifar", "seed": "none"})


def test_the_first_cell_checks_before_anything_heavy_is_imported():
    code = """
import sys
from common.course.bootstrap import start
dataset, profile, seed, run_name, model = "synthetic", None, 0, None, "resnt20"
try:
    start()
except Exception as error:
    print(error, "keras" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Did you mean 'resnet20'?" in done.stdout and done.stdout.endswith(" False\n")
