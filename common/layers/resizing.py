"""Shrinking images inside the model, in training and at inference alike."""

import keras
from keras import ops

from common.layers.linear import as_float


@keras.saving.register_keras_serializable("course")
class AreaResize(keras.layers.Layer):
    """Resizes images by averaging areas.

    Each output pixel is the mean of the input area that it covers. The mean is separable, so it
    is two small matrix products, the same on every backend: `Y = A_h X A_w^T` per channel, with
    `A[i, j]` the share of output row `i` that input row `j` fills:

    1. row `i` of `s` covers the interval `[i h / s, (i + 1) h / s)` of the `h` input rows
    2. `A[i, j] = (length of its overlap with [j, j + 1)) * s / h`

    `cv2.resize(..., interpolation=cv2.INTER_AREA)` is the same. It belongs behind the augmentation:
    an image that is moved by a pixel and then shrunk is another image than the one that is shrunk
    and then moved, so the network meets more of them.

    Progressive resizing (Howard 2018) trains at a smaller size first: `training_size`, where it
    is set, takes the place of `size` in training. It is a matter of one training and not saved
    with the model; a compiled training step has to be made anew when it changes.

    Args:
        size: Height and width of the output.

    Call arguments:
        images: `(batch, height, width, channels)`; integers become floats.
        training: Whether `training_size` counts.

    Returns:
        `(batch, size, size, channels)`.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"`size` must be at least 1. Received: size={size}")
        self.size = size
        self.training_size = None

    def call(self, images, training=False):
        size = (self.training_size if training else None) or self.size
        if len(images.shape) != 4:
            raise ValueError(
                "`images` must be (batch, height, width, channels). Received: shape "
                f"{tuple(images.shape)}"
            )
        images = as_float(images, self.compute_dtype)
        if tuple(images.shape[1:3]) == (size, size):
            return images
        height, width = ops.shape(images)[1:3]
        rows = ops.cast(_overlaps(size, height), images.dtype)
        columns = ops.cast(_overlaps(size, width), images.dtype)
        shrunk = ops.einsum("ih,bhwc->biwc", rows, images)
        return ops.einsum("jw,biwc->bijc", columns, shrunk)

    def compute_output_shape(self, input_shape):
        # A model that is made for any size stays so: `training_size` may change it.
        sides = [None if side is None else self.size for side in input_shape[1:3]]
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _overlaps(size, length):
    """`A` of `AreaResize`: `(size, length)`, rows of sum 1."""
    step = ops.cast(length, "float32") / size
    low = ops.arange(size, dtype="float32")[:, None] * step
    pixel = ops.cast(ops.arange(length), "float32")[None]
    overlap = ops.minimum(low + step, pixel + 1) - ops.maximum(low, pixel)
    return ops.maximum(overlap, 0.0) / step
