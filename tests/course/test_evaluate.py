import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from common.course.cli import app
from common.course.evaluate import match_labels
from common.data.images import ImageData
from common.errors import DataError
from common.files import read_json, write_json
from common.models.resnet import ResNetConfig, resnet
from common.training import released
from common.training.runs import Run


def test_labels_follow_the_networks_order():
    labels = match_labels(np.array([0, 1, 2, 0]), ["a", "b", "c"], ["c", "a", "b"])
    assert labels.tolist() == [1, 2, 0, 1]


def test_other_classes_are_refused_by_name():
    with pytest.raises(DataError, match="Missing: dog; unknown: wolf"):
        match_labels(np.array([0]), ["cat", "wolf"], ["cat", "dog"])


class Brightness:
    """A network that tells the second class for images with a mean above 100."""

    name = "brightness"
    compiled = True

    def predict_on_batch(self, images):
        bright = images.mean(axis=(1, 2, 3)) > 100
        return np.eye(2, dtype="float32")[bright.astype(int)]


def test_last_line_is_json(monkeypatch, tmp_path):
    asked = {}

    def load_images(dataset, split):
        asked.update(dataset=dataset, split=split)
        images = np.zeros((4, 4, 4, 3), "uint8")
        images[0] = 200
        labels = np.array([0, 1, 1, 0], "int32")
        return ImageData(
            images=images, labels=labels, classes=("bright", "dark"), name="four", split="test"
        )

    def load_model(run):
        asked.update(run=run)
        return Brightness(), {"classes": ["dark", "bright"]}  # in another order than the data

    monkeypatch.setattr("common.data.load_images", load_images)
    monkeypatch.setattr("common.training.released.load_model", load_model)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    write_json(tmp_path / "outputs" / "runs" / "r" / "record.json", {})
    for name in ("bright", "dark"):
        write_json(tmp_path / "test" / name / "0.json", {})
    arguments = ["evaluate", "phase1", "--data", str(tmp_path), "--batch-size", "3", "--run", "r"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "n": 4,
        "accuracy": 0.75,
        "accuracy_tta": 0.75,
    }
    assert asked == {"dataset": f"folder:{tmp_path}", "split": "test", "run": "r"}


@pytest.fixture
def finished_run(monkeypatch, tmp_path):
    """A finished run of an untrained network, in a repository of the test's own."""
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    network = ResNetConfig(blocks=(1,), widths=(8,))
    classes = [f"class{i}" for i in range(10)]
    config = {"phase": "phase1_cifar", "dataset": "synthetic", "data": {}}
    config |= {"network": network.to_dict(), "classes": classes}
    run = Run("first", config)
    keras.utils.set_random_seed(0)
    run.save_model(resnet(network))
    run.save_record(metrics={"test_accuracy": 1.0, "val_accuracy": 0.5})
    return run


def test_release_writes_the_figures_of_the_written_file(finished_run, monkeypatch, tmp_path):
    test = ImageData(
        images=np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
        labels=np.arange(20, dtype="int32") % 10,
        classes=tuple(finished_run.config["classes"]),
        name="noise",
        split="test",
    )
    monkeypatch.setattr("common.data.load_images", lambda dataset, split: test)
    result = CliRunner().invoke(app, ["release", "phase1", "--run", "first"])
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "phase1_cifar" / "weights" / "record.json")
    model, _ = released.load_model()
    right = model.predict_on_batch(test.images).argmax(axis=1) == test.labels
    assert record["metrics"]["test_accuracy"] == pytest.approx(right.mean())
    assert record["metrics"]["test_accuracy"] < 1  # not the figure of the run
    assert record["metrics"]["val_accuracy"] == 0.5
    assert record["data"]["n_test"] == 20


def test_an_unfinished_run_is_not_released(finished_run, tmp_path):
    (finished_run.folder / "record.json").unlink()
    result = CliRunner().invoke(app, ["release", "phase1", "--run", "first"])
    assert result.exit_code == 2
    assert "has not finished" in result.output
    assert not (tmp_path / "phase1_cifar").exists()


def test_a_run_is_released_for_its_own_phase(finished_run, tmp_path):
    result = CliRunner().invoke(app, ["release", "phase2", "--run", "first"])
    assert result.exit_code == 2
    assert "'first' is one of phase1_cifar, not of phase2_histopathology" in result.stderr
    assert not (tmp_path / "phase2_histopathology").exists()


def test_phase_2_is_released_with_the_figures_of_its_run(monkeypatch, tmp_path):
    """Those of the patients left out: nobody is left to score the weights themselves on."""
    monkeypatch.setattr("common.paths.repository_root", lambda: tmp_path)
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    network, classes = ResNetConfig(blocks=(1,), widths=(8,)), ["benign", "malignant"]
    phase = "phase2_histopathology"
    run = Run("tissue", {"phase": phase, "network": network.to_dict(), "classes": classes})
    model = resnet(network, 2)
    run.save_model(model)
    run.save_record(metrics={"left_out_f1": 0.75}, threshold=0.4, tta="symmetries")
    result = CliRunner().invoke(app, ["release", "phase2", "--run", "tissue"])
    assert result.exit_code == 0, result.output
    loaded, record = released.load_model(phase=phase)
    assert (record["metrics"], record["threshold"]) == ({"left_out_f1": 0.75}, 0.4)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
