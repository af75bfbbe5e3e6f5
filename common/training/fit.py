"""`fit`: trains a classifier by a recipe, and goes on where a killed training stopped."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd
from keras import ops

from common.data.images import ImageData
from common.errors import ConfigError
from common.files import hold
from common.layers import AreaResize
from common.training import backend
from common.training.backend import DeviceSettings
from common.training.batches import BatchTransformed, ImageBatches
from common.training.callbacks import Checkpoint, FiniteLoss, Progress, SeedEpochs
from common.training.recipes import Recipe


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


@one_training
def fit(
    network: keras.Model,
    train: ImageData,
    validation: ImageData | None,
    recipe: Recipe,
    settings: DeviceSettings,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    keep_best: bool = False,
    tensorboard: bool = True,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    progress: bool = True,
) -> FitResult:
    """Trains `network` in place with `model.fit`.

    The order of the images and all random numbers of an epoch follow from `seed` and the epoch,
    so a training that was killed and called again ends as if nothing had happened.

    Args:
        network: Takes raw `uint8` pixels, gives logits; built under `device_scope(settings)`.
            For a recipe with `sizes` it has to have an `AreaResize`.
        train: Training images.
        validation: Scored after every epoch; or `None`.
        recipe: The hyper-parameters.
        settings: From `device_settings`; call `fit` inside `device_scope(settings)`.
        seed: Of the order, augmentation and dropout (not of the weights: they are made).
        folder: Where checkpoints and logs are kept; without one nothing is, and a kill loses all.
        keep_best: End with the epoch of the highest validation accuracy instead of the last.
            Needs `folder` and `validation`.
        tensorboard: Write TensorBoard logs into `folder` where TensorFlow is installed.
        callbacks: Further Keras callbacks.
        progress: Show a progress bar.

    Raises:
        ConfigError: if `keep_best` or `recipe.sizes` lacks what it needs.
        DataError: if the folder's checkpoint is not of this network, or the recipe weighs or
            balances classes of which one has no image.
        CourseError: if the loss is no number any more.
    """
    if keep_best and (folder is None or validation is None):
        raise ConfigError("keep_best needs a folder to keep it in, and validation images.")
    resizing = [layer for layer in network.layers if isinstance(layer, AreaResize)]
    if recipe.sizes and not resizing:
        raise ConfigError(
            f"The recipe has sizes={recipe.sizes}, but the network cannot shrink images: build it "
            "with ResNetConfig(image_size=...), or choose sizes=()."
        )
    batch_size = min(recipe.batch_size, len(train))
    steps_per_epoch = len(train) // batch_size
    optimizer = recipe.make_optimizer(steps_per_epoch * recipe.epochs)
    model = compiled(
        network, len(train.classes), recipe, optimizer, settings, seed, recipe.make_loss(train)
    )
    if len(settings.devices) > 1:
        backend.synchronise_batch_norm(network)
    # Builds the wrapper: a checkpoint can only be loaded into built layers.
    model(ImageBatches(train, batch_size)[0][0])

    checkpoint = Checkpoint(folder, monitor="val_accuracy" if keep_best else None)
    start = checkpoint.restore(model)
    extra = list(callbacks)
    if folder is not None and tensorboard:
        extra += tensorboard_callbacks(folder)
    if progress:
        extra.append(Progress(recipe.epochs, steps_per_epoch, network.name))
    scored = ImageBatches(validation, 1000).for_fit() if validation else None
    with backend.forget_gradients():
        for first_epoch, end_epoch, size in recipe.phases():
            if start > end_epoch:
                continue
            epoch = max(first_epoch, start)
            for layer in resizing:
                layer.training_size = size
            model.train_function = None  # `model.fit` makes it anew, once all variables are built
            batches = ImageBatches(
                train,
                batch_size,
                seed,
                drop_remainder=True,
                epoch=epoch,
                balance=recipe.imbalance == "balanced_batches",
            )
            model.fit(
                batches.for_fit(),
                validation_data=scored,
                initial_epoch=epoch,
                epochs=end_epoch,
                shuffle=False,  # the batches are shuffled, from the seed
                verbose=0,
                callbacks=[
                    SeedEpochs(batches, seed),
                    FiniteLoss(steps_per_epoch),
                    checkpoint,
                    *extra,
                ],
            )
            if model.stop_training:
                break
            # The end of `model.fit` sets weights to their averages; on JAX both are then one
            # buffer, which the next phase could not give away twice.
            for variable in model.optimizer.variables:
                variable.assign(ops.copy(variable))
    if keep_best:
        checkpoint.load_best(model)
    return FitResult(checkpoint.history(), checkpoint.state["seconds"])


def compiled(
    network: keras.Model,
    classes: int,
    recipe: Recipe,
    optimizer: keras.optimizers.Optimizer,
    settings: DeviceSettings,
    seed: int = 0,
    loss: keras.losses.Loss | None = None,
) -> BatchTransformed:
    """The network with the recipe's transforms of the batch, ready for `model.fit`.

    `loss` is what `recipe.make_loss` gives for the training images; `None`: cross-entropy.
    """
    model = BatchTransformed(
        network, classes, recipe.label_smoothing, recipe.batch_transforms(seed), loss
    )
    model.compile(optimizer, metrics=["accuracy"], jit_compile=settings.jit_compile)
    # TensorFlow traces a step a second time if the first time made variables: all of them now.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, ops.zeros(1, "int32"), {"logits": ops.zeros((1, classes))})
    model.reset_metrics()
    return model


def tensorboard_callbacks(folder: str | Path) -> list[keras.callbacks.Callback]:
    """Keras's TensorBoard callback where TensorFlow is installed; else none, and a notice."""
    if backend.tensorboard_available():
        return [keras.callbacks.TensorBoard(Path(folder) / "tensorboard", write_graph=False)]
    print("TensorFlow is not installed: no TensorBoard logs; history.csv has the same values.")
    return []
