"""What pretrained networks want of pixels, as a layer."""

import keras
from keras import ops

# Of ImageNet, blue first, in 0..255: what the "caffe" networks were trained without.
_IMAGENET_BGR = (103.939, 116.779, 123.68)
RANGES = ("signed", "caffe", "raw")


@keras.saving.register_keras_serializable("course")
class PixelRange(keras.layers.Layer):
    """Brings raw pixels to the range that a pretrained network was trained on.

    - "signed": `x / 127.5 - 1`, from -1 to 1 (MobileNet).
    - "caffe": blue, green, red instead of red, green, blue; less the mean of ImageNet (ResNet50).
    - "raw": 0..255 as they are; the network scales them itself (EfficientNet).

    Equal to `preprocess_input` of each network in `keras.applications`.

    Args:
        range: One of the above.

    Call arguments:
        images: `(batch, height, width, 3)`, 0..255, red first, `uint8` or float.

    Returns:
        The same shape, in the compute dtype.
    """

    def __init__(self, range: str, **kwargs):
        # No autocast: a float image must reach the arithmetic in full precision.
        super().__init__(autocast=False, **kwargs)
        if range not in RANGES:
            raise ValueError(f"range={range!r} is unknown. Choose one of {RANGES}.")
        self.range = range

    def call(self, images):
        x = ops.cast(images, "float32")
        if self.range == "signed":
            x = x / 127.5 - 1.0
        elif self.range == "caffe":
            x = ops.flip(x, axis=-1) - ops.convert_to_tensor(_IMAGENET_BGR, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "range": self.range}
