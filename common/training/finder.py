"""The learning-rate range test."""

import keras
import numpy as np
import pandas as pd

from common.data.images import ImageData
from common.models.resnet import ResNetConfig
from common.training.backend import DeviceSettings, device_scope
from common.training.classification import Classification
from common.training.fit import compiled, training_batches
from common.training.recipes import Recipe


class _LossPerStep(keras.callbacks.Callback):
    """Collects the loss of each step; Keras reports the mean since the epoch began."""

    def __init__(self, diverged: float):
        super().__init__()
        self.diverged = diverged
        self.losses = []
        self._sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self._sum)
        self._sum = total
        smooth = _smoothed(self.losses)
        if not np.isfinite(total) or smooth.iloc[-1] > self.diverged * smooth.min():
            self.model.stop_training = True


def _smoothed(losses) -> pd.Series:
    """Exponential mean of the losses so far."""
    return pd.Series(losses).ewm(span=8).mean()


def learning_rate_range_test(
    config: ResNetConfig,
    recipe: Recipe,
    train: ImageData,
    settings: DeviceSettings,
    *,
    low: float = 1e-3,
    high: float = 3.0,
    steps: int = 60,
    seed: int = 0,
) -> pd.DataFrame:
    """Trains for some steps while the learning rate rises exponentially from `low` to `high`.

    The loss falls as long as the rate is right and explodes when it is too high; a good peak lies
    somewhat below the lowest loss. Ends early when the smoothed loss is 1.3 times its minimum: a
    network that has exploded and then tells all classes alike may have a low loss again.
    Smith, "Cyclical Learning Rates for Training Neural Networks" (2017).

    Returns:
        A row per step: `learning_rate`, `loss` and `smooth_loss` (exponential mean).
    """
    batches = training_batches(train, recipe, seed)
    loss = recipe.make_loss(train)
    steps_per_epoch = min(steps, len(batches))
    rise = keras.optimizers.schedules.ExponentialDecay(low, steps, high / low)
    losses = _LossPerStep(diverged=1.3)
    with device_scope(settings):
        network = Classification(config, train).build(recipe, seed)
        optimizer = recipe.make_optimizer(steps, rise)
        model = compiled(network, len(train.classes), recipe, optimizer, settings, seed, loss)
        while len(losses.losses) < steps and not model.stop_training:
            losses._sum = 0.0
            model.fit(
                batches.for_fit(),
                steps_per_epoch=min(steps_per_epoch, steps - len(losses.losses)),
                shuffle=False,
                verbose=0,
                callbacks=[losses],
            )
    table = pd.DataFrame({"loss": losses.losses})
    table.insert(0, "learning_rate", low * (high / low) ** (table.index / steps))
    table["smooth_loss"] = _smoothed(table["loss"])
    return table
