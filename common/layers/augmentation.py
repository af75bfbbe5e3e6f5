"""Pixel scaling and random image augmentation, on the accelerator and inside the model.

All layers take images of shape `(batch, height, width, channels)`. The random ones draw anew for
every image of the batch and do nothing at inference, so a saved model needs no switch.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from common.layers.stain import DARKEST, HED


@keras.saving.register_keras_serializable("course")
class PixelScaling(keras.layers.Layer):
    """Brings raw pixels to zero mean and unit variance, per channel.

    `y = (x / 255 - mean) / std`, computed in float32 (bfloat16 has 8 bits of precision: just
    enough for a raw pixel, too few for the arithmetic) and then cast to the compute dtype.

    As a layer of the model it is saved with it: a deployed model takes raw pixels and cannot be
    fed wrongly scaled ones.

    Args:
        mean: Mean per channel of the training images, pixels in 0..1.
        std: Standard deviation per channel, pixels in 0..1.

    Call arguments:
        images: `(batch, height, width, channels)`, 0..255, `uint8` or float.

    Returns:
        Scaled images of the same shape, in the compute dtype.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs):
        # No autocast: a float image must reach the arithmetic in full precision.
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(map(float, np.ravel(mean)))
        self.std = tuple(map(float, np.ravel(std)))
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                "PixelScaling needs a mean and a positive std for each channel. "
                f"Received: mean={mean}, std={std}"
            )

    def build(self, input_shape):
        if input_shape[-1] != len(self.mean):
            raise ValueError(
                f"PixelScaling has the mean of {len(self.mean)} channels. "
                f"Received: images of shape {tuple(input_shape)}"
            )

    def call(self, images):
        return ops.cast(self.normalise(images), self.compute_dtype)

    def normalise(self, images):
        """The same in float32, whatever the layer's dtype policy."""
        mean = ops.convert_to_tensor(self.mean, "float32")
        std = ops.convert_to_tensor(self.std, "float32")
        return (ops.cast(images, "float32") / 255.0 - mean) / std

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


class RandomAugmentation(keras.layers.Layer):
    """Base of the random augmentations: on in training, the identity otherwise.

    A subclass writes `augment(images)` and draws from `self.seed_generator`. Shape and dtype of
    the images stay as they are. Keras's layers of like names take single images, too, and turn in a
    `tf.data` pipeline to TensorFlow under any backend; these run where the model runs.

    Args:
        seed: Seed of the random numbers. `None`: drawn from Keras's global seed.

    Call arguments:
        images: `(batch, height, width, channels)`, scaled floats.
        training: Whether to augment.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        if not keras.backend.is_float_dtype(images.dtype):
            raise ValueError(
                f"{type(self).__name__} augments scaled images: put it after PixelScaling. "
                f"Received: images of dtype {keras.backend.standardize_dtype(images.dtype)}"
            )
        if len(images.shape) != 4:
            raise ValueError(
                f"{type(self).__name__} takes (batch, height, width, channels). Received: images "
                f"of shape {tuple(images.shape)}"
            )
        return self.augment(images) if training else images

    def augment(self, images):
        """Returns the images, each changed at random."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def take_pixels(images, rows, columns):
    """Copies pixels to new places: `output[n, i, j] = images[n, rows[n, i], columns[n, j]]`.

    One `take` from the long list of all pixels of the batch: on a CPU many times cheaper than
    `take_along_axis`, or than a `where` between moved copies of the images.

    Args:
        images: `(batch, height, width, channels)`.
        rows: Integers `(batch or 1, height)`.
        columns: Integers `(batch or 1, width)`.
    """
    batch, height, width, channels = ops.shape(images)
    numbers = (ops.arange(batch)[:, None, None] * height + rows[:, :, None]) * width
    numbers = numbers + columns[:, None, :]  # (batch, height, width)
    return ops.take(ops.reshape(images, (-1, channels)), numbers, axis=0)


@keras.saving.register_keras_serializable("course")
class RandomShift(RandomAugmentation):
    """Moves each image by a whole number of pixels, down and to the right.

    1. Draw `dy` and `dx` from `{-pixels, ..., pixels}` for each image.
    2. `output[i, j] = input[i - dy, j - dx]`.
    3. Where that lies outside, `"reflect"` mirrors at the edge pixel (which is not repeated),
       and `"zero"` takes 0, the mean after scaling.

    This is the crop from a padded image of He et al., "Deep Residual Learning for Image
    Recognition" (2015), but nothing is padded, which halves the cost.

    Args:
        pixels: Largest shift in each direction.
        mode: `"reflect"` or `"zero"`.
        seed: See `RandomAugmentation`.
    """

    def __init__(self, pixels: int = 2, mode: str = "reflect", seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        if pixels < 0 or pixels != int(pixels):
            raise ValueError(f"`pixels` must be a whole number >= 0. Received: pixels={pixels}")
        if mode not in ("reflect", "zero"):
            raise ValueError(f"`mode` must be 'reflect' or 'zero'. Received: mode={mode}")
        self.pixels = int(pixels)
        self.mode = mode

    def build(self, input_shape):
        known_sides = [side for side in input_shape[1:3] if side is not None]
        if self.mode == "reflect" and any(side <= self.pixels for side in known_sides):
            raise ValueError(
                f"RandomShift by {self.pixels} pixels can only reflect larger images. "
                f"Received: images of shape {tuple(input_shape)}"
            )

    def augment(self, images):
        batch, height, width, _ = ops.shape(images)
        rows, row_inside = self._source_positions(batch, height)
        columns, column_inside = self._source_positions(batch, width)
        shifted = take_pixels(images, rows, columns)
        if self.mode == "zero":
            inside = ops.logical_and(row_inside[:, :, None, None], column_inside[:, None, :, None])
            shifted = shifted * ops.cast(inside, shifted.dtype)
        return shifted

    def _source_positions(self, batch, side):
        """Where the pixels of one axis come from, and whether that lies inside; `(batch, side)`."""
        shift = keras.random.randint(
            (batch, 1), -self.pixels, self.pixels + 1, seed=self.seed_generator
        )
        position = ops.arange(side)[None, :] - shift  # (batch, side)
        mirrored = ops.abs(position)
        mirrored = (side - 1) - ops.abs((side - 1) - mirrored)
        inside = ops.equal(position, mirrored)
        return ops.clip(mirrored, 0, side - 1), inside

    def get_config(self):
        return {**super().get_config(), "pixels": self.pixels, "mode": self.mode}


@keras.saving.register_keras_serializable("course")
class RandomFlip(RandomAugmentation):
    """Mirrors each image left to right with probability 1/2.

    Only this flip keeps the meaning of everyday photographs: cars do not drive on their roofs.

    Args:
        seed: See `RandomAugmentation`.
    """

    def augment(self, images):
        batch, height, width, _ = ops.shape(images)
        flip = keras.random.uniform((batch, 1), seed=self.seed_generator) < 0.5
        columns = ops.arange(width)[None, :]
        columns = ops.where(flip, width - 1 - columns, columns)  # (batch, width)
        return take_pixels(images, ops.arange(height)[None, :], columns)


@keras.saving.register_keras_serializable("course")
class RandomSymmetry(RandomAugmentation):
    """Turns and mirrors each image: one of the eight symmetries of the square, each as likely.

    1. Draw three fair coins for each image.
    2. The first swaps rows and columns, the second reverses the rows, the third the columns.

    The eight combinations are the dihedral group: four quarter turns, each plain or mirrored. For
    images that have no up and no left, such as tissue under a microscope; they must be square.

    Args:
        seed: See `RandomAugmentation`.

    Raises:
        ValueError: in training, for images that are not square.
    """

    def augment(self, images):
        if images.shape[1] != images.shape[2]:
            raise ValueError(
                "RandomSymmetry turns square images only. "
                f"Received: images of shape {tuple(images.shape)}"
            )
        batch, _, width, channels = ops.shape(images)
        coins = keras.random.randint((3, batch, 1), 0, 2, seed=self.seed_generator)
        place = ops.arange(width)[None, :]
        rows = ops.where(coins[1] == 1, width - 1 - place, place)  # (batch, width)
        columns = ops.where(coins[2] == 1, width - 1 - place, place)
        # As in `take_pixels`; where rows and columns are swapped, a step down is a step of one.
        swap = coins[0] == 1
        rows = rows * ops.where(swap, 1, width)
        columns = columns * ops.where(swap, width, 1)
        numbers = ops.arange(batch)[:, None, None] * (width * width)
        numbers = numbers + rows[:, :, None] + columns[:, None, :]  # (batch, width, width)
        return ops.take(ops.reshape(images, (-1, channels)), numbers, axis=0)


@keras.saving.register_keras_serializable("course")
class RandomCutout(RandomAugmentation):
    """Blanks a square of each image, so that no single part decides the class.

    1. Draw a centre uniformly among all pixels of the image.
    2. Set the square of side `size` around it to 0, the mean after scaling. At a border the
       square is cut off, so some images lose less.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout" (2017).

    Args:
        size: Side of the square in pixels.
        seed: See `RandomAugmentation`.
    """

    def __init__(self, size: int = 8, seed: int | None = None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        if size < 1 or size != int(size):
            raise ValueError(f"`size` must be a whole number >= 1. Received: size={size}")
        self.size = int(size)

    def augment(self, images):
        batch, height, width, _ = ops.shape(images)
        rows = self._inside_square(batch, height)[:, :, None, None]
        columns = self._inside_square(batch, width)[:, None, :, None]
        kept = ops.logical_not(ops.logical_and(rows, columns))
        # On a CPU several times cheaper than `where`.
        return images * ops.cast(kept, images.dtype)

    def _inside_square(self, batch, side):
        """Which positions along one axis the square covers; boolean `(batch, side)`."""
        centre = keras.random.randint((batch, 1), 0, side, seed=self.seed_generator)
        offset = ops.arange(side)[None, :] - (centre - self.size // 2)
        return ops.logical_and(offset >= 0, offset < self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("course")
class RandomColour(RandomAugmentation):
    """Changes brightness, contrast and saturation of each image.

    1. Saturation: `x = grey + s (x - grey)`, `grey` the mean of the pixel's channels.
    2. Contrast: `x = m + c (x - m)`, `m` the mean of the image per channel.
    3. Brightness: `x = x + b`.

    with `s` uniform in `1 ± saturation`, `c` in `1 ± contrast`, `b` in `± brightness`, one of
    each per image. After `PixelScaling` the unit of `b` is a standard deviation of the pixels.

    Args:
        brightness, contrast, saturation: Largest change; 0 leaves that property alone.
        seed: See `RandomAugmentation`.
    """

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        if brightness < 0 or not 0 <= contrast <= 1 or not 0 <= saturation <= 1:
            raise ValueError(
                "`brightness` must be >= 0, `contrast` and `saturation` in 0..1. Received: "
                f"brightness={brightness}, contrast={contrast}, saturation={saturation}"
            )
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation

    def augment(self, images):
        if self.saturation:
            grey = ops.mean(images, axis=-1, keepdims=True)
            images = grey + self._draw(images, 1.0, self.saturation) * (images - grey)
        if self.contrast:
            mean = ops.mean(images, axis=(1, 2), keepdims=True)
            images = mean + self._draw(images, 1.0, self.contrast) * (images - mean)
        if self.brightness:
            images = images + self._draw(images, 0.0, self.brightness)
        return images

    def _draw(self, images, centre, amount):
        """One number per image, uniform in `centre ± amount`, shape `(batch, 1, 1, 1)`."""
        shape = (ops.shape(images)[0], 1, 1, 1)
        drawn = keras.random.uniform(
            shape, centre - amount, centre + amount, dtype="float32", seed=self.seed_generator
        )
        return ops.cast(drawn, images.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "brightness": self.brightness,
            "contrast": self.contrast,
            "saturation": self.saturation,
        }


@keras.saving.register_keras_serializable("course")
class RandomStain(RandomAugmentation):
    """Changes how each image is stained and lit, as in another laboratory, by another scanner.

    1. Undo the scaling: `rgb = x std + mean`, at least 1/255.
    2. Optical density: `od = -ln(rgb)`.
    3. Amounts of haematoxylin, eosin and DAB: `c = od M^-1`, see `common.layers.stain`.
    4. `c = a c + b`, with `a` uniform in `1 ± strength` and `b` in `± strength`, one of each per
       image and stain.
    5. Back to `rgb`, times a factor of the light whose logarithm is uniform in `± ln(1 + light)`,
       one per image; cut off at white, and back to the scaled image.

    Steps 3 to 5 are one matrix and one offset per image: `od = od (M^-1 diag(a) M) + b M - ln l`,
    `l` the factor of the light. All is computed in float32. The unit of `b` is that of `c`, natural
    optical density: 0.05 more of haematoxylin takes 3 % of the red and green light.

    Sources: Tellez et al., "Whole-Slide Mitosis Detection in H&E Breast Histology Using PHH3 as
    a Reference to Train Distilled Stain-Invariant Convolutional Networks" (2018); Ruifrok and
    Johnston, "Quantification of Histochemical Staining by Color Deconvolution" (2001).

    Args:
        mean, std: Those of the `PixelScaling` before, of three channels.
        strength: Largest change of a stain, 0 to 1.
        light: Largest change of the light: 0.5 takes a third of it or adds a half; 0 for none.
        seed: See `RandomAugmentation`.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        strength: float = 0.05,
        light: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        self.mean = tuple(map(float, np.ravel(mean)))
        self.std = tuple(map(float, np.ravel(std)))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                "RandomStain needs a mean and a positive std for each of three channels. "
                f"Received: mean={mean}, std={std}"
            )
        if not 0 <= strength <= 1:
            raise ValueError(f"`strength` must be in 0..1. Received: strength={strength}")
        if light < 0:
            raise ValueError(f"`light` must be >= 0. Received: light={light}")
        self.strength = strength
        self.light = light

    def augment(self, images):
        batch, height, width, channels = ops.shape(images)
        draws = keras.random.uniform(
            (2, batch, 3), -self.strength, self.strength, "float32", self.seed_generator
        )
        matrix = ops.convert_to_tensor(HED, "float32")
        inverse = ops.convert_to_tensor(np.linalg.inv(HED), "float32")
        mixing = ops.einsum("cs,ns,sd->ncd", inverse, 1 + draws[0], matrix)
        offset = ops.matmul(draws[1], matrix)
        if self.light:
            most = float(np.log1p(self.light))
            offset -= keras.random.uniform((batch, 1), -most, most, "float32", self.seed_generator)
        # On a CPU many times cheaper than broadcasting three channels: (batch, height, row).
        row = (batch, height, width * channels)
        mean, std, offset = (
            ops.tile(values, (1, width))[:, None] for values in (*self._scaling(), offset)
        )
        rgb = ops.reshape(ops.cast(images, "float32"), row) * std + mean
        density = ops.reshape(-ops.log(ops.maximum(rgb, DARKEST)), ops.shape(images))
        density = ops.reshape(ops.einsum("nhwc,ncd->nhwd", density, mixing), row) + offset
        rgb = ops.exp(-ops.maximum(density, 0.0))
        return ops.cast(ops.reshape((rgb - mean) / std, ops.shape(images)), images.dtype)

    def _scaling(self):
        return (ops.convert_to_tensor([values], "float32") for values in (self.mean, self.std))

    def get_config(self):
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "strength": self.strength,
            "light": self.light,
        }
