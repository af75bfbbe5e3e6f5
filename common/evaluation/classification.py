"""Predictions of a classifier, with test-time augmentation, and their scores."""

from typing import Literal

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from common.data.images import ImageData
from common.errors import ConfigError, DataError
from common.evaluation.metrics import (
    accuracy_interval,
    check_labels,
    expected_calibration_error,
    negative_log_likelihood,
    paired_gain,
    temperature_scaling,
)
from common.models.summary import count_macs
from common.training.backend import device_settings
from common.training.experiment import Trained

# One weight per view of `test_time_views`: half for the image in its place, half for its shifts.
VIEW_WEIGHTS = (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)


def test_time_views(images: np.ndarray) -> list[np.ndarray]:
    """Six views of each image, of which the first is the image itself.

    In this order: in place, shifted one pixel up and left, shifted one pixel down and right
    (edges filled by reflection), and each of them followed by its mirror image. Averaging logits
    over them with `VIEW_WEIGHTS` is the test-time augmentation of Jordan, "94% on CIFAR-10 in
    3.29 Seconds on a Single GPU" (2024).

    Args:
        images: (N, H, W, channels), at least two pixels high and wide.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    up_left = padded[:, 2 : 2 + height, 2 : 2 + width]
    down_right = padded[:, :height, :width]
    placed = (images, up_left, down_right)
    return [np.ascontiguousarray(v) for view in placed for v in (view, view[:, :, ::-1])]


test_time_views.__test__ = False  # its name says "test", and it is none


def symmetric_views(images: np.ndarray) -> list[np.ndarray]:
    """The eight symmetries of each image: quarter turns, and the same of its mirror image.

    For images that mean the same however they lie, such as tissue.

    Args:
        images: (N, H, W, channels), as high as wide.
    """
    if images.shape[1] != images.shape[2]:
        raise DataError(f"Only square images can be turned. Received: {images.shape[1:]}")
    turned = (np.rot90(images, turns, axes=(1, 2)) for turns in range(4))
    return [np.ascontiguousarray(v) for view in turned for v in (view, view[:, :, ::-1])]


def predict(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int = 500,
    tta: bool | Literal["symmetries"] = False,
) -> np.ndarray:
    """Probabilities float32 (N, classes) of raw `uint8` images (N, H, W, 3).

    Args:
        model: Takes raw pixels, gives logits.
        images: At the size that the model takes.
        batch_size: Images computed at once.
        tta: Average the logits over views of each image: `True` for the six of `test_time_views`,
            "symmetries" for the eight of `symmetric_views`. So many times the cost.

    Raises:
        ConfigError: for a batch size below 1, an unknown `tta`, or a model that gives no logits
            (N, classes).
        DataError: for images of another type or size than the model takes.
    """
    return softmax(predict_logits(model, images, batch_size, tta), axis=1)


def predict_logits(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int = 500,
    tta: bool | Literal["symmetries"] = False,
) -> np.ndarray:
    """Logits float32 (N, classes); arguments and errors as in `predict`."""
    if tta is True:
        return average_views(predict_views(model, images, batch_size))
    if tta == "symmetries":
        return _logits(model, images, batch_size, symmetric_views).mean(axis=1)
    if tta:
        raise ConfigError(f"tta={tta!r} is unknown. Choose True, False or 'symmetries'.")
    return _logits(model, images, batch_size, lambda batch: [batch])[:, 0]


def predict_views(model: keras.Model, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Logits float32 (N, 6, classes) of each view; arguments and errors as in `predict`."""
    return _logits(model, images, batch_size, test_time_views)


def average_views(logits: np.ndarray) -> np.ndarray:
    """Logits (N, 6, classes) of the six views averaged with `VIEW_WEIGHTS` to (N, classes)."""
    return np.einsum("v,nvc->nc", np.asarray(VIEW_WEIGHTS, logits.dtype), logits)


def _logits(model, images, batch_size, make_views) -> np.ndarray:
    """Logits float32 (N, views, classes)."""
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
    check_images(model, images)
    if not model.compiled:  # Keras's own choice was XLA everywhere before 3.15
        model.jit_compile = device_settings().jit_compile
    batch_size = min(batch_size, len(images))
    results = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        count = len(batch)
        # The last batch is filled up: another shape would be compiled anew.
        batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - count, axis=0)])
        views = [np.asarray(model.predict_on_batch(view), "float32") for view in make_views(batch)]
        results.append(np.stack([view[:count] for view in views], axis=1))
    logits = np.concatenate(results)
    if logits.ndim != 3:
        raise ConfigError(
            f"The model {model.name!r} must give logits (N, classes). "
            f"Received: {(len(images), *logits.shape[2:])}"
        )
    return logits


def check_images(model: keras.Model, images: np.ndarray) -> None:
    """Makes sure that a model can take these images.

    Raises:
        DataError: if they are no raw pixels, none at all, or of another size.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        kind = f"{getattr(images, 'dtype', type(images).__name__)} {np.shape(images)}"
        raise DataError(f"Images must be raw pixels, uint8 (N, H, W, 3). Received: {kind}")
    if not len(images):
        raise DataError("There is no image to predict.")
    wanted = getattr(model, "input_shape", None)
    if wanted and len(wanted) == 4:
        fits = all(w in (None, r) for w, r in zip(wanted[1:], images.shape[1:], strict=True))
        if not fits:
            raise DataError(
                f"The model {model.name!r} takes images of {wanted[1:]}. "
                f"Received: {images.shape[1:]}. Read or resize them at that size."
            )


def evaluate(
    model: keras.Model, data: ImageData, batch_size: int = 500, tta: bool = True
) -> dict[str, float]:
    """Scores a model on labelled images.

    Returns:
        `n`, `accuracy` with its 95 % interval `accuracy_low` and `accuracy_high`, `loss` (mean
        negative log-likelihood, nats) and `ece`; with `tta` also `accuracy_tta`, `loss_tta` and
        `ece_tta`.

    Raises:
        ConfigError, DataError: as in `predict`, or if the model tells another number of classes.
    """
    if tta:
        views = predict_views(model, data.images, batch_size)
        scored = {"": views[:, 0], "_tta": average_views(views)}
    else:
        scored = {"": predict_logits(model, data.images, batch_size)}
    classes = scored[""].shape[1]
    if classes != len(data.classes):
        raise DataError(
            f"The model {model.name!r} tells {classes} classes, "
            f"{data.name} ({data.split}) has {len(data.classes)}."
        )
    result = {"n": len(data)}
    for suffix, logits in scored.items():
        correct = int((logits.argmax(axis=1) == data.labels).sum())
        result["accuracy" + suffix] = correct / len(data)
        if not suffix:
            result["accuracy_low"], result["accuracy_high"] = accuracy_interval(correct, len(data))
        result["loss" + suffix] = negative_log_likelihood(data.labels, logits)
        result["ece" + suffix] = expected_calibration_error(data.labels, softmax(logits, axis=1))
    return result


def calibration(model: keras.Model, validation: ImageData, batch_size: int = 500) -> dict:
    """What a run's record tells of its probabilities, so that `predict` can calibrate them.

    The temperature is fitted to labels smoothed by 1 / (N + 2), as in Platt, "Probabilistic Outputs
    for Support Vector Machines" (1999): of few images, all told rightly, it would become 0 else.

    Args:
        model: Takes raw pixels, gives logits.
        validation: Images that it was not trained on, and not those that it is judged by.
        batch_size: Images computed at once.

    Returns:
        `temperature`, what it was fitted on (`split`, `n`), and the expected calibration error of
        these images before and after: `ece`, `ece_calibrated`.

    Raises:
        ConfigError, DataError: as in `predict`.
    """
    logits, labels = predict_logits(model, validation.images, batch_size), validation.labels
    temperature = temperature_scaling(logits, labels, 1 / (len(labels) + 2))
    return {
        "temperature": temperature,
        "split": validation.split,
        "n": len(labels),
        "ece": expected_calibration_error(labels, softmax(logits, axis=1)),
        "ece_calibrated": expected_calibration_error(labels, softmax(logits / temperature, axis=1)),
    }


def keep_scores(trained: Trained, test: ImageData, validation: ImageData | None) -> dict:
    """Scores a trained classifier on test images, and keeps that in the record of its run.

    Args:
        trained: With its run.
        test: Images that nothing was chosen on.
        validation: What its probabilities are calibrated on, if there are any.

    Returns:
        See `evaluate`.
    """
    scores = evaluate(trained.network, test)
    metrics = {f"test_{key}": scores[key] for key in ("accuracy", "accuracy_tta")}
    if validation is not None:
        metrics["val_accuracy"] = float(trained.history["val_accuracy"].iloc[-1])
    metrics |= {f"test_{key}": value for key, value in scores.items() if key != "n"}
    trained.run.save_record(
        metrics=metrics,
        calibration=None if validation is None else calibration(trained.network, validation),
        parameters=trained.network.count_params(),
        macs=count_macs(trained.network, test.images.shape[1]),
        seconds=trained.seconds,
        epochs=len(trained.history),
    )
    return scores


def tta_table(labels: np.ndarray, views: np.ndarray) -> pd.DataFrame:
    """What test-time augmentation gains, step by step.

    Args:
        labels: (N,).
        views: Logits (N, 6, classes) of `predict_views`.

    Returns:
        Rows "image alone", "and its mirror image", "and shifts by a pixel"; columns `accuracy`, how
        many images a row has `corrected` and `spoiled` compared with the first, and what it has
        gained, `gain`, with the 95 % interval `low` to `high` of `paired_gain`.
    """
    if np.ndim(views) != 3 or np.shape(views)[1] != len(VIEW_WEIGHTS):
        raise DataError(f"Wanted logits (N, 6, classes). Received: {np.shape(views)}")
    labels, alone = check_labels(labels, views[:, 0], "logits")
    steps = {
        "image alone": alone,
        "and its mirror image": views[:, :2].mean(axis=1),
        "and shifts by a pixel": average_views(views),
    }
    correct = {name: logits.argmax(axis=1) == labels for name, logits in steps.items()}
    before = correct["image alone"]
    rows = []
    for now in correct.values():
        gain, low, high = paired_gain(before, now)
        rows.append(
            {
                "accuracy": now.mean(),
                "corrected": int((now & ~before).sum()),
                "spoiled": int((before & ~now).sum()),
                "gain": gain,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows, index=pd.Index(correct, name="views"))
