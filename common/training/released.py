"""Weights that the repository carries, in half precision, with the record of their run."""

from pathlib import Path

import keras

from common.errors import ConfigError
from common.paths import beside_lessons
from common.training.run_folders import run_folder
from common.training.runs import read_record
from common.training.store import (
    CAPTIONING,
    RESTORE,
    build,
    read_captioner,
    read_captioner_record,
    read_network,
    write_half,
    write_record,
)

REWARDED = "rewarded"  # folder of released captioners that were trained by a reward


def load_model(run: str | None = None, phase: str = "phase1_cifar") -> tuple[keras.Model, dict]:
    """A trained network in float32, and the record of its training.

    Args:
        run: Name of a finished run under `outputs/runs`, or the path of its folder; `None` for
            the weights that the repository carries.
        phase: Whose released weights to take.

    Raises:
        ConfigError: if there is no such run, or it has not finished.
        DataError: if its files are damaged.
    """
    folder = released_folder(phase) if run is None else run_folder(run)
    record = read_record(folder)
    return read_network(folder, None if run else RESTORE), record


def released_folder(phase: str = "phase1_cifar") -> Path:
    """Where a phase keeps its released weights.

    Raises:
        ConfigError: where the course is not installed with them.
    """
    folder = beside_lessons(phase, "weights")
    if folder is None:
        raise ConfigError(
            f"The weights of {phase} are not installed with the course. Install it anew, or name a "
            "run."
        )
    return folder


def released_record(phase: str = "phase1_cifar") -> dict | None:
    """The record of a phase's released weights; `None` where there are none."""
    folder = beside_lessons(phase, "weights")
    return read_record(folder) if folder and (folder / "record.json").exists() else None


def release(model: keras.Model, record: dict, folder: Path) -> None:
    """Writes a network's weights in float16 with its record, which says how to build it.

    Args:
        model: The network.
        record: See `build`.
        folder: Of the released weights.
    """
    write_half(model, build(record, folder, "float16"), folder)
    write_record(record, folder)


def released_captioner(teacher_forced: bool = False) -> Path:
    """Where the repository keeps its captioner of photos.

    Args:
        teacher_forced: The one that has not been trained by a reward yet, whatever there is.
    """
    folder = released_folder(CAPTIONING)
    rewarded = folder / REWARDED
    return rewarded if rewarded.is_dir() and not teacher_forced else folder


def release_captioner(run: str | Path) -> tuple[Path, dict]:
    """Writes a run's weights in half precision into the repository, with vocabulary and record.

    Returns:
        The folder, and the record.
    """
    source = run_folder(run)
    record = read_captioner_record(source)
    network, vocabulary = read_captioner(source)
    folder = released_folder(CAPTIONING) / (REWARDED if "reward" in record else "")
    vocabulary.save(folder / "vocabulary.json")
    release(network, record, folder)
    return folder, record
