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
    fixed = [variable.value for variable in network.non_trainable_variables]
    weights = network.trainable_variables
    ends = np.cumsum([int(np.prod(w.shape)) for w in weights])

    def loss(flat, images, labels):
        parts = ops.split(flat, ends[:-1].tolist())
        values = [ops.reshape(p, w.shape) for p, w in zip(parts, weights, strict=True)]
        logits, _ = network.stateless_call(values, fixed, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return ops.mean(losses), logits

    flat = np.concatenate([np.ravel(ops.convert_to_numpy(w)) for w in weights])
    *_, gradient = gradient_function(loss)(flat, images, labels)
    parts = np.split(ops.convert_to_numpy(gradient), ends[:-1])
    kernels = [part for part, w in zip(parts, weights, strict=True) if len(w.shape) == 4]
    return [float(np.linalg.norm(kernel)) for kernel in kernels]
