"""Figures of patches that come from patients' slides: balance, stains, maps, scores with intervals.

Probabilities and scores come as fractions. The positive class is orange, the negative one blue.
"""

import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common.errors import DataError
from common.evaluation.thresholds import curve_areas
from common.plots.style import GREY, PALETTE, SEQUENTIAL, WIDTH, new_figure, plain
from common.plots.training import _need

NEGATIVE, POSITIVE = PALETTE[0], PALETTE[1]
CLASSES = ("negative", "positive")
# Told apart by lightness too: light where nothing is wrong, black where a tumour is missed.
CALLS = {
    "right: negative": "#cfe0ec",
    "right: positive": POSITIVE,
    "false alarm": "#b04fa0",
    "missed": "black",
}
SCORE_NAMES = {
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
}

_NAMED = 40  # patients whose names still fit below an axis


def patient_balance(
    table: pd.DataFrame,
    classes: Sequence[str] = CLASSES,
    title: str | None = None,
) -> Figure:
    """Share of positive patches of each patient, the highest first, and how many patches it has.

    Args:
        table: A row per patient, by name: `patches` and `positives`.
        classes: Names of class 0 and class 1.
        title: Of the figure; by default it tells the share over all.
    """
    _need(table, "patches", "positives")
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
    _class_legend(figure, classes)
    figure.suptitle(
        title
        or f"{overall:.1f} % of {patches:,} patches of {len(table)} patients are "
        f"{plain(classes[1])}"
    )
    return figure


def stain_densities(
    table: pd.DataFrame,
    classes: Sequence[str] = CLASSES,
    title: str = "Stain of each patient",
) -> Figure:
    """How densely each patient's patches are stained, sorted by the median of the first stain.

    The gap in a thick line is the median, the thick line the middle half, the thin line the middle
    90 %. Of more patients than can be told apart, medians and middle halves only.

    Args:
        table: A row per patch (or pixel) and stain: `patient`, `stain`, `density`, and `label`
            (0 or 1) if classes are to be told apart.
        classes: Names of class 0 and class 1.
        title: Of the figure.
    """
    _need(table, "patient", "stain", "density")
    table = table if "label" in table else table.assign(label=0)
    stains, labels = table["stain"].unique(), sorted(table["label"].unique())
    density = table.groupby(["stain", "label", "patient"], observed=True)["density"]
    quantiles = pd.DataFrame({q: density.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)})
    first = table[table["stain"] == stains[0]].groupby("patient", observed=True)["density"]
    patients = first.median().sort_values(kind="stable").index
    boxes = len(patients) * len(labels)
    width = min(5.0, 220 / boxes)  # in points
    colours = dict(zip((0, 1), (NEGATIVE, POSITIVE), strict=True))
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
                axes.scatter(
                    x, part[0.5], marker="_", s=(1.5 * width) ** 2, color="white", zorder=3
                )
        axes.set_title(plain(stain, 50), loc="left")
        axes.set_ylabel("optical density")
    _patient_axis(rows[-1][0], patients)
    if len(labels) > 1:
        _class_legend(figure, classes)
    figure.suptitle(title)
    return figure


def labelled_slides(
    slides: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str] = CLASSES,
    title: str | None = "Slides and their labels",
) -> Figure:
    """Rebuilt slides, and below each its patches tinted by their label.

    Args:
        slides: uint8 (H, W, 3) by the name of the patient; a handful.
        labels: (rows, columns) of the same slides: 0, 1, or NaN where there is no patch.
        classes: Names of class 0 and class 1.
        title: Of the figure.
    """
    _same_names(slides, labels)
    tall = max(image.shape[0] / image.shape[1] for image in slides.values())
    height = 2 * min(1.5, tall * (WIDTH / len(slides))) + 0.8
    figure, rows = new_figure(2, len(slides), height=height)
    for name, upper, lower in zip(slides, *rows, strict=True):
        image = _shrink(slides[name])
        _picture(upper, image)
        _picture(lower, tint(image, labels[name]))
        upper.set_title(plain(name, 30))
    _class_legend(figure, classes)
    figure.suptitle(title)
    return figure


def tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The grey version of a slide in the colours of its labels, and pale where there is none.

    Args:
        image: uint8 (H, W, 3).
        labels: (rows, columns): 0, 1 or NaN; stretched to the size of the image.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    labels = np.asarray(labels, "float32")
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    grey = (image / 255).mean(axis=-1, keepdims=True)
    colour = np.where(labels == 1, to_rgb(POSITIVE), to_rgb(NEGATIVE))
    shown = np.where(np.isnan(labels), 0.8 + 0.2 * grey, 0.5 * colour + 0.5 * grey)
    return (255 * shown).round().astype("uint8")


def probability_maps(
    probabilities: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray] | None,
    threshold: float | None = None,
    slides: Mapping[str, np.ndarray] | None = None,
    classes: Sequence[str] = CLASSES,
    title: str | None = "Probability over whole slides",
) -> Figure:
    """A row per slide: its tissue, the truth, the predicted probability, and what is wrong.

    Where nobody knows the truth: the probability, and what is called positive.

    Args:
        probabilities: Of class 1, (rows, columns) by the name of the patient; NaN where there is
            no patch.
        truths: 0, 1 or NaN, of the same shapes; `None` where it is not known.
        threshold: From which on a patch is called positive; without, errors and calls are not
            drawn.
        slides: uint8 (H, W, 3) of the same slides, or `None` to leave the tissue out.
        classes: Names of class 0 and class 1.
        title: Of the figure.
    """
    _same_names(probabilities, *(given for given in (truths, slides) if given is not None))
    known, judged = truths is not None, threshold is not None
    wanted = {"tissue": slides is not None, "truth": known, "probability": True}
    wanted |= {"errors": known and judged, "calls": judged and not known}
    columns = [name for name, drawn in wanted.items() if drawn]
    tall = max(values.shape[0] / values.shape[1] for values in probabilities.values())
    height = len(probabilities) * min(1.8, tall * (WIDTH - 1) / len(columns)) + 1.1
    figure, rows = new_figure(len(probabilities), len(columns), height=max(2.7, height))
    two = ListedColormap([NEGATIVE, POSITIVE])
    for name, row in zip(truths or probabilities, rows, strict=True):
        probability = probabilities[name]
        truth = truths[name] if known else None
        if known and np.shape(truth) != np.shape(probability):
            raise DataError(
                f"{name}: a truth of shape {np.shape(truth)}, but probabilities of shape "
                f"{np.shape(probability)}"
            )
        panels = dict(zip(columns, row, strict=True))
        if slides is not None:
            _picture(panels["tissue"], _shrink(slides[name]))
        if known:
            _picture(panels["truth"], truth, cmap=two, vmin=0, vmax=1)
        drawn = _picture(panels["probability"], probability, cmap=SEQUENTIAL, vmin=0, vmax=1)
        if "calls" in panels:
            calls = np.where(np.isnan(probability), np.nan, probability >= threshold)
            _picture(panels["calls"], calls, cmap=two, vmin=0, vmax=1)
        if "errors" in panels:
            calls = _calls(truth, probability, threshold)
            colours = ListedColormap(list(CALLS.values()))
            _picture(panels["errors"], calls, cmap=colours, vmin=0, vmax=len(CALLS) - 1)
        row[0].set_ylabel(plain(name, 30))
    for name, axes in zip(columns, rows[0], strict=True):
        axes.set_title(f"{name} at {threshold:.2f}" if name in ("errors", "calls") else name)
    figure.colorbar(drawn, ax=rows[:, -1], label=f"probability: {plain(classes[1])}", aspect=30)
    truth = "truth: " if wanted["errors"] else ""
    if known or judged:
        _class_legend(figure, [truth + name for name in classes], CALLS if truth else None)
    figure.suptitle(title)
    return figure


def precision_recall_roc(
    points: pd.DataFrame | Mapping[str, pd.DataFrame],
    thresholds: float | Mapping[str, float] | None = None,
    bands: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    title: str = "Precision-recall and ROC curves",
) -> Figure:
    """Both curves of one or several predictors with their areas and what chance would give.

    Args:
        points: From `operating_points`, or several by the name of the predictor.
        thresholds: Those chosen, one for all or by name, marked on both curves.
        bands: From `curve_bands`, drawn around the curves.
        title: Of the figure.
    """
    points = _by_name(points)
    bands = {} if bands is None else _by_name(bands)
    if not isinstance(thresholds, Mapping):
        thresholds = {} if thresholds is None else dict.fromkeys(points, thresholds)
    figure, [[left, right]] = new_figure(1, 2, height=3.1 + 0.2 * len(points))
    for (name, table), colour in zip(points.items(), itertools.cycle(PALETTE), strict=False):
        _need(table, "threshold", "precision", "recall", "false_positive_rate")
        average_precision, roc_auc = curve_areas(table)
        prefix = f"{plain(name)}: " if name else ""
        curve = {"color": colour, "linewidth": 1.5}
        left.plot(
            table["recall"],
            table["precision"],
            label=f"{prefix}AP {average_precision:.3f}",
            drawstyle="steps-pre",
            **curve,
        )
        right.plot(
            table["false_positive_rate"],
            table["recall"],
            label=f"{prefix}AUC {roc_auc:.3f}",
            **curve,
        )
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
    for axes in (left, right):
        handles = axes.get_legend_handles_labels()[0] + (others if axes is left else [])
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    figure.suptitle(title)
    return figure


def threshold_sweep(
    points: pd.DataFrame, chosen: float | None = None, title: str = "Choice of the threshold"
) -> Figure:
    """Precision, recall and F1 against the threshold.

    Args:
        points: From `operating_points`, of validation patches.
        chosen: The threshold to mark.
        title: Of the figure.
    """
    _need(points, "threshold", "precision", "recall", "f1")
    shown = points[np.isfinite(points["threshold"])][::-1]
    figure, [[axes]] = new_figure(height=2.8)
    for (column, name), colour, line in zip(
        (("precision", "precision"), ("recall", "recall"), ("f1", "F1")),
        (PALETTE[0], PALETTE[1], "0.15"),
        ("--", "-.", "-"),
        strict=True,
    ):
        # A threshold between two probabilities calls what the upper one calls.
        axes.plot(
            shown["threshold"],
            100 * shown[column],
            line,
            color=colour,
            drawstyle="steps-pre",
            label=name,
        )
    if chosen is not None:
        best = _point_at(points, chosen)
        label = f"chosen: {chosen:.3f}\n(F1 {100 * best['f1']:.1f} %)"
        axes.axvline(chosen, color=GREY, linestyle=":", linewidth=1.5, label=label)
    axes.set(
        title=title,
        xlabel="threshold on the probability of class 1",
        ylabel="score (%)",
        xlim=(0, 1),
    )
    axes.set_ylim(0, 102)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def forest_plot(
    table: pd.DataFrame,
    rows: str = "metric",
    hue: str | None = None,
    differences: bool = False,
    title: str = "Scores with 95 % intervals over patients",
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
    """
    if rows not in table and table.index.name == rows:
        table = table.reset_index()
    names = ("difference", "difference_low", "difference_high")
    names = names if differences else ("value", "low", "high")
    _need(table, rows, *names, *([hue] if hue else []))
    if differences:
        ends = dict.fromkeys(names[1:], 0)  # undefined with one patient
        table = table[(table[list(names)].fillna(ends) != 0).any(axis=1)]
        if table.empty:
            raise DataError("All differences are 0: there is nothing to draw.")
    groups = list(table[rows].unique())
    hues = list(table[hue].unique()) if hue else [None]
    lines = len(groups) * (len(hues) + (0.6 if hue else 0))
    figure, [[axes]] = new_figure(height=0.21 * lines + (1.4 if hue else 1.0))
    step = 1 / (len(hues) + (0.6 if hue else 0))
    for number, name in enumerate(hues):
        part = table if name is None else table[table[hue] == name]
        y = np.array([groups.index(row) for row in part[rows]])
        y = y + step * (number - (len(hues) - 1) / 2)
        value, low, high = (100 * part[column].to_numpy(float) for column in names)
        axes.errorbar(
            value,
            y,
            xerr=np.clip([value - low, high - value], 0, None),
            fmt="os^Dv"[number % 5],
            color=PALETTE[number % len(PALETTE)],
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


def patient_scores(
    table: pd.DataFrame, score: str = "f1", title: str = "Scores of each patient"
) -> Figure:
    """A score of each patient with recall and specificity, the best first, and its patches.

    Patients of whom the score is not defined stand at the right: of patients without a positive
    patch only the specificity is.

    Args:
        table: From `scores_per_patient`.
        score: The column that patients are sorted by, such as "f1" or "accuracy".
        title: Of the figure.
    """
    _need(table, score, "recall", "specificity", "patches", "positives")
    table = table.sort_values([score, "specificity"], ascending=False, na_position="last")
    places = np.arange(len(table))
    figure, [[upper], [lower]] = new_figure(2, 1, height=4.0, sharex=True, height_ratios=(3, 1.3))
    size = float(np.clip(1000 / len(table), 8, 32))
    for column, colour, marker in (
        ("recall", PALETTE[1], "s"),
        ("specificity", PALETTE[0], "D"),
        (score, "0.15", "o"),
    ):
        style = {"color": colour, "marker": marker, "s": size if column == score else 0.6 * size}
        label = SCORE_NAMES.get(column, column)
        upper.scatter(places, 100 * table[column], label=label, linewidth=0, **style)
    parts = 100 * table[["recall", "specificity", score]]
    upper.vlines(places, parts.min(axis=1), parts.max(axis=1), color="0.85", zorder=0)
    upper.set(ylabel="score (%)", ylim=(-3, 103))
    _patches_of_each(lower, table, CLASSES)
    for axes in (upper, lower):
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    return figure


def randomisation_curves(
    tables: Mapping[str, pd.DataFrame],
    limit: float | None = None,
    title: str = "What is left of the maps when weights are random",
) -> Figure:
    """Similarity of saliency maps to the original ones while layers are randomised from the top.

    Args:
        tables: From `randomisation_test` of the same model, by the name of the method.
        limit: Of `require_sensitive`, drawn as a line.
        title: Of the figure.
    """
    if not tables:
        raise DataError("There is no method to draw.")
    layers = next(iter(tables.values()))["layer"].tolist()
    figure, [[axes]] = new_figure(height=3.2)
    places = np.arange(len(layers))
    for number, (name, table) in enumerate(tables.items()):
        _need(table, "layer", "similarity", "low", "high")
        if table["layer"].tolist() != layers:
            raise DataError(f"The table of {name!r} is of another model: its layers differ.")
        colour = PALETTE[number % len(PALETTE)]
        axes.fill_between(places, table["low"], table["high"], color=colour, alpha=0.1, linewidth=0)
        marker = "osD^v"[number % 5]
        axes.plot(
            places, table["similarity"], f"{marker}-", color=colour, markersize=4, label=plain(name)
        )
    if limit is not None:
        label = f"refused from {limit:g} on\nat the last layer"
        axes.axhline(limit, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set_xticks(places, layers, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(
        title=title,
        xlabel="randomised down to this layer",
        ylabel="rank correlation",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


_BESIDE = {"ha": "left", "va": "center", "fontsize": 8.5}


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


def _class_legend(figure: Figure, classes: Sequence[str], more: Mapping[str, str] | None = None):
    """Below the figure: the colours of both classes, and of other names."""
    named = [*zip(classes, (NEGATIVE, POSITIVE), strict=True), *(more or {}).items()]
    handles = [Patch(color=colour, label=plain(name)) for name, colour in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if more else 2)


def _patient_axis(axes: Axes, names: Sequence) -> None:
    """Names below where they fit; else only how many patients there are."""
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), [plain(name) for name in names], rotation=90)
        axes.set_xlabel("patient")
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names)} patients, a place each")


def _calls(truth, probability, threshold) -> np.ndarray:
    """The place in `CALLS` of each patch; NaN where there is none."""
    called = np.asarray(probability) >= threshold
    place = np.select([(truth == 0) & ~called, (truth == 1) & called, truth == 0], [0, 1, 2], 3)
    return np.where(np.isnan(truth) | np.isnan(probability), np.nan, place)


def _picture(axes: Axes, image: np.ndarray, **kwargs):
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes.imshow(image, interpolation="nearest" if kwargs else "antialiased", **kwargs)


def _shrink(image: np.ndarray, side: int = 240) -> np.ndarray:
    """At most `side` pixels wide or high: more are not drawn, and would only take memory."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _same_names(first: Mapping, *others: Mapping) -> None:
    if not first:
        raise DataError("There is no slide to draw.")
    for other in others:
        if set(other) != set(first):
            raise DataError(
                "Wanted the same slides everywhere. "
                f"Received: {', '.join(map(str, first))} and {', '.join(map(str, other))}"
            )


def _point_at(points: pd.DataFrame, threshold: float) -> pd.Series:
    """The operating point of a threshold: that of the lowest probability that it calls positive."""
    above = points[points["threshold"] >= threshold]
    if above.empty:
        raise DataError(f"The table has no operating point at the threshold {threshold}.")
    return above.iloc[-1]


def _by_name(tables) -> Mapping[str, pd.DataFrame]:
    return {"": tables} if isinstance(tables, pd.DataFrame) else tables
