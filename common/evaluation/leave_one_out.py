"""Leave-one-patient-out: as many trainings as patients, each tested on the one it has not seen."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.data.images import ImageData
from common.data.splits import leave_one_patient_out
from common.errors import DataError
from common.evaluation.binary import best_threshold
from common.evaluation.classification import predict
from common.files import write_atomically
from common.models.resnet import ResNetConfig
from common.training.backend import DeviceSettings
from common.training.experiment import train_resnet
from common.training.recipes import Recipe


def predict_left_out(
    config: ResNetConfig,
    recipe: Recipe,
    data: ImageData,
    settings: DeviceSettings,
    *,
    seed: int = 0,
    folder: Path | None = None,
    tta: bool | Literal["symmetries"] = False,
    progress: bool = True,
) -> np.ndarray:
    """The probability of class 1 of each patch, from a network that has not seen its patient.

    Nothing is chosen on the way: every training runs its recipe to the end.

    Args:
        config: The architecture.
        recipe: The hyper-parameters.
        data: All patches, with groups.
        settings: From `device_settings`.
        seed: Of every training.
        folder: Where each patient's predictions are kept once they are made, so that a killed
            call goes on with the next patient; for this configuration and data alone. `None` keeps
            nothing.
        tta: See `common.evaluation.classification.predict`.
        progress: Show a progress bar over the patients.

    Returns:
        float32 (N,).

    Raises:
        DataError: for data of one patient, or without patients.
    """
    probability = np.full(len(data), np.nan, "float32")
    rounds = leave_one_patient_out(data)
    total = len(np.unique(data.groups))
    for patient, train, test in tqdm(rounds, "left out", total, disable=not progress):
        path = None if folder is None else folder / f"{patient}.npy"
        if path is not None and path.exists():
            found = np.load(path, allow_pickle=False)
        else:
            trained = train_resnet(config, recipe, train, None, settings, seed=seed, progress=False)
            found = predict(trained.network, test.images, tta=tta)[:, 1]
            if path is not None:
                with write_atomically(path) as temporary:
                    np.save(temporary, found)
        chosen = data.groups == patient
        if found.shape != (chosen.sum(),):
            raise DataError(
                f"{path} holds {len(found)} predictions, but {patient} has {chosen.sum()} patches. "
                f"Delete {folder} to make all of them anew."
            )
        probability[chosen] = found
    return probability


def left_out_thresholds(
    labels: np.ndarray, probability: np.ndarray, patients: np.ndarray
) -> np.ndarray:
    """For each patch the best threshold on the patches of all other patients, (N,).

    So the threshold by which a patient is judged is not chosen on that patient either.

    Raises:
        DataError: if without some patient one class only is left.
    """
    thresholds = np.empty(len(labels))
    for patient in pd.unique(patients):
        own = patients == patient
        thresholds[own] = best_threshold(labels[~own], probability[~own])
    return thresholds
