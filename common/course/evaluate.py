"""Scores an image-folder tree with a trained network; makes a run the released one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.course.lessons import phase_name
from common.errors import ConfigError, DataError


def evaluate(phase: str, data: Path, run: str | None, batch_size: int) -> dict:
    """Accuracy on `data/test/<class>/*`, plain and with test-time augmentation.

    Args:
        run: Name or folder of a run; `None` for the weights that the repository carries.

    Raises:
        ConfigError: for an unknown phase or run, or a batch size below 1.
        DataError: if the tree cannot be read, or its classes are not those of the network.
    """
    _check_phase(phase)
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be 1 or more. Received: {batch_size}")
    # Heavy, and not needed to say the above.
    from common.data import load_images
    from common.evaluation import classification
    from common.training.released import load_model

    images = load_images(f"folder:{data}", "test")
    model, record = load_model(run)
    known = tuple(record["classes"])
    labels = match_labels(images.labels, images.classes, known)
    images = replace(images, labels=labels, classes=known)
    scores = classification.evaluate(model, images, batch_size)
    return {name: scores[name] for name in ("n", "accuracy", "accuracy_tta")}


def release(phase: str, run: str) -> tuple[Path, dict]:
    """Writes a run's weights in half precision into the repository, with its record.

    The run "scenes" of phase 3 trains the backbone of the built-in scenes anew.

    For phases 1 and 3, the test metrics in the record are those of the written file, in float32,
    on all test images of the run's data set.

    Returns:
        The folder, and the record.

    Raises:
        ConfigError: for an unknown phase or an unfinished run, or outside a repository.
    """
    from common.training import released

    phase = phase_name(phase)
    if phase == "phase3_captioning":
        if run == "scenes":
            from common.training.scene_backbone import release_scene_backbone

            return release_scene_backbone()
        return _release_captioner(run)
    model, record = released.load_model(run, phase)
    if record["phase"] != phase:
        raise ConfigError(f"The run {run!r} is one of {record['phase']}, not of {phase}.")
    folder = released.release(model, record, phase)
    if phase == "phase1_cifar":
        from common.data import load_images
        from common.evaluation import classification

        test = load_images(record["dataset"], "test")
        scores = classification.evaluate(released.load_released()[0], test)
        found = {f"test_{name}": value for name, value in scores.items() if name != "n"}
        record["metrics"] |= found
        record["data"] |= {"n_test": scores["n"]}
        released.write_record(record)
    return folder, record


def _release_captioner(run: str) -> tuple[Path, dict]:
    """The same for phase 3: the test metrics are of the file's captions, by the record's way."""
    from common.evaluation.captioners import judge
    from common.files import write_json
    from common.training import captioner

    folder, record = captioner.release_captioner(run)
    trained, vocabulary = captioner.read_captioner(folder)
    backbone = record["backbone"]
    task = captioner.caption_task(
        record["dataset"],
        record["profile"],
        backbone=backbone["name"],
        weights=backbone["weights"],
        vocabulary=vocabulary,
    )
    table, _ = judge(trained, task, "test", {"chosen": record["decoding"]})
    found = table.loc["chosen"]
    record["metrics"] |= {
        name: float(found[name.removeprefix("test_")])
        for name in record["metrics"]
        if name.startswith("test_")
    }
    write_json(folder / "record.json", record)
    return folder, record


def _check_phase(phase: str) -> None:
    if phase_name(phase) != "phase1_cifar":
        raise ConfigError(
            f"There is nothing to evaluate for {phase!r}. Choose phase1; `predict phase2` scores "
            "patches."
        )


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
