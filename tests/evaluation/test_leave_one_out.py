from dataclasses import replace

import numpy as np
import pytest
from small import small_data

from common.errors import DataError
from common.evaluation import leave_one_out
from common.evaluation.leave_one_out import left_out_thresholds, predict_left_out
from common.models.resnet import ResNetConfig
from common.training.backend import device_settings
from common.training.recipes import Recipe

CONFIG = ResNetConfig(blocks=(1,), widths=(4,))
PLAN = Recipe(epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1, flip="none", shift=0)
SETTINGS = device_settings(precision="float32")
PATIENTS = np.repeat(["a", "b", "c"], 8)


def grouped_data():
    data = small_data(24, classes=2)
    return replace(data, groups=PATIENTS)


@pytest.fixture
def trainings(monkeypatch):
    """The patients of each training, as they come."""
    seen, train = [], leave_one_out.train_resnet

    def watched(config, recipe, data, *args, **kwargs):
        seen.append(sorted(set(data.groups)))
        return train(config, recipe, data, *args, **kwargs)

    monkeypatch.setattr(leave_one_out, "train_resnet", watched)
    return seen


def test_nobody_is_predicted_by_a_network_that_knows_her(trainings):
    probability = predict_left_out(CONFIG, PLAN, grouped_data(), SETTINGS, progress=False)
    assert probability.shape == (24,) and probability.dtype == np.float32
    assert ((probability >= 0) & (probability <= 1)).all()
    assert trainings == [["b", "c"], ["a", "c"], ["a", "b"]]


def test_a_killed_call_goes_on_with_the_next_patient(trainings, tmp_path):
    data = grouped_data()
    whole = predict_left_out(CONFIG, PLAN, data, SETTINGS, folder=tmp_path, progress=False)
    (tmp_path / "b.npy").unlink()
    trainings.clear()
    again = predict_left_out(CONFIG, PLAN, data, SETTINGS, folder=tmp_path, progress=False)
    assert trainings == [["a", "c"]]
    np.testing.assert_allclose(again, whole, atol=1e-5)


def test_predictions_of_other_data_are_not_taken(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, "float32"))
    with pytest.raises(DataError, match=r"a\.npy holds 3 predictions, but a has 8 patches"):
        predict_left_out(CONFIG, PLAN, grouped_data(), SETTINGS, folder=tmp_path, progress=False)


def test_one_patient_is_too_few():
    data = replace(grouped_data(), groups=np.repeat("a", 24))
    with pytest.raises(DataError):
        predict_left_out(CONFIG, PLAN, data, SETTINGS, progress=False)


def test_a_patients_threshold_comes_from_the_others():
    labels = np.array([0, 1, 0, 1, 0, 1])
    probability = np.array([0.1, 0.3, 0.2, 0.6, 0.7, 0.9])
    patients = np.array(["a", "a", "b", "b", "c", "c"])
    thresholds = left_out_thresholds(labels, probability, patients)
    # Without a: best from 0.6 (both found, one false alarm at 0.7); without b: 0.9 and 0.3 with
    # one false alarm; without c: a gap between 0.2 and 0.3.
    np.testing.assert_allclose(thresholds, [0.4, 0.4, 0.2, 0.2, 0.25, 0.25])
    with pytest.raises(DataError, match="best threshold"):
        left_out_thresholds(np.array([0, 0, 1, 1]), np.full(4, 0.5), np.array(list("aabb")))
