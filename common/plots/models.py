"""Figures of networks: what each stage costs, and what depth does."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from common.plots.style import PALETTE, need_columns, new_figure, plain
from common.plots.training import NAMES, in_percent, short_number


def stage_costs(table: pd.DataFrame, title: str = "What each stage costs") -> Figure:
    """Parameters and multiply-adds of each stage, side by side.

    Args:
        table: A row per stage: `stage`, `parameters`, `macs` (of one image).
        title: Of the figure.
    """
    need_columns(table, "stage", "parameters", "macs")
    figure, both = new_figure(1, 2, height=0.27 * len(table) + 1.0, sharey=True)
    for axes, column, colour in zip(both[0], ("parameters", "macs"), PALETTE, strict=False):
        sns.barplot(table, x=column, y="stage", color=colour, ax=axes)
        total = table[column].sum()
        labels = [f"{short_number(v)} ({100 * v / (total or 1):.0f} %)" for v in table[column]]
        axes.bar_label(axes.containers[0], labels, padding=2, fontsize=8)
        axes.margins(x=0.42)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
        axes.set(xlabel=f"{NAMES[column]} (together {short_number(total)})", ylabel="")
    figure.suptitle(title)
    return figure


def depth_degradation(table: pd.DataFrame, metric: str = "accuracy") -> Figure:
    """A metric against depth, a line per kind of network; a point per run, lines through means.

    Args:
        table: A row per run: `depth` (layers with weights), `network` ("plain", "residual") and
            the metric.
        metric: A column such as "accuracy" (of training) or "val_accuracy" (fractions), or a loss.
    """
    need_columns(table, "depth", "network", metric)
    table = table.assign(network=table["network"].map(plain))
    shown = table.assign(**{metric: in_percent(table[metric], metric)})
    figure, [[axes]] = new_figure(width=4.8, height=2.9)
    colours = sns.color_palette(PALETTE, shown["network"].nunique())
    common = {"x": "depth", "y": metric, "hue": "network", "palette": colours, "ax": axes}
    sns.lineplot(shown, style="network", errorbar=None, **common)
    sns.scatterplot(shown, style="network", legend=False, s=40, **common)
    axes.set(
        title="Depth with and without shortcuts",
        xlabel="depth (layers with weights)",
        ylabel=NAMES.get(metric, metric),
        xticks=sorted(shown["depth"].unique()),
    )
    axes.legend(title=None)
    return figure


def gradient_norms(
    table: pd.DataFrame, title: str = "Gradients of the weights at initialisation"
) -> Figure:
    """The gradient's norm in each layer from the first to the last, a line per network.

    Args:
        table: A row per layer and network: `layer` (its number), `network`, `norm`.
        title: Of the figure.
    """
    need_columns(table, "layer", "network", "norm")
    figure, [[axes]] = new_figure(width=5.4, height=2.8)
    table = table.assign(network=table["network"].map(plain))
    colours = sns.color_palette(PALETTE, table["network"].nunique())
    sns.lineplot(table, x="layer", y="norm", hue="network", palette=colours, marker="o", ax=axes)
    axes.set(title=title, xlabel="layer (1: next to the pixels)", ylabel="norm", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title=None)
    return figure


def fields_on_image(image: np.ndarray, fields: Mapping[str, Sequence[int]]) -> Figure:
    """What a unit in the middle sees of an image after each stage: squares, one network a panel.

    Args:
        image: uint8 (H, W, 3).
        fields: Sides of the receptive fields in pixels, stage by stage, by the network's name.
    """
    figure, [panels] = new_figure(1, len(fields), height=2.5)
    height, width = image.shape[:2]
    for axes, (name, sides) in zip(panels, fields.items(), strict=True):
        axes.imshow(image, alpha=0.75)
        for side, colour in zip(sides, PALETTE[2:], strict=False):
            # A field larger than the image: its edge is the image's.
            left, top = (max(-0.5, (size - 1 - side) / 2) for size in (width, height))
            drawn = min(side, width), min(side, height)
            edge = {"edgecolor": colour, "facecolor": "none", "linewidth": 2}
            axes.add_patch(Rectangle((left, top), *drawn, **edge))
        axes.set(xticks=[], yticks=[])
        axes.set_title(plain(name, 24), fontsize=9)
        axes.set_xlabel(", ".join(map(str, sides)) + " pixels", fontsize=8)
    figure.suptitle("Receptive fields")
    return figure
