"""Pages of what was made: read by people, in a browser, whatever the files hold."""

import json
import os
import re
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
import small_course

from common.course import charts, overview, pages, sweep, tables
from common.course.runner import Result, summary
from common.errors import CourseError

METRICS = {"test_accuracy": 0.5, "test_accuracy_low": 0.4, "test_accuracy_high": 0.6}
RECORD = small_course.RECORD | {"metrics": METRICS}
LESSON = {
    "phase": "phase1_cifar",
    "lesson": "01_eda",
    "parameters": {},
    "seconds": 150,
    "failure": None,
    "runs": ["good"],
    "metrics": {"test_loss": 1, "test_accuracy": 0.5},
}
# Text that means something to HTML, to Markdown or to a terminal.
HOSTILE = "<script>alert(1)</script>|\\|&amp;\n`a` *b* _c_ [d](javascript:e)\x1b[31m\u202e\udce9"


def write_run(outputs, name, config=None, history=None, **changes):
    folder = outputs / "runs" / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(RECORD | {"run_name": name} | changes))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if history is not None:
        (folder / "history.csv").write_text(history)
    return folder


def write_lesson(outputs, name, heading=None, **changes):
    path = outputs / "notebooks" / "phase1_cifar" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(LESSON | {"lesson": name} | changes))
    if heading:
        cell = {"cell_type": "markdown", "source": ["Before\n", heading]}
        path.with_suffix(".ipynb").write_text(json.dumps({"cells": [cell]}))
    return path


def index():
    return overview.write_index().read_text(encoding="utf-8")


class Page(HTMLParser):
    """The cells of a page's tables, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.open = self.open or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "br" and self.open:
            self.rows[-1][-1] += " "
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.rows[-1][-1] += data


# The index --------------------------------------------------------------------------------------


def test_lessons_by_title_with_state_time_and_headline(outputs):
    failure = {"cell": 4, "source": "fit(x)", "error": "ValueError", "message": "no such layer"}
    lesson = write_lesson(
        outputs, "03_training", "# Training: *how* far? #", parameters={"dataset": "cifar10"}
    )
    lesson.with_suffix(".html").write_text("")
    write_lesson(outputs, "04_evaluation", failure=failure, runs=[], metrics={}, seconds=7300)
    write_run(outputs, "good")
    text = index()
    rows = Page(text).rows
    assert rows[1][:5] == [
        "3. Training: how far? cifar10",
        "ok",
        "2 min",
        "test accuracy 50.00 %",
        "ipynb",
    ]
    failed = "failed in cell 4 (fit(x)): ValueError: no such layer"
    assert rows[2][:3] == ["4. 04 evaluation", failed, "2 h 2 min"]
    assert "<h3>Phase 1: CIFAR</h3>" in text and 'href="runs/good/index.html"' in text
    assert 'href="notebooks/phase1_cifar/03_training.html"' in text


def test_a_table_of_runs_for_each_phase_with_its_headlines(outputs):
    for i in range(2):
        write_run(outputs, f"a{i}", seed=i, metrics=RECORD["metrics"] | {"x": 1, "test_ece": 0.1})
    write_run(
        outputs, "b", phase="phase3_captioning", metrics={"test_bleu_4": 20.5, "y": 2, "z": 3}
    )
    text = index()
    rows = Page(text).rows
    assert rows[0] == ["run", "seed", "time", "test accuracy", "x", "test ECE", "made on"]
    assert rows[1][:4] == ["a1", "1", "2 min", "50.00 % 40.00 to 60.00"]
    assert rows[3][-5:] == ["time", "test BLEU-4", "y", "z", "made on"]
    assert "All: dataset cifar10, profile laptop, epochs 10, parameters 1,000." in text
    assert '<td class="number" data-sort="0.5">' in text and pages.SORT in text


def test_comparisons_and_sweeps_are_linked(outputs):
    for name in ("comparisons/a_and_b.html", "sweeps/s 1/table.html"):
        (outputs / name).parent.mkdir(parents=True)
        (outputs / name).write_text("")
    page = Page(index())
    assert page.links == ["comparisons/a_and_b.html", "sweeps/s%201/table.html"]


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b"\xff", b'{"cells": [{"cell_type": "markdown"}]}']
)
def test_a_notebook_without_a_title_has_its_name(outputs, content):
    write_lesson(outputs, "02_model").with_suffix(".ipynb").write_bytes(content)
    assert Page(index()).rows[1][0] == "2. 02 model"


BAD_LESSONS = {
    "half": '{"phase": ',
    "list": "[]",
    "no failure": '{"phase": "a"}',
    "failure is text": json.dumps(LESSON | {"failure": "bad"}),
    "failure is a list": json.dumps(LESSON | {"failure": [1]}),
    "metrics are a list": json.dumps(LESSON | {"metrics": [1]}),
    "runs are none": json.dumps(LESSON | {"runs": None}),
    "deep": '{"phase": "a", "metrics": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
}


@pytest.mark.parametrize("content", BAD_LESSONS.values(), ids=BAD_LESSONS)
def test_a_damaged_lesson_is_told_of_and_left_out(outputs, content):
    write_lesson(outputs, "01_good")
    write_lesson(outputs, "02_bad").write_text(content)
    (outputs / "notebooks" / "phase1_cifar" / ".writing-1.json").write_text("{")
    page = index()
    assert "1. 01 good" in page and "2. 02 bad" not in page
    assert page.count(" left out: ") == 1 and "bad.json left out" in page


def test_the_summary_of_a_run_fits_a_terminal():
    phases = ("phase1_cifar", "phase2_histopathology", "phase3_captioning")
    metrics = {"test_accuracy": 0.5, "test_f1": 0.25, "test_f1_low": 0.2, "test_bleu_4": 20.5}
    results = [Result(phase, "03_x", {}, 5.0, metrics=metrics) for phase in phases]
    text = tables.to_text(summary([*results, Result("phase1_cifar", "01_eda", {}, 1.0)]))
    assert max(map(len, text.splitlines())) <= 100
    for told in ("test accuracy 50.00 %", "test F1 25.00 %", "test BLEU-4 20.5"):
        assert told in text


# Runs -------------------------------------------------------------------------------------------

HISTORY = (
    "epoch,loss,val_loss,accuracy,val_accuracy,seconds\n1,2,3,0.25,0.125,9\n2,1,2,0.5,0.375,9\n"
)


def test_the_page_of_a_run(outputs):
    samples = [{"image": "a.jpg", "caption": "a <b> dog"}]
    test = {"greedy": {"bleu_4": 20.25}}
    config = {"recipe": {"epochs": 2, "momentum": 0.9}}
    folder = write_run(outputs, "s/a", config, HISTORY, samples=samples, test=test)
    (folder / "maps 1.png").write_bytes(b"")
    (folder / ".lock").write_text("")
    (folder / "inner").mkdir()
    (folder / "inner" / "record.json").write_text("{}")
    index()
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    rows = [row[:3] for row in page.rows]
    assert ["test accuracy", "50.00 %", "40.00 % to 60.00 %"] in rows
    assert ["greedy: BLEU-4", "20.25"] in rows and ["recipe.momentum", "0.9"] in rows
    assert ["a.jpg", "a <b> dog"] in rows and len([r for r in rows if "accuracy" in r[0]]) == 1
    assert text.count("<svg") == 2 and "accuracy (%)" in text and ">validation</span>" in text
    assert page.links[:2] == ["../../../index.html", "maps%201.png"] and ".lock" not in text


def test_pages_are_written_anew_only_if_they_change(outputs):
    folder = write_run(outputs, "a")
    index()
    before = (folder / "index.html").stat().st_mtime_ns
    index()
    assert (folder / "index.html").stat().st_mtime_ns == before
    (folder / "history.csv").write_text(HISTORY)
    index()
    assert "<svg" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_run_that_cannot_be_written_to_is_linked_as_a_folder(outputs, monkeypatch):
    write = overview.write_text

    def refuse(path, text):
        if "runs" in path.parts:
            raise CourseError("read-only")
        write(path, text)

    monkeypatch.setattr(overview, "write_text", refuse)
    write_run(outputs, "a")
    assert 'href="runs/a/"' in index()


@pytest.mark.parametrize(
    "changes", [{"hardware": 5}, {"samples": 5}, {"test": [1]}, {"run_name": 5}, {"versions": [1]}]
)
def test_odd_records_have_a_page_or_none(outputs, changes):
    write_run(outputs, "a", **changes)
    assert re.search('href="runs/a/(index.html)?"', index())


# Text is text -----------------------------------------------------------------------------------


def test_html_of_any_text(outputs):
    metrics = {"AUC": "<b>", HOSTILE: 0.5, "A": HOSTILE}
    folder = write_run(outputs, "x", {HOSTILE: HOSTILE}, dataset=HOSTILE, metrics=metrics)
    failure = {"cell": 1, "source": HOSTILE, "error": HOSTILE, "message": HOSTILE}
    names = [HOSTILE, "a#b?c%d e'\"f"]
    write_run(outputs, names[1])
    write_lesson(outputs, "01_a", f"# {HOSTILE}", metrics=metrics, runs=names, failure=failure)
    page = index()
    for text in (page, (folder / "index.html").read_text(encoding="utf-8")):
        text = text.replace(f"<script>{pages.SORT}</script>", "")
        assert "<script" not in text and "<b>" not in text and "&lt;b&gt;" in text
        assert not re.search("[\x1b\u202e\x00]", text)
    assert 'href="runs/a%23b%3Fc%25d%20e%27%22f/index.html"' in page
    assert "AUC</th>" in page and 'class="failed"' in page


def test_the_ends_of_an_interval_are_text(outputs):
    folder = write_run(outputs, "a", metrics={"f1": 0.5, "f1_low": "<b>", "f1_high": "<i>"})
    index()
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt; to &lt;i&gt;" in text and "<b>" not in text


def test_links_lead_to_the_folder_whatever_the_record_says(outputs):
    write_run(outputs, "a #1", run_name="../../elsewhere")
    assert 'href="runs/a%20%231/index.html"' in index()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_not_utf_8(outputs):
    folder = write_run(outputs, "plain")
    other = os.fsdecode(b"caf\xe9")
    folder.rename(folder.with_name(other))
    bad = write_run(outputs, "bad").rename(folder.with_name(other + "2")) / "record.json"
    bad.write_text("")
    page = index()
    assert 'href="runs/caf%E9/index.html"' in page and r"caf\udce92" in page


def test_titles_are_text():
    page = pages.page("<b>")
    assert "<title>&lt;b&gt;</title>" in page and "<h1>&lt;b&gt;" in page


def test_tables_of_any_text():
    html = tables.to_html(pd.DataFrame({"name": ["x", "<b>"], "<i>": [1, 2]}))
    assert "&lt;b&gt;" in html and "&lt;i&gt;</th>" in html and 'data-sort="2.0"' in html


# Charts -----------------------------------------------------------------------------------------


def test_a_single_point_is_a_marker_and_what_is_no_number_is_left_out():
    nan, infinite = float("nan"), float("inf")
    chart = charts.line_chart("t", {"a": ([1], [0.5]), "b": ([1, 2, 3], [nan, infinite, 1e-9])})
    assert chart.count("<circle") == 2 and chart.count("<polyline") == 2
    assert charts.line_chart("t", {"a": ([1, 2], [nan, nan])}) == ""
    assert charts.line_chart("t", {}) == ""
    many = charts.line_chart("t", {"a": (range(100), range(100))})
    assert "<circle" not in many and "nan" not in chart + many


@pytest.mark.parametrize(
    "values",
    [
        *((0, 0), (5, 5), (-3, -3), (1e-12, 2e-12), (-1e200, 1e200), (0, 5e-324), (1, 1 + 3e-16)),
        *((5e-324, 5e-324), (-1e299, 1e299), (1e16, 1e16 + 2), (0.3, 0.7), (99.99, 100)),
    ],
)
def test_axes_of_any_values(values):
    chart = charts.line_chart("t", {"a": ([1, 2], values)})
    places = [float(y) for y in re.findall(r'cy="([^"]+)"', chart)]
    assert len(places) == 2 and all(0 <= y <= 230 for y in places)


# Sweeps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "best"), [("val_accuracy", "3"), ("val_loss", "2")])
def test_a_sweep_has_a_chart_with_the_best_marked(outputs, metric, best):
    rows = [
        {"stages": s, "seed": 0, "state": "ok", "parameters": 5, metric: s / 10, "error": None}
        for s in (2, 3)
    ]
    rows.append({"stages": 4, "seed": 0, "state": "failed", "error": "ValueError: <b>"})
    folder = outputs / "sweeps" / "s"
    sweep.write_table(pd.DataFrame(rows), folder, ["stages"])
    result = {"parameters": {"stages": 3, "seed": 0, "run_name": "s/stages=3-seed=0"}}
    (folder / "stages=3-seed=0.json").write_text(json.dumps(result))
    write_run(outputs, "s/stages=3-seed=0")
    sweep.write_table(pd.DataFrame(rows), folder, ["stages"])
    text = (folder / "table.html").read_text(encoding="utf-8")
    assert text.count("<circle") == 2 and f"<b>stages {best}</b>" in text
    assert re.search(rf'class="best"><td[^>]*>{best}<', text) and "&lt;b&gt;" in text
    assert 'href="../../runs/s/stages=3-seed=0/index.html"' in text
    if metric == "val_accuracy":
        assert "30.00 %" in text and "validation accuracy (%)" in text


def test_a_sweep_in_which_all_failed(outputs):
    rows = [{"stages": 4, "seed": 0, "state": "failed", "error": "ValueError: x"}]
    sweep.write_table(pd.DataFrame(rows), outputs / "sweeps" / "s", ["stages"])
    text = (outputs / "sweeps" / "s" / "table.html").read_text(encoding="utf-8")
    assert "ValueError" in text and "<svg" not in text
