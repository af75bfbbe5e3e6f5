"""What users type, and what commands read of what others wrote: parameters, records, parts."""

import json
import os
import re
import unicodedata
from functools import cache
from html.parser import HTMLParser
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from fuzzing import (
    changed_json,
    damages,
    folder,
    fuzz,
    json_values,
    objects,
    overwritings,
    plain_texts,
    texts,
    told,
    write_tree,
)
from hypothesis import assume
from hypothesis import strategies as st

from common.course import (
    compare,
    lessons,
    overview,
    pages,
    predict,
    report,
    run_page,
    sweep,
    tables,
)
from common.course.lessons import KINDS, Lesson, assign_parameters, parse_value
from common.course.names import figure_names
from common.course.parts import kept_parts, load_part, save_part

# --- parameters ---

wholes = st.integers(-(2**63) + 1, 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
parameters = st.recursive(
    st.none() | st.booleans() | wholes | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
typed = st.text("[](){}-+~.,:'\"\\0123eEjbrfu_#%=\n aTNF\0", max_size=40) | texts
typed |= st.builds(str.__mul__, st.sampled_from("[({-~'"), st.integers(1, 1100))


@fuzz(200, value=parameters)
def test_a_literal_is_its_value(value):
    text = repr(value)
    assume(len(text) <= 1000)
    found = parse_value(text)
    assert found == value and type(found) is type(value)


@fuzz(300, text=typed)
def test_any_text_is_a_value(text):
    value = parse_value(text)
    assert json.loads(json.dumps(value, allow_nan=False)) == value or isinstance(value, str)
    assert not isinstance(value, str) or value == text or text.strip()[0] in "'\"ruRU("


@fuzz(100, assignments=st.lists(typed | st.builds("{}={}".format, st.sampled_from("ab"), typed)))
def test_assignments_of_any_text(assignments):
    found = told(lessons.parse_assignments, assignments)
    grid = told(lessons.parse_grid, assignments)
    assert grid is None or grid.keys() == found.keys()
    for name, values in (grid or {}).items():
        assert all(values) and "".join(",".join(values).split()) == "".join(found[name].split())


CELL = """dataset = None  # "cifar10", or a folder
seed = 0
profile = None
epochs: int | None = None
rate = 0.1
quick = False
widths = [16, 32]
options: dict = {}
mode: Literal["a", "b"] = "a"
run_name = None
"""


def _lesson(root, cell):
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    about = {"id": "a", "metadata": {"tags": ["parameters"]}, "execution_count": None}
    notebook["cells"] = [about | {"cell_type": "code", "source": cell, "outputs": []}]
    root.mkdir(parents=True, exist_ok=True)
    (root / "03_training.ipynb").write_text(json.dumps(notebook))
    return Lesson(root / "03_training.ipynb")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    lesson = _lesson(tmp_path_factory.mktemp("course") / "phase1_cifar", CELL)
    with patch.object(lessons, "lesson_parameters", cache(lessons.lesson_parameters)):
        sweep.lesson_parameters = lessons.lesson_parameters
        yield lesson
    sweep.lesson_parameters = lessons.lesson_parameters


names = st.sampled_from(
    [line.partition("=")[0].partition(":")[0].strip() for line in CELL.split("\n")]
)


@fuzz(150, name=names, value=typed | parameters.map(repr) | parameters)
def test_parameters_of_any_value(lesson, name, value):
    given = told(assign_parameters, [lesson], {}, {name: value})
    if given is not None:
        found = given[lesson][name]
        kinds = lessons.lesson_parameters(lesson)[name].kinds
        assert found is None or not kinds or type(found) in kinds
        if isinstance(found, str) and isinstance(value, str):
            # No data set is the phase's own.
            default = name == "dataset" and parse_value(value) is None
            assert found in (value, parse_value(value)) or default


@fuzz(25, cell=typed | st.builds("{}: {} = {}".format, st.sampled_from("ab"), typed, typed))
def test_cells_of_parameters_of_any_text(cell):
    with folder() as root:
        found = told(lessons.lesson_parameters, _lesson(root / "phase1_a", cell))
        assert found is None or all({*p.kinds} <= {*KINDS} for p in found.values())


@fuzz(15, content=json_values, damage=damages)
def test_notebooks_of_any_form(content, damage):
    with folder() as root:
        lesson = _lesson(root / "phase1_a", CELL)
        lesson.path.write_bytes(damage(lesson.path.read_bytes()))
        told(lessons.lesson_parameters, lesson)
        lesson.path.write_text(json.dumps(content))
        told(lessons.lesson_parameters, lesson)


@fuzz(200, a=parameters, b=parameters | st.text("aAåÅ\u212b\uf900./-_", max_size=3))
def test_labels_of_a_sweep_tell_values_apart(a, b):
    def number(value):
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    assume(a != b or (number(a) != number(b)))
    assume(json.dumps(a) != json.dumps(b))
    labels = [sweep._label({"x": value, "seed": 0}) for value in (a, b)]
    assert len({unicodedata.normalize("NFC", label).casefold() for label in labels}) == 2
    for label in labels:
        assert re.fullmatch(r"[\w.=+-]+", label) and len(label.encode()) <= 200


@fuzz(20, grid=st.dictionaries(names, st.lists(typed, min_size=1, max_size=3), max_size=2))
def test_grids_of_any_values(lesson, grid):
    found = told(sweep.combinations, lesson, "own", grid, {}, [0, 1, 0])
    if found is not None:
        assert len({combination.label for combination in found}) == len(found)
        json.dumps([combination.parameters for combination in found])


# --- records ---

numbers = st.floats(0, 1) | st.integers(0, 9)
metrics = st.dictionaries(
    st.sampled_from(["val_accuracy", "f1", "f1_low", "f1_high"]) | texts, numbers
)
records = objects(
    run_name=texts,
    phase=st.just("phase1"),
    seed=st.integers(0, 2),
    metrics=metrics,
    test=metrics,
    seconds=numbers,
    epochs=numbers,
    created=st.just("2024-01-01T00:00:00+00:00") | texts,
    parameters=numbers,
    samples=st.lists(objects(image=texts, caption=texts), max_size=2),
)
configs = objects(
    seed=st.integers(0, 2), decoder=objects(name=texts), reward=metrics, recipe=json_values
)
runs = st.lists(st.tuples(records, st.none() | configs), max_size=3)


class _Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


TABLE = {"div", "table", "thead", "tbody", "tr", "th", "td", "p"}
PAGE = TABLE | {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "ul", "li", "a"}
PAGE |= {"span", "br", "small", "b", "code"}
PAGE |= {"figure", "figcaption", "svg", "line", "polyline", "circle", "text", "i"}


def _check_page(path):
    """Nothing in it but what the course writes, which is one script."""
    text = path.read_text("utf-8").replace(f"<script>{pages.SORT}</script>", "")
    assert _Tags(text).found <= PAGE


def _write_runs(root, runs):
    for i, (record, config) in enumerate(runs):
        content = {"record.json": json.dumps(record).encode()}
        if config is not None:
            content["config.json"] = json.dumps(config).encode()
        write_tree(root / f"run{i}", content)


def _check_tables(table):
    assert _Tags(tables.to_html(table)).found <= TABLE
    tables.to_text(table)
    lines = tables.to_narrow_text(table).split("\n") if "phase" in table else []
    assert all(len(line) <= tables.WIDTH for line in lines)
    lines = tables.to_markdown(table).split("\n") if len(table) else []
    assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}) <= 1
    assert not lines or len(lines) == len(table) + 2
    assert not re.search("<(?!br>)", "".join(lines))


@fuzz(40, runs=runs, value=texts | numbers)
def test_reports_of_any_records(runs, value):
    with folder() as root:
        _write_runs(root, runs)
        table, problems = report.read_runs([root])
        assert len(table) + len(problems) == len(runs)
        _check_tables(table)
        if table.empty:
            return
        _check_tables(report.average(table))
        for column in report._columns(table):
            assert len(report.select(table, {}, f"-{column}")) == len(table)
            told(report.select, table, {column: value}, column)
            found = told(report.select, table, {column: table[column].tolist()[0]}, column)
            assert found is None or len(found)
            told(report.keep, table, column)


@fuzz(25, runs=st.tuples(*[st.tuples(records, st.none() | configs)] * 2), history=damages)
def test_comparisons_of_any_records(runs, history):
    with folder() as root:
        _write_runs(root, runs)
        compared = told(compare.compare, root / "run0", root / "run1")
        for table in (compared or {}).values():
            assert _Tags(tables.to_html(table)).found <= TABLE
        (root / "run0/history.csv").write_bytes(history(b"epoch,loss,seconds\n1,0.5,2\n2,0.25,2\n"))
        "".join(run_page.curves(root / "run0"))


results = objects(
    phase=texts,
    lesson=texts,
    failure=st.none() | objects(cell=st.integers(), source=texts, error=texts, message=texts),
    seconds=numbers,
    runs=st.lists(texts, max_size=2),
    metrics=metrics,
)


@fuzz(30, results=st.lists(results, max_size=3), runs=runs)
def test_an_index_of_any_results(results, runs):
    with folder() as root, patch.dict(os.environ, COURSE_OUTPUTS=str(root)):
        for i, result in enumerate(results):
            path = root / "notebooks" / "phase1" / f"{i}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result))
        _write_runs(root, [])
        (root / "runs").mkdir()
        _write_runs(root / "runs", runs)
        _check_page(overview.write_index())
        for path in root.glob("runs/*/index.html"):
            _check_page(path)


point = {"stages": 2, "seed": 0}
RESULT = {
    "parameters": {"stages": 2},
    "backend": "tensorflow",
    "data": "x",
    "failure": None,
    "record": {"parameters": 10, "epochs": 1, "seconds": 2.5, "metrics": {"val_accuracy": 0.5}},
}


@fuzz(50, result=changed_json(RESULT) | json_values)
def test_results_of_a_sweep_of_any_form(result):
    made_of = {"backend": "tensorflow", "data": "x"}
    combination = sweep.Combination("stages=2-seed=0", point, {"stages": 2}, made_of)
    with folder() as root:
        (root / "stages=2-seed=0.json").write_text(json.dumps(result))
        found = told(sweep._finished, root, combination)
        if found is not None:
            rows = pd.DataFrame([sweep._row(combination, found)])
            sweep.write_table(rows, root, ["stages"])
            _check_page(root / "table.html")


# --- parts ---


PROBABILITY = np.linspace(0, 1, 40, dtype="float32")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = np.zeros(40, [(name, "i4") for name in ("patient", "x", "y", "label")])
    rows["x"] = np.arange(40) * 50
    patches = SimpleNamespace(rows=rows, patients=np.array(["p1"]))
    path = tmp_path_factory.mktemp("parts") / "table.parquet"
    predict.write_table(path, patches, PROBABILITY, [(0, 10), (10, 40)], "key")
    save_part(path.with_suffix(".npz"), probability=PROBABILITY)
    return path


@pytest.mark.parametrize("kind", [overwritings, damages], ids=["overwritten", "damaged"])
@fuzz(60, data=st.data())
def test_damaged_predictions(table, kind, data):
    part = table.with_suffix(".npz")
    with folder() as root:
        for file in (table, part):
            (root / file.name).write_bytes(data.draw(kind)(file.read_bytes()))
        found = predict.read_table(root / table.name, 40, "key", True)
        if found is not None:
            whole = pd.read_parquet(root / table.name)
            pd.testing.assert_frame_equal(whole, pd.read_parquet(table))
            np.testing.assert_array_equal(found, PROBABILITY)
        found = load_part(root / part.name, 40)
        assert found is None or (found["probability"] == PROBABILITY).all()


@fuzz(50, name=plain_texts | st.integers(1, 300).map("a".__mul__) | st.text("./~\0", max_size=3))
def test_parts_beside_outputs_of_any_name(name):
    def write():
        with kept_parts(path) as parts:
            (parts / f"{'0' * 24}.json").write_text("{}")
            (parts / "notes.txt").write_text("mine")
        return {*os.listdir(path.parent)}, parts

    with folder() as root:
        path = root / "out" / name
        assume(".." not in path.parts and path != root and path.is_absolute() and "/" not in name)
        done = told(write)
        assert done is None or (done[0] == {done[1].name} and os.listdir(done[1]) == ["notes.txt"])


@fuzz(80, paths=st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_figures_have_names_of_their_own(paths):
    from pathlib import Path

    clean = [[part.replace("/", "").replace("\0", "") or "a" for part in pair] for pair in paths]
    files = [Path("photos", *pair).with_suffix(".jpg") for pair in clean if ".." not in pair]
    files = [*dict.fromkeys(files)]
    found = figure_names(files)
    folded = {unicodedata.normalize("NFC", name).casefold() for name in found}
    assert len(folded) == len(found) == len(files)
    assert all(len(os.fsencode(name)) < 255 and "/" not in name for name in found)
