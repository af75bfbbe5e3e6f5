"""Scores an image-folder tree with a trained network."""

from pathlib import Path

import numpy as np

from common.errors import ConfigError, DataError


def evaluate(phase: str, data: Path, run: str | None, batch_size: int) -> dict:
    """Accuracy on `data/test/<class>/*`, plain and with test-time augmentation.

    Args:
        run: Name or folder of a run; `None` for the weights that the repository carries.

    Raises:
        ConfigError: for an unknown phase or run, or a batch size below 1.
        DataError: if the tree cannot be read, or its classes are not those of the network.
    """
    if phase not in ("1", "phase1", "phase1_cifar"):
        raise ConfigError(f"There is nothing to evaluate for {phase!r}. Choose phase1.")
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {batch_size}")
    # Heavy, and not needed to say the above.
    from common.data import load_images
    from common.evaluation.classification import predict
    from common.training.released import load_model

    images = load_images(f"folder:{data}", "test")
    model, record = load_model(run)
    labels = match_labels(images.labels, images.classes, record["classes"])
    result = {"n": len(labels)}
    for name, tta in (("accuracy", False), ("accuracy_tta", True)):
        probabilities = predict(model, images.images, batch_size=batch_size, tta=tta)
        result[name] = float(np.mean(np.argmax(probabilities, axis=-1) == labels))
    return result


def match_labels(labels: np.ndarray, found: list[str], known: list[str]) -> np.ndarray:
    """Labels numbered in the order of `found` renumbered in the order of `known`.

    Args:
        labels: (N,) integers.
        found: Names of the data's classes.
        known: Names of the network's classes.

    Raises:
        DataError: if the names are not the same.
    """
    if set(found) != set(known):
        missing = ", ".join(sorted(set(known) - set(found))) or "none"
        unknown = ", ".join(sorted(set(found) - set(known))) or "none"
        raise DataError(
            f"The data's classes are not the network's. Missing: {missing}; unknown: {unknown}. "
            f"The network knows: {', '.join(known)}."
        )
    return np.array([list(known).index(name) for name in found], dtype="int32")[labels]
