"""Figures of saliency maps, and of what is left of them when weights are random."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.errors import DataError
from common.plots.style import (
    GREY,
    HEAT,
    colour_of,
    legend_beside,
    mosaic_figure,
    need_columns,
    new_figure,
    plain,
)


def saliency_overlays(
    images: np.ndarray, maps: Mapping[str, np.ndarray], labels: Sequence[str] | None = None
) -> Figure:
    """A row per image: itself, then each map as heat over its grey version.

    Each map is scaled to its own largest values (99th percentile); negative parts are left out.

    Args:
        images: uint8 (N, H, W, 3), a handful.
        maps: Arrays (N, H, W) by the name of the method.
        labels: A name for each row, such as the predicted class.
    """
    for name, values in maps.items():
        if values.shape != images.shape[:3]:
            raise DataError(
                f"The map {name!r} must have shape {images.shape[:3]}. Received: {values.shape}"
            )
    rows = []
    for i, image in enumerate(images):
        rows += [image, *(overlay(image, values[i]) for values in maps.values())]
    return mosaic_figure(
        rows,
        1 + len(maps),
        row_labels=list(labels) if labels is not None else None,
        column_labels=["image", *maps],
        title="What the prediction depends on",
    )


def as_cells(
    maps: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Maps of few cells as large as the image, each cell a square around its centre; else 0.

    Args:
        maps: (N, h, w).
        rows, columns: Centres of the cells in pixels, (h,) and (w,), evenly spaced; see
            `common.evaluation.feature_maps.cell_centres`.
        size: (H, W) of the image.

    Returns:
        (N, H, W).
    """
    if np.shape(maps)[1:] != (len(rows), len(columns)):
        raise DataError(
            f"Maps of {np.shape(maps)[1:]} cells need as many centres. "
            f"Received: {len(rows)} and {len(columns)}"
        )
    down, across = _squares(rows, size[0]), _squares(columns, size[1])
    return np.einsum("ih,nhw,jw->nij", down, maps, across)


def _squares(centres: np.ndarray, side: int) -> np.ndarray:
    """(side, cells): 1 where a pixel belongs to a cell."""
    distance = np.abs(np.arange(side)[:, None] - np.asarray(centres, float))
    nearest = distance.argmin(axis=1)[:, None] == np.arange(len(centres))
    half = (centres[1] - centres[0]) / 2 if len(centres) > 1 else side
    return (nearest & (distance <= half)).astype("float32")


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map (H, W) as heat over the grey version of an image, both uint8 (H, W, 3)."""
    heat = np.clip(np.nan_to_num(values), 0, None)
    heat = np.clip(heat / (np.percentile(heat, 99) or heat.max() or 1), 0, 1)
    colours = matplotlib.colormaps[HEAT](heat)[..., :3]
    grey = (image / 255.0).mean(axis=-1, keepdims=True)
    share = 0.25 + 0.6 * heat[..., None]
    return (255 * (share * colours + (1 - share) * grey)).round().astype("uint8")


def randomisation_curves(tables: Mapping[str, pd.DataFrame], limit: float | None = None) -> Figure:
    """Similarity of saliency maps to the original ones while layers are randomised from the top.

    Args:
        tables: From `randomisation_test` of the same model, by the name of the method.
        limit: Of `require_sensitive`, drawn as a line.
    """
    if not tables:
        raise DataError("There is no method to draw.")
    layers = next(iter(tables.values()))["layer"].tolist()
    figure, [[axes]] = new_figure(height=3.2)
    places = np.arange(len(layers))
    for number, (name, table) in enumerate(tables.items()):
        need_columns(table, "layer", "similarity", "low", "high")
        if table["layer"].tolist() != layers:
            raise DataError(f"The table of {name!r} is of another model: its layers differ.")
        colour = colour_of(number)
        axes.fill_between(places, table["low"], table["high"], color=colour, alpha=0.1, linewidth=0)
        style = {"marker": "osD^v"[number % 5], "markersize": 4, "label": plain(name)}
        axes.plot(places, table["similarity"], "-", color=colour, **style)
    if limit is not None:
        label = f"refused from {limit:g} on\nat the last layer"
        axes.axhline(limit, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set_xticks(places, layers, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(
        title="What is left of the maps when weights are random",
        xlabel="randomised down to this layer",
        ylabel="rank correlation",
    )
    legend_beside(axes)
    return figure
