"""What to measure where patches of two classes come from patients, and how sure of it to be.

Everywhere below, N is the number of patches. `labels` (N,) are 0 or 1, class 1 being the positive
one; `probability` (N,) is that of class 1; `patients` (N,) says whose patch it is. A patch is
called positive where `probability >= threshold`; the threshold is one number or, where patients
have their own (predicted by different folds), one per patch (N,). No Keras here: arrays in,
numbers and tables out.

A score that would be the same whatever the model says is NaN: precision or an area where all
patches are of one class, F1 where none is positive. `what_is_missing` says why.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from common.errors import ConfigError, DataError
from common.evaluation.bootstrap import compare, intervals, percentiles, resample
from common.evaluation.metrics import binned, calibration_error, ratio

# From the numbers of right and wrong calls at a threshold; F1 is of the positive class.
COUNTED = (
    "f1",
    "weighted_f1",
    "precision",
    "recall",
    "specificity",
    "accuracy",
    "balanced_accuracy",
)
# Under the precision-recall curve (as a sum over its steps) and the ROC curve.
AREAS = ("average_precision", "roc_auc")
METRICS = (*COUNTED, *AREAS, "brier")
REPORTED = ("f1", "weighted_f1", "precision", "recall", "balanced_accuracy", *AREAS)

ONE_PATIENT = (
    "A bootstrap over patients needs two of them at least: one patient says nothing about how far "
    "scores move from patient to patient."
)

_CHUNK = 2_000_000  # weights of patches held at once: about 100 MB


def binary_scores(
    labels: np.ndarray, probability: np.ndarray, threshold: float | np.ndarray
) -> dict:
    """All scores of one predictor, over patches.

    Returns:
        `n`, `positives`, `prevalence` (their share), each of `METRICS`, and `ece`, the
        calibration error of `binary_reliability`. What cannot be computed is NaN.

    Raises:
        DataError: if labels or probabilities are none, or of different lengths.
        ConfigError: for a threshold outside 0..1 or of another shape.
    """
    labels, probability = check_patches(labels, probability)
    counts = _counts(labels, probability, np.zeros(len(labels), int), threshold)[0]
    both = 0 < labels.sum() < len(labels)
    return {
        "n": len(labels),
        "positives": int(labels.sum()),
        "prevalence": float(labels.mean()),
        **{name: float(value) for name, value in _counted(*counts).items()},
        "average_precision": (
            float(average_precision_score(labels, probability)) if both else np.nan
        ),
        "roc_auc": float(roc_auc_score(labels, probability)) if both else np.nan,
        "brier": float(np.mean((probability - labels) ** 2)),
        "ece": calibration_error(binary_reliability(labels, probability)),
    }


def what_is_missing(
    labels: np.ndarray, probability: np.ndarray, threshold: float | np.ndarray
) -> dict[str, str]:
    """Why each score that `binary_scores` gives as NaN cannot be computed; empty if none is."""
    scores = binary_scores(labels, probability, threshold)
    n, positives = scores["n"], scores["positives"]
    if positives == 0:
        reason = f"all {n} patches are negative"
    elif positives == n:
        reason = f"all {n} patches are positive"
    else:
        reason = "no patch is called positive"
    return {name: reason for name, value in scores.items() if np.isnan(value)}


def binary_confusion(
    labels: np.ndarray,
    probability: np.ndarray,
    threshold: float | np.ndarray,
    classes: tuple[str, str] = ("negative", "positive"),
) -> pd.DataFrame:
    """Numbers of patches at the threshold: a row per true class, a column per predicted one."""
    labels, probability = check_patches(labels, probability)
    one = np.zeros(len(labels), int)
    tp, fp, fn, tn = _counts(labels, probability, one, threshold)[0].astype(int)
    index, columns = pd.Index(classes, name="truth"), pd.Index(classes, name="predicted")
    return pd.DataFrame([[tn, fp], [fn, tp]], index, columns)


def scores_per_patient(
    labels: np.ndarray, probability: np.ndarray, patients: np.ndarray, threshold: float | np.ndarray
) -> pd.DataFrame:
    """A row per patient: `patches`, `positives`, `prevalence`, `mean_probability`, `COUNTED`.

    NaN where a patient has no patch that the score is about.
    """
    labels, probability = check_patches(labels, probability)
    names, number = _patients(patients, len(labels))
    counts = _counts(labels, probability, number, threshold)
    patches, positives = counts.sum(axis=1), counts[:, 0] + counts[:, 2]
    return pd.DataFrame(
        {
            "patches": patches.astype(int),
            "positives": positives.astype(int),
            "prevalence": positives / patches,
            "mean_probability": np.bincount(number, probability) / patches,
            **_counted(*counts.T),
        },
        pd.Index(names, name="patient"),
    )


def binary_reliability(labels: np.ndarray, probability: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """How often patches of a promised probability are positive, in bins of equal width.

    Unlike `reliability_table`, over the whole range of the probability of class 1, so that
    promises for rare positives are not lost among those for easy negatives. The columns are the
    same, for the same figure and `calibration_error`.

    Returns:
        A row per bin `(low, high]`: `low`, `high`, `count`, mean probability as `confidence`, and
        the share that is positive as `accuracy` (NaN if empty).
    """
    labels, probability = check_patches(labels, probability)
    return binned(probability, labels, bins)


def patient_bootstrap(
    labels: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    threshold: float | np.ndarray,
    metrics: Sequence[str] = REPORTED,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores with intervals from a bootstrap over patients.

    1. Draw as many patients as there are, with replacement; all patches of a patient come as
       often as it was drawn.
    2. Compute every score on them; repeat `samples` times.
    3. The interval of 95 % cuts 2.5 % of the scores off at either end (percentiles).

    Patches of one patient resemble each other, so that drawing patches would give intervals far
    too narrow. The interval tells how far a score would move on other patients like these: not
    on another hospital's, nor with other seeds of the training. With a dozen patients or fewer,
    percentile intervals are still too narrow; with patients of one class each, more so. Of one
    patient there is no interval at all.
    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Field and Welsh,
    "Bootstrapping clustered data" (2007).

    Args:
        labels, probability, patients, threshold: See the module's docstring.
        metrics: Some of `METRICS`. (The calibration error grows by resampling itself.)
        samples: Resamples.
        seed: Of the resamples; the same patients are drawn for every predictor.

    Returns:
        A row per metric: `value` on all patches, `low`, `high` (NaN with one patient), and
        `undefined`, the share of resamples in which it cannot be computed, on which the interval
        is silent.

    Raises:
        DataError: as `binary_scores`.
        ConfigError: for an unknown metric, or no sample.
    """
    return intervals(_resampled(labels, probability, patients, threshold, metrics, samples, seed))


def compare_bootstrap(
    labels: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    patients: np.ndarray,
    thresholds: float | Mapping[str, float | np.ndarray],
    reference: str,
    metrics: Sequence[str] = REPORTED,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Several predictors of the same patches, and their differences to one of them.

    Each resample of `patient_bootstrap` is given to all predictors. A patient that is hard for one
    is hard for all, so their scores move together: their intervals may overlap widely where their
    difference is sure. Judge by the interval of the difference: does it contain 0?

    Args:
        labels, patients: See the module's docstring.
        probabilities: (N,) each, by the name of the predictor.
        thresholds: One for all, or by name, as chosen on validation for each.
        reference: The name that all are compared with.
        metrics, samples, seed: As in `patient_bootstrap`.

    Returns:
        A row per predictor and metric: `method`, `metric`, `value`, `low`, `high`, `undefined`,
        `difference` (to the reference), `difference_low`, `difference_high`.

    Raises:
        ConfigError, DataError: as `patient_bootstrap`, or for a missing name.
    """
    if not isinstance(thresholds, Mapping):
        thresholds = dict.fromkeys(probabilities, thresholds)
    if missing := [name for name in probabilities if name not in thresholds]:
        raise ConfigError(f"There is no threshold for: {', '.join(missing)}")

    def score(predictor):
        return _resampled(labels, *predictor, metrics, samples, seed)

    predictors = {
        name: (values, patients, thresholds[name]) for name, values in probabilities.items()
    }
    return compare(predictors, reference, score)


def curve_bands(
    labels: np.ndarray,
    probability: np.ndarray,
    patients: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Pointwise intervals of both curves from a bootstrap over patients.

    Pointwise: a whole curve leaves its band somewhere more often than in 5 % of the cases.

    Returns:
        A row per hundredth `at`: `precision_low`, `precision_high` at the strictest threshold that
        reaches the recall `at` (more than 0), and `recall_low`, `recall_high` at the loosest
        threshold whose false positive rate is at most `at`.

    Raises:
        ConfigError: as `patient_bootstrap`.
        DataError: with fewer than two patients, or if all labels are of one class.
    """
    labels, probability = check_patches(labels, probability)
    need_both_classes(labels, "There is no curve to draw")
    names, number = _patients(patients, len(labels))
    if len(names) < 2:
        raise DataError(ONE_PATIENT)
    weights = resample(len(names), samples, seed)[1:]
    at = np.linspace(0, 1, 101)
    precision, recall = [], []
    for tp, fp in _cumulative(labels, probability, number, weights):
        for hits, alarms in zip(tp, fp, strict=True):
            if not hits[-1] or not alarms[-1]:
                continue  # only patients of one class were drawn
            place = np.searchsorted(hits, np.maximum(at * hits[-1], 1) - 1e-9)
            precision.append(hits[place] / (hits[place] + alarms[place]))
            place = np.searchsorted(alarms, at * alarms[-1] + 1e-9, side="right")
            recall.append(np.concatenate([[0], hits])[place] / hits[-1])
    if not precision:
        raise DataError("No resample has patches of both classes: there are too few patients.")
    columns = {"at": at}
    for name, curves in (("precision", precision), ("recall", recall)):
        columns[f"{name}_low"], columns[f"{name}_high"] = percentiles(curves)
    return pd.DataFrame(columns)


def _resampled(
    labels, probability, patients, threshold, wanted, samples, seed
) -> dict[str, np.ndarray]:
    """By metric (1 + samples,) values: on all patches, then on each resample."""
    if unknown := [name for name in wanted if name not in METRICS]:
        raise ConfigError(
            f"Metric {', '.join(map(repr, unknown))} is unknown. Choose some of {METRICS}."
        )
    labels, probability = check_patches(labels, probability)
    names, number = _patients(patients, len(labels))
    weights = resample(len(names), samples, seed)
    counts = _counts(labels, probability, number, threshold)
    values = _counted(*(weights @ counts).T)
    squares = np.bincount(number, (probability - labels) ** 2)
    values["brier"] = weights @ squares / (weights @ counts.sum(axis=1))
    if set(wanted) & set(AREAS):
        parts = [_areas(*part) for part in _cumulative(labels, probability, number, weights)]
        values |= dict(zip(AREAS, np.concatenate(parts, axis=1), strict=True))
    return {name: values[name] for name in wanted}


def _counts(labels, probability, number, threshold) -> np.ndarray:
    """True and false positives, false and true negatives of each group, (groups, 4)."""
    threshold = np.asarray(threshold)
    if threshold.shape not in ((), labels.shape):
        raise ConfigError(
            f"A threshold must be one number or one per patch ({len(labels)}). "
            f"Received: shape {threshold.shape}"
        )
    if not ((threshold >= 0) & (threshold <= 1)).all():
        raise ConfigError(
            f"A threshold must lie in 0..1. Received: {threshold.min():.3g}..{threshold.max():.3g}"
        )
    called, positive = probability >= threshold, labels == 1
    kinds = (called & positive, called & ~positive, ~called & positive, ~called & ~positive)
    return np.stack([np.bincount(number, kind) for kind in kinds], axis=1)


def _counted(tp, fp, fn, tn) -> dict[str, np.ndarray]:
    """`COUNTED` from counts of any shape."""
    positives, negatives = tp + fn, tn + fp
    n = positives + negatives
    f1, f1_of_negatives = ratio(2 * tp, 2 * tp + fp + fn), ratio(2 * tn, 2 * tn + fp + fn)
    recall, specificity = ratio(tp, positives), ratio(tn, negatives)
    weighted = positives * np.nan_to_num(f1) + negatives * np.nan_to_num(f1_of_negatives)
    both = (positives > 0) & (negatives > 0)
    return {
        "f1": np.where(positives > 0, f1, np.nan),
        "weighted_f1": weighted / n,
        "precision": np.where(both, ratio(tp, tp + fp), np.nan),
        "recall": recall,
        "specificity": specificity,
        "accuracy": (tp + tn) / n,
        "balanced_accuracy": (recall + specificity) / 2,
    }


def _cumulative(labels, probability, number, weights) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """True and false positives at each distinct probability as threshold, falling.

    Sorted once; each part holds some of the rows of `weights`: twice (rows, thresholds).
    """
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    positive, number = labels[order] == 1, number[order]
    rows = max(1, _CHUNK // len(order))
    for start in range(0, len(weights), rows):
        drawn = weights[start : start + rows][:, number]
        called = np.cumsum(drawn, axis=1)[:, ends]
        tp = np.cumsum(drawn * positive, axis=1)[:, ends]
        yield tp, called - tp


def _areas(tp, fp) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and ROC AUC of each row; NaN where only one class was drawn."""
    positives, negatives = tp[:, -1], fp[:, -1]
    step_up, step_right = np.diff(tp, prepend=0), np.diff(fp, prepend=0)
    precision = np.nan_to_num(ratio(tp, tp + fp))
    both = (positives > 0) & (negatives > 0)
    area = (step_right * (tp - step_up / 2)).sum(axis=1)  # equal scores count half
    average = ratio((step_up * precision).sum(axis=1), np.where(both, positives, 0))
    return average, ratio(area, positives * negatives)


def check_patches(labels: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int64, probabilities as float64: thresholds are compared in full precision.

    Raises:
        DataError: if they are not as the module's docstring says.
    """
    labels, probability = np.asarray(labels), np.asarray(probability)
    if probability.ndim != 1 or labels.shape != probability.shape or not len(labels):
        raise DataError(
            "Wanted labels (N,) and the probability (N,) of class 1, N at least 1. "
            f"Received: {labels.shape} and {probability.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"Labels must be 0 or 1. Received: {np.unique(labels)[:5].tolist()}")
    if not np.isfinite(probability).all():
        raise DataError("The probabilities are not all finite: did the training diverge?")
    if probability.min() < 0 or probability.max() > 1:
        raise DataError(
            "Probabilities must lie in 0..1 (are these logits?). "
            f"Received: {probability.min():.3g}..{probability.max():.3g}"
        )
    return labels.astype("int64"), probability.astype("float64")


def _patients(patients, n) -> tuple[np.ndarray, np.ndarray]:
    """Their names, sorted, and the place among them (N,) of each patch's patient."""
    patients = np.asarray(patients)
    if patients.shape != (n,):
        raise DataError(f"{n} patches, but patients of shape {patients.shape}")
    return np.unique(patients, return_inverse=True)


def need_both_classes(labels: np.ndarray, consequence: str) -> None:
    """Raises a `DataError` that begins with the consequence if all labels are of one class."""
    if labels.min() == labels.max():
        kind = ("negative", "positive")[labels[0]]
        raise DataError(
            f"{consequence}: all {len(labels)} patches are {kind}. Take patients of both classes."
        )
