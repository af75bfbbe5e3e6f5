"""Tables of runs from files that anybody may have written."""

import json
import math
import sys

import pandas as pd
import pytest
import small_course

from common.course import overview, report, tables
from common.course.words import in_words
from common.errors import ConfigError

RECORD = small_course.RECORD | {"phase": "phase1", "metrics": {"accuracy": 0.5}}


def write_run(outputs, name, config=None, **changes):
    folder = outputs / "runs" / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(RECORD | {"run_name": name} | changes))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def index():
    return overview.write_index().read_text(encoding="utf-8")


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
        tables.to_text(report.select(table, {}, sort))
    assert "good" in tables.to_markdown(report.average(table)) and "odd" in index()


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
    lines = [line.split(" | ") for line in tables.to_markdown(table).splitlines()]
    cells = dict(zip(lines[0], next(line for line in lines if line[0] == "| odd"), strict=True))
    assert cells["b"] == '{"c": [1, {"d": 2}]}' and cells["e"] == "text"
    assert cells["metrics.run"] == "0.5" and cells["metrics.folder"] == "2"
    assert cells[r"x\\ud800\\n"] == "0.25"
    assert "none" in tables.to_text(report.average(table)) and "odd" in index()


@pytest.mark.parametrize(
    "reward", [{"bleu_4": "half"}, {"bleu_4": None}, {}, [1], "mix", {"name": {"a": 1}}, 5]
)
def test_rewards_of_any_form_are_told(outputs, reward):
    write_run(outputs, "odd", {"reward": reward, "decoder": {"name": "rnn"}})
    table, problems = report.read_runs([outputs / "runs"])
    assert not problems and table["decoder"].tolist() == ["rnn"]
    tables.to_text(table)


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
    with pytest.raises(ConfigError, match=r"No run has dataset=cifr10. .*There are: cifar10\."):
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
    assert tables.to_text(report.keep(table, "decoder")) == "Nothing yet."


# Text is text -----------------------------------------------------------------------------------


def test_markdown_of_any_text():
    table = pd.DataFrame({"a|b": ["x|y", "\\|", "<b>&", "one\ntwo", "*a* `b` _c_ [d](e)"]})
    lines = tables.to_markdown(table).splitlines()
    assert lines == [
        r"| a\|b |",
        "| --- |",
        r"| x\|y |",
        r"| \\\| |",
        "| &lt;b&gt;&amp; |",
        r"| one\\ntwo |",
        r"| \*a\* \`b\` \_c\_ [d\](e) |",
    ]
    assert "| fast_small [1, 2] |" in tables.to_markdown(pd.DataFrame({"a": ["fast_small [1, 2]"]}))


def test_a_terminal_gets_no_commands():
    text = tables.to_text(pd.DataFrame({"a\x1b[2J": ["x\x1b]0;y\x07", "z\u202e"]}))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert r"a\x1b[2J" in text and r"z\u202e" in text


# In a terminal ----------------------------------------------------------------------------------

PHASE2 = {f"test_{name}{end}": 0.5 for name in ("f1", "recall") for end in ("", "_low", "_high")}


def test_a_terminal_shows_what_each_phase_is_judged_by(outputs):
    long = "own-" + "x" * 150 + "-end"
    write_run(outputs, "a", phase="phase1_cifar", metrics={"n": 1, "test_accuracy": 0.25})
    write_run(outputs, "b", phase="phase2_histopathology", metrics=PHASE2, seed=1)
    write_run(outputs, long, phase="phase2_histopathology", metrics={"test_f1": 0.75})
    captions = {
        "test_bleu_4": 20.5,
        "val_bleu_4": 21,
        "test_cider_d": 60,
        "test_true_captions": 0.5,
    }
    write_run(outputs, "c", phase="phase3_captioning", metrics=captions | {"longest": 5})
    write_run(outputs, "d", phase=None)
    text = tables.to_narrow_text(report.read_runs([outputs / "runs"])[0])
    assert max(map(len, text.splitlines())) <= 100
    parts = text.split("\n\n")
    assert [part.split("\n")[0] for part in parts] == [
        "phase1_cifar",
        "phase2_histopathology",
        "phase3_captioning",
        "other",
    ]
    assert "25.00 %" in parts[0] and "f1" not in parts[0]
    assert "75.00 %" in parts[1] and "low" not in parts[1] and "...xxx" in parts[1]
    assert parts[1].splitlines()[-1].split()[0].endswith("-end")
    assert "50.00 %" in parts[2] and "longest" not in parts[2]


@pytest.mark.parametrize("metrics", [5, 12, 40])
def test_many_metrics_with_long_names_fit(outputs, metrics):
    named = {f"a_metric_with_quite_a_long_name_{i}": i / 7 for i in range(metrics)}
    for seed in range(3):
        write_run(outputs, f"run{seed}", phase="own", seed=seed, metrics=named)
    table = report.read_runs([outputs / "runs"])[0]
    for shown in (table, report.average(table)):
        for width in (60, 80, 100):
            text = tables.to_narrow_text(shown, width)
            assert max(map(len, text.splitlines())) <= width and "run0" in text and "0.1429" in text


def test_a_report_fits_into_the_terminal(outputs, monkeypatch):
    write_run(outputs, "r" * 90, metrics={"accuracy": 0.5})
    table = report.read_runs([outputs / "runs"])[0]
    for columns, width in (("80", 80), ("300", 100), ("20", 60)):
        monkeypatch.setenv("COLUMNS", columns)
        assert max(map(len, tables.to_narrow_text(table).splitlines())) <= width


def test_a_metric_named_n_is_not_the_number_of_runs(outputs):
    for seed in range(2):
        write_run(outputs, f"r{seed}", seed=seed, metrics={"n": 500, "accuracy": 0.5})
    assert report.average(report.read_runs([outputs / "runs"])[0])["n"].tolist() == [2]


def test_numbers_that_do_not_vary_have_no_deviation(outputs):
    for seed in range(2):
        write_run(outputs, f"r{seed}", seed=seed)
    row = report.average(report.read_runs([outputs / "runs"])[0]).iloc[0]
    assert report.mean_and_deviation("parameters", pd.Series([7, 7])) == "7"
    assert row["accuracy"] == "50.00 % ± 0"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_bleu_4", "test BLEU-4"),
        ("val_f1", "validation F1"),
        ("test_accuracy_tta", "test accuracy with TTA"),
        ("test_cider_d", "test CIDEr-D"),
        ("pieces", "pieces"),
        ("value", "value"),
        ("test_ece", "test ECE"),
    ],
)
def test_names_in_words(name, words):
    assert in_words(name) == words
