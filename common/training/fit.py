"""`fit`: trains a classifier by a recipe, and goes on where a killed training stopped."""

from pathlib import Path

import keras
from keras import ops

from common.data.images import ImageData
from common.errors import ConfigError
from common.layers import AreaResize
from common.training import backend
from common.training.backend import DeviceSettings
from common.training.batches import BatchTransformed, ImageBatches
from common.training.loop import FitResult, Supervision, one_training
from common.training.recipes import Recipe


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
    batches = training_batches(train, recipe, seed)
    scored = ImageBatches(validation, 1000) if validation else None
    optimizer = recipe.make_optimizer(len(batches) * recipe.epochs)
    model = compiled(
        network, len(train.classes), recipe, optimizer, settings, seed, recipe.make_loss(train)
    )
    if len(settings.devices) > 1:
        backend.synchronise_batch_norm(network)
    # Builds the wrapper: a checkpoint can only be loaded into built layers.
    model(batches[0][0])
    supervision = Supervision(
        model,
        batches,
        recipe.epochs,
        seed,
        monitor="val_accuracy" if keep_best else None,
        callbacks=callbacks,
        folder=folder,
        tensorboard=tensorboard,
        progress=progress,
        name=network.name if folder is None else Path(folder).name,
    )
    for first_epoch, end_epoch, size in recipe.phases():
        if supervision.epoch > end_epoch:
            continue
        for layer in resizing:
            layer.training_size = size
        model.train_function = None  # `model.fit` makes it anew, once all variables are built
        supervision.fit(scored, first_epoch, end_epoch)
        if model.stop_training:
            break
        # The end of `model.fit` sets weights to their averages; on JAX both are then one
        # buffer, which the next phase could not give away twice.
        for variable in model.optimizer.variables:
            variable.assign(ops.copy(variable))
    return supervision.result()


def training_batches(train: ImageData, recipe: Recipe, seed: int) -> ImageBatches:
    """The batches that a recipe trains on: whole ones, of balanced classes if it says so."""
    return ImageBatches(
        train,
        recipe.batch_size,
        seed,
        drop_remainder=True,
        balance=recipe.imbalance == "balanced_batches",
        corruption=recipe.corruption,
    )


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
