"""What every training has beside its steps: checkpoints, best epoch, patience, logs, progress."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd

from common.files import hold
from common.training import backend
from common.training.batches import Batches
from common.training.callbacks import Checkpoint, FiniteLoss, Patience, Progress, SeedEpochs


@dataclass(frozen=True)
class FitResult:
    """What a training leaves: `history` has a row per epoch, `seconds` spans all its parts."""

    history: pd.DataFrame
    seconds: float


def one_training(function: Callable) -> Callable:
    """Lets one process at a time train in a folder: the others wait, with a word."""

    @functools.wraps(function)
    def held(*arguments, folder: str | Path | None = None, **options):
        if folder is None:
            return function(*arguments, **options)
        with hold(Path(folder) / ".lock", f"trains in {folder}"):
            return function(*arguments, folder=folder, **options)

    return held


class Supervision:
    """What a training has beside its steps, however it learns; takes up one that was killed.

    All randomness of an epoch follows from `seed` and the epoch. With `monitor` and a folder the
    training ends with the epoch in which it is highest, the first of several, else with the last.

    Args:
        model: Built and compiled.
        batches: Of an epoch of training.
        epochs: Of the whole training.
        seed: Of the order, augmentation and dropout.
        monitor: The value that decides which epoch is best, such as "val_accuracy"; or `None`.
        patience: See `Patience`.
        first: Callbacks that find what others keep.
        callbacks: Further ones.
        folder: Where checkpoints and logs are kept; without one nothing is.
        tensorboard: Write TensorBoard logs into `folder` where TensorFlow is installed.
        progress: Show a progress bar.
        name: What the progress bar is called.

    Attributes:
        epoch: The first epoch that is to be trained.
        callbacks: In their order.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Batches,
        epochs: int,
        seed: int = 0,
        *,
        monitor: str | None = None,
        patience: int = 0,
        first: Sequence[keras.callbacks.Callback] = (),
        callbacks: Sequence[keras.callbacks.Callback] = (),
        folder: str | Path | None = None,
        tensorboard: bool = True,
        progress: bool = True,
        name: str = "",
    ):
        self.model = model
        self.batches = batches
        self.epochs = epochs
        self.checkpoint = Checkpoint(folder, monitor)
        self.epoch = self.checkpoint.restore(model)
        self.patience = Patience(self.checkpoint, patience)
        finite = FiniteLoss(len(batches))
        seeds = SeedEpochs(batches, seed)
        self.callbacks = [seeds, finite, *first, self.checkpoint, self.patience, *callbacks]
        if folder is not None and tensorboard:
            self.callbacks += _tensorboard(folder)
        if progress:
            self.callbacks.append(Progress(epochs, len(batches), name))

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        return self.epoch >= self.epochs or self.patience.exhausted()

    def fit(self, validation: Batches | None, first: int = 0, end: int | None = None) -> None:
        """`model.fit` of what is left of the epochs from `first` up to `end`, by default of all."""
        self.batches.start_epoch(max(first, self.epoch))
        with self.ending_bar(), backend.forget_gradients():
            self.model.fit(
                self.batches.for_fit(),
                validation_data=None if validation is None else validation.for_fit(),
                initial_epoch=self.batches.epoch,
                epochs=end or self.epochs,
                shuffle=False,  # the batches are shuffled, from the seed
                verbose=0,
                callbacks=self.callbacks,
            )

    @contextmanager
    def ending_bar(self) -> Iterator[None]:
        """Ends the progress bar where an error or Ctrl-C ends the training."""
        try:
            yield
        except BaseException:
            for callback in self.callbacks:
                if isinstance(callback, Progress):
                    callback.close()
            raise

    def result(self) -> FitResult:
        """History and seconds; the model gets the weights of the best epoch, if there is one."""
        self.checkpoint.load_best(self.model)
        return FitResult(self.checkpoint.history(), self.checkpoint.state["seconds"])


def _tensorboard(folder: str | Path) -> list[keras.callbacks.Callback]:
    """Keras's TensorBoard callback where TensorFlow is installed; else none, and a notice."""
    if backend.tensorboard_available():
        return [keras.callbacks.TensorBoard(Path(folder) / "tensorboard", write_graph=False)]
    print("TensorFlow is not installed: no TensorBoard logs; history.csv has the same values.")
    return []
