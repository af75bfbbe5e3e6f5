"""Any two runs can be compared, whatever their files hold."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from common.course.compare import compare, write_comparison
from common.errors import ConfigError, DataError


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def write_run(folder, name, **content):
    folder.mkdir(parents=True)
    record = {"run_name": name, "parameters": 5, "metrics": {"accuracy": 0.5}} | content
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps({"seed": 0, "name": name}))
    (folder / "history.csv").write_text("epoch,loss\n1,2\n2,1\n")
    return folder


@pytest.fixture
def two(outputs):
    return [write_run(outputs / "runs" / name, name) for name in ("a", "b")]


def test_the_same_run_by_name_and_by_path(two):
    with pytest.raises(ConfigError, match="Both runs are .*Name two different ones"):
        compare("a", two[0])
    with pytest.raises(ConfigError, match="two different ones"):
        compare("a", "a")


def test_two_folders_of_one_name_are_told_apart(outputs, tmp_path):
    write_run(outputs / "runs" / "x", "same")
    elsewhere = write_run(tmp_path / "elsewhere", "same", metrics={"accuracy": 0.7})
    tables, page = write_comparison("x", elsewhere)
    scores = tables["scores"].set_index("score")
    assert list(scores) == ["x", str(elsewhere), "difference"]
    assert scores.loc["metrics.accuracy", "difference"] == pytest.approx(0.2)
    assert page.parent == outputs / "comparisons" and page.exists()


@pytest.mark.parametrize("name", ["difference", "score", "setting", "image"])
def test_runs_named_as_columns_of_the_tables(outputs, name):
    write_run(outputs / "runs" / "x", name, samples=[{"image": "i", "caption": "c"}])
    write_run(outputs / "runs" / "y", "y", samples=[{"image": "i", "caption": "d"}])
    tables, _ = write_comparison("x", "y")
    assert f"run {name}" in tables["scores"] and len(tables["samples"]) == 1


@pytest.mark.parametrize("name", [None, "", 5, ["a"]])
def test_a_record_without_a_name_has_that_of_its_folder(outputs, two, name):
    write_run(outputs / "runs" / "c", name)
    assert {"c", "5", "['a']"} & set(compare("a", "c")["scores"])


SAMPLES = {
    "none": None,
    "text": "good",
    "texts": ["a"],
    "lists": [["a.jpg", "a dog"]],
    "other keys": [{"file": "a.jpg"}],
    "object": {"a.jpg": "a dog"},
    "twice": [{"image": "a.jpg", "caption": "x"}, {"image": "a.jpg", "caption": "a dog"}],
    "no text": [{"image": "a.jpg", "caption": ["a", "dog"]}],
}


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)
def test_samples_of_any_form(outputs, samples):
    write_run(outputs / "runs" / "a", "a", samples=samples)
    write_run(outputs / "runs" / "b", "b", samples=[{"image": "a.jpg", "caption": "a cat"}])
    tables, _ = write_comparison("a", "b")
    assert len(tables["samples"]) == (samples in (SAMPLES["twice"], SAMPLES["no text"]))


@pytest.mark.parametrize(
    "metrics", [None, [], "good", {"a": "b"}, {"a": {"b": None}}, {"a": 1e999}]
)
def test_metrics_of_any_form(outputs, two, metrics):
    write_run(outputs / "runs" / "c", "c", metrics=metrics, test=[1], parameters=10**400 // 3)
    tables, _ = write_comparison("a", "c")
    assert "metrics.accuracy" in tables["scores"]["score"].tolist()


def test_without_configurations_and_curves(two):
    for folder in two:
        (folder / "config.json").unlink()
        (folder / "history.csv").unlink()
    tables, page = write_comparison(*two)
    assert tables["settings"].empty and "Curves" not in page.read_text()
    assert not page.with_suffix("").exists()


@pytest.mark.parametrize("file", ["record.json", "config.json"])
@pytest.mark.parametrize("content", ["[]", "{", '"a"'])
def test_a_damaged_file_is_named(two, file, content):
    (two[1] / file).write_text(content)
    with pytest.raises(DataError, match=file):
        compare("a", "b")


def test_deep_settings(two):
    deep = '{"a":' * 300 + "1" + "}" * 300
    (two[1] / "config.json").write_text(deep)
    tables, _ = write_comparison("a", "b")
    assert len(tables["settings"]["setting"].max()) < 100


HISTORIES = {
    "empty": b"",
    "binary": bytes(range(256)) * 9,
    "no epoch": b"loss\n1\n",
    "head only": b"epoch,loss\n",
    "text": b"epoch,loss\none,two\n",
    "no numbers": b"epoch,loss\n1,nan\n2,inf\n",
    "uneven": b"epoch,loss\n1,2,3\n4\n",
    "not UTF-8": b"epoch,caf\xe9\n1,2\n",
}


@pytest.mark.parametrize("content", HISTORIES.values(), ids=HISTORIES)
def test_damaged_curves_are_passed_over(two, content):
    for folder in two:
        (folder / "history.csv").write_bytes(content)
        assert write_comparison("a", "b")[1].exists()


COLUMNS = [
    "../../../x",
    "/etc/x",
    "CON",
    "nul",
    "Loss",
    "x" * 400,
    "a b",
    "$\\frac{$",
    "<b>\"'",
    "é",
]


def test_columns_are_no_paths(outputs, two):
    columns = ["epoch", "loss", *COLUMNS]
    for folder in two:
        pd.DataFrame([range(12), range(12)], columns=columns).to_csv(
            folder / "history.csv", index=False
        )
    before = {path for path in outputs.parent.rglob("*") if path.is_file()}
    _, page = write_comparison("a", "b")
    assert {path for path in outputs.parent.rglob("*") if path.is_file()} - before == {page}
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 11
    assert '<b>"' not in html and "<figcaption>&lt;b&gt;&quot;&#x27;</figcaption>" in html


def test_a_run_of_one_epoch_is_a_point(two):
    (two[0] / "history.csv").write_text("epoch,accuracy\n1,0.5\n")
    (two[1] / "history.csv").write_text("epoch,accuracy\n1,0.25\n2,0.75\n")
    html = write_comparison("a", "b")[1].read_text()
    assert html.count("<circle") == 3 and "accuracy (%)" in html and ">80</text>" in html


def test_the_page_tells_shares_in_per_cent_and_intervals_beside_them(outputs, two):
    for name, low in (("c", 0.4), ("d", 0.625)):
        metrics = {"test_f1": low + 0.1, "test_f1_low": low, "test_f1_high": low + 0.2}
        write_run(outputs / "runs" / name, name, metrics=metrics)
    tables, page = write_comparison("c", "d")
    assert "metrics.test_f1_low" in tables["scores"]["score"].tolist()
    html = page.read_text()
    assert "50.00 % (40.00 to 60.00)" in html and "22.50 points" in html
    assert "test F1" in html and "test_f1" not in html


def test_no_network_library_is_needed():
    code = "import sys, common.course.compare; print({'keras', 'matplotlib'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.strip() == "set()", told.stderr


@pytest.mark.parametrize(
    "name", ["<script>x</script>", "../../../../x", "a#b?c d", "n" * 300, "a\x00\n\udce9", "CON"]
)
def test_names_are_no_paths_and_no_html(outputs, two, name):
    write_run(outputs / "runs" / "c", name, samples=[{"image": name, "caption": name}])
    tables, page = write_comparison("c", "b")
    assert page.parent == outputs / "comparisons" and len(os.fsencode(page.name)) < 255
    html = page.read_text(encoding="utf-8")
    assert "<script>x" not in html and "\x00" not in html
    assert "<svg" in html and 'href="../index.html"' in html


def test_long_names_that_begin_alike_have_pages_of_their_own(outputs, two):
    pages = set()
    for i in range(2):
        write_run(outputs / "runs" / f"c{i}", "n" * 200 + str(i))
        pages.add(write_comparison("a", f"c{i}")[1])
    assert len(pages) == 2
