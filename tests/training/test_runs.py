import json

import keras
import numpy as np
import pytest
from small import small_data, small_network

from common.errors import ConfigError, CourseError, DataError
from common.training.runs import Run, find_records, read_model


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
        run.load_model().predict(images, verbose=0), network.predict(images, verbose=0), atol=1e-6
    )
    assert [r["run_name"] for r in find_records(tmp_path)] == ["a/b=1"]


def test_same_configuration_goes_on_another_is_refused(tmp_path):
    Run("x", {"seed": 0, "lr": 0.1}, tmp_path)
    Run("x", {"seed": 0, "lr": 0.1}, tmp_path)
    with pytest.raises(ConfigError, match="differs in: lr"):
        Run("x", {"seed": 0, "lr": 0.2}, tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a b", "/absolute", "a//b"])
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
    assert sorted(p.name for p in run.folder.iterdir()) == ["config.json", "record.json"]


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
