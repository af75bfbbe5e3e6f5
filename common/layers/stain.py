"""Colour deconvolution: how much of each stain gave a pixel its colour, and other stains for it."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    return _density(images, "rgb_to_hed") @ np.linalg.inv(HED).astype("float32")


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


def _density(images: np.ndarray, name: str) -> np.ndarray:
    """Natural optical density of each channel, (..., 3), float32."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-1:] != (3,):
        raise ValueError(
            f"{name} needs uint8 images of shape (..., 3). "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    return _DENSITIES.astype("float32")[images]


@dataclass(frozen=True)
class Stains:
    """How a slide is stained.

    Attributes:
        vectors: Optical density in red, green and blue of haematoxylin and of eosin, (2, 3), rows
            of length 1.
        strongest: The amount of each that a hundredth of the tissue exceeds, (2,), in natural
            optical density.
    """

    vectors: np.ndarray
    strongest: np.ndarray


# Less optical density than this, and a pixel counts as glass. Macenko et al. ask it of each
# channel; the mean of the three keeps pale eosin, which takes hardly any red light.
_GLASS = 0.15
_FEWEST = 100  # pixels of tissue


def find_stains(images: np.ndarray, seed: int = 0) -> Stains:
    """The two stains of the images of one slide, found in their colours.

    A pixel with two stains has an optical density between theirs, so all densities lie in a plane,
    inside an angle whose sides are the stains:

    1. `od = -ln(rgb / 255)`; pixels of glass are left out;
    2. the plane: the two eigenvectors of the covariance of `od` with the largest eigenvalues;
    3. the angle of each pixel in the plane: the 1st and the 99th percentile are the stains, and
       haematoxylin is the one that takes more of the red light;
    4. amounts by least squares, and the 99th percentile of each.

    Macenko et al., "A Method for Normalizing Histology Slides for Quantitative Analysis" (2009).

    Args:
        images: `(..., 3)`, `uint8`, red first, of one slide: few images do not show its stains.
        seed: Draws the million pixels that are used where there are more.

    Returns:
        The stains.

    Raises:
        ValueError: for other types or shapes, or images of hardly any tissue.
    """
    pixels = np.asarray(images).reshape(-1, np.shape(images)[-1] if np.ndim(images) else 1)
    if len(pixels) > 10**6:
        pixels = pixels[np.random.default_rng(seed).integers(0, len(pixels), 10**6)]
    density = _density(pixels, "find_stains")
    density = density[density.mean(axis=-1) > _GLASS].astype("float64")
    if len(density) < _FEWEST:
        raise ValueError(
            f"find_stains needs tissue. Received: {len(density)} pixels that are not glass, of "
            f"{_FEWEST} or more that it takes."
        )
    _, directions = np.linalg.eigh(np.cov(density.T))
    plane = directions[:, 1:]  # (3, 2), the largest eigenvalue last
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)  # densities are positive
    on_plane = density @ plane
    angles = np.percentile(np.arctan2(on_plane[:, 0], on_plane[:, 1]), (1, 99))
    vectors = np.stack([np.sin(angles), np.cos(angles)], axis=-1) @ plane.T  # (2, 3)
    vectors = np.clip(vectors, 1e-6, None)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = vectors[np.argsort(-vectors[:, 0])]
    strongest = np.percentile(density @ np.linalg.pinv(vectors), 99, axis=0)
    return Stains(vectors, np.maximum(strongest, 1e-3))


def mean_stains(stains: Sequence[Stains]) -> Stains:
    """The stains in the middle of those of several slides: a target for `normalise_stains`."""
    vectors = np.mean([one.vectors for one in stains], axis=0)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return Stains(vectors, np.median([one.strongest for one in stains], axis=0))


def normalise_stains(images: np.ndarray, source: Stains, target: Stains) -> np.ndarray:
    """The images as they would look with other stains.

    1. Amounts of the two stains by least squares: `c = od V+`, with `V` the source's vectors;
    2. `c = c s_target / s_source`, so that the strongest amounts become the target's;
    3. `rgb = 255 exp(-c V_target)`.

    What the two stains do not explain of a colour is left out, as in Macenko et al. (2009).

    Args:
        images: `(..., 3)`, `uint8`, red first.
        source: Of the images' own slide, from `find_stains`.
        target: Those to have.

    Returns:
        `(..., 3)`, `uint8`.

    Raises:
        ValueError: for other types or shapes.
    """
    scale = np.diag(target.strongest / source.strongest)
    mixing = (np.linalg.pinv(source.vectors) @ scale @ target.vectors).astype("float32")  # (3, 3)
    light = np.exp(-np.maximum(_density(images, "normalise_stains") @ mixing, 0))
    return np.rint(255 * light).astype("uint8")
