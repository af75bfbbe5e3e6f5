"""Scores an image-folder tree with a trained network."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.choices import check_images, subfolders
from common.course.lessons import phase_name
from common.errors import ConfigError, DataError
from common.files import read_json
from common.paths import beside_lessons
from common.progress import progress_bar
from common.training.run_folders import run_folder

if TYPE_CHECKING:
    import keras

    from common.data.images import ImageData

SHOWN = 24  # images in the figure


def evaluate(
    data: Path,
    run: str | None,
    batch_size: int,
    figure: Path | None = None,
    changes: bool = False,
) -> dict:
    """Accuracy on `data/test/<class>/*`, plain and with test-time augmentation; call `check` first.

    Args:
        run: Name or folder of a run; `None` for the weights that the repository carries.
        figure: PNG file for images drawn at random and what the network says of them, with
            calibrated probabilities where the record has a temperature.
        changes: Also score the images after each of `CORRUPTIONS`, without augmentation.

    Returns:
        `n`, `accuracy` and `accuracy_tta`; with `changes` a dictionary of that name: for each
        change the `accuracy`, and the `gain` with its 95 % interval from `low` to `high`, on the
        same images.

    Raises:
        ConfigError: for an unknown run.
        DataError: if the tree cannot be read, or its classes are not those of the network.
    """
    from scipy.special import softmax

    from common.course.predict_images import temperature_of
    from common.data import load_images
    from common.evaluation import classification
    from common.training.released import load_model

    images = load_images(f"folder:{data}", "test")
    model, record = load_model(run)
    known = tuple(record["classes"])
    labels = match_labels(images.labels, images.classes, known)
    images = replace(images, labels=labels, classes=known)
    scores = classification.evaluate(model, images, batch_size)
    if figure is not None:
        from common import plots

        chosen = np.random.default_rng(0).permutation(len(images))[:SHOWN]
        logits = classification.predict_logits(model, images.images[chosen], batch_size)
        told = softmax(logits / (temperature_of(record) or 1.0), axis=1)
        labels = images.labels[chosen]
        plots.save_figure(plots.answer_gallery(images.images[chosen], labels, told, known), figure)
    result = {name: scores[name] for name in ("n", "accuracy", "accuracy_tta")}
    if changes:
        result["changes"] = _changed(model, images, batch_size)
    return result


def _changed(model: "keras.Model", images: "ImageData", batch_size: int) -> dict[str, dict]:
    from common.data.corruptions import CORRUPTIONS, corrupt
    from common.evaluation.classification import predict_logits
    from common.evaluation.metrics import paired_gain

    def right(pixels: np.ndarray) -> np.ndarray:
        return predict_logits(model, pixels, batch_size).argmax(axis=1) == images.labels

    found, before = {}, right(images.images)
    for name, how in progress_bar(CORRUPTIONS.items(), "changes", total=len(CORRUPTIONS)):
        after = right(corrupt(images.images, *how, seed=0))
        gain, low, high = paired_gain(before, after)
        accuracy = float(after.mean())
        found[name] = {"accuracy": accuracy, "gain": gain, "low": low, "high": high}
    return found


def check(phase: str, data: Path, run: str | None) -> None:
    """What of `evaluate` can be told before anything heavy is imported.

    Raises:
        ConfigError: for an unknown phase or run.
        DataError: if the images do not lie as they should, or not in the network's classes.
    """
    if phase_name(phase) != "phase1_cifar":
        raise ConfigError(
            f"There is nothing to evaluate for {phase!r}. Choose phase1; `predict phase2` scores "
            "patches."
        )
    released = beside_lessons("phase1_cifar", "weights") or Path()
    record = (released if run is None else run_folder(run, "phase1_cifar")) / "record.json"
    check_images(Path(data), ("test",))
    known = read_json(record, dict).get("classes") if record.exists() else None
    found = subfolders(Path(data) / "test")
    # Of folders besides these, the reader knows which are none of classes.
    if isinstance(known, list) and not {str(name) for name in known} <= found:
        check_classes(found, known)


def match_labels(labels: np.ndarray, found: list[str], known: list[str]) -> np.ndarray:
    """Labels numbered in the order of `found` renumbered in the order of `known`.

    Args:
        labels: (N,) integers.
        found: Names of the data's classes.
        known: Names of the network's classes.

    Raises:
        DataError: if the names are not the same.
    """
    check_classes(found, known)
    return np.array([list(known).index(name) for name in found], dtype="int32")[labels]


def check_classes(found: Iterable[str], known: Iterable[str]) -> None:
    """Makes sure that data have the classes of a network.

    Raises:
        DataError: naming those that differ.
    """
    if set(found) != set(known):
        missing = ", ".join(sorted(set(known) - set(found))) or "none"
        unknown = ", ".join(sorted(set(found) - set(known))) or "none"
        raise DataError(
            f"The data's classes are not the network's. Missing: {missing}; unknown: {unknown}. "
            f"The network knows: {', '.join(known)}. --run names a network of yours."
        )
