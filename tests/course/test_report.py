"""Tables of runs from files that anybody may have written, and pages in which text is text."""

import json
import math
import os
import re
import sys

import pandas as pd
import pytest

from common.course import report
from common.errors import ConfigError

RECORD = {
    "run_name": "good",
    "phase": "phase1",
    "dataset": "cifar10",
    "profile": "laptop",
    "seed": 0,
    "epochs": 10,
    "parameters": 1000,
    "seconds": 90.0,
    "metrics": {"accuracy": 0.5},
    "created": "2026-01-01",
}
LESSON = {
    "phase": "phase1",
    "lesson": "01_eda",
    "parameters": {},
    "seconds": 1.5,
    "failure": None,
    "runs": ["good"],
    "metrics": {"accuracy": 0.5},
}
# Text that means something to HTML, to Markdown or to a terminal.
HOSTILE = "<script>alert(1)</script>|\\|&amp;\n`a` *b* _c_ [d](javascript:e)\x1b[31m\u202e\udce9"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    return tmp_path


def write_run(outputs, name, config=None, **changes):
    folder = outputs / "runs" / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(RECORD | {"run_name": name} | changes))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_lesson(outputs, name, **changes):
    path = outputs / "notebooks" / "phase1" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(LESSON | {"lesson": name} | changes))
    return path


def index():
    return report.write_index().read_text(encoding="utf-8")


DEEP = '{"run_name": "a", "metrics": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}"
DAMAGED = {
    "half": b'{"run_name": "a", "me',
    "empty": b"",
    "binary": bytes(range(256)),
    "list": b"[]",
    "text": b'"a"',
    "null": b"null",
    "number": b"1e999",
    "deep": DEEP.encode(),
    "long number": b'{"run_name": "a", "metrics": {"a": ' + b"9" * 10_000 + b"}}",
    "no name": b'{"metrics": {}}',
    "name is null": b'{"run_name": null}',
    "name is a list": b'{"run_name": ["a"]}',
    "metrics are a list": b'{"run_name": "a", "metrics": [1]}',
    "metrics are text": b'{"run_name": "a", "metrics": "good"}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_told_of_and_left_out(outputs, content):
    write_run(outputs, "good")
    (write_run(outputs, "bad") / "record.json").write_bytes(content)
    table, problems = report.read_runs([outputs / "runs"])
    assert table["run"].tolist() == ["good"]
    assert len(problems) == 1 and "record.json left out: it" in problems[0]
    page = index()
    assert "<h2>Left out</h2>" in page and "bad" in page.split("Left out")[1]


@pytest.mark.parametrize("content", [b"[]", b'{"a": ', b"\xff"])
def test_a_damaged_configuration_is_told_of(outputs, content):
    (write_run(outputs, "bad") / "config.json").write_bytes(content)
    table, [problem] = report.read_runs([outputs / "runs"])
    assert table.empty and "config.json" in problem


ODD_VALUES = {
    "created": 5,
    "seconds": "long",
    "epochs": {"a": [1]},
    "seed": None,
    "dataset": ["a", "b"],
    "parameters": 10**60,
    "phase": True,
}


@pytest.mark.parametrize("key", ODD_VALUES)
def test_values_of_other_types_are_shown_as_they_are(outputs, key):
    write_run(outputs, "good")
    write_run(outputs, "odd", **{key: ODD_VALUES[key]})
    table, problems = report.read_runs([outputs / "runs"])
    assert sorted(table["run"]) == ["good", "odd"] and not problems
    for sort in ("created", key.replace("seconds", "minutes"), "-accuracy"):
        report.to_text(report.select(table, {}, sort))
    assert "good" in report.to_markdown(report.average(table)) and "odd" in index()


def test_metrics_of_any_form_are_cells(outputs):
    metrics = {
        "a": None,
        "b": {"c": [1, {"d": 2}]},
        "e": "text",
        "f": math.nan,
        "run": 0.5,
        "settings": 1,
        "folder": 2,
        "FOLDER": 3,
        "x\ud800\n": 0.25,
    }
    write_run(outputs, "odd", metrics=metrics)
    write_run(outputs, "none", metrics=None)
    table, problems = report.read_runs([outputs / "runs"])
    assert sorted(table["run"]) == ["none", "odd"] and not problems
    lines = [line.split(" | ") for line in report.to_markdown(table).splitlines()]
    cells = dict(zip(lines[0], next(line for line in lines if line[0] == "| odd"), strict=True))
    assert cells["b"] == '{"c": [1, {"d": 2}]}' and cells["e"] == "text"
    assert cells["metrics.run"] == "0.5" and cells["metrics.folder"] == "2"
    assert cells[r"x\\ud800\\n"] == "0.25"
    assert "none" in report.to_text(report.average(table)) and "odd" in index()


@pytest.mark.parametrize(
    "reward", [{"bleu_4": "half"}, {"bleu_4": None}, {}, [1], "mix", {"name": {"a": 1}}, 5]
)
def test_rewards_of_any_form_are_told(outputs, reward):
    write_run(outputs, "odd", {"reward": reward, "decoder": {"name": "rnn"}})
    table, problems = report.read_runs([outputs / "runs"])
    assert not problems and table["decoder"].tolist() == ["rnn"]
    report.to_text(table)


def test_what_is_no_file_is_told_of(outputs):
    write_run(outputs, "good")
    (outputs / "runs" / "folder" / "record.json").mkdir(parents=True)
    (outputs / "notebooks" / "phase1" / "a.json").mkdir(parents=True)
    if sys.platform != "win32":
        (outputs / "runs" / "loop").symlink_to(outputs / "runs")
        (outputs / "runs" / "self").mkdir()
        (outputs / "runs" / "self" / "record.json").symlink_to("record.json")
    table, problems = report.read_runs([outputs / "runs"])
    assert table["run"].tolist() == ["good"] and "folder" in problems[0]
    assert index().count(" left out: ") == len(problems) + 1


BAD_LESSONS = {
    "half": '{"phase": ',
    "list": "[]",
    "no failure": '{"phase": "a"}',
    "failure is text": json.dumps(LESSON | {"failure": "bad"}),
    "failure is a list": json.dumps(LESSON | {"failure": [1]}),
    "metrics are a list": json.dumps(LESSON | {"metrics": [1]}),
    "runs are none": json.dumps(LESSON | {"runs": None}),
    "deep": DEEP,
}


@pytest.mark.parametrize("content", BAD_LESSONS.values(), ids=BAD_LESSONS)
def test_a_damaged_lesson_is_told_of_and_left_out(outputs, content):
    write_lesson(outputs, "good")
    write_lesson(outputs, "bad").write_text(content)
    (outputs / "notebooks" / "phase1" / ".writing-1.json").write_text("{")
    page = index()
    assert "<td>phase1/good" in page and "<td>phase1/bad" not in page
    assert page.count(" left out: ") == 1 and "bad.json left out" in page


def test_a_folder_that_is_not_there_is_told(outputs):
    with pytest.raises(ConfigError, match="no folder .*nowhere"):
        report.read_runs([outputs / "nowhere"])
    (outputs / "file").write_text("")
    with pytest.raises(ConfigError, match="no folder"):
        report.read_runs([outputs / "file"])
    assert report.read_runs([outputs / "runs"])[0].empty  # that of all runs: nothing yet


# Choosing ---------------------------------------------------------------------------------------


def test_a_value_that_no_run_has_is_told_with_those_that_there_are(outputs):
    for seed in range(30):
        write_run(outputs, f"r{seed:02d}", seed=seed)
    write_run(outputs, "none", seed=None)
    table, _ = report.read_runs([outputs / "runs"])
    with pytest.raises(ConfigError, match=r"No run has dataset=cifr10. There are: cifar10\."):
        report.select(table, {"dataset": "cifr10"}, "run")
    with pytest.raises(ConfigError, match="and 11 more"):
        report.select(table, {"run": "x"}, "run")
    with pytest.raises(ConfigError, match="no column 'wings'. There are: run, phase"):
        report.select(table, {"wings": 1}, "run")
    # One run without makes a column of fractions of it.
    assert report.select(table, {"seed": 3}, "run")["run"].tolist() == ["r03"]
    assert report.select(table, {"seed": None}, "run")["run"].tolist() == ["none"]


def test_numbers_texts_and_nothing_have_an_order(outputs):
    for name, epochs in (("a", "many"), ("b", 10), ("c", None), ("d", 9), ("e", 9)):
        write_run(outputs, name, epochs=epochs)
    table, _ = report.read_runs([outputs / "runs"])
    assert report.select(table, {}, "epochs")["run"].tolist() == ["d", "e", "b", "a", "c"]
    assert report.select(table, {}, "-epochs")["run"].tolist() == ["a", "b", "d", "e", "c"]


def test_columns(outputs):
    write_run(outputs, "a")
    table, _ = report.read_runs([outputs / "runs"])
    assert list(report.keep(table, "run, seed,run,")) == ["run", "seed"]
    for nothing in ("", " , "):
        with pytest.raises(ConfigError, match="No column is named. There are: run"):
            report.keep(table, nothing)
    with pytest.raises(ConfigError, match="no column 'settings'"):
        report.keep(table, "settings")
    assert report.to_text(report.keep(table, "decoder")) == "Nothing yet."


# Text is text -----------------------------------------------------------------------------------


def test_html_of_any_text(outputs):
    metrics = {"AUC": "<b>", HOSTILE: 0.5, "A": HOSTILE}
    write_run(outputs, "x", dataset=HOSTILE, metrics=metrics)
    failure = {"cell": 1, "source": HOSTILE, "error": HOSTILE, "message": ""}
    write_lesson(outputs, "a", metrics=metrics, runs=[HOSTILE, "a#b?c%d e'\"f"], failure=failure)
    page = index()
    assert "<script" not in page and "<b>" not in page and not re.search("[\x1b\u202e\x00]", page)
    assert "&lt;b&gt;" in page and "<th>AUC</th>" in page
    assert 'href="runs/a%23b%3Fc%25d%20e%27%22f/"' in page
    assert 'href="runs/x/"' in page and 'class="failed"' in page


def test_links_lead_to_the_folder_whatever_the_record_says(outputs):
    write_run(outputs, "a #1", run_name="../../elsewhere")
    assert 'href="runs/a%20%231/"' in index()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_not_utf_8(outputs):
    folder = write_run(outputs, "plain")
    other = os.fsdecode(b"caf\xe9")
    folder.rename(folder.with_name(other))
    (write_run(outputs, "bad").rename(folder.with_name(other + "2")) / "record.json").write_text("")
    table, [problem] = report.read_runs([outputs / "runs"])
    assert table["run"].tolist() == ["plain"] and r"caf\udce92" in problem
    page = index()
    assert 'href="runs/caf%E9/"' in page and r"caf\udce92" in page


def test_titles_are_text():
    assert "<title>&lt;b&gt;</title>" in report.page("<b>") and "<h1>&lt;b&gt;" in report.page(
        "<b>"
    )


def test_markup_is_html_in_columns_of_any_name():
    cell = report.Markup('<a href="x">y</a>')
    html = report.to_html(pd.DataFrame({"name": [cell, "<b>"], "<i>": ["a", "b"]}))
    assert '<a href="x">y</a>' in html and "&lt;b&gt;" in html and "<th>&lt;i&gt;</th>" in html


def test_markdown_of_any_text():
    table = pd.DataFrame({"a|b": ["x|y", "\\|", "<b>&", "one\ntwo", "*a* `b` _c_ [d](e)"]})
    lines = report.to_markdown(table).splitlines()
    assert lines == [
        r"| a\|b |",
        "| --- |",
        r"| x\|y |",
        r"| \\\| |",
        "| &lt;b&gt;&amp; |",
        r"| one\\ntwo |",
        r"| \*a\* \`b\` \_c\_ [d\](e) |",
    ]
    assert "| fast_small [1, 2] |" in report.to_markdown(pd.DataFrame({"a": ["fast_small [1, 2]"]}))


def test_a_terminal_gets_no_commands():
    text = report.to_text(pd.DataFrame({"a\x1b[2J": ["x\x1b]0;y\x07", "z\u202e"]}))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert r"a\x1b[2J" in text and r"z\u202e" in text
