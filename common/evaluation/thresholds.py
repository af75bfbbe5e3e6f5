"""Every threshold on a probability, what each gives, and the best of them.

Names and shapes are those of `common.evaluation.binary`.
"""

import logging

import numpy as np
import pandas as pd
from sklearn.metrics import auc, roc_curve

from common.evaluation.binary import check_patches, need_both_classes
from common.evaluation.metrics import ratio

logger = logging.getLogger(__name__)


def operating_points(labels: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """What each possible threshold gives: the precision-recall and the ROC curve in one table.

    Returns:
        A row per distinct probability, used as threshold, from the strictest to the loosest, after
        a first row (`inf`) that calls nothing positive: `threshold`, `precision` (NaN in the
        first row), `recall`, `false_positive_rate`, `f1`.

    Raises:
        DataError: if all labels are of one class.
    """
    labels, probability = check_patches(labels, probability)
    need_both_classes(labels, "There is no curve to draw")
    false_rate, recall, threshold = roc_curve(labels, probability, drop_intermediate=False)
    positives = labels.sum()
    tp = np.rint(recall * positives)
    called = tp + np.rint(false_rate * (len(labels) - positives))
    return pd.DataFrame(
        {
            "threshold": threshold,
            "precision": ratio(tp, called),
            "recall": recall,
            "false_positive_rate": false_rate,
            "f1": 2 * tp / (called + positives),
        }
    )


def curve_areas(points: pd.DataFrame) -> tuple[float, float]:
    """`(average_precision, roc_auc)` of a table of `operating_points`."""
    steps = np.diff(points["recall"]) * points["precision"][1:]
    return float(steps.sum()), float(auc(points["false_positive_rate"], points["recall"]))


def best_threshold(
    labels: np.ndarray, probability: np.ndarray, default: float | None = None
) -> float:
    """The threshold of the highest F1; for validation patches, to be used on others.

    It lies midway between the last probability that is called positive and the next lower one (or
    0), so that it depends on neither alone. Of equally good thresholds the highest is taken: it
    raises the fewest false alarms.

    Args:
        labels, probability: See the module's docstring.
        default: What to take, with a warning, where all labels are of one class.

    Raises:
        DataError: if all labels are of one class, where any threshold could be justified, and
            there is no default.
    """
    labels, probability = check_patches(labels, probability)
    if default is not None and labels.min() == labels.max():
        kind = ("negative", "positive")[labels[0]]
        logger.warning(
            "All %s patches to choose a threshold on are %s: %s is taken.",
            len(labels),
            kind,
            default,
        )
        return default
    need_both_classes(labels, "There is no best threshold")
    points = operating_points(labels, probability)
    best = int(points["f1"].argmax())
    upper, lower = [*points["threshold"], 0.0][best : best + 2]
    middle = (upper + lower) / 2
    return float(middle if middle > lower else upper)  # neighbouring floats have no middle
