"""Pictures of slides: patches made whole, and put where they lie."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from common.data.images import ImageData
from common.errors import ConfigError, DataError
from common.paths import display

CLASSES = ("benign", "malignant")
SIZE = 50
# Side of a pixel of the IDC set in micrometres: slides scanned at 40x, 0.25 micrometres a pixel,
# and shrunk 16 times to 2.5x (Cruz-Roa et al. 2014).
MICROMETRES = 4.0


def pad(image: np.ndarray) -> np.ndarray:
    """A patch as (50, 50, 3), mirrored on at the right and below if it is smaller."""
    height, width = image.shape[:2]
    if height == width == SIZE:
        return image
    below, right = SIZE - height, SIZE - width
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT)


def slide_map(data: ImageData, patient: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values of a patient's patches where they lie on the slide.

    Args:
        data: patches with groups and positions.
        patient: whose slide.
        values: one number for each patch of `data`, (N,): labels or probabilities, say.

    Returns:
        float64 (rows, columns), a cell for each 50x50 pixels, the first at the leftmost column
        and topmost row that have a patch; NaN where there is no patch.

    Raises:
        ConfigError: if there is no such patient, or not a value for each patch.
        DataError: if two patches fall into one cell, or the data has no positions.
    """
    if np.shape(values) != (len(data),):
        raise ConfigError(
            f"{data.name} has {len(data)} patches. Received: values of shape {np.shape(values)}"
        )
    chosen, places = _on_slide(data, patient)
    columns, rows = (places // SIZE).T
    if len(np.unique(places // SIZE, axis=0)) < len(chosen):
        raise DataError(f"{data.name}: patches of patient {patient} overlap on their slide.")
    cells = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    cells[rows, columns] = np.asarray(values, dtype=float)[chosen]
    return cells


def slide_image(data: ImageData, patient: str, scale: float = 1.0) -> np.ndarray:
    """A patient's slide, put together from its patches.

    Args:
        data: patches with groups and positions.
        patient: whose slide.
        scale: See `put_together`.

    Returns:
        See `put_together`.

    Raises:
        ConfigError: if there is no such patient, or the scale is not positive.
        DataError: if the data has no positions.
    """
    chosen, places = _on_slide(data, patient)
    return put_together((data.images[i] for i in chosen), places, scale)


def put_together(
    images: Iterable[np.ndarray], places: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """A picture of patches, each where it lies.

    Args:
        images: uint8 (50, 50, 3) each, read one after the other.
        places: x and y of each one's upper left corner, int (N, 2).
        scale: how many pixels of the result a pixel of the slide takes; a patch takes a whole
            number of them, at least one (of several patches in one pixel the last is shown).

    Returns:
        uint8 (H, W, 3), from the leftmost and topmost patch on, white where there is no patch.

    Raises:
        ConfigError: if the scale is not positive.
    """
    if not scale > 0:
        raise ConfigError(f"scale must be positive. Received: {scale}")
    side = max(1, round(SIZE * scale))
    places = places - places.min(axis=0)
    places = np.rint(places * (scale if SIZE * scale < 1 else side / SIZE)).astype(int)
    width, height = places.max(axis=0) + side
    slide = np.full((height, width, 3), 255, np.uint8)
    method = cv2.INTER_AREA if side < SIZE else cv2.INTER_LINEAR
    for image, (x, y) in zip(images, places, strict=True):
        patch = cv2.resize(image, (side, side), interpolation=method)
        slide[y : y + side, x : x + side] = patch
    return slide


def _on_slide(data: ImageData, patient: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a patient's patches, and (n, 2) their x and y from the first column and row."""
    if data.groups is None or data.positions is None:
        raise DataError(f"{data.name} does not say where on which slide its images lie.")
    chosen = np.flatnonzero(np.asarray(data.groups) == patient)
    if not len(chosen):
        known = ", ".join(display(name) for name in np.unique(data.groups)[:10])
        raise ConfigError(f"{data.name} has no patient {patient!r}. Some that it has: {known}")
    places = data.positions[chosen]
    return chosen, places - places.min(axis=0)
