"""Weights that the repository carries, in half precision, with the record of their run."""

from pathlib import Path

import keras

from common.errors import ConfigError, DataError
from common.files import read_json, write_atomically, write_json
from common.models.resnet import ResNetConfig, resnet
from common.paths import repository_root
from common.training.backend import dtype_policy
from common.training.runs import read_model, run_folder


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
    if run is None:
        return load_released(phase)
    folder = run_folder(run)
    record = read_json(folder / "record.json")
    trained = read_model(folder / "model.keras")
    try:
        with dtype_policy("float32"):  # whatever precision it was trained in
            model = _build(record)
        model.set_weights(trained.get_weights())
    except (KeyError, ValueError) as error:
        raise DataError(f"Record and model in {folder} do not fit together: {error}") from error
    return model, record


def released_folder(phase: str = "phase1_cifar") -> Path:
    """Where a phase keeps its released weights.

    Raises:
        ConfigError: outside a checkout of the repository.
    """
    root = repository_root()
    if root is None:
        raise ConfigError(
            "The released weights come with the repository, and `common` is installed outside "
            "one. Clone the repository and `pip install -e .` there, or name a run."
        )
    return root / phase / "weights"


def released_record(phase: str = "phase1_cifar") -> dict | None:
    """The record of a phase's released weights; `None` where there are none."""
    root = repository_root()
    path = None if root is None else root / phase / "weights" / "record.json"
    return read_json(path) if path and path.exists() else None


def load_released(phase: str = "phase1_cifar") -> tuple[keras.Model, dict]:
    """The network with the released weights of a phase, and their record."""
    folder = released_folder(phase)
    record = read_json(folder / "record.json")
    path = folder / "model.weights.h5"
    try:
        with dtype_policy("float32"):
            model = _build(record)
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is missing or damaged: {error}. Restore it with git.") from error
    return model, record


def release(model: keras.Model, record: dict, phase: str = "phase1_cifar") -> Path:
    """Writes a model's weights in float16 with its record; returns the folder.

    The record must hold what `_build` needs: `network` (a `ResNetConfig` as a dict), `classes`.
    """
    folder = released_folder(phase)
    with dtype_policy("float16"):
        half = _build(record)
    half.set_weights(model.get_weights())
    with write_atomically(folder / "model.weights.h5") as temporary:
        half.save_weights(temporary, overwrite=True)
    write_record(record, phase)
    return folder


def write_record(record: dict, phase: str = "phase1_cifar") -> None:
    """Writes the record beside the released weights."""
    write_json(released_folder(phase) / "record.json", record)


def _build(record: dict) -> keras.Model:
    config = ResNetConfig.from_dict(record["network"])
    return resnet(config, num_classes=len(record["classes"]))
