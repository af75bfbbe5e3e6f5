"""Figures of what a captioner sees of an image, and where it looks."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.errors import DataError
from common.plots.style import HEAT, SEQUENTIAL, mosaic_figure, new_figure, plain


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


def attention_words(image: np.ndarray, words: Sequence[str], attention: np.ndarray) -> Figure:
    """Where a captioner looked at each word that it wrote.

    All words share one scale, so that a look at everything is told from a look at one place.

    Args:
        image: uint8 (H, W, 3).
        words: The caption, of `T` words.
        attention: (T, h, w) or longer, each with sum 1.
    """
    _require_maps(image, attention)
    if len(attention) < len(words):
        raise DataError(f"{len(words)} words, but attention of {len(attention)}.")
    scale = 224 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else 1)
    attention = attention[: len(words)]
    top = np.percentile(attention, 99) if len(words) else 1.0
    pictures = [_over(small, part, top) for part in attention]
    return mosaic_figure([small, *pictures], 6, titles=["", *map(plain, words)])


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


def _over(image: np.ndarray, values: np.ndarray, top: float) -> np.ndarray:
    """A map in 0..top as light over the dimmed image."""
    light = _resized(values, *image.shape[:2])
    light = cv2.GaussianBlur(light, (0, 0), image.shape[0] / (3 * values.shape[0]))
    light = np.clip(light / (top or light.max() or 1), 0, 1)[..., None]
    heat = matplotlib.colormaps[HEAT](light[..., 0])[..., :3]
    share = 0.55 * light
    dimmed = image / 255 * (0.5 + 0.5 * light)
    return (255 * np.clip((1 - share) * dimmed + share * heat, 0, 1)).round().astype("uint8")
