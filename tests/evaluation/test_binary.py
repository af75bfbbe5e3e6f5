import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn import metrics as sk

from common.errors import ConfigError, DataError
from common.evaluation import binary
from common.evaluation.metrics import calibration_error, temperature_scaling
from common.evaluation.thresholds import best_threshold, curve_areas, operating_points

# Three patients. At 0.5: a has a hit, a false alarm and a miss; b a hit and a right refusal; c is
# all negative, with a false alarm.
LABELS = np.array([1, 0, 1, 1, 0, 0, 0])
PROBABILITY = np.array([0.9, 0.7, 0.2, 0.5, 0.1, 0.6, 0.3])
PATIENTS = np.array(["a", "a", "a", "b", "b", "c", "c"])


def made_up(n=600, patients=12, seed=0, digits=2):
    """Patients that differ in size, share of positives and offset; rounded, so that scores tie."""
    rng = np.random.default_rng(seed)
    patient = rng.choice(patients, n, p=rng.dirichlet(np.full(patients, 3)))
    labels = (rng.random(n) < rng.beta(1, 2, patients)[patient]).astype("int32")
    logit = 2.5 * labels - 1.5 + rng.normal(0, 1, patients)[patient] + rng.normal(0, 1, n)
    return labels, (1 / (1 + np.exp(-logit))).round(digits), patient


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def scikit_learn(labels, probability, threshold, weights=None):
    called = probability >= threshold
    w = {"sample_weight": weights}
    return {
        "f1": sk.f1_score(labels, called, **w),
        "weighted_f1": sk.f1_score(labels, called, average="weighted", **w),
        "precision": sk.precision_score(labels, called, **w),
        "recall": sk.recall_score(labels, called, **w),
        "specificity": sk.recall_score(labels, called, pos_label=0, **w),
        "accuracy": sk.accuracy_score(labels, called, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called, **w),
        "average_precision": sk.average_precision_score(labels, probability, **w),
        "roc_auc": sk.roc_auc_score(labels, probability, **w),
        "brier": sk.brier_score_loss(labels, probability, **w),
    }


def test_scores_by_hand():
    scores = binary.binary_scores(LABELS, PROBABILITY, 0.5)
    # Two hits, two false alarms, one miss, two right refusals; 0.5 itself is called positive.
    assert (scores["n"], scores["positives"], scores["prevalence"]) == (7, 3, 3 / 7)
    assert scores["precision"] == 2 / 4 and scores["recall"] == 2 / 3
    assert scores["specificity"] == 2 / 4 and scores["accuracy"] == 4 / 7
    assert scores["f1"] == pytest.approx(4 / 7)
    assert scores["weighted_f1"] == pytest.approx((3 * 4 / 7 + 4 * 4 / 7) / 7)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Positives rank first, fourth and sixth of seven.
    assert scores["average_precision"] == pytest.approx((1 + 2 / 4 + 3 / 6) / 3)
    assert scores["roc_auc"] == pytest.approx((4 + 2 + 1) / 12)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.77])
def test_scores_agree_with_scikit_learn(threshold):
    labels, probability, _ = made_up()
    scores = binary.binary_scores(labels, probability, threshold)
    for name, value in scikit_learn(labels, probability, threshold).items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name
    assert not binary.what_is_missing(labels, probability, threshold)


@pytest.mark.parametrize(
    ("label", "word", "missing"),
    [
        (0, "negative", {"f1", "recall", "precision", "balanced_accuracy", *binary.AREAS}),
        (1, "positive", {"specificity", "precision", "balanced_accuracy", *binary.AREAS}),
    ],
)
def test_one_class_leaves_scores_out_and_says_why(label, word, missing):
    labels = np.full(7, label)
    scores = binary.binary_scores(labels, PROBABILITY, 0.5)
    reasons = binary.what_is_missing(labels, PROBABILITY, 0.5)
    assert set(reasons) == missing == {name for name, v in scores.items() if np.isnan(v)}
    assert set(reasons.values()) == {f"all 7 patches are {word}"}
    called_right = 4 if label else 3
    assert scores["accuracy"] == called_right / 7
    expected = 2 * called_right / (2 * called_right + 7 - called_right)
    assert scores["weighted_f1"] == pytest.approx(expected)  # F1 of the class that is there
    if label:
        assert scores["f1"] == pytest.approx(expected)


def test_a_model_that_calls_nothing_positive_has_no_precision():
    scores = binary.binary_scores(LABELS, PROBABILITY, 0.95)
    assert scores["f1"] == scores["recall"] == 0 and np.isnan(scores["precision"])
    missing = binary.what_is_missing(LABELS, PROBABILITY, 0.95)
    assert missing == {"precision": "no patch is called positive"}


def test_a_threshold_per_patch():
    own = np.where(PATIENTS == "c", 0.65, 0.5)  # c's false alarm is none any more
    assert binary.binary_scores(LABELS, PROBABILITY, own)["precision"] == 2 / 3
    table = binary.patient_bootstrap(LABELS, PROBABILITY, PATIENTS, own, ["precision"], 10)
    assert table.loc["precision", "value"] == 2 / 3


def test_confusion_at_the_threshold():
    table = binary.binary_confusion(LABELS, PROBABILITY, 0.5, ("benign", "tumour"))
    assert table.loc["benign"].tolist() == [2, 2] and table.loc["tumour"].tolist() == [1, 2]
    labels, probability, _ = made_up()
    expected = sk.confusion_matrix(labels, probability >= 0.4)
    np.testing.assert_array_equal(binary.binary_confusion(labels, probability, 0.4), expected)


def test_scores_of_each_patient():
    table = binary.scores_per_patient(LABELS, PROBABILITY, PATIENTS, 0.5)
    assert table.index.tolist() == ["a", "b", "c"]
    assert table["patches"].tolist() == [3, 2, 2] and table["positives"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(table["prevalence"], [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(table["mean_probability"], [0.6, 0.3, 0.45])
    np.testing.assert_allclose(table["f1"], [1 / 2, 1, np.nan])
    np.testing.assert_allclose(table["recall"], [1 / 2, 1, np.nan])
    np.testing.assert_allclose(table["specificity"], [0, 1, 1 / 2])
    np.testing.assert_allclose(table["accuracy"], [1 / 3, 1, 1 / 2])


def test_operating_points_are_both_curves_of_scikit_learn():
    labels, probability, _ = made_up()
    points = operating_points(labels, probability)
    precision, recall, thresholds = sk.precision_recall_curve(labels, probability)
    np.testing.assert_allclose(points["threshold"][1:], thresholds[::-1])
    np.testing.assert_allclose(points["precision"][1:], precision[-2::-1])
    np.testing.assert_allclose(points["recall"], recall[::-1])
    fpr, tpr, _ = sk.roc_curve(labels, probability, drop_intermediate=False)
    np.testing.assert_allclose(points[["false_positive_rate", "recall"]], np.stack([fpr, tpr], 1))
    f1 = [sk.f1_score(labels, probability >= t) for t in points["threshold"]]
    np.testing.assert_allclose(points["f1"], f1)
    areas = (
        sk.average_precision_score(labels, probability),
        sk.roc_auc_score(labels, probability),
    )
    assert curve_areas(points) == pytest.approx(areas)


def test_best_threshold_lies_between_two_probabilities():
    # F1 by calls, from the top: 0.5, 0.8, 2/3, 6/7, 3/4: the best cut is after the fourth.
    labels, probability = np.array([1, 1, 0, 1, 0]), np.array([0.9, 0.8, 0.6, 0.5, 0.1])
    assert best_threshold(labels, probability) == pytest.approx(0.3)
    assert best_threshold([0, 1, 1], [0.2, 0.4, 0.8]) == pytest.approx(0.3)


def test_best_threshold_of_ties_is_the_highest():
    # Both one call and all three have the F1 of 2/3.
    assert best_threshold([1, 0, 0, 1], [0.9, 0.5, 0.5, 0.1]) == pytest.approx(0.7)


def test_best_threshold_calls_all_positive_where_the_scores_say_nothing():
    threshold = best_threshold([1, 0, 1], [0.4, 0.4, 0.4])
    assert threshold == pytest.approx(0.2)
    assert best_threshold([1, 0], [0.0, 0.0]) == 0


def test_best_threshold_separates_neighbouring_floats():
    low, high = 0.5, np.nextafter(0.5, 1)
    threshold = best_threshold([0, 1], [low, high])
    assert low < threshold <= high


def test_best_threshold_is_no_worse_than_any_other():
    labels, probability, _ = made_up(digits=6)
    best = binary.binary_scores(labels, probability, best_threshold(labels, probability))
    others = [sk.f1_score(labels, probability >= t) for t in np.linspace(0, 1, 51)]
    assert best["f1"] >= max(others)


def test_reliability_is_of_class_1():
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    probability = np.array([0.1, 0.2, 0.25, 0.25, 0.9, 1.0, 0.0])
    table = binary.binary_reliability(labels, probability, bins=4)
    assert table["count"].tolist() == [5, 0, 0, 2]  # an edge belongs to the bin below
    np.testing.assert_allclose(table["confidence"], [0.16, np.nan, np.nan, 0.95])
    np.testing.assert_allclose(table["accuracy"], [0.2, np.nan, np.nan, 1])
    assert calibration_error(table) == pytest.approx((5 * 0.04 + 2 * 0.05) / 7)


def test_temperature_scaling_makes_the_probability_of_class_1_honest():
    rng = np.random.default_rng(0)
    honest = np.stack([np.zeros(20_000), rng.normal(-1, 2, 20_000)], axis=1)
    labels = (rng.random(20_000) < softmax(honest, axis=1)[:, 1]).astype(int)
    boastful = 3 * honest

    def error(logits):
        return binary.binary_scores(labels, softmax(logits, axis=1)[:, 1], 0.5)["ece"]

    temperature = temperature_scaling(boastful, labels)
    assert error(boastful / temperature) < 0.015 < 0.1 < error(boastful)


def repeated(patients, drawn):
    """The places of all patches of the drawn patients, as often as they were drawn."""
    return np.concatenate([np.flatnonzero(patients == p) for p in drawn])


def test_bootstrap_is_of_patches_literally_repeated():
    labels, probability, patients = made_up()
    got = binary.patient_bootstrap(
        labels, probability, patients, 0.4, binary.METRICS, samples=12, seed=5
    )
    names, place = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=12)
    by_repeating, by_weights = [], []
    for times in drawn:
        chosen = repeated(patients, np.repeat(names, times))
        by_repeating.append(scikit_learn(labels[chosen], probability[chosen], 0.4))
        by_weights.append(scikit_learn(labels, probability, 0.4, times[place]))
    values = scikit_learn(labels, probability, 0.4)
    for name in binary.METRICS:
        for resamples in (by_repeating, by_weights):
            low, high = np.quantile([scores[name] for scores in resamples], [0.025, 0.975])
            row = got.loc[name, ["value", "low", "high"]]
            np.testing.assert_allclose(row, [values[name], low, high], rtol=1e-9, err_msg=name)
    assert (got["undefined"] == 0).all()


def test_bootstrap_in_parts_is_the_same(monkeypatch):
    arguments = *made_up(), 0.4
    whole = binary.patient_bootstrap(*arguments, samples=30)
    bands = binary.curve_bands(*made_up(), samples=30)
    monkeypatch.setattr(binary, "_CHUNK", 1300)  # two resamples at once
    np.testing.assert_array_equal(binary.patient_bootstrap(*arguments, samples=30), whole)
    np.testing.assert_array_equal(binary.curve_bands(*made_up(), samples=30), bands)


def test_interval_agrees_with_scipy():
    labels, probability, patients = made_up(3000, 30)
    right = np.bincount(patients, (probability >= 0.4) == labels)
    patches = np.bincount(patients)

    def accuracy(right, patches, axis=-1):
        return right.sum(axis=axis) / patches.sum(axis=axis)

    expected = stats.bootstrap(
        (right, patches),
        accuracy,
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    got = binary.patient_bootstrap(labels, probability, patients, 0.4, ["accuracy"], 20_000)
    width = np.diff(expected.confidence_interval)[0]
    np.testing.assert_allclose(
        got.loc["accuracy", ["low", "high"]].astype(float),
        expected.confidence_interval,
        atol=0.05 * width,
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """And intervals over patches do not: they take 40 patients for 800 independent patches."""
    rng = np.random.default_rng(0)
    covered = {"patients": 0, "patches": 0}
    for _ in range(100):
        patients = np.repeat(np.arange(40), 20)
        right = rng.random(800) < rng.beta(3, 1, 40)[patients]  # a mean accuracy of 0.75
        labels = np.ones(800, int)
        for name, drawn in (("patients", patients), ("patches", np.arange(800))):
            row = binary.patient_bootstrap(labels, right, drawn, 0.5, ["accuracy"], 100).iloc[0]
            covered[name] += row["low"] <= 0.75 <= row["high"]
    assert 82 <= covered["patients"] <= 99  # 95 expected, less of few resamples
    assert covered["patches"] < 70


def test_resamples_follow_their_seed():
    arguments = *made_up(), 0.4, ["f1"]
    one, again, other = (binary.patient_bootstrap(*arguments, seed=s) for s in (0, 0, 1))
    assert one.equals(again) and not one.equals(other)


def test_resamples_of_one_class_are_counted():
    """Two patients of one class each: half of the resamples hold one of them twice."""
    labels, patients = np.array([1, 1, 0, 0]), np.array([1, 1, 2, 2])
    table = binary.patient_bootstrap(
        labels, [0.9, 0.4, 0.3, 0.6], patients, 0.5, ["roc_auc", "f1", "accuracy"]
    )
    assert table.loc["roc_auc", "undefined"] == pytest.approx(0.5, abs=0.05)
    assert table.loc["f1", "undefined"] == pytest.approx(0.25, abs=0.05)
    assert table.loc["accuracy", "undefined"] == 0
    assert table.loc["roc_auc", ["value", "low", "high"]].tolist() == [0.75, 0.75, 0.75]
    alone = binary.patient_bootstrap(
        np.ones(4, int), [0.9, 0.4, 0.3, 0.6], patients, 0.5, ["roc_auc"]
    )
    np.testing.assert_array_equal(alone.loc["roc_auc"], [np.nan, np.nan, np.nan, 1])


def test_paired_differences_are_narrower_than_the_intervals_say():
    labels, probability, patients = made_up()
    better = np.clip(probability + 0.08 * (2 * labels - 1), 0, 1)  # by as much for every patient
    table = binary.compare_bootstrap(
        labels,
        {"plain": probability, "better": better},
        patients,
        0.5,
        reference="plain",
        metrics=["accuracy", "roc_auc"],
    )
    assert table[["method", "metric"]].to_numpy().tolist() == [
        ["plain", "accuracy"],
        ["plain", "roc_auc"],
        ["better", "accuracy"],
        ["better", "roc_auc"],
    ]
    alone = binary.patient_bootstrap(labels, better, patients, 0.5, ["accuracy", "roc_auc"])
    columns = ["value", "low", "high", "undefined"]
    np.testing.assert_array_equal(table[columns][2:], alone)
    plain, row = table.iloc[0], table.iloc[2]
    assert row["low"] < plain["high"]  # the intervals overlap,
    assert row["difference_low"] > 0  # yet the difference is sure
    assert row["difference"] == pytest.approx(row["value"] - plain["value"])
    assert (table["difference"][:2] == 0).all() and (table["difference_high"][:2] == 0).all()


def test_difference_by_hand():
    """One metric, repeated patches: the quantiles of differences, not a difference of them."""
    labels, probability, patients = made_up()
    other = probability**2
    table = binary.compare_bootstrap(
        labels,
        {"a": probability, "b": other},
        patients,
        {"a": 0.5, "b": 0.3},
        reference="a",
        metrics=["f1"],
        samples=50,
        seed=2,
    )
    names, drawn = np.unique(patients), np.random.default_rng(2)
    differences = []
    for times in drawn.multinomial(12, np.full(12, 1 / 12), size=50):
        i = repeated(patients, np.repeat(names, times))
        one = sk.f1_score(labels[i], probability[i] >= 0.5)
        differences.append(sk.f1_score(labels[i], other[i] >= 0.3) - one)
    got = table.loc[1, ["difference_low", "difference_high"]].astype(float)
    np.testing.assert_allclose(got, np.quantile(differences, [0.025, 0.975]))


def test_bands_hold_the_curve_and_are_pointwise_quantiles():
    labels, probability, patients = made_up(digits=6)
    bands = binary.curve_bands(labels, probability, patients, samples=200, seed=3)
    points = operating_points(labels, probability)
    for at in (0.3, 0.5, 0.8):
        row = bands.set_index("at").loc[at]
        reached = points[points["recall"] >= at].iloc[0]
        assert row["precision_low"] < reached["precision"] <= row["precision_high"]
        allowed = points[points["false_positive_rate"] <= at].iloc[-1]
        assert row["recall_low"] < allowed["recall"] < row["recall_high"]
    names = np.unique(patients)
    precision = []
    for times in np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=200):
        i = repeated(patients, np.repeat(names, times))
        part = operating_points(labels[i], probability[i])
        precision.append(part.loc[part["recall"] >= 0.5 - 1e-9, "precision"].iloc[0])
    expected = np.quantile(precision, [0.025, 0.975])
    np.testing.assert_allclose(bands.loc[50, ["precision_low", "precision_high"]], expected)


@pytest.mark.parametrize(
    ("labels", "probability", "problem"),
    [
        (LABELS[:3], PROBABILITY, r"\(3,\) and \(7,\)"),
        (LABELS, np.stack([1 - PROBABILITY, PROBABILITY], 1), r"\(7,\) and \(7, 2\)"),
        ([], [], "at least 1"),
        (LABELS + 1, PROBABILITY, r"0 or 1. Received: \[1, 2\]"),
        (LABELS * 0.5, PROBABILITY, "0 or 1"),
        (LABELS, PROBABILITY * np.nan, "not all finite"),
        (LABELS, 4 * PROBABILITY - 1, r"logits.*-0.6..2.6"),
    ],
)
def test_bad_input_is_named(labels, probability, problem):
    with pytest.raises(DataError, match=problem):
        binary.binary_scores(labels, probability, 0.5)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, [0.5, 0.5]])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ConfigError, match="threshold must"):
        binary.binary_scores(LABELS, PROBABILITY, threshold)


@pytest.mark.parametrize("function", [best_threshold, operating_points], ids=["threshold", "curve"])
def test_curves_and_thresholds_need_both_classes(function):
    with pytest.raises(DataError, match="all 7 patches are negative. Take patients of both"):
        function(np.zeros(7, int), PROBABILITY)
    with pytest.raises(DataError, match="all 7 patches are positive"):
        function(np.ones(7, int), PROBABILITY)


def test_bootstrap_needs_patients_and_known_metrics():
    with pytest.raises(DataError, match="needs two of them"):
        binary.curve_bands(LABELS, PROBABILITY, np.zeros(7))
    with pytest.raises(DataError, match=r"7 patches, but patients of shape \(3,\)"):
        binary.patient_bootstrap(LABELS, PROBABILITY, PATIENTS[:3], 0.5)
    with pytest.raises(ConfigError, match="'F1' is unknown.*'f1'"):
        binary.patient_bootstrap(LABELS, PROBABILITY, PATIENTS, 0.5, ["F1"])
    with pytest.raises(ConfigError, match="samples=0"):
        binary.patient_bootstrap(LABELS, PROBABILITY, PATIENTS, 0.5, samples=0)
    with pytest.raises(ConfigError, match="'none' is none of: a"):
        binary.compare_bootstrap(LABELS, {"a": PROBABILITY}, PATIENTS, 0.5, reference="none")
    with pytest.raises(ConfigError, match="no threshold for: a"):
        binary.compare_bootstrap(LABELS, {"a": PROBABILITY}, PATIENTS, {}, reference="a")
    with pytest.raises(ConfigError, match="bins"):
        binary.binary_reliability(LABELS, PROBABILITY, bins=0)


def test_one_patient_has_scores_and_no_intervals():
    table = binary.patient_bootstrap(LABELS, PROBABILITY, np.zeros(7), 0.5)
    several = binary.patient_bootstrap(LABELS, PROBABILITY, PATIENTS, 0.5)
    pd.testing.assert_series_equal(table["value"], several["value"])
    assert table[["low", "high"]].isna().all(axis=None) and (table["undefined"] == 1).all()
    compared = binary.compare_bootstrap(
        LABELS, {"a": PROBABILITY, "b": 1 - PROBABILITY}, np.zeros(7), 0.5, "a"
    )
    assert compared["difference_low"].isna().all() and np.isfinite(compared["difference"]).any()


def test_a_threshold_where_there_is_one_class_only(caplog):
    assert best_threshold(np.zeros(7, int), PROBABILITY, default=0.5) == 0.5
    assert "All 7 patches to choose a threshold on are negative: 0.5 is taken." in caplog.text
    chosen = best_threshold(LABELS, PROBABILITY)
    assert best_threshold(LABELS, PROBABILITY, default=0.5) == chosen
