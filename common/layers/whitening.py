"""A first convolution that is computed from the training images instead of learned."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("course")
class PatchWhitening(keras.layers.Layer):
    """Convolution whose outputs are decorrelated and of equal variance on the training images.

    Neighbouring pixels are nearly equal, so the first layer of a network spends many steps on
    learning to tell contrast from brightness. Principal components do it at once:

    1. Cut all `k x k` patches from some training images: vectors `p` of `d = k k channels`.
    2. `C = mean(p p^T)`, their covariance (the images' mean is about 0 after scaling).
    3. `C = V diag(e) V^T`; filter `i` is `w_i = v_i / sqrt(e_i + epsilon)`, so that `w_i . p` has
       variance 1. Epsilon keeps the noise of the weakest components small: 0.005 is the variance
       of noise of 4.5 grey levels (of CIFAR-10, scaled). With 0.0005, as in the sources, a network
       breaks when such noise is added to images that had less.
    4. The layer computes `[W p, -W p]`: both signs, because the activation that follows
       would otherwise drop the negative half.

    `W` is computed by `adapt` and nothing is learned, so backpropagation ends before this layer,
    where images are largest. A layer that was never adapted has `W = I`: it copies the pixels of
    each patch.

    Source: Page, "How to Train Your ResNet" (2018), and Jordan, "94% on CIFAR-10 in 3.29 Seconds
    on a Single GPU" (2024), which learns a bias besides.

    Args:
        kernel_size: Side `k` of a patch.
        epsilon: Added to the eigenvalues.

    Call arguments:
        images: `(batch, height, width, channels)`, scaled floats.

    Returns:
        `(batch, height - k + 1, width - k + 1, 2 k k channels)`.
    """

    def __init__(self, kernel_size: int = 2, epsilon: float = 5e-3, **kwargs):
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size != int(kernel_size):
            raise ValueError(
                f"`kernel_size` must be a whole number >= 1. Received: kernel_size={kernel_size}"
            )
        if epsilon < 0:
            raise ValueError(f"`epsilon` must not be negative. Received: epsilon={epsilon}")
        self.kernel_size = int(kernel_size)
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        features = self.kernel_size**2 * channels
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, 2 * features),
            initializer="zeros",
            trainable=False,
        )
        self._assign_filters(np.eye(features))

    def call(self, images):
        return ops.conv(images, self.kernel, padding="valid", data_format="channels_last")

    def adapt(self, images) -> None:
        """Computes the kernel from images as the layer will see them.

        Args:
            images: `(n, height, width, channels)` floats that went through the scaling layer. A
                few thousand are enough: each has about a thousand patches.

        Raises:
            ValueError: for images that were not scaled or do not fit the kernel.
        """
        images = ops.convert_to_numpy(images)
        if not keras.backend.is_float_dtype(str(images.dtype)):
            raise ValueError(
                "PatchWhitening must be adapted to images that went through the scaling layer. "
                f"Received: images of dtype {images.dtype}"
            )
        if not self.built:
            self.build(images.shape)
        k, channels = self.kernel_size, self.kernel.shape[2]
        if images.ndim != 4 or images.shape[-1] != channels or min(images.shape[1:3]) < k:
            raise ValueError(
                f"PatchWhitening needs images (n, height, width, {channels}) of at least {k}x{k} "
                f"pixels. Received: images of shape {images.shape}"
            )
        images = images.astype("float32")  # from bfloat16, too
        # (n, rows, columns, channels, k, k) -> (patches, k * k * channels), as the kernel is laid.
        patches = np.lib.stride_tricks.sliding_window_view(images, (k, k), axis=(1, 2))
        patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, k * k * channels)
        eigenvalues, eigenvectors = np.linalg.eigh(patches.T @ patches / len(patches))
        filters = eigenvectors / np.sqrt(np.maximum(eigenvalues, 0) + self.epsilon)
        self._assign_filters(filters[:, ::-1])  # strongest component first

    def _assign_filters(self, filters):
        """Sets the kernel to the columns of `filters`, `(k * k * channels, n)`, and -`filters`."""
        self.kernel.assign(np.hstack([filters, -filters]).reshape(self.kernel.shape))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        k = self.kernel_size
        sides = [None if side is None else side - k + 1 for side in (height, width)]
        return (batch, *sides, 2 * k * k * channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "epsilon": self.epsilon,
        }
