"""How large the gradients of a network's layers are."""

import keras
import numpy as np
from keras import ops

from common.training.backend import gradient_function


def kernel_gradients(network: keras.Model, images: np.ndarray, labels: np.ndarray) -> list[float]:
    """The norm of the loss's gradient for each convolution's kernel, from the first layer on.

    The loss is the cross-entropy of one batch, in training mode; the network stays as it is.

    Args:
        network: A classifier that gives logits.
        images, labels: The batch.
    """
    fixed = [ops.convert_to_tensor(variable) for variable in network.non_trainable_variables]
    weights = [ops.convert_to_tensor(variable) for variable in network.trainable_variables]

    def loss(weights, fixed, images, labels):
        logits, _ = network.stateless_call(weights, fixed, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return ops.mean(losses), logits

    *_, gradients = gradient_function(loss)(weights, fixed, images, labels)
    kernels = [ops.convert_to_numpy(part) for part in gradients if len(part.shape) == 4]
    return [float(np.linalg.norm(kernel)) for kernel in kernels]
