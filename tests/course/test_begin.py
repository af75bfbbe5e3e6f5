"""Tests of common.course.begin: what a lesson works on."""

import pytest

from common.course.begin import begin
from common.errors import ConfigError


def test_a_lesson_takes_what_it_is_given_else_what_the_environment_says(monkeypatch):
    assert begin("phase1_cifar", "cifar10", "full") == ("cifar10", "full")
    monkeypatch.setenv("COURSE_DATASET", "synthetic")
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    assert begin("phase2_histopathology", None, None) == ("synthetic", "smoke")
    monkeypatch.delenv("COURSE_DATASET")
    monkeypatch.delenv("COURSE_PROFILE")
    assert begin("phase3_captioning", None, None) == ("flickr8k", "laptop")


def test_on_data_of_ones_own_it_is_said_that_the_text_is_of_others(tmp_path, capsys):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.png").touch()
    assert begin("phase1_cifar", str(tmp_path), "smoke") == (str(tmp_path), "smoke")
    assert f"The outputs of this page are of {tmp_path}." in capsys.readouterr().out
    begin("phase1_cifar", "synthetic", "smoke")
    assert capsys.readouterr().out == ""


def test_what_a_lesson_cannot_take(monkeypatch):
    with pytest.raises(ConfigError, match="'flickr8k' is a data set of phase3_captioning"):
        begin("phase1_cifar", "flickr8k", None)
    with pytest.raises(ConfigError, match="profile='huge' is unknown"):
        begin("phase1_cifar", "synthetic", "huge")
