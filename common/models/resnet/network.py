"""Builds the network of a `ResNetConfig`."""

import math
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from common.errors import ConfigError
from common.layers import (
    AreaResize,
    PartialDirac,
    PatchWhitening,
    PixelScaling,
    PooledTransition,
    get_activation,
)
from common.models.resnet.config import (
    BLOCKS,
    POOLINGS,
    ResNetConfig,
)


def with_pixel_statistics(config: ResNetConfig, images: np.ndarray) -> ResNetConfig:
    """The same network for images of other colours than CIFAR-10's.

    Args:
        config: The network to start from.
        images: Raw training images `(n, height, width, channels)`, `uint8`. Mean and standard
            deviation are those of `spread(images)`, to four digits; of a channel that is the same
            everywhere, the deviation is one level.
    """
    sample = spread(images)
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(sample.shape[-1]):
        counts = np.bincount(sample[..., channel].ravel(), minlength=256)
        mean.append(np.average(levels, weights=counts))
        std.append(max(1 / 255, np.average((levels - mean[-1]) ** 2, weights=counts) ** 0.5))
    return replace(config, mean=np.round(mean, 4), std=np.round(std, 4))


def spread(images: np.ndarray, samples: int = 5000) -> np.ndarray:
    """At most so many of the images, taken at equal steps from the first to the last; a view."""
    return images[:: math.ceil(len(images) / samples)]


def resnet(
    config: ResNetConfig,
    num_classes: int = 10,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    augmentation: Sequence[keras.layers.Layer] = (),
    name: str = "resnet",
) -> keras.Model:
    """Builds the network: raw `uint8` pixels in, float32 logits out.

    Scaling and augmentation are layers of the model, so the saved model takes raw pixels. With
    height and width `None` one model serves images of any size.

    Args:
        config: The architecture, and the scaling of the pixels.
        num_classes: Number of logits.
        input_shape: `(height, width, channels)` of the images.
        augmentation: Layers for scaled images that act in training only.
        name: Of the model.

    Returns:
        A functional model of named layers ("scaling", "stem_conv", "stage1_block1", ..., "head");
        input `(batch, height, width, channels)`, output `(batch, num_classes)`.

    Raises:
        ConfigError: for a number of classes below 1, or images too small for so many stages.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes={num_classes} must be at least 1.")
    inputs = keras.Input(input_shape, dtype="uint8", name="images")
    x = PixelScaling(config.mean, config.std, name="scaling")(inputs)
    for layer in augmentation:
        x = layer(x)
    if config.image_size is not None:
        x = AreaResize(config.image_size, name="resizing")(x)
    x = _stem(config, x)
    for stage in range(config.stages):
        _check_size(config, stage, x)
        x = _stage(config, stage, x)
    if config.preactivation:  # the blocks' output was not yet normalised
        x = _norm(config, "final_norm")(x)
        x = keras.layers.Activation(get_activation(config.activation), name="final_activation")(x)
    features = POOLINGS[config.global_pooling](data_format="channels_last", name="features")(x)
    return keras.Model(inputs, _head(config, num_classes, features), name=name)


def adapt(model: keras.Model, images: np.ndarray, samples: int = 5000) -> None:
    """Computes what a model takes from data before training: the kernel of its whitening stem.

    Models with another stem stay as they are.

    Args:
        model: Made by `resnet`.
        images: Raw training images `(n, height, width, channels)`, `uint8`.
        samples: How many of the first images to use.
    """
    for layer in model.layers:
        if isinstance(layer, PatchWhitening):
            scaled = model.get_layer("scaling").normalise(images[:samples])
            resizing = [part for part in model.layers if isinstance(part, AreaResize)]
            layer.adapt(resizing[0](scaled) if resizing else scaled)


def _stem(config, x):
    if config.stem == "whitening":
        x = PatchWhitening(name="whitening")(x)
        return keras.layers.Activation(get_activation(config.activation), name="stem_activation")(x)
    large = config.stem == "conv7x7"
    x = keras.layers.Conv2D(
        config.widths[0],
        7 if large else 3,
        strides=2 if large else 1,
        padding="same",
        data_format="channels_last",
        use_bias=False,
        kernel_initializer=_kernel_initializer(config),
        name="stem_conv",
    )(x)
    if not config.preactivation:  # else the first block begins with them
        x = _norm(config, "stem_norm")(x)
        x = keras.layers.Activation(get_activation(config.activation), name="stem_activation")(x)
    if large:
        x = keras.layers.MaxPooling2D(
            3, strides=2, padding="same", data_format="channels_last", name="stem_pool"
        )(x)
    return x


def _check_size(config, stage, x):
    size = [side for side in x.shape[1:3] if side is not None]
    if config.downsample == "pool" and size and min(size) < 2:
        raise ConfigError(
            f"{config.stages} stages are too many for these images: each halves them, and stage "
            f"{stage + 1} would get {min(size)} pixel. Take {stage} stages, or larger images."
        )


def _stage(config, stage, x):
    block_class = BLOCKS[config.block]
    width = config.widths[stage]
    common = dict(
        activation=config.activation,
        norm_momentum=config.norm_momentum,
        norm_epsilon=config.norm_epsilon,
        norm_scale=config.norm_scale,
    )
    if config.downsample == "pool":
        x = PooledTransition(
            width * block_class.expansion,
            kernel_initializer=_kernel_initializer(config),
            name=f"stage{stage + 1}_transition",
            **common,
        )(x)
    for block in range(config.blocks[stage]):
        halves = config.downsample == "stride" and stage > 0 and block == 0
        x = block_class(
            width,
            stride=2 if halves else 1,
            shortcut=config.shortcut,
            preactivation=config.preactivation,
            squeeze_excitation=config.squeeze_excitation,
            zero_init_last=config.zero_init_last,
            residual=config.residual,
            kernel_initializer=_kernel_initializer(config),
            name=f"stage{stage + 1}_block{block + 1}",
            **common,
        )(x)
    return x


def _head(config, num_classes, features):
    # In float32 under any precision: a softmax needs more than the 8 bits of bfloat16.
    if config.head_scale is None:
        return keras.layers.Dense(num_classes, dtype="float32", name="head")(features)
    scaling = keras.layers.Rescaling(config.head_scale, dtype="float32", name="head_scale")
    return keras.layers.Dense(
        num_classes,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=1.0),
        dtype="float32",
        name="head",
    )(scaling(features))


def _norm(config, name):
    return keras.layers.BatchNormalization(
        momentum=config.norm_momentum,
        epsilon=config.norm_epsilon,
        scale=config.norm_scale,
        name=name,
    )


def _kernel_initializer(config):
    return PartialDirac() if config.kernel_init == "dirac" else config.kernel_init
