"""Shrinking images inside the model, so that it sees them at the size it was trained at."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("course")
class AreaResize(keras.layers.Layer):
    """Resizes images at inference by averaging areas; in training they pass unchanged.

    Each output pixel is the mean of the input area that it covers. The mean is separable, so it
    is two small matrix products, the same on every backend: `Y = A_h X A_w^T` per channel, with
    `A[i, j]` the share of output row `i` that input row `j` fills:

    1. row `i` of `s` covers the interval `[i h / s, (i + 1) h / s)` of the `h` input rows
    2. `A[i, j] = (length of its overlap with [j, j + 1)) * s / h`

    `cv2.resize(..., interpolation=cv2.INTER_AREA)` is the same. Training shrinks its images
    before the model (to a size that changes from phase to phase), hence the difference.

    Args:
        size: Height and width of the output at inference.

    Call arguments:
        images: `(batch, height, width, channels)`, floats.
        training: Whether images pass unchanged.

    Returns:
        `(batch, size, size, channels)` at inference; in training the shape of `images`.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"`size` must be at least 1. Received: size={size}")
        self.size = size

    def call(self, images, training=False):
        if training:
            return images
        height, width = ops.shape(images)[1:3]
        rows = ops.cast(_overlaps(self.size, height), images.dtype)
        columns = ops.cast(_overlaps(self.size, width), images.dtype)
        shrunk = ops.einsum("ih,bhwc->biwc", rows, images)
        return ops.einsum("jw,biwc->bijc", columns, shrunk)

    def compute_output_shape(self, input_shape):
        # Images of a size not yet known may pass unchanged, in training.
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
