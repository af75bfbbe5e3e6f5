import json

import keras
import numpy as np
import pytest
from small import small_data, small_network

from common.errors import ConfigError, CourseError, DataError
from common.training.run_folders import run_folder
from common.training.runs import Run, check_files, read_model, read_record


def test_a_run_leaves_config_record_and_model(tmp_path):
    run = Run("a/b=1", {"seed": 0, "stages": (1, 2)}, tmp_path)
    assert not run.finished
    network = small_network()
    run.save_model(network)
    record = run.save_record(metrics={"accuracy": np.float32(0.5)}, seconds=1.5)
    assert run.finished and run.record == record
    assert record["stages"] == [1, 2] and record["metrics"]["accuracy"] == 0.5
    assert {"versions", "git_revision", "hardware", "created"} <= set(record)
    images = small_data(4).images
    np.testing.assert_allclose(
        read_model(run.folder / "model.keras").predict(images, verbose=0),
        network.predict(images, verbose=0),
        atol=1e-6,
    )


def test_same_configuration_goes_on_another_is_refused(tmp_path):
    Run("x", {"seed": 0, "lr": 0.1}, tmp_path)
    Run("x", {"seed": 0, "lr": 0.1}, tmp_path)
    with pytest.raises(ConfigError, match="differs in: lr"):
        Run("x", {"seed": 0, "lr": 0.2}, tmp_path)


@pytest.mark.parametrize(
    "name", ["", "../up", "a b", "/absolute", "a//b", ".", "a/..", ".hidden", "x" * 300]
)
def test_bad_names_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="run_name"):
        Run(name, {}, tmp_path)


def test_a_full_disk_leaves_the_old_record(tmp_path, monkeypatch):
    run = Run("full", {"seed": 0}, tmp_path)
    before = run.save_record(metrics={"accuracy": 0.25})

    def no_space(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(CourseError, match=r"record\.json: No space left on device.*untouched"):
        run.save_record(metrics={"accuracy": 0.75})
    assert run.record == before
    assert {p.name for p in run.folder.iterdir()} == {".lock", "config.json", "record.json"}


def test_missing_or_damaged_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no model at .*model\.keras"):
        read_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"model\.keras"):
        read_model(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is not valid JSON"):
        Run(tmp_path.name, {}, tmp_path.parent)


def test_config_is_plain_json(tmp_path):
    run = Run("plain", {"path": tmp_path, "n": np.int64(3)}, tmp_path)
    assert json.loads((run.folder / "config.json").read_text())["n"] == 3
    assert keras.__version__ == run.save_record()["versions"]["keras"]


def test_a_name_of_digits_is_a_name(tmp_path):
    assert Run(2024, {}, tmp_path).folder == tmp_path / "2024"


def test_another_machine_and_another_place_go_on_with_a_run(tmp_path):
    here = {"device": {"precision": "mixed_bfloat16"}, "source": "/home/a/pets", "seed": 0}
    there = {"device": {"precision": "float32"}, "source": "D:/pets", "seed": 0}
    backbones = [
        {"backbone": {"name": "tiny", "weights": weights, "hash": "ab"}} for weights in ("x", "y")
    ]
    Run("a", here | backbones[0], tmp_path)
    run = Run("a", there | backbones[1], tmp_path)
    assert run.save_record()["device"] == there["device"]
    assert "device" not in json.loads((run.folder / "config.json").read_text())
    with pytest.raises(ConfigError, match="differs in: backbone"):
        Run("a", {"seed": 0, "backbone": {"name": "tiny", "hash": "cd"}}, tmp_path)


def test_a_run_that_is_judged_elsewhere_keeps_where_it_was_trained(tmp_path, monkeypatch):
    here = {"device": {"precision": "mixed_bfloat16"}, "source": "/home/a/pets"}
    run = Run("a", here, tmp_path)
    first = run.save_record(metrics={"accuracy": 0.5})
    monkeypatch.setattr("common.training.backend.hardware", lambda: {"processor": "another"})
    there = {"device": {"precision": "float32"}, "source": "D:/pets"}
    record = Run("a", there, tmp_path).save_record(metrics={"accuracy": 0.75})
    assert record == first | {"metrics": {"accuracy": 0.75}, "source": "D:/pets"}


def test_labelled_runs_are_told_apart_by_what_they_are_made_of(tmp_path):
    first = Run.labelled("pets (2)-seed0", {"data": "a"}, tmp_path)
    assert first.name == "pets-2--seed0"
    second = Run.labelled("pets (2)-seed0", {"data": "b", "device": 1}, tmp_path)
    assert second.name.startswith("pets-2--seed0-") and second.folder != first.folder
    assert Run.labelled("pets (2)-seed0", {"data": "a"}, tmp_path).name == first.name
    assert Run.labelled("pets (2)-seed0", {"device": 2, "data": "b"}, tmp_path).name == second.name


def test_records_are_no_good_without_their_files(tmp_path):
    run = Run("tied", {}, tmp_path)
    run.save_model(small_network())
    record = run.save_record(metrics={})
    check_files(run.folder, record)
    path = run.folder / "model.keras"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:500] + b"x" + whole[501:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.keras is missing or damaged"):
            check_files(run.folder, record)
    path.unlink()
    with pytest.raises(DataError, match=r"model\.keras is missing"):
        check_files(run.folder, record)


def test_a_model_damaged_anywhere_is_one_error(tmp_path):
    path = Run("a", {}, tmp_path).save_model(small_network())
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    told = 0
    for place in rng.integers(0, len(whole), 40):
        damaged = whole.copy()
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read_model(path)  # right where nothing reads the byte
        except DataError as error:
            told += "model.keras" in str(error)
    assert told > 20


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x89PNG\n\x00\x01", "\udcff"])
def test_a_damaged_history_is_one_error(tmp_path, text):
    run = Run("a", {}, tmp_path)
    (run.folder / "history.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"history\.csv"):
        print(run.history)


@pytest.mark.parametrize("text", ["[]", "{", '{"metrics": []}', '{"run_name": 3}', "[" * 100_000])
def test_an_odd_record_is_one_error(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(DataError, match=r"record\.json"):
        read_record(tmp_path)


def test_what_is_no_number_becomes_null(tmp_path):
    run = Run("a", {}, tmp_path)
    run.save_record(metrics={"loss": float("nan"), "auc": np.float32("inf")})

    def refuse(name):
        raise AssertionError(name)

    text = (run.folder / "record.json").read_text()
    assert json.loads(text, parse_constant=refuse)["metrics"] == {"loss": None, "auc": None}


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "", " "])
def test_names_that_no_folder_can_have(name):
    with pytest.raises(ConfigError, match="There is no run"):
        run_folder(name)


def test_who_made_a_run_writes_it_down(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("COURSE_JOURNAL", str(tmp_path / "journal"))
    Run("a", {}).save_record()
    Run("b", {})
    Run("c", {}, tmp_path / "elsewhere").save_record()
    assert (tmp_path / "journal").read_text() == "a\n"
