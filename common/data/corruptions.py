"""Small changes of images that leave what they show: does the answer stay?"""

from collections.abc import Callable

import cv2
import numpy as np

from common.errors import ConfigError, DataError

# The changes that lessons try, by what they are called: a kind and its strength.
CORRUPTIONS = {
    "JPEG, quality 90": ("jpeg", 90),
    "JPEG, quality 75": ("jpeg", 75),
    "WebP, quality 80": ("webp", 80),
    "noise, 2 grey levels": ("noise", 2),
    "noise, 4 grey levels": ("noise", 4),
    "noise, 8 grey levels": ("noise", 8),
    "shift by 2 pixels": ("shift", 2),
    "shift by 4 pixels": ("shift", 4),
    "brightness x 0.7": ("brightness", 0.7),
    "brightness x 1.4": ("brightness", 1.4),
}


def corrupt(images: np.ndarray, kind: str, strength: float, seed: int = 0) -> np.ndarray:
    """Changes images in one way; the same images, strength and seed give the same result.

    Some of the kinds of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations" (2019), and weaker than theirs.

    Args:
        images: uint8 (N, H, W, 3), red first.
        kind: "jpeg" and "webp" (strength: quality, 1 to 100), "noise" (standard deviation of
            Gaussian noise in grey levels), "shift" (pixels to the right, whole; the edge is filled
            by reflection), or "brightness" (a factor).
        strength: See `kind`.
        seed: Of the noise.

    Returns:
        uint8, of the shape of `images`.

    Raises:
        ConfigError: for an unknown kind, or a strength that it cannot have.
        DataError: for images of another type or shape.
    """
    if kind not in _KINDS:
        raise ConfigError(f"kind={kind!r} is unknown. Choose one of {tuple(_KINDS)}.")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        received = f"{getattr(images, 'dtype', type(images).__name__)} {np.shape(images)}"
        raise DataError(f"Images must be raw pixels, uint8 (N, H, W, 3). Received: {received}")
    if kind in _FORMATS:
        fits, wanted = 1 <= strength <= 100 and strength == int(strength), "a quality of 1 to 100"
    elif kind == "shift":
        fits = 0 <= strength < images.shape[2] and strength == int(strength)
        wanted = f"whole pixels, 0 to {images.shape[2] - 1}"
    else:
        fits, wanted = strength >= 0, "0 or more"
    if not fits:
        raise ConfigError(f"{kind} needs {wanted}. Received: {strength}")
    return _KINDS[kind](images, strength, seed)


def corrupt_some(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Corrupts a share of the images, drawn at random: augmentation that makes a network robust.

    Three in four of them are compressed as JPEG, of a quality from 60 to 95; the fourth gets
    Gaussian noise of a standard deviation up to 8 grey levels.

    Args:
        images: uint8 (N, H, W, 3), red first.
        share: Of the images, 0 to 1.
        rng: Decides which images, and how.

    Returns:
        uint8, of the shape of `images`; those that are not drawn are as they were.
    """
    images = images.copy()
    draw = rng.random(len(images))
    for i in np.flatnonzero(draw < 0.75 * share):
        images[i : i + 1] = corrupt(images[i : i + 1], "jpeg", int(rng.integers(60, 96)))
    noisy = np.flatnonzero((draw >= 0.75 * share) & (draw < share))
    strength = rng.uniform(0, 8, (len(noisy), 1, 1, 1)).astype("float32")
    images[noisy] = _noisy(images[noisy], strength, rng)
    return images


_FORMATS = {
    "jpeg": (".jpg", cv2.IMWRITE_JPEG_QUALITY),
    "webp": (".webp", cv2.IMWRITE_WEBP_QUALITY),
}


def _compressed(kind: str) -> Callable:
    extension, quality = _FORMATS[kind]

    def change(images, strength, seed):
        changed = np.empty_like(images)
        for image, place in zip(images, changed, strict=True):
            blue_first = np.ascontiguousarray(image[..., ::-1])
            _, written = cv2.imencode(extension, blue_first, [quality, int(strength)])
            place[...] = cv2.imdecode(written, cv2.IMREAD_COLOR)[..., ::-1]
        return changed

    return change


def _noisy(images, strength, seed):
    noise = np.random.default_rng(seed).standard_normal(images.shape, dtype="float32")
    return _pixels(images + strength * noise)


def _shifted(images, strength, seed):
    pixels, width = int(strength), images.shape[2]
    padded = np.pad(images, ((0, 0), (0, 0), (pixels, 0), (0, 0)), mode="reflect")
    return padded[:, :, :width]


def _brighter(images, strength, seed):
    return _pixels(strength * images.astype("float32"))


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(values.round(), 0, 255).astype("uint8")


_KINDS = {
    "jpeg": _compressed("jpeg"),
    "webp": _compressed("webp"),
    "noise": _noisy,
    "shift": _shifted,
    "brightness": _brighter,
}
