"""Fixtures of the tests of the command line."""

import pytest
from small_course import write_course


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The folder of a tiny course, with its own outputs, which the command line takes for real."""
    write_course(tmp_path)
    monkeypatch.setattr("common.course.lessons.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """An empty folder for what is made."""
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    return tmp_path
