"""What a network is worth on patches of patients: threshold from some, intervals from others."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from common.data.images import ImageData
from common.data.listing import some
from common.errors import DataError
from common.evaluation.binary import ONE_PATIENT, patient_bootstrap, what_is_missing
from common.evaluation.classification import predict, predict_logits
from common.evaluation.leave_one_out import left_out_thresholds
from common.evaluation.thresholds import best_threshold
from common.models.ensemble import members_of
from common.training.store import trained_on


@dataclass(frozen=True)
class PatchScores:
    """What a predictor is worth.

    Attributes:
        probability: Of class 1, (N,), of the patches that were scored.
        threshold: From which on a patch is called positive; one number, or one per patch.
        table: From `patient_bootstrap`: a row per metric with `value`, `low`, `high`.
        missing: Why a metric, or "intervals", cannot be computed, by its name.
    """

    probability: np.ndarray
    threshold: float | np.ndarray
    table: pd.DataFrame
    missing: dict[str, str]

    def metrics(self, prefix: str = "test_") -> dict[str, float]:
        """Flat, as records keep them: `test_f1`, `test_f1_low`, `test_f1_high`, ..."""
        return {
            f"{prefix}{name}{suffix}": float(row[column])
            for name, row in self.table.iterrows()
            for suffix, column in (("", "value"), ("_low", "low"), ("_high", "high"))
            if np.isfinite(row[column])
        }


def score_network(
    network: keras.Model, validation: ImageData, test: ImageData, samples: int = 1000
) -> PatchScores:
    """Scores on `test`, at the threshold with the best F1 on `validation`.

    Args:
        samples: Draws of the bootstrap over patients.

    Validation patches of one class leave the threshold at one half, with a warning.
    """
    held = predict(network, validation.images)[:, 1]
    threshold = best_threshold(validation.labels, held, default=0.5)
    probability = held if test is validation else predict(network, test.images)[:, 1]
    return score_predictions(test, probability, threshold, samples)


def score_predictions(
    data: ImageData,
    probability: np.ndarray,
    threshold: float | np.ndarray,
    samples: int = 1000,
) -> PatchScores:
    """Scores of predictions that are there already; arguments as in `PatchScores`."""
    table = patient_bootstrap(data.labels, probability, data.groups, threshold, samples=samples)
    missing = what_is_missing(data.labels, probability, threshold)
    if len(np.unique(data.groups)) < 2:
        missing["intervals"] = ONE_PATIENT
    return PatchScores(probability, threshold, table, missing)


def unseen_logits(network: keras.Model, record: dict, data: ImageData) -> np.ndarray:
    """Logits of each patch, from networks that have not seen its patient.

    Args:
        network: An `Ensemble`, or another network.
        record: Its record, which tells the patients that each member was trained on.
        data: Patches, with groups.

    Returns:
        float32 (N, classes): the mean of the members that may speak.

    Raises:
        DataError: if all of them have seen a patient.
    """
    patients, tta = data.groups.astype(str), record.get("tta", False)
    logits, counts = np.zeros((len(data), len(data.classes)), "float32"), np.zeros(len(data), int)
    for member, seen in zip(members_of(network), trained_on(record), strict=True):
        unseen = np.flatnonzero(~np.isin(patients, list(seen)))
        if len(unseen):
            logits[unseen] += predict_logits(member, data.images[unseen], tta=tta)
            counts[unseen] += 1
    if not counts.all():
        seen = np.unique(patients[counts == 0]).tolist()
        raise DataError(
            f"The network {record['run_name']} was trained on all patches of {some(seen)}: it "
            "cannot be judged on them. Leave these patients out, or name another network."
        )
    return logits / counts[:, None]


def judge_patients(network: keras.Model, validation: ImageData) -> dict[str, float]:
    """What a network is worth on validation patients, for comparisons of many networks.

    Each patient is judged at the best threshold of the others, so that no threshold is chosen on
    what it is judged by, and no patient is lost to choosing one.

    Returns:
        As `PatchScores.metrics`, without prefix; then the same with "tta_" before it, of the mean
        over the eight symmetries.
    """
    found = {}
    for prefix, tta in (("", False), ("tta_", "symmetries")):
        probability = predict(network, validation.images, tta=tta)[:, 1]
        thresholds = left_out_thresholds(validation.labels, probability, validation.groups)
        found |= score_predictions(validation, probability, thresholds).metrics(prefix)
    return found
