"""Losses for classes of unequal size, on logits (B, classes) and soft targets (B, classes).

Both average over the images of the batch, whatever these weigh: so several devices, each with its
share of the batch, give the average of one.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from common.data.images import ImageData
from common.errors import DataError


def class_weights(train: ImageData) -> np.ndarray:
    """Weights that make every class count the same in the loss: `n / (classes n_c)`.

    `n_c` of the `n` images belong to class `c`. The mean weight of the images is 1, so the
    learning rate need not change.

    Returns:
        `(classes,)`, `float32`.

    Raises:
        DataError: if a class has no image.
    """
    counts = train.class_counts()
    if missing := counts.index[counts == 0].tolist():
        raise DataError(
            f"{train.name} ({train.split}) has no image of {', '.join(missing)}: there is no "
            "weight for such a class. Use more images, or imbalance='none'."
        )
    return (len(train) / (len(counts) * counts)).to_numpy("float32")


@keras.saving.register_keras_serializable("course")
class WeightedCrossEntropy(keras.losses.Loss):
    """Cross-entropy in which each class has a weight of its own.

    1. `w = sum_c t_c w_c`: the weight of the image; a target blended by mixup or smoothed has the
       mean of its classes' weights.
    2. `loss = - w sum_c t_c ln p_c`, with `p = softmax(logits)`.

    Args:
        weights: One per class, see `class_weights`.
    """

    def __init__(self, weights: Sequence[float], name: str = "weighted_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.weights = tuple(float(weight) for weight in weights)

    def call(self, targets, logits):
        weights = ops.sum(targets * ops.convert_to_tensor(self.weights, targets.dtype), axis=-1)
        return -weights * ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)

    def get_config(self):
        return {**super().get_config(), "weights": self.weights}


@keras.saving.register_keras_serializable("course")
class FocalLoss(keras.losses.Loss):
    """Cross-entropy that cares less about what is predicted well already.

    `loss = - sum_c t_c (1 - p_c)^gamma ln p_c`, with `p = softmax(logits)`.

    With `gamma = 0` it is cross-entropy; with `gamma = 2` an image whose class has a probability
    of 0.9 counts a hundredth, so the many easy images of a large class leave room for the rest.
    The probabilities of a network that was trained so lie too near to 1/2: calibrate them.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), without its class weights.

    Args:
        gamma: Of the formula, 0 or more.
    """

    def __init__(self, gamma: float = 2.0, name: str = "focal_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if gamma < 0:
            raise ValueError(f"`gamma` must not be negative. Received: gamma={gamma}")
        self.gamma = gamma

    def call(self, targets, logits):
        log_p = ops.log_softmax(logits, axis=-1)
        # Not 0: there the gradient of a power below 1 is infinite.
        missing = ops.maximum(1 - ops.exp(log_p), keras.config.epsilon())
        return -ops.sum(targets * missing**self.gamma * log_p, axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
