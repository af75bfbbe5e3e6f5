"""Figures of a data set: its classes, pixels, duplicates and resolution."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.errors import ConfigError, DataError
from common.plots.style import LINES, PALETTE, mosaic_figure, new_figure, plain

CHANNELS = ("red", "green", "blue")
# Blue, orange and green would be told apart, but red is expected to be red.
CHANNEL_COLOURS = ("#d55e00", "#029e73", "#0173b2")
_MOST_CLASSES = 60  # in a figure of images


def class_gallery(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    per_class: int = 6,
    seed: int = 0,
) -> Figure:
    """A row of `per_class` images drawn at random for each class; images uint8 (N, H, W, 3)."""
    rng = np.random.default_rng(seed)
    rows = []
    shown, title = _first_classes(classes, "Images of each class")
    for number in range(len(shown)):
        members = np.flatnonzero(labels == number)
        chosen = rng.choice(members, min(per_class, len(members)), replace=False)
        rows += [images[i] for i in chosen]
        rows += [np.full(images.shape[1:], 255, "uint8")] * (per_class - len(chosen))
    return mosaic_figure(rows, per_class, row_labels=shown, title=title)


def _first_classes(classes: Sequence[str], title: str) -> tuple[list[str], str]:
    """As many classes as a figure can hold, and a title that says so."""
    shown = list(classes[:_MOST_CLASSES])
    if len(shown) < len(classes):
        title += f" (the first {len(shown)} of {len(classes):,})"
    return shown, title


def channel_histograms(images: np.ndarray) -> Figure:
    """How often each pixel value occurs in each channel, with mean and standard deviation."""
    counts = _channel_counts(images)
    values = np.arange(256)
    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    figure, [[axes]] = new_figure(height=2.8)
    for name, colour, line, row in zip(CHANNELS, CHANNEL_COLOURS, LINES[:3], share, strict=True):
        mean = np.average(values, weights=row)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=row))
        label = f"{name}: mean {mean:.1f}, std {deviation:.1f}"
        axes.plot(values, row, line, color=colour, label=label, linewidth=1.3)
        axes.axvline(mean, color=colour, linestyle=":", linewidth=1)
    axes.set(
        title="Pixel values by channel (dotted: mean)",
        xlabel="pixel value (0 to 255)",
        ylabel="share of pixels (%)",
        xlim=(0, 255),
        # Saturated pixels pile up at both ends; they would flatten all the rest.
        ylim=(0, 1.1 * share[:, 1:-1].max() if share[:, 1:-1].any() else None),
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _channel_counts(images: np.ndarray) -> np.ndarray:
    """Counts (3, 256), in parts: `bincount` makes integers of 8 bytes of what it gets."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise DataError(
            f"Wanted images uint8 (N, H, W, 3). Received: {images.dtype} {images.shape}"
        )
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 1000):
        part = images[start : start + 1000].reshape(-1, 3)
        counts += [np.bincount(part[:, c], minlength=256) for c in range(3)]
    return counts


def mean_images(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """The mean image of each class: what a class has in common by place and colour.

    Means are grey. The darkest value of all of them is drawn black and the brightest white, which
    is told above them.
    """
    means = []
    shown, title = _first_classes(classes, "Mean image of each class")
    for number in range(len(shown)):
        members = images[labels == number]
        if not len(members):
            raise DataError(f"There is no image of the class {classes[number]!r}.")
        means.append(members.mean(axis=0, dtype="float32"))
    if not means:
        raise DataError("There is no class to show.")
    low, high = np.min(means), np.max(means)
    title += f" (contrast: {low:.0f} to {high:.0f} drawn as 0 to 255)"
    return _templates(means, low, high, shown, title)


def class_templates(
    templates: np.ndarray, classes: Sequence[str], title: str = "Weights of each class"
) -> Figure:
    """The weights of a linear model as images: bright where a bright pixel speaks for the class.

    Args:
        templates: Float (C, H, W, 3). Grey is 0; all are drawn at one scale, the most extreme
            hundredth of the weights at its ends.
        classes: C names.
        title: Of the figure.
    """
    if np.ndim(templates) != 4 or len(templates) != len(classes) or not len(templates):
        raise DataError(
            f"Wanted weights (C, H, W, 3) and C names. Received: {np.shape(templates)} and "
            f"{len(classes)} names"
        )
    shown, title = _first_classes(classes, title)
    high = np.percentile(np.abs(templates), 99)
    return _templates(list(templates[: len(shown)]), -high, high, shown, title)


def _templates(images: list, low: float, high: float, names: list[str], title: str) -> Figure:
    scale = 255 / max(high - low, 1e-12)
    drawn = [np.clip((i - low) * scale, 0, 255).round().astype("uint8") for i in images]
    titles = [plain(name, 30) for name in names]
    return mosaic_figure(drawn, min(5, len(drawn)), titles=titles, title=title)


def near_duplicates(
    images: np.ndarray, pairs: pd.DataFrame, others: np.ndarray | None = None, count: int = 6
) -> Figure:
    """Pairs of images that are nearly the same, one below the other.

    Args:
        images: uint8 (N, H, W, 3), the upper row.
        pairs: A row per pair, as `common.data.near_duplicates` finds them; columns `index_a` (in
            `images`), `index_b` (in `others`) and `distance`. Where there are `class_a` and
            `class_b`, they stand above the images.
        others: The lower row, by default `images` too (train against test, for instance).
        count: Pairs shown, the first ones of the table.
    """
    others = images if others is None else others
    shown = pairs.head(count)
    if shown.empty:
        raise DataError("There is no pair to show.")
    upper = [images[i] for i in shown["index_a"]]
    lower = [others[i] for i in shown["index_b"]]
    names = [
        plain(name, 30) for key in ("class_a", "class_b") if key in shown for name in shown[key]
    ]
    return mosaic_figure(
        upper + lower,
        len(shown),
        titles=names or None,
        column_labels=[f"{value:.2f}" for value in shown["distance"]],
        row_labels=["first", "second"],
        title="Near-duplicates and their distance",
    )


def distance_histogram(
    distances: np.ndarray, threshold: float, copies: np.ndarray | None = None
) -> Figure:
    """Distance of each image to its nearest other one; those below `threshold` are suspects.

    Args:
        distances: One per image; what is not finite is left out.
        threshold: Drawn as a line.
        copies: Distances of known copies to their originals, drawn in a second colour.
    """
    distances = np.asarray(distances, float)
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        raise DataError("There is no distance to show.")
    figure, [[axes]] = new_figure(height=2.6)
    parts = {"images": distances}
    if copies is not None:
        parts["known copies"] = np.asarray(copies, float)
    edges = np.histogram_bin_edges(np.concatenate(list(parts.values())), 60)
    for number, (name, values) in enumerate(parts.items()):
        label = None if copies is None else f"{name} ({len(values):,})"
        colour, share = PALETTE[2 * number], np.full(len(values), 100 / len(values))
        axes.hist(values, edges, weights=share, color=colour, alpha=0.8, label=label)
    below = int((distances < threshold).sum())
    axes.axvline(
        threshold, color=PALETTE[1], linestyle="--", label=f"threshold {threshold:g}: {below} below"
    )
    axes.set(
        title="Distance to the nearest other image",
        xlabel="distance",
        ylabel="share of images (%)",
    )
    axes.legend()
    return figure


def resolution_comparison(images: np.ndarray, sizes: Sequence[int] = (32, 24, 16, 8)) -> Figure:
    """The same images shrunk to each size (areas averaged) and enlarged again, a row per size.

    Args:
        images: uint8 (N, H, W, 3), square; a handful.
        sizes: Sides in pixels, at most that of the images.
    """
    side = images.shape[1]
    if not sizes or min(sizes) < 1 or max(sizes) > side:
        raise ConfigError(f"sizes must lie in 1..{side}. Received: {tuple(sizes)}")
    rows = []
    for size in sizes:
        for image in images:
            small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            rows.append(cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST))
    return mosaic_figure(
        rows,
        len(images),
        row_labels=[f"{size} x {size} px" for size in sizes],
        title="What fewer pixels lose",
    )
