"""Figures of patients and their patches: balance, stains, scores of each.

The positive class is orange, the negative one blue. Scores come as fractions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.plots.binary import SCORE_NAMES
from common.plots.style import PALETTE, legend_beside, need_columns, new_figure, plain

NEGATIVE, POSITIVE = PALETTE[0], PALETTE[1]
CLASSES = ("negative", "positive")
_NAMED = 40  # patients whose names still fit below an axis


def patient_balance(table: pd.DataFrame, classes: Sequence[str] = CLASSES) -> Figure:
    """Share of positive patches of each patient, the highest first, and how many patches it has.

    Args:
        table: A row per patient, by name: `patches` and `positives`.
        classes: Names of class 0 and class 1.
    """
    need_columns(table, "patches", "positives")
    share = 100 * table["positives"] / table["patches"]
    order = share.sort_values(ascending=False, kind="stable").index
    table, share = table.loc[order], share[order]
    patches, positives = table["patches"].sum(), table["positives"].sum()
    overall = 100 * positives / patches
    figure, [[upper], [lower]] = new_figure(2, 1, height=3.8, sharex=True, height_ratios=(3, 2))
    _bars(upper, share, POSITIVE)
    upper.axhline(overall, color="0.2", linestyle="--", linewidth=1, label=f"all: {overall:.1f} %")
    upper.set(ylabel=f"{plain(classes[1])} (% of patches)", ylim=(0, 102))
    upper.legend(loc="upper right")
    _patches_of_each(lower, table)
    class_legend(figure, classes)
    of_all = f"{overall:.1f} % of {patches:,} patches of {len(table)} patients"
    figure.suptitle(f"{of_all} are {plain(classes[1])}")
    return figure


def stain_densities(table: pd.DataFrame, classes: Sequence[str] = CLASSES) -> Figure:
    """How densely each patient's patches are stained, sorted by the median of the first stain.

    The gap in a thick line is the median, the thick line the middle half, the thin line the middle
    90 %. Of more patients than can be told apart, medians and middle halves only.

    Args:
        table: A row per patch (or pixel) and stain: `patient`, `stain`, `density`, and `label`
            (0 or 1) if classes are to be told apart.
        classes: Names of class 0 and class 1.
    """
    need_columns(table, "patient", "stain", "density")
    table = table if "label" in table else table.assign(label=0)
    stains, labels = table["stain"].unique(), sorted(table["label"].unique())
    density = table.groupby(["stain", "label", "patient"], observed=True)["density"]
    quantiles = pd.DataFrame({q: density.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)})
    first = table[table["stain"] == stains[0]].groupby("patient", observed=True)["density"]
    patients = first.median().sort_values(kind="stable").index
    width = min(5.0, 220 / (len(patients) * len(labels)))  # in points
    colours = {0: NEGATIVE, 1: POSITIVE}
    figure, rows = new_figure(len(stains), 1, height=1.5 * len(stains) + 0.9, sharex=True)
    for stain, [axes] in zip(stains, rows, strict=True):
        for label in labels:
            part, colour = quantiles.loc[stain, label].reindex(patients), colours[label]
            x = np.arange(len(patients)) + 0.36 * (labels.index(label) - (len(labels) - 1) / 2)
            if width < 1:
                axes.vlines(x, part[0.25], part[0.75], color=colour, linewidth=1, alpha=0.3)
                axes.scatter(x, part[0.5], s=4, color=colour, linewidth=0, zorder=3)
            else:
                axes.vlines(x, part[0.05], part[0.95], color=colour, linewidth=max(0.7, width / 4))
                axes.vlines(x, part[0.25], part[0.75], color=colour, linewidth=width)
                gap = {"marker": "_", "s": (1.5 * width) ** 2, "color": "white"}
                axes.scatter(x, part[0.5], zorder=3, **gap)
        axes.set_title(plain(stain, 50), loc="left")
        axes.set_ylabel("optical density")
    _patient_axis(rows[-1][0], patients)
    if len(labels) > 1:
        class_legend(figure, classes)
    figure.suptitle("Stain of each patient")
    return figure


def patient_scores(table: pd.DataFrame) -> Figure:
    """F1 of each patient with recall and specificity, the best first, and its patches.

    Patients of whom F1 is not defined stand at the right: of patients without a positive patch
    only the specificity is.

    Args:
        table: From `scores_per_patient`.
    """
    need_columns(table, "f1", "recall", "specificity", "patches", "positives")
    table = table.sort_values(["f1", "specificity"], ascending=False, na_position="last")
    places = np.arange(len(table))
    figure, [[upper], [lower]] = new_figure(2, 1, height=4.0, sharex=True, height_ratios=(3, 1.3))
    size = float(np.clip(1000 / len(table), 8, 32))
    for column, colour, marker, share in (
        ("recall", PALETTE[1], "s", 0.6),
        ("specificity", PALETTE[0], "D", 0.6),
        ("f1", "0.15", "o", 1),
    ):
        style = {"color": colour, "marker": marker, "s": share * size}
        label = SCORE_NAMES.get(column, column)
        upper.scatter(places, 100 * table[column], label=label, linewidth=0, **style)
    parts = 100 * table[["recall", "specificity", "f1"]]
    upper.vlines(places, parts.min(axis=1), parts.max(axis=1), color="0.85", zorder=0)
    upper.set(ylabel="score (%)", ylim=(-3, 103))
    _patches_of_each(lower, table, CLASSES)
    for axes in (upper, lower):
        legend_beside(axes)
    figure.suptitle("Scores of each patient")
    return figure


def class_legend(figure: Figure, classes: Sequence[str], more: Mapping[str, str] | None = None):
    """Below the figure: the colours of both classes, and of other names."""
    named = [*zip(classes, (NEGATIVE, POSITIVE), strict=True), *(more or {}).items()]
    handles = [Patch(color=colour, label=plain(name)) for name, colour in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if more else 2)


def _bars(axes: Axes, heights: pd.Series, colour, label: str | None = None, bottom=0) -> None:
    """One bar per patient; of many, a single shape, which draws much faster."""
    if len(heights) <= _NAMED:
        places = range(len(heights))
        axes.bar(places, heights, bottom=bottom, color=colour, linewidth=0, label=label)
    else:
        edges = np.arange(len(heights) + 1) - 0.5
        shape = {"baseline": bottom, "fill": True, "color": colour, "linewidth": 0}
        axes.stairs(bottom + heights, edges, label=label, **shape)


def _patches_of_each(axes: Axes, table: pd.DataFrame, classes: Sequence = (None, None)) -> None:
    """Stacked numbers of negative and positive patches, patients along the axis."""
    _bars(axes, table["positives"], POSITIVE, classes[1])
    _bars(axes, table["patches"] - table["positives"], NEGATIVE, classes[0], table["positives"])
    axes.set_ylabel("patches")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _patient_axis(axes, table.index)


def _patient_axis(axes: Axes, names: Sequence) -> None:
    """Names below where they fit; else only how many patients there are."""
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), [plain(name) for name in names], rotation=90)
        axes.set_xlabel("patient")
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} patients, a place each")
