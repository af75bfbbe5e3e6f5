"""Figures of scores of two classes: curves, thresholds, values with their intervals.

Probabilities and scores come as fractions.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common.errors import DataError
from common.evaluation.thresholds import curve_areas
from common.plots.style import (
    GREY,
    PALETTE,
    by_name,
    colour_of,
    legend_beside,
    need_columns,
    new_figure,
    plain,
)

SCORE_NAMES = {
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
}
_BESIDE = {"ha": "left", "va": "center", "fontsize": 8.5}


def precision_recall_roc(
    points: pd.DataFrame | Mapping[str, pd.DataFrame],
    thresholds: float | Mapping[str, float] | None = None,
    bands: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
) -> Figure:
    """Both curves of one or several predictors with their areas and what chance would give.

    Args:
        points: From `operating_points`, or several by the name of the predictor.
        thresholds: Those chosen, one for all or by name, marked on both curves.
        bands: From `curve_bands`, drawn around the curves.
    """
    points = by_name(points)
    bands = {} if bands is None else by_name(bands)
    if not isinstance(thresholds, Mapping):
        thresholds = {} if thresholds is None else dict.fromkeys(points, thresholds)
    figure, [[left, right]] = new_figure(1, 2, height=3.1 + 0.2 * len(points))
    for number, (name, table) in enumerate(points.items()):
        colour = colour_of(number)
        need_columns(table, "threshold", "precision", "recall", "false_positive_rate")
        average_precision, roc_auc = curve_areas(table)
        prefix = f"{plain(name)}: " if name else ""
        curve = {"color": colour, "linewidth": 1.5, "label": f"{prefix}AP {average_precision:.3f}"}
        left.plot(table["recall"], table["precision"], drawstyle="steps-pre", **curve)
        curve["label"] = f"{prefix}AUC {roc_auc:.3f}"
        right.plot(table["false_positive_rate"], table["recall"], **curve)
        prevalence = table["precision"].iloc[-1]  # all are called positive
        own = colour if len(points) > 1 else GREY
        left.axhline(prevalence, color=own, linestyle=":", linewidth=1.2)
        if name in bands:
            band = bands[name]
            shade = {"color": colour, "alpha": 0.18, "linewidth": 0}
            left.fill_between(band["at"], band["precision_low"], band["precision_high"], **shade)
            right.fill_between(band["at"], band["recall_low"], band["recall_high"], **shade)
        if name in thresholds:
            chosen = _point_at(table, thresholds[name])
            dot = {"color": colour, "edgecolor": "black", "s": 40, "zorder": 3}
            left.scatter(chosen["recall"], chosen["precision"], **dot)
            right.scatter(chosen["false_positive_rate"], chosen["recall"], **dot)
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2)
    common = {"xlim": (0, 1.01), "ylim": (0, 1.02)}
    left.set(xlabel="recall", ylabel="precision", **common)
    right.set(xlabel="false positive rate", ylabel="recall", **common)
    others = [Line2D([], [], color=GREY, linestyle=":", label="chance")]
    if thresholds:
        dot = {"markerfacecolor": "white", "markeredgecolor": "black", "linestyle": "none"}
        others.append(Line2D([], [], marker="o", label="chosen threshold", **dot))
    if bands:
        others.append(Patch(color=colour_of(0), alpha=0.18, label="95 % over patients"))
    for axes in (left, right):
        handles = axes.get_legend_handles_labels()[0] + (others if axes is left else [])
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    figure.suptitle("Precision-recall and ROC curves")
    return figure


def threshold_sweep(points: pd.DataFrame, chosen: float | None = None) -> Figure:
    """Precision, recall and F1 against the threshold.

    Args:
        points: From `operating_points`, of validation patches.
        chosen: The threshold to mark.
    """
    need_columns(points, "threshold", "precision", "recall", "f1")
    shown = points[np.isfinite(points["threshold"])][::-1]
    figure, [[axes]] = new_figure(height=2.8)
    for column, colour, line in (
        ("precision", PALETTE[0], "--"),
        ("recall", PALETTE[1], "-."),
        ("f1", "0.15", "-"),
    ):
        # A threshold between two probabilities calls what the upper one calls.
        style = {"color": colour, "drawstyle": "steps-pre"}
        label = SCORE_NAMES.get(column, column)
        axes.plot(shown["threshold"], 100 * shown[column], line, label=label, **style)
    if chosen is not None:
        best = _point_at(points, chosen)
        label = f"chosen: {chosen:.3f}\n(F1 {100 * best['f1']:.1f} %)"
        axes.axvline(chosen, color=GREY, linestyle=":", linewidth=1.5, label=label)
    axes.set(
        title="Choice of the threshold",
        xlabel="threshold on the probability of the positive class",
        ylabel="score (%)",
        xlim=(0, 1),
        ylim=(0, 102),
    )
    legend_beside(axes)
    return figure


def forest_plot(
    table: pd.DataFrame,
    rows: str = "metric",
    hue: str | None = None,
    differences: bool = False,
    title: str = "Scores with 95 % intervals over patients",
    reference: float | None = None,
) -> Figure:
    """Values with their intervals, a line each, written out at the right.

    Args:
        table: A row per line, as from `patient_bootstrap` or `compare_bootstrap`: `value`, `low`,
            `high` and the columns of `rows` and `hue`. NaN where something is undefined.
        rows: The column (or index) whose values are the rows, in their order.
        hue: A column told by colour, within each row.
        differences: Draw `difference`, `difference_low` and `difference_high` instead, in
            percentage points; whoever has no difference (the reference) is left out.
        title: Of the figure.
        reference: A score that all are compared with, drawn as a line.
    """
    if rows not in table and table.index.name == rows:
        table = table.reset_index()
    names = ("difference", "difference_low", "difference_high")
    names = names if differences else ("value", "low", "high")
    need_columns(table, rows, *names, *([hue] if hue else []))
    if differences:
        ends = dict.fromkeys(names[1:], 0)  # undefined with one patient
        table = table[(table[list(names)].fillna(ends) != 0).any(axis=1)]
        if table.empty:
            raise DataError("All differences are 0: there is nothing to draw.")
    groups = list(table[rows].unique())
    hues = list(table[hue].unique()) if hue else [None]
    lines = len(hues) + (0.6 if hue else 0)  # of each group, with the space between two
    figure, [[axes]] = new_figure(height=0.21 * len(groups) * lines + (1.4 if hue else 1.0))
    for number, name in enumerate(hues):
        part = table if name is None else table[table[hue] == name]
        y = np.array([groups.index(row) for row in part[rows]])
        y = y + (number - (len(hues) - 1) / 2) / lines
        value, low, high = (100 * part[column].to_numpy(float) for column in names)
        axes.errorbar(
            value,
            y,
            xerr=np.clip([value - low, high - value], 0, None),
            fmt="os^Dv"[number % 5],
            color=colour_of(number),
            elinewidth=1.5,
            capsize=3,
            markersize=5,
            label=plain(SCORE_NAMES.get(name, name)),
        )
        sign = "+" if differences else ""
        for place, numbers in zip(y, zip(value, low, high, strict=True), strict=True):
            v, lo, hi = (f"{x:{sign}.1f}" for x in numbers)
            text = f"{v}  ({lo} to {hi})" if np.isfinite(numbers).all() else f"{v}  (no interval)"
            text = text if np.isfinite(numbers[0]) else "not defined"
            axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), **_BESIDE)
    if differences:
        axes.axvline(0, color="0.3", linewidth=0.8)
    if reference is not None:
        axes.axvline(100 * reference, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(groups)), [SCORE_NAMES.get(group, group) for group in groups])
    axes.set(ylim=(len(groups) - 0.5, -0.5))
    axes.tick_params(axis="y", left=False)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("difference (percentage points)" if differences else "score (%)")
    if hue:
        figure.legend(loc="outside lower center", ncols=min(4, len(hues)))
    figure.suptitle(title)
    return figure


def _point_at(points: pd.DataFrame, threshold: float) -> pd.Series:
    """The operating point of a threshold: that of the lowest probability that it calls positive."""
    above = points[points["threshold"] >= threshold]
    if above.empty:
        raise DataError(f"The table has no operating point at the threshold {threshold}.")
    return above.iloc[-1]
