"""A training that ends in the middle, for tests."""

import keras


class KilledError(Exception):
    """Stands for a kill: training ends where it is raised."""


class KillAt(keras.callbacks.Callback):
    """Kills after a batch of an epoch, both counted from 0."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KilledError
