import io
import sys
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.paths import data_dir, display, expand, home_dir, outputs_dir


def test_a_user_without_a_home(monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(none))
    monkeypatch.setattr(Path, "expanduser", lambda self: none())
    assert home_dir() is None
    with pytest.raises(ConfigError, match="Write the whole path"):
        expand("~/data")


@pytest.mark.parametrize(("name", "function"), [("COURSE_DATA", data_dir),
                                                ("COURSE_OUTPUTS", outputs_dir)])  # fmt: skip
def test_variables_that_name_a_user_who_does_not_exist(monkeypatch, name, function):
    monkeypatch.setenv(name, "~nosuchuser_of_the_course/data")
    with pytest.raises(ConfigError, match=f"{name} '~nosuchuser_of_the_course/data' begins with"):
        function()


def test_text_of_others_made_safe_to_print(monkeypatch):
    assert display("a photo.jpg") == "a photo.jpg"
    assert display("\u732b \u0645\u0631\u062d\u0628\u0627 e\u0301") == (
        "\u732b \u0645\u0631\u062d\u0628\u0627 e\u0301"
    )
    assert display("a\x1b[31m\r\nb\0") == "a\\x1b[31m\\r\\nb\\x00"
    assert display("caf\udce9 \u202egpj.exe") == "caf\\udce9 \\u202egpj.exe"
    assert display("a\n\tb\x07", lines=True) == "a\n\tb\\x07"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert display("caf\xe9 \u732b") == "caf\xe9 \\u732b"
