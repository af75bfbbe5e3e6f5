import json

import numpy as np
import pytest
from typer.testing import CliRunner

from common.course.cli import app
from common.course.evaluate import match_labels
from common.data.images import ImageData
from common.errors import DataError
from common.files import write_json


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
        images = np.zeros((4, 8, 8, 3), "uint8")
        images[0] = 120
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

    result = CliRunner().invoke(app, [*arguments, "--changes"])
    changed = json.loads(result.stdout.splitlines()[-1])["changes"]
    # 0.7 times 120 grey levels are no longer above 100: one answer of four turns wrong.
    darker, half = changed.pop("brightness x 0.7"), 1.96 * np.std([-1, 0, 0, 0]) / 2
    assert (darker["accuracy"], darker["gain"]) == (0.5, -0.25)
    assert (darker["low"], darker["high"]) == pytest.approx((-0.25 - half, -0.25 + half))
    assert len(changed) == 9 and {found["accuracy"] for found in changed.values()} == {0.75}
    assert "brightness x 0.7      50.00%  -25.0 points (-67.4 to +17.4)" in result.stdout
