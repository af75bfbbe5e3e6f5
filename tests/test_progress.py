"""Tests of common.progress: where a bar is drawn, and how often."""

import io
import sys

from common.progress import progress_bar, tell


class Terminal(io.StringIO):
    def isatty(self):
        return True


def kernel_stream():
    """As the standard output of a notebook's kernel."""
    return type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()


def count(monkeypatch, stdout, stderr):
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(progress_bar(range(500), "items")) == list(range(500))
    return stdout.getvalue(), stderr.getvalue()


def test_commands_keep_their_standard_output_for_answers(monkeypatch):
    out, err = count(monkeypatch, io.StringIO(), Terminal())
    assert out == "" and "items: 100%" in err and err.endswith("\n")


def test_a_notebook_has_it_on_standard_output(monkeypatch):
    out, err = count(monkeypatch, kernel_stream(), io.StringIO())
    assert "items: 100%" in out and err == ""


def test_seldom_drawn_where_nobody_watches(monkeypatch):
    _, err = count(monkeypatch, io.StringIO(), io.StringIO())
    assert err.count("\r") <= 3 and "items: 100%" in err


def test_no_standard_error_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar(range(3))) == [0, 1, 2]


def test_a_line_comes_where_the_bars_are(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    tell("one\x1b")
    assert (sys.stdout.getvalue(), sys.stderr.getvalue()) == ("", "one\\x1b\n")
    monkeypatch.setattr(sys, "stdout", kernel_stream())
    tell("two")
    assert sys.stdout.getvalue() == "two\n"
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    tell("three")
