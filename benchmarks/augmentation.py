"""Patches per second: our augmentation layers against Keras's own, side by side in one run.

    python benchmarks/augmentation.py [--rounds 8] [--seconds 2]

Each pair does the same to a batch of tissue, or the nearest that Keras has: it turns by any angle
instead of quarter turns, and has no stain jitter, only one of hue and saturation. Both run as
TensorFlow compiles them in a training step, without XLA. They take turns of some seconds, so that a
busy machine slows both; the ratios are medians over the rounds.
"""

import argparse
import time
from collections.abc import Callable

import common  # noqa: F401  before TensorFlow, whose environment it sets

# isort: split
import keras
import numpy as np
import tensorflow as tf

from common.data.synthetic_slides import synthetic_slides
from common.layers import (
    MixUp,
    PixelScaling,
    RandomColour,
    RandomCutout,
    RandomShift,
    RandomStain,
    RandomSymmetry,
)

BATCH, SIDE = 256, 50
MEAN, STD = (0.8, 0.6, 0.7), (0.15, 0.2, 0.15)


def pairs() -> dict[str, tuple[list, list]]:
    """Per transform: our layers, for scaled images, and Keras's, for images in 0..1."""
    layers = keras.layers
    unit = {"value_range": (0, 1)}
    nearest = {"fill_mode": "reflect", "interpolation": "nearest"}
    single = {
        "symmetries": (
            [RandomSymmetry()],
            [layers.RandomFlip(), layers.RandomRotation(1.0, **nearest)],
        ),
        "shift 2": (
            [RandomShift(2)],
            [layers.RandomTranslation(2 / SIDE, 2 / SIDE, **nearest)],
        ),
        "stain 0.05": (
            [RandomStain(MEAN, STD, 0.05)],
            [layers.RandomHue(0.05, **unit), layers.RandomSaturation((0.45, 0.55), **unit)],
        ),
        "colour 0.1": (
            [RandomColour(0.1, 0.1, 0.1)],
            [
                layers.RandomBrightness(0.1, **unit),
                layers.RandomContrast(0.1, **unit),
                layers.RandomSaturation((0.45, 0.55), **unit),
            ],
        ),
        "cutout 8": (
            [RandomCutout(8)],
            [layers.RandomErasing(scale=(8 / SIDE) ** 2, fill_value=0.5, **unit)],
        ),
    }
    together = tuple(sum((pair[side] for pair in single.values()), []) for side in (0, 1))
    return {**single, "all of these": together}


def mixups(targets: tf.Tensor) -> tuple[Callable, Callable]:
    """Mixup changes targets too, so it is called in another way."""
    ours, theirs = MixUp(0.2), keras.layers.MixUp(0.2)
    return (
        lambda images: ours(images, targets, None, None),
        lambda images: theirs({"images": images, "labels": targets}, training=True),
    )


def in_turn(layers: list) -> Callable:
    def apply(images):
        for layer in layers:
            images = layer(images, training=True)
        return images

    return apply


def rate(step: Callable, images: tf.Tensor, seconds: float) -> float:
    """Patches per second, over as many batches as fit into the time."""
    batches, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        result = step(images)
        batches += 1
    for tensor in keras.tree.flatten(result):
        tensor.numpy()  # a GPU may still be at work
    return batches * len(images) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    arguments = parser.parse_args()

    data = synthetic_slides(1).subset(range(BATCH))
    raw = tf.constant(data.images)
    scaled, unit = PixelScaling(MEAN, STD)(raw), keras.layers.Rescaling(1 / 255)(raw)
    targets = tf.constant(np.eye(2, dtype="float32")[data.labels])

    variants = {
        name: ((in_turn(ours), scaled), (in_turn(theirs), unit))
        for name, (ours, theirs) in pairs().items()
    }
    ours, theirs = mixups(targets)
    variants["mixup 0.2"] = (ours, raw), (theirs, raw)
    print(f"{BATCH} patches of {SIDE}x{SIDE}, Keras {keras.__version__}, patches/s")
    for name, sides in variants.items():
        steps = [(tf.function(function), images) for function, images in sides]
        for step, images in steps:
            step(images)  # compiles
        rates = [
            [rate(*side, arguments.seconds) for side in steps] for _ in range(arguments.rounds)
        ]
        ours, theirs = np.median(rates, axis=0)
        low, middle, high = np.quantile(np.divide(*np.transpose(rates)), [0.25, 0.5, 0.75])
        print(
            f"{name:12}  ours {ours:8.0f}  Keras {theirs:8.0f}  ours / Keras = {middle:.2f} "
            f"(quartiles {low:.2f} to {high:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
