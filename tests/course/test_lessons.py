import pytest

from common.course import lessons
from common.errors import ConfigError


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


def test_values_are_read_as_typed():
    texts = ["a=3", "b=1e-3", "c=None", "d=True", "e=cifar10", "f=16,32", "g='3'", "h=folder:a=b"]
    texts += ["i=none", "j=false"]
    assert lessons.parse_assignments(texts) == {
        "a": 3,
        "b": 1e-3,
        "c": None,
        "d": True,
        "e": "cifar10",
        "f": [16, 32],
        "g": "3",
        "h": "folder:a=b",
        "i": "none",  # a choice of that name: imbalance=none
        "j": False,
    }


def test_grid_splits_at_commas_outside_brackets():
    grid = lessons.parse_grid(["stages=2,3", "widths=[16,32],[24,48]", "block=basic"])
    assert grid == {"stages": [2, 3], "widths": [[16, 32], [24, 48]], "block": ["basic"]}


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


def test_unknown_parameter_names_the_known(course):
    with pytest.raises(ConfigError, match="'stage'.*dataset, profile, seed, run_name, stages"):
        lessons.assign_parameters(lessons.find_lessons("1"), {}, {"stage": 2})


def test_parameter_of_another_type(course):
    with pytest.raises(ConfigError, match="stages='many'.*a whole number"):
        lessons.assign_parameters(lessons.find_lessons("1"), {}, {"stages": "many"})
