"""Weights that the repository carries, in half precision, with the record of their run."""

from pathlib import Path

import keras

from common.errors import ConfigError, DataError
from common.files import write_atomically, write_json
from common.models.resnet import ResNetConfig, resnet
from common.paths import repository_root
from common.training.backend import dtype_policy
from common.training.run_folders import run_folder
from common.training.runs import check_files, file_hashes, read_model, read_record

RESTORE = "Restore it: git checkout -- phase*/weights"


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
    record = read_record(folder)
    check_files(folder, record)
    trained = read_model(folder / "model.keras")
    try:
        model = _build(record, folder)
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
    folder = None if root is None else root / phase / "weights"
    return read_record(folder) if folder and (folder / "record.json").exists() else None


def load_released(phase: str = "phase1_cifar") -> tuple[keras.Model, dict]:
    """The network with the released weights of a phase, and their record."""
    folder = released_folder(phase)
    record = read_record(folder)
    check_files(folder, record, RESTORE)
    model = _build(record, folder)
    load_weights(model, folder / "model.weights.h5")
    return model, record


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads a file of released weights.

    Raises:
        DataError: if it is missing, damaged or of another network.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # whatever Keras and h5py make of changed bytes
        raise DataError(f"{path} is missing or damaged: {str(error)[:300]}. {RESTORE}") from error


def release(model: keras.Model, record: dict, phase: str = "phase1_cifar") -> Path:
    """Writes a model's weights in float16 with its record; returns the folder.

    The record must hold what `_build` needs: `network` (a `ResNetConfig` as a dict), `classes`.
    """
    folder = released_folder(phase)
    half = _build(record, folder, "float16")
    half.set_weights(model.get_weights())
    with write_atomically(folder / "model.weights.h5") as temporary:
        half.save_weights(temporary, overwrite=True)
    write_record(record, phase)
    return folder


def write_record(record: dict, phase: str = "phase1_cifar") -> None:
    """Writes the record beside the released weights, and ties it to them."""
    folder = released_folder(phase)
    write_json(folder / "record.json", {**record, "files": file_hashes(folder)})


def _build(record: dict, folder: Path, policy: str = "float32") -> keras.Model:
    try:
        config = ResNetConfig.from_dict(record["network"])
        with dtype_policy(policy):  # whatever precision it was trained in
            return resnet(config, num_classes=len(record["classes"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / 'record.json'} describes no network of this course ({error}). Restore it, "
            "or train anew."
        ) from error
