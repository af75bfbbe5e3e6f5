"""Figures of what a captioner sees of an image."""

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.errors import DataError
from common.plots.style import SEQUENTIAL, mosaic_figure, new_figure


def feature_maps(image: np.ndarray, maps: np.ndarray, shown: int = 11) -> Figure:
    """The channels of a feature map that answer to a part of the image only, most clearly.

    Args:
        image: uint8 (H, W, 3).
        maps: (h, w, channels).
        shown: How many channels.
    """
    _require_maps(image, maps)
    order = np.argsort(maps.mean(axis=(0, 1)) - maps.max(axis=(0, 1)))[:shown]
    size = image.shape[:2]
    pictures = [_heat(_resized(maps[..., c], *size)) for c in order]
    titles = ["image", *(f"channel {c}" for c in order)]
    return mosaic_figure([image, *pictures], 6, titles=titles)


def region_similarity(image: np.ndarray, maps: np.ndarray, region: tuple[int, int]) -> Figure:
    """Each region's cosine with one of them, after taking off the mean of all.

    Args:
        image: uint8 (H, W, 3).
        maps: (h, w, channels).
        region: Row and column of the one, marked by a frame.
    """
    _require_maps(image, maps)
    centred = maps - maps.mean(axis=(0, 1))
    unit = centred / (np.linalg.norm(centred, axis=-1, keepdims=True) + 1e-6)
    similar = unit @ unit[region]
    figure, [[left, right]] = new_figure(1, 2, width=5.4, height=2.5)
    height, width = image.shape[:2]
    left.imshow(image)
    shown = right.imshow(
        similar, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, width, height, 0), aspect="auto"
    )
    right.set_aspect(left.get_aspect())
    step_y, step_x = height / maps.shape[0], width / maps.shape[1]
    for axes in (left, right):
        corner = (region[1] * step_x, region[0] * step_y)
        axes.add_patch(Rectangle(corner, step_x, step_y, fill=False, edgecolor="lime", lw=2))
        axes.axis("off")
    left.set_title("image")
    right.set_title("cosine with the framed region")
    figure.colorbar(shown, ax=right, shrink=0.85)
    return figure


def _require_maps(image: np.ndarray, maps: np.ndarray) -> None:
    if image.ndim != 3 or maps.ndim != 3:
        raise DataError(
            "Wanted an image (H, W, 3) and 3 axes of maps. "
            f"Received: {image.shape} and {maps.shape}"
        )


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A coarse map, each number a block of the image; borders stay where they are."""
    return cv2.resize(values.astype("float32"), (width, height), interpolation=cv2.INTER_NEAREST)


def _heat(values: np.ndarray) -> np.ndarray:
    """A map in colours, from its least value to its greatest."""
    span = values.max() - values.min()
    scaled = (values - values.min()) / (span if span > 0 else 1)
    return (255 * matplotlib.colormaps[SEQUENTIAL](scaled)[..., :3]).round().astype("uint8")
