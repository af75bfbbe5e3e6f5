"""Photos on disk with captions, and a backbone of one convolution, for tests of captioning."""

from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np

from common.data.captions import CaptionData
from common.training.backend import dtype_policy


def write_photos(folder: Path, count: int = 10, size: int = 12, split: str = "train"):
    """JPEG files of one colour each: red ones and blue ones in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"{i:03}.jpg" for i in range(count))
    for i, name in enumerate(names):
        pixels = np.zeros((size + i % 3, size, 3), np.uint8)
        pixels[..., 0 if i % 2 else 2] = 255 - i % 50  # blue first
        cv2.imwrite(str(folder / name), pixels)
    captions = tuple(
        tuple(f"a {colour} picture is {word}" for word in ("here", "shown"))
        for colour in ("red" if i % 2 == 0 else "blue" for i in range(count))
    )
    return CaptionData(names, captions, "photos", split, folder)


def renamed(data: CaptionData, split: str) -> CaptionData:
    """The same images as another split."""
    return replace(data, split=split)


def tiny_backbone(seed: int = 0, size: int = 8, channels: int = 6) -> keras.Model:
    """From uint8 `(B, size, size, 3)` to `(B, 2, 2, channels)`; weights from `seed`."""
    rng = np.random.default_rng(seed)
    with dtype_policy("float32"):
        images = keras.Input((size, size, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(images)
        x = keras.layers.Conv2D(channels, size // 2, strides=size // 2)(x)
        model = keras.Model(images, x, name="tiny")
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    return model
