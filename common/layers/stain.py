"""Colour deconvolution: how much of each stain gave a pixel its colour."""

import numpy as np

# Optical density in red, green and blue of haematoxylin, eosin and DAB, a row per stain: Ruifrok
# and Johnston, "Quantification of Histochemical Staining by Color Deconvolution" (2001), rounded
# to two digits as in scikit-image.
HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

# The darkest pixel that counts: the logarithm of 0 is infinite.
DARKEST = 1 / 255

_DENSITIES = -np.log(np.maximum(np.arange(256), 1) / 255)


def rgb_to_hed(images: np.ndarray) -> np.ndarray:
    """Amount of haematoxylin, eosin and DAB in each pixel.

    Light that passes through a stain falls off exponentially (Beer and Lambert), so stains add up
    in optical density:

    1. `od = -ln(rgb / 255)`, with 0 taken as 1
    2. `hed = od M^-1`, with `M` the matrix `HED`, whose rows have a length of about 1

    An amount of 1 leaves `exp(-M)` of the light: with haematoxylin 52 % of red, 50 % of green and
    75 % of blue. White glass has 0 of each; a colour that the three stains cannot mix has a
    negative amount of some. `skimage.color.rgb2hed` is the same divided by `ln 10^6`, with
    negative amounts set to 0.

    Args:
        images: `(..., 3)`, `uint8`, red first.

    Returns:
        `(..., 3)`, `float32`.

    Raises:
        ValueError: for other types or shapes.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-1:] != (3,):
        raise ValueError(
            "rgb_to_hed needs uint8 images of shape (..., 3). "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    return _DENSITIES.astype("float32")[images] @ np.linalg.inv(HED).astype("float32")


def hed_to_rgb(stains: np.ndarray) -> np.ndarray:
    """The inverse of `rgb_to_hed`; colours brighter than white become white.

    Args:
        stains: `(..., 3)` amounts of haematoxylin, eosin and DAB.

    Returns:
        `(..., 3)`, `uint8`.

    Raises:
        ValueError: for other shapes.
    """
    stains = np.asarray(stains, "float32")
    if stains.shape[-1:] != (3,):
        raise ValueError(f"hed_to_rgb needs shape (..., 3). Received: {stains.shape}")
    light = np.exp(-np.maximum(stains @ HED.astype("float32"), 0))
    return np.rint(255 * light).astype("uint8")
