"""Figures of a data set: its classes, pixels, duplicates and resolution."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from common.errors import ConfigError, DataError
from common.plots.style import PALETTE, label_bars, mosaic_figure, new_figure, plain, plain_text

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


@plain_text()
def class_balance(counts: pd.Series | pd.DataFrame) -> Figure:
    """Images per class: a bar per class, or a bar per class and column (split) of a table."""
    table = counts.to_frame("images") if isinstance(counts, pd.Series) else counts
    if table.empty:
        raise DataError("There is no class to show.")
    table = table.rename(columns=plain)
    long = table.rename_axis("class").reset_index().melt("class", var_name="split")
    bars = len(long)
    palette = sns.color_palette(PALETTE, len(table.columns))
    figure, [[axes]] = new_figure(height=max(2.0, 0.16 * bars + 0.9))
    several = len(table.columns) > 1
    sns.barplot(
        long,
        x="value",
        y="class",
        hue="split" if several else None,
        color=None if several else PALETTE[0],
        palette=palette if several else None,
        ax=axes,
    )
    label_bars(axes)
    axes.set(title="Images per class", xlabel="number of images", ylabel="")
    axes.margins(x=0.1)
    if several:
        sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None)
    return figure


def channel_histograms(images: np.ndarray) -> Figure:
    """How often each pixel value occurs in each channel, with mean and standard deviation."""
    counts = _channel_counts(images)
    values = np.arange(256)
    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    figure, [[axes]] = new_figure(height=2.8)
    for name, colour, row in zip(CHANNELS, CHANNEL_COLOURS, share, strict=True):
        mean = np.average(values, weights=row)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=row))
        label = f"{name}: mean {mean:.1f}, std {deviation:.1f}"
        axes.plot(values, row, color=colour, label=label, linewidth=1.3)
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
    """The mean image of each class: what a class has in common by place and colour."""
    means = []
    shown, title = _first_classes(classes, "Mean image of each class")
    for number in range(len(shown)):
        members = images[labels == number]
        if not len(members):
            raise DataError(f"There is no image of the class {classes[number]!r}.")
        means.append(members.mean(axis=0, dtype="float32").round().astype("uint8"))
    columns = min(5, len(classes))
    return mosaic_figure(means, columns, titles=[plain(name, 30) for name in shown], title=title)


def near_duplicates(
    images: np.ndarray, pairs: pd.DataFrame, others: np.ndarray | None = None, count: int = 6
) -> Figure:
    """Pairs of images that are nearly the same, one below the other.

    Args:
        images: uint8 (N, H, W, 3), the upper row.
        pairs: A row per pair, as `common.data.near_duplicates` finds them; columns `index_a` (in
            `images`), `index_b` (in `others`) and `distance`.
        others: The lower row, by default `images` too (train against test, for instance).
        count: Pairs shown, the first ones of the table.
    """
    others = images if others is None else others
    shown = pairs.head(count)
    if shown.empty:
        raise DataError("There is no pair to show.")
    upper = [images[i] for i in shown["index_a"]]
    lower = [others[i] for i in shown["index_b"]]
    return mosaic_figure(
        upper + lower,
        len(shown),
        column_labels=[f"{value:.3g}" for value in shown["distance"]],
        row_labels=["first", "second"],
        title="Near-duplicates and their distance",
    )


def distance_histogram(distances: np.ndarray, threshold: float) -> Figure:
    """Distance of each image to its nearest other one; those below `threshold` are suspects."""
    distances = np.asarray(distances, float)
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        raise DataError("There is no distance to show.")
    figure, [[axes]] = new_figure(height=2.6)
    sns.histplot(x=distances, bins=60, color=PALETTE[0], edgecolor=None, ax=axes)
    below = int((distances < threshold).sum())
    axes.axvline(threshold, color=PALETTE[1], label=f"threshold {threshold:g}: {below} below")
    axes.set(
        title="Distance to the nearest other image", xlabel="distance", ylabel="number of images"
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
