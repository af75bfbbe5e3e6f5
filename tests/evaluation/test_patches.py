from dataclasses import replace

import keras
import numpy as np
import pytest

from common.data.images import ImageData
from common.errors import DataError
from common.evaluation.binary import patient_bootstrap
from common.evaluation.classification import predict, predict_logits
from common.evaluation.leave_one_out import left_out_thresholds
from common.evaluation.patches import (
    judge_patients,
    score_network,
    score_predictions,
    unseen_logits,
)


@pytest.fixture(scope="module")
def network():
    """Logits from the brightness of the upper half: what it says depends on how a patch lies."""
    pixels = keras.Input((4, 4, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(2)(x))
    kernel = np.zeros((48, 2), "float32")
    kernel[:24, 1] = 0.5
    model.set_weights([kernel, np.array([3.0, 0.0], "float32")])
    return model


def patches(seed, count=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype("int32")
    images = rng.integers(0, 200, (count, 4, 4, 3)) + 20 * labels[:, None, None, None]
    return ImageData(
        images=images.astype("uint8"),
        labels=labels,
        classes=("benign", "malignant"),
        name="small",
        split="all",
        groups=np.array(["a", "b", "c", "d"])[np.arange(count) % 4],
    )


def test_the_threshold_comes_from_validation_and_the_scores_from_test(network):
    validation, test = patches(0), patches(1)
    scores = score_network(network, validation, test, samples=50)
    probability = predict(network, test.images)[:, 1]
    np.testing.assert_array_equal(scores.probability, probability)
    expected = patient_bootstrap(
        test.labels, probability, test.groups, scores.threshold, samples=50
    )
    np.testing.assert_array_equal(scores.table["value"], expected["value"])
    assert scores.threshold == score_network(network, validation, validation, 2).threshold
    assert scores.threshold != score_network(network, test, validation, 2).threshold


def test_metrics_are_flat_and_leave_out_what_there_is_not(network):
    test = patches(1)
    scores = score_predictions(test, np.linspace(0, 1, len(test)), 0.5, samples=20)
    metrics = scores.metrics("val_")
    assert {"val_f1", "val_f1_low", "val_f1_high", "val_roc_auc"} <= set(metrics)
    assert metrics["val_f1_low"] <= metrics["val_f1"] <= metrics["val_f1_high"]
    one_class = replace(test, labels=np.zeros(len(test), "int32"))
    scores = score_predictions(one_class, np.linspace(0, 1, len(test)), 0.5, samples=20)
    assert "roc_auc" in scores.missing and "test_roc_auc" not in scores.metrics()
    assert np.isfinite(list(scores.metrics().values())).all()


def test_one_patient_and_one_class_are_told(network):
    test = replace(patches(1), groups=np.repeat("a", 60))
    one_class = replace(patches(0), labels=np.zeros(60, "int32"))
    scores = score_network(network, one_class, test, samples=20)
    assert scores.threshold == 0.5 and "two of them at least" in scores.missing["intervals"]
    assert "test_f1" in scores.metrics() and "test_f1_low" not in scores.metrics()


def test_patients_are_judged_by_thresholds_of_the_others(network):
    held = patches(0)
    judged = judge_patients(network, held)
    for prefix, tta in (("", False), ("tta_", "symmetries")):
        probability = predict(network, held.images, tta=tta)[:, 1]
        thresholds = left_out_thresholds(held.labels, probability, held.groups)
        expected = score_predictions(held, probability, thresholds).metrics(prefix)
        assert expected == {name: judged[name] for name in expected}
    # The network looks at the upper half, so its views differ.
    assert judged["roc_auc"] != judged["tta_roc_auc"]


def test_a_patient_that_all_have_seen_cannot_be_judged(network):
    record = {"run_name": "mine", "trained_on": ["b", "c"]}
    with pytest.raises(DataError, match="mine was trained on all patches of b, c: it cannot be"):
        unseen_logits(network, record, patches(0))
    data = patches(0)
    others = data.subset(np.flatnonzero(np.isin(data.groups, ["a", "d"])))
    found = unseen_logits(network, record, others)
    np.testing.assert_allclose(found, predict_logits(network, others.images), rtol=1e-5)
