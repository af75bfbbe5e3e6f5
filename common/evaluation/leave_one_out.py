"""Leave-one-patient-out: as many trainings as patients, each tested on the one it has not seen."""

import gc
import hashlib
import json
import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from common.data.images import ImageData
from common.data.splits import leave_one_patient_out
from common.evaluation.classification import predict
from common.evaluation.thresholds import best_threshold
from common.files import check_output, hold, write_atomically
from common.models.resnet import ResNetConfig
from common.paths import display
from common.progress import progress_bar
from common.training import experiment
from common.training.backend import DeviceSettings, forget_gradients
from common.training.classification import Classification
from common.training.recipes import Recipe

logger = logging.getLogger(__name__)


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

    Nothing is chosen on the way: every training runs its recipe to the end. Each takes its memory
    with it: many patients need no more than one.

    Args:
        config: The architecture.
        recipe: The hyper-parameters.
        data: All patches, with groups.
        settings: From `device_settings`.
        seed: Of every training.
        folder: Where each patient's predictions are kept once they are made, so that a killed
            call goes on with the next patient. They are found again by what they were made of, and
            made anew where they are damaged. `None` keeps nothing.
        tta: See `common.evaluation.classification.predict`.
        progress: Show a progress bar over the patients.

    Returns:
        float32 (N,).

    Raises:
        CourseError: if nothing can be written into `folder`.
        DataError: for data of one patient, or without patients.
    """
    probability = np.full(len(data), np.nan, "float32")
    rounds = leave_one_patient_out(data)
    groups = np.asarray(data.groups)
    made_of = {
        "network": config.to_dict(),
        "recipe": recipe.to_dict(),
        "data": data.fingerprint(),
        "seed": seed,
        "tta": tta,
        "backend": settings.backend,
    }
    kept = nullcontext() if folder is None else hold(folder / ".lock", "predicts left-out patients")
    with kept:
        for group in progress_bar(np.unique(groups), "left out", disable=not progress):
            patient, train, test = next(rounds)
            chosen = groups == group
            path = None
            if folder is not None:
                # All patches but these trained the network, whatever the patient is called.
                text = json.dumps(made_of, default=str)
                key = hashlib.sha256(text.encode() + np.packbits(chosen).tobytes())
                name = re.sub("[^A-Za-z0-9]+", "-", patient)[:40]
                path = folder / f"{name}-{key.hexdigest()[:16]}.predictions"
            found = None if path is None else _read(path, len(test))
            if found is None:
                if path is not None:
                    check_output(path)
                found = _predict_one(config, recipe, train, test, settings, seed, tta)
                if path is not None:
                    _write(path, found)
            probability[chosen] = found
            del train, test  # before the next ones are copied
    return probability


def _predict_one(config, recipe, train, test, settings, seed, tta) -> np.ndarray:
    with forget_gradients():
        trained = experiment.train(
            Classification(config, train), recipe, settings, seed=seed, progress=False
        )
        found = predict(trained.network, test.images, tta=tta)[:, 1]
    del trained
    gc.collect()  # a network and its graphs lie in circles of references
    return found


def _write(path: Path, found: np.ndarray) -> None:
    content = found.astype("<f4").tobytes()
    with write_atomically(path) as temporary:
        temporary.write_bytes(_digest(path, content) + content)


def _read(path: Path, count: int) -> np.ndarray | None:
    """What `_write` kept; `None` if there is nothing, or, with a warning, if it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("Could not read %s (%s): made anew.", display(path), error.strerror)
        return None
    digest, content = content[:32], content[32:]
    if _digest(path, content) == digest and len(content) == 4 * count:
        return np.frombuffer(content, "<f4")
    logger.warning("%s is damaged: the predictions in it are made anew.", display(path))
    return None


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + content).digest()


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
