"""A data set and a network small enough for tests of training."""

import keras
import numpy as np

from common.data.images import ImageData
from common.layers import AreaResize


def small_data(count=64, size=8, classes=4, seed=0) -> ImageData:
    """Images whose brightest quarter tells the class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype("int32")
    images = rng.integers(0, 120, (count, size, size, 3), dtype=np.uint8)
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = divmod(int(label), 2)
        image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 100
    names = tuple(f"class{i}" for i in range(classes))
    return ImageData(images=images, labels=labels, classes=names, name="small", split="train")


def small_network(seed=0, dropout=0.0, classes=4) -> keras.Model:
    """Scaling, one convolution with batch norm, a classifier; raw pixels to logits."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = AreaResize(8)(x)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Flatten()(keras.layers.Resizing(4, 4)(x))
    logits = keras.layers.Dense(classes, dtype="float32")(x)
    return keras.Model(pixels, logits, name="small")
