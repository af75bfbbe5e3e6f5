import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from common.course.cli import app
from common.course.evaluate import match_labels
from common.errors import DataError


def test_labels_follow_the_networks_order():
    labels = match_labels(np.array([0, 1, 2, 0]), ["a", "b", "c"], ["c", "a", "b"])
    assert labels.tolist() == [1, 2, 0, 1]


def test_other_classes_are_refused_by_name():
    with pytest.raises(DataError, match="Missing: dog; unknown: wolf"):
        match_labels(np.array([0]), ["cat", "wolf"], ["cat", "dog"])


def test_last_line_is_json(monkeypatch, tmp_path):
    asked = {}

    def load_images(dataset, split):
        asked.update(dataset=dataset, split=split)
        images = np.arange(4, dtype="uint8").reshape(4, 1, 1, 1)
        return SimpleNamespace(images=images, labels=np.array([0, 1, 1, 0]), classes=("a", "b"))

    def predict(model, images, batch_size, tta):
        asked.update(model=model, batch_size=batch_size)
        right = np.array([0, 1, 1, 0]) if tta else np.array([0, 1, 1, 1])
        return np.eye(2)[1 - right]  # the network has its classes the other way round

    def load_model(run):
        asked.update(run=run)
        return "network", {"classes": ["b", "a"]}

    monkeypatch.setattr("common.data.load_images", load_images, raising=False)
    monkeypatch.setattr("common.evaluation.classification.predict", predict)
    monkeypatch.setattr("common.training.released.load_model", load_model)
    arguments = ["evaluate", "phase1", "--data", str(tmp_path), "--batch-size", "3", "--run", "r"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "n": 4,
        "accuracy": 0.75,
        "accuracy_tta": 1.0,
    }
    assert asked == {
        "dataset": f"folder:{tmp_path}",
        "split": "test",
        "model": "network",
        "batch_size": 3,
        "run": "r",
    }
