"""What to measure on the predictions of a classifier: accuracy, calibration, mistakes.

Everywhere below, N is the number of images, `labels` are integers (N,), `probabilities` are
(N, classes) with rows that sum to 1, and `logits` are what comes before the softmax. No Keras
here: arrays in, numbers and tables out.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn import metrics

from common.errors import ConfigError, DataError


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's interval (95 %) of an accuracy of `correct` out of `n` independent images.

    It tells how far the accuracy would move on other test images, not with other seeds.

    Raises:
        ConfigError: if `correct` is no part of `n`.
    """
    if not 0 <= correct <= n or n < 1:
        raise ConfigError(f"Wanted 0 <= correct <= n and n >= 1. Received: {correct} of {n}")
    interval = binomtest(int(correct), int(n)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired_gain(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """What a change gains in accuracy on the same images, with its 95 % interval.

    Only images whose answer turns right (b) or wrong (c) count: the gain is (b - c) / N, and its
    variance ((b + c) / N - gain^2) / N. Normal approximation: fair from some ten such images on.

    Args:
        before, after: Which answers are right, bool (N,).

    Returns:
        `(gain, low, high)`, as shares of the images.

    Raises:
        DataError: if they are not of the same images, or of none.
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise DataError(
            "Wanted which answers are right before and after, bool (N,) both, N at least 1. "
            f"Received: {before.shape} and {after.shape}"
        )
    change = after.astype(int) - before
    gain, half = change.mean(), 1.96 * change.std() / np.sqrt(len(change))
    return float(gain), float(gain - half), float(gain + half)


def negative_log_likelihood(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of `-log p(label)` in nats: the cross-entropy loss without label smoothing."""
    labels, logits = check_labels(labels, logits, "logits")
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def classification_table(
    labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> pd.DataFrame:
    """Precision, recall, F1 and support, a row per class; 0 where a ratio is undefined."""
    labels, probabilities = _check(labels, probabilities, classes)
    columns = metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    names = ("precision", "recall", "F1", "support")
    index = pd.Index(classes, name="class")
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)


def confusion_matrix(
    labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> pd.DataFrame:
    """Numbers of images: a row per true class, a column per predicted one."""
    labels, probabilities = _check(labels, probabilities, classes)
    counts = metrics.confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(classes))
    )
    index, columns = pd.Index(classes, name="truth"), pd.Index(classes, name="predicted")
    return pd.DataFrame(counts, index, columns)


def reliability_table(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> pd.DataFrame:
    """What a model promises and what it keeps, in bins of equal width of its confidence.

    Confidence is the probability of the predicted class. Bin b holds the confidences in
    ((b - 1) / bins, b / bins].

    Returns:
        A row per bin: `low`, `high`, `count`, mean `confidence` and `accuracy` (NaN if empty).
    """
    labels, probabilities = _check(labels, probabilities)
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins)


def binned(promised: np.ndarray, kept: np.ndarray, bins: int) -> pd.DataFrame:
    """Means of probabilities (N,) and of what came true (N,), in bins of equal width of the former.

    Returns:
        The table of `reliability_table`.

    Raises:
        ConfigError: for less than one bin.
    """
    if bins < 1:
        raise ConfigError(f"bins must be at least 1. Received: {bins}")
    promised = promised.astype("float64")
    number = np.clip(np.ceil(promised * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": ratio(np.bincount(number, promised, bins), count),
            "accuracy": ratio(np.bincount(number, kept, bins), count),
        }
    )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where `whole` is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their counts.

    `ECE = sum_b n_b / N |accuracy_b - confidence_b|`; Guo et al., "On Calibration of Modern
    Neural Networks" (2017).
    """
    return calibration_error(reliability_table(labels, probabilities, bins))


def calibration_error(table: pd.DataFrame) -> float:
    """The expected calibration error of a `reliability_table`."""
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["count"]).sum() / table["count"].sum())


def temperature_scaling(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    """The temperature T that makes `softmax(logits / T)` most likely, in [0.05, 20].

    Above 1 the model was too sure of itself. Fit T on validation images and use it on others:
    it changes no prediction, only its confidence. Guo et al. (2017), section 4.2.

    Args:
        logits: (N, classes).
        labels: (N,).
        smoothing: A label counts so much less, and all classes together so much more: with it T
            is above its lower end where every image is told rightly, too.
    """
    labels, logits = check_labels(labels, logits, "logits")

    def loss(log_t: float) -> float:
        log_p = log_softmax(logits / np.exp(log_t), axis=1)
        of_labels = log_p[np.arange(len(labels)), labels].mean()
        return -(1 - smoothing) * of_labels - smoothing * log_p.mean()

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def most_confident_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, count: int = 12
) -> pd.DataFrame:
    """The wrong predictions of the highest confidence, the most confident first.

    Returns:
        At most `count` rows: `index` of the image, `truth`, `predicted` and `confidence`.
    """
    labels, probabilities = _check(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    index = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return pd.DataFrame(
        {
            "index": index,
            "truth": labels[index],
            "predicted": predicted[index],
            "confidence": confidence[index],
        }
    )


def most_frequent_confusions(confusions: pd.DataFrame, count: int = 6) -> pd.DataFrame:
    """Which class is called which other one most often.

    Args:
        confusions: Images by truth (rows) and prediction, as `confusion_matrix` gives them.
        count: Rows at most.

    Returns:
        `truth`, `predicted`, `images` and `share` of the images of the true class; empty where
        nothing is confused.
    """
    pairs = confusions.reset_index().melt("truth", var_name="predicted", value_name="images")
    pairs["share"] = pairs["images"] / pairs["truth"].map(confusions.sum(axis=1))
    pairs = pairs[(pairs["truth"] != pairs["predicted"]) & (pairs["images"] > 0)]
    return pairs.nlargest(count, "images").reset_index(drop=True)


def _check(labels, probabilities, classes=None) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = check_labels(labels, probabilities, "probabilities")
    if classes is not None and probabilities.shape[1] != len(classes):
        raise DataError(f"{len(classes)} classes, but probabilities of shape {probabilities.shape}")
    sums = probabilities.sum(axis=1)
    if probabilities.min() < 0 or not np.allclose(sums, 1, atol=1e-3):
        raise DataError(
            "Each row of probabilities must be positive and sum to 1 (are these logits?). "
            f"Received: sums {sums.min():.3g}..{sums.max():.3g}"
        )
    return labels, probabilities


def check_labels(
    labels: np.ndarray, scores: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, `scores` (N, classes) being the logits or probabilities of `labels`.

    Raises:
        DataError: if shapes do not match, labels lie outside the classes, or scores are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise DataError(
            f"Wanted labels (N,) and {name} (N, classes), N at least 1. "
            f"Received: {labels.shape} and {scores.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"Labels must be whole numbers. Received: {labels.dtype}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise DataError(
            f"Labels must lie in 0..{scores.shape[1] - 1}. Received: {labels.min()}..{labels.max()}"
        )
    if not np.isfinite(scores).all():
        raise DataError(f"The {name} hold values that are not finite: did the training diverge?")
    return labels, scores
