"""Keras callbacks that lose nothing when a training is killed."""

import hashlib
import json
import math
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd

from common.errors import CourseError, DataError
from common.files import require_space, write_atomically, write_text
from common.progress import progress_bar
from common.training.backend import seed_unseeded_dropout
from common.training.batches import Batches


def kept_epoch(scores: pd.Series) -> int:
    """The place of the epoch that `Checkpoint` keeps as the best, in a history's scores."""
    return int(np.argmax(scores)) if scores.max() > 0 else len(scores) - 1


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training after each epoch, as one file in one step.

    `keras.callbacks.BackupAndRestore` writes weights and epoch as two files, so a kill between
    them restores the weights of one epoch under the number of another. Here the epoch and the
    history lie inside the weights file (optimizer included), which appears whole or not at all.

    Args:
        folder: Where `checkpoint.weights.h5`, `best.weights.h5` and `history.csv` are written;
            `None` keeps the history in memory and nothing else.
        monitor: The value that decides which epoch is the best, such as "val_accuracy": the
            highest, of equal ones the first, but of those with 0, which tells nothing, the last.
            The best epoch is kept only if it is given and present.
    """

    def __init__(self, folder: str | Path | None, monitor: str | None = None):
        super().__init__()
        self.folder = None if folder is None else Path(folder)
        self.monitor = monitor
        self.state = {"epoch": 0, "history": [], "best": None, "seconds": 0.0}

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.weights.h5"

    @property
    def best_path(self) -> Path:
        return self.folder / "best.weights.h5"

    def restore(self, model: keras.Model) -> int:
        """Loads the last whole epoch into a built and compiled model; returns the next epoch.

        Raises:
            DataError: if the checkpoint is no checkpoint of such a model, or damaged.
        """
        # To be loaded into; and TensorFlow traces a step twice if the first time makes variables.
        model.optimizer.build(model.trainable_variables)
        if self.folder is None or not self.path.exists():
            return 0
        try:
            with h5py.File(self.path, "r") as file:
                state = json.loads(file["course_state"][()].tobytes())
                _check_digest(file)
            self.state = _checked_state(state)
            model.load_weights(self.path)
        except _DAMAGED as error:
            raise self._damaged(self.path, error) from error
        self._write_history()  # a kill may have come between it and the checkpoint
        return self.state["epoch"]

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch, if one was kept.

        Raises:
            DataError: if the file is gone, damaged or of another network.
        """
        if self.folder is None or not self.state["best"]:
            return
        try:
            with h5py.File(self.best_path, "r") as file:
                _check_digest(file)
            model.load_weights(self.best_path)
        except _DAMAGED as error:
            raise self._damaged(self.best_path, error) from error

    def _damaged(self, path: Path, error: Exception) -> DataError:
        return DataError(
            f"{path} does not fit this network or is damaged ({str(error)[:300]}). Delete "
            f"{self.folder} to train anew, or choose another run name."
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        row = {name: float(value) for name, value in (logs or {}).items()}
        row = {"epoch": epoch + 1, **row, "seconds": round(seconds, 2)}
        self.state["history"].append(row)
        self.state["epoch"] = epoch + 1
        self.state["seconds"] += seconds
        if self.folder is None:
            return
        best, value = self.state["best"], row.get(self.monitor)
        if value is not None and (not best or value > best["value"] or value == best["value"] == 0):
            self.state["best"] = {"epoch": epoch + 1, "value": value}
            self._save(self.best_path)
        self._save(self.path)
        self._write_history()

    def _write_history(self):
        # Written anew from the state, so that no epoch can stand twice.
        write_text(self.folder / "history.csv", self.history().to_csv(index=False))

    def history(self) -> pd.DataFrame:
        """A row per finished epoch."""
        return pd.DataFrame(self.state["history"])

    def _save(self, path: Path) -> None:
        variables = [*self.model.weights, *self.model.optimizer.variables]
        # HDF5 takes the whole process down when the disk is full.
        require_space(self.folder, 2 * sum(4 * math.prod(v.shape) for v in variables) + 2**20)
        with write_atomically(path) as temporary:
            self.model.save_weights(temporary, overwrite=True)
            state = np.frombuffer(json.dumps(self.state).encode(), "uint8")
            with h5py.File(temporary, "a") as file:
                file.create_dataset("course_state", data=state)
                file.attrs["course_digest"] = _digest(file)


# What h5py, Keras and JSON make of changed bytes.
_DAMAGED = (
    *(OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError),
    *(IndexError, OverflowError, MemoryError, RecursionError),
)


def _digest(file: h5py.File) -> str:
    """A checksum of all that an HDF5 file holds: it has none of its own."""
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(name.encode("utf-8", "surrogateescape"))
        if isinstance(item, h5py.Dataset):
            digest.update(f"{item.shape} {item.dtype}".encode())
            digest.update(np.ascontiguousarray(item[()]))

    file.visititems(add)
    return digest.hexdigest()


def _check_digest(file: h5py.File) -> None:
    """Compares a file with its checksum, if it has one: those of earlier versions have none.

    Raises:
        ValueError: if they differ.
    """
    if file.attrs.get("course_digest") not in (None, _digest(file)):
        raise ValueError("its checksum differs")


def _checked_state(state: object) -> dict:
    """The state of a checkpoint, if it is one.

    Raises:
        ValueError: if it is not.
    """
    kinds = {"epoch": int, "history": list, "best": (dict, type(None)), "seconds": float}
    if not isinstance(state, dict) or set(state) != set(kinds):
        raise ValueError("its state is of another form")
    for key, kind in kinds.items():
        if not isinstance(state[key], kind):
            raise ValueError(f"its state is of another form: {key}={state[key]!r}")
    if len(state["history"]) != state["epoch"]:
        raise ValueError(f"it tells of {len(state['history'])} epochs, not {state['epoch']}")
    return state


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training whose loss, or a weight, is no number any more: it would never recover.

    Put it before the callbacks that keep what it finds.

    Args:
        steps_per_epoch: Steps in each epoch.
    """

    def __init__(self, steps_per_epoch: int):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.every = max(1, min(10, steps_per_epoch // 10))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # A mean since the epoch began: once no number, it stays so.
        if batch % self.every == 0 and "loss" in (logs or {}):
            self._check("the loss", logs["loss"], batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            if "loss" in name:
                self._check(name, value, self.steps_per_epoch)
        for weight in self.model.trainable_variables:
            value = np.asarray(keras.ops.convert_to_numpy(weight), "float32")
            self._check(f"a weight of {weight.path}", value.sum(dtype="float64"))

    def _check(self, what: str, value: float, step: int | None = None) -> None:
        if np.isfinite(value):
            return
        where = f"epoch {self.epoch + 1}" + (
            f", step {step} of {self.steps_per_epoch}" if step else ""
        )
        raise CourseError(
            f"{what[0].upper()}{what[1:]} is no number any more ({value}) in {where}: the training "
            "has diverged and is stopped. Lower the learning rate (learning_rate), or train in "
            "float32; then run the same again, under another run name if it has one."
        )


class Patience(keras.callbacks.Callback):
    """Stops a training whose best epoch lies so many epochs back, also across a resume.

    Args:
        checkpoint: Which knows the best epoch.
        epochs: After so many; 0 for never.
    """

    def __init__(self, checkpoint: Checkpoint, epochs: int):
        super().__init__()
        self.checkpoint = checkpoint
        self.epochs = epochs

    def exhausted(self) -> bool:
        """Whether it has been too long since the best epoch."""
        best, epoch = self.checkpoint.state["best"], self.checkpoint.state["epoch"]
        return bool(self.epochs and best and epoch - best["epoch"] >= self.epochs)

    def on_epoch_end(self, epoch, logs=None):
        if self.exhausted():
            self.model.stop_training = True


class SeedEpochs(keras.callbacks.Callback):
    """Derives all randomness of an epoch from seed and epoch: the order, augmentation, dropout.

    So an epoch that is run again after a kill is the same epoch.
    """

    def __init__(self, batches: Batches, seed: int):
        super().__init__()
        self.batches = batches
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)
        generators = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for i, state in enumerate(generators):
            key = np.random.SeedSequence([self.seed, epoch, i]).generate_state(1)[0]
            # 31 bits: some backends keep the state as signed integers.
            state.assign(np.array([key >> 1, 0], "uint32"))
        seed_unseeded_dropout(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))


class Progress(keras.callbacks.Callback):
    """One tqdm bar over all steps, in a terminal or a notebook, with the last epoch's values."""

    def __init__(self, epochs: int, steps_per_epoch: int, description: str = ""):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.description = description
        self.bar = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.bar is None:
            self.bar = progress_bar(
                total=self.epochs * self.steps_per_epoch,
                initial=epoch * self.steps_per_epoch,
                description=self.description,
                unit=" steps",
            )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        shown = ("loss", "accuracy", "val_accuracy", "val_score")
        self.bar.set_postfix({name: f"{logs[name]:.3f}" for name in shown if name in logs})
        if epoch + 1 == self.epochs or self.model.stop_training:
            self.close()

    def close(self) -> None:
        """Ends the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
