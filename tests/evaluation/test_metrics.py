import numpy as np
import pytest
from scipy.special import softmax

from common.errors import ConfigError, DataError
from common.evaluation import metrics

# Six images of three classes: right, right, wrong (as 2), right, wrong (as 0), right.
LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.6, 0.2, 0.2],
        [0.1, 0.1, 0.8],
        [0.3, 0.5, 0.2],
        [0.95, 0.05, 0.0],
        [0.2, 0.1, 0.7],
    ]
)
CLASSES = ("cat", "dog", "ship")


def test_accuracy_interval_is_wilsons():
    n, p, z = 10, 0.8, 1.959964
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert metrics.accuracy_interval(8, 10) == pytest.approx((centre - half, centre + half))
    assert metrics.accuracy_interval(0, 10)[0] == 0
    assert metrics.accuracy_interval(10, 10)[1] == 1
    wide, narrow = metrics.accuracy_interval(90, 100), metrics.accuracy_interval(9000, 10_000)
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 5


@pytest.mark.parametrize(("correct", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_accuracy_interval_needs_a_part_of_a_whole(correct, n):
    with pytest.raises(ConfigError, match="Received"):
        metrics.accuracy_interval(correct, n)


def test_paired_gain_counts_changed_answers_alone():
    before, after = np.zeros(100, bool), np.zeros(100, bool)
    before[:53], after[:50], after[60:71] = True, True, True  # 3 turn wrong, 11 right
    gain, low, high = metrics.paired_gain(before, after)
    half = 1.96 * np.sqrt(((11 + 3) / 100 - 0.08**2) / 100)
    assert (gain, low, high) == pytest.approx((0.08, 0.08 - half, 0.08 + half))
    assert metrics.paired_gain(before, before) == (0, 0, 0)
    assert metrics.paired_gain(after, before)[0] == pytest.approx(-gain)


@pytest.mark.parametrize("after", [np.ones(3, bool), np.ones((2, 1), bool)])
def test_paired_gain_needs_the_same_images(after):
    with pytest.raises(DataError, match=r"Received: \(2,\) and"):
        metrics.paired_gain(np.ones(2, bool), after)


def test_classification_table_by_hand():
    table = metrics.classification_table(LABELS, PROBABILITIES, CLASSES)
    assert list(table.index) == list(CLASSES)
    assert table["precision"].tolist() == pytest.approx([2 / 3, 1, 1 / 2])
    assert table["recall"].tolist() == pytest.approx([1, 1 / 2, 1 / 2])
    assert table["F1"].tolist() == pytest.approx([4 / 5, 2 / 3, 1 / 2])
    assert table["support"].tolist() == [2, 2, 2]


def test_classification_table_of_a_class_never_seen_nor_predicted():
    table = metrics.classification_table([0, 0], [[0.9, 0.1], [0.8, 0.2]], ("a", "b"))
    assert table.loc["b"].tolist() == [0, 0, 0, 0]


def test_confusion_matrix_has_truth_in_rows():
    table = metrics.confusion_matrix(LABELS, PROBABILITIES, CLASSES)
    assert table.to_numpy().tolist() == [[2, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert table.loc["dog", "ship"] == 1
    assert (table.index.name, table.columns.name) == ("truth", "predicted")


def test_expected_calibration_error_by_hand():
    # Ten bins. (0.9, 1]: confidence 0.95, half right. (0.6, 0.7]: confidence 0.65, all right.
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    labels = np.array([0, 1, 0, 1])
    expected = 0.5 * (0.95 - 0.5) + 0.5 * (1 - 0.65)
    assert metrics.expected_calibration_error(labels, probabilities, 10) == pytest.approx(expected)


def test_reliability_table_puts_edges_into_the_bin_below():
    probabilities = np.array([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.76, 0.24]])
    table = metrics.reliability_table(np.zeros(4, int), probabilities, bins=4)
    assert table["count"].tolist() == [0, 1, 1, 2]
    assert table["confidence"].tolist() == pytest.approx([np.nan, 0.5, 0.75, 0.88], nan_ok=True)
    assert table[["low", "high"]].iloc[-1].tolist() == [0.75, 1]


def drawn_from(logits, seed):
    """Labels that come true as often as the logits promise."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits + noise).argmax(axis=1)


def test_temperature_undoes_overconfidence_and_lowers_the_error():
    honest = 2 * np.random.default_rng(0).standard_normal((20_000, 5))
    labels = drawn_from(honest, 1)
    assert metrics.expected_calibration_error(labels, softmax(honest, axis=1)) < 0.01
    boastful = 3 * honest
    before = metrics.expected_calibration_error(labels, softmax(boastful, axis=1))
    temperature = metrics.temperature_scaling(boastful, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    after = metrics.expected_calibration_error(labels, softmax(boastful / temperature, axis=1))
    assert after < 0.01 < 0.1 < before


def test_temperature_of_images_that_are_all_told_rightly():
    logits, labels = 3 * np.eye(2)[[0, 1, 0]], np.array([0, 1, 0])
    assert metrics.temperature_scaling(logits, labels) < 0.2  # nearly as sure as can be
    temperature = metrics.temperature_scaling(logits, labels, smoothing=0.2)
    np.testing.assert_allclose(softmax(logits / temperature, axis=1).max(axis=1), 0.9, rtol=1e-3)


def test_negative_log_likelihood_by_hand():
    logits = np.log([[0.5, 0.5], [0.25, 0.75]])
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    assert metrics.negative_log_likelihood([0, 1], logits) == pytest.approx(expected)


def test_most_confident_mistakes_come_first():
    table = metrics.most_confident_mistakes(LABELS, PROBABILITIES)
    assert table["index"].tolist() == [4, 2]
    assert table["truth"].tolist() == [2, 1]
    assert table["predicted"].tolist() == [0, 2]
    assert table["confidence"].tolist() == [0.95, 0.8]
    assert len(metrics.most_confident_mistakes(LABELS, PROBABILITIES, count=1)) == 1
    right = metrics.most_confident_mistakes(LABELS[:2], PROBABILITIES[:2])
    assert right.empty and list(right) == ["index", "truth", "predicted", "confidence"]


@pytest.mark.parametrize(
    ("labels", "probabilities", "problem"),
    [
        ([0, 1], PROBABILITIES, r"\(2,\) and \(6, 3\)"),
        ([], np.empty((0, 3)), "at least 1"),
        (LABELS + 1, PROBABILITIES, "0..2. Received: 1..3"),
        (LABELS - 1, PROBABILITIES, "0..2. Received: -1..1"),
        (LABELS + 0.5, PROBABILITIES, "whole numbers"),
        (LABELS, 3 * PROBABILITIES, "logits"),
        (LABELS, PROBABILITIES - [0.2, -0.1, -0.1], "positive"),
        (LABELS, PROBABILITIES * np.nan, "not finite"),
    ],
)
def test_bad_input_is_named(labels, probabilities, problem):
    with pytest.raises(DataError, match=problem):
        metrics.reliability_table(labels, probabilities)


def test_names_must_fit_the_probabilities():
    with pytest.raises(DataError, match="2 classes"):
        metrics.confusion_matrix(LABELS, PROBABILITIES, ("cat", "dog"))
    with pytest.raises(ConfigError, match="bins"):
        metrics.reliability_table(LABELS, PROBABILITIES, bins=0)


def test_most_frequent_confusions_by_hand():
    confusions = metrics.confusion_matrix(LABELS, PROBABILITIES, CLASSES)
    table = metrics.most_frequent_confusions(confusions)
    assert table.to_dict("list") == {
        "truth": ["ship", "dog"],
        "predicted": ["cat", "ship"],
        "images": [1, 1],
        "share": [0.5, 0.5],
    }
    assert len(metrics.most_frequent_confusions(confusions, 1)) == 1


def test_nothing_is_confused():
    right = metrics.confusion_matrix(np.arange(3), np.eye(3), CLASSES)
    table = metrics.most_frequent_confusions(right)
    assert table.empty and table["share"].map("{:.1%}".format).empty
