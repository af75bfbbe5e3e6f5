"""Figures of a classifier's predictions: confusions, calibration, mistakes, saliency."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from common.errors import DataError
from common.evaluation.metrics import calibration_error
from common.plots.style import (
    GREY,
    PALETTE,
    by_name,
    legend_beside,
    mosaic_figure,
    need_columns,
    new_figure,
    plain,
    plain_text,
)

_MOST_WRITTEN = 40  # classes of a confusion matrix whose numbers can still be read
_PER_ROW = 6  # images of a gallery


@plain_text()
def confusion_matrix(table: pd.DataFrame, title: str = "Confusion matrix") -> Figure:
    """Of the images of each class, the share predicted as each class.

    Colours stand for confusions only, from white for none: the diagonal would outshine them all.

    Args:
        table: Numbers of images, a row per true class, a column per predicted one.
        title: Of the figure.
    """
    need_columns(table)
    counts = table.to_numpy()
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = np.where(np.eye(len(share), dtype=bool), np.nan, share)
    many = len(share) > 12
    text = np.where(counts > 0, np.char.mod("%.0f" if many else "%.1f", share), "")
    side = min(6.4, max(3.2, 0.44 * len(share) + 1.7))
    figure, [[axes]] = new_figure(width=side + 0.4, height=side - 0.5)
    written = len(share) <= _MOST_WRITTEN
    sns.heatmap(
        pd.DataFrame(mistakes, map(plain, table.index), map(plain, table.columns)),
        cmap=sns.blend_palette(["white", PALETTE[0], "#002b49"], as_cmap=True),
        annot=text if written else None,
        fmt="",
        annot_kws={"fontsize": 8},
        linewidths=0.5 if written else 0,
        vmin=0,
        vmax=None if np.isfinite(mistakes).any() else 1,
        cbar_kws={"label": "confused (% of the true class)"},
        ax=axes,
    )
    bold = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold"}
    for i, value in enumerate(np.diag(share) if written else ()):
        axes.text(i + 0.5, i + 0.5, f"{value:.0f}" if many else f"{value:.1f}", **bold)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    axes.tick_params(left=False, bottom=False)
    if len(share) > 4:
        names = [label.get_text() for label in axes.get_xticklabels()]  # of many classes, some
        axes.set_xticks(axes.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)
    return figure


def class_scores(table: pd.DataFrame, most: int = 40) -> Figure:
    """Precision, recall and F1 of each class, the best class on top.

    Points, not bars: their axis need not begin at 0.

    Args:
        table: A row per class: `precision`, `recall`, `F1`, `support`.
        most: Of more classes than this the best and the worst are drawn, half of it each.
    """
    need_columns(table, "precision", "recall", "F1", "support")
    classes, title = len(table), "Scores of each class"
    table = table.sort_values("F1", ascending=False)
    if classes > most:
        best, worst = table.iloc[: most // 2], table.iloc[classes - most // 2 :]
        table = pd.concat([best, worst])
        title = f"Scores of the {len(best)} best and {len(worst)} worst of {classes} classes"
    names = [f"{plain(name, 40)} (n={n:.0f})" for name, n in table["support"].items()]
    figure, [[axes]] = new_figure(height=0.26 * len(table) + 1.0)
    places = np.arange(len(table))
    columns = 100 * table[["precision", "recall", "F1"]]
    axes.hlines(places, columns.min(axis=1), columns.max(axis=1), color="0.8", zorder=0)
    for (name, values), colour, marker in zip(
        columns.items(), (PALETTE[0], PALETTE[1], "0.15"), ("s", "D", "o"), strict=True
    ):
        axes.scatter(values, places, color=colour, marker=marker, s=32, label=name)
    axes.set(title=title, xlabel="score (%)", yticks=places, yticklabels=names)
    axes.invert_yaxis()
    if classes > most:
        axes.axhline(len(best) - 0.5, color="0.5", linestyle=":", linewidth=1)
    legend_beside(axes)
    return figure


def reliability_diagram(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    title: str = "Reliability",
    promised: str = "confidence",
    kept: str = "accuracy",
) -> Figure:
    """Accuracy against confidence with the ECE, and below how often each confidence occurs.

    Args:
        tables: A `reliability_table`, or several by name, drawn side by side (such as before
            and after temperature scaling). Those of `binary_reliability` will do too.
        title: Of the figure.
        promised, kept: What the columns `confidence` and `accuracy` hold, in words.
    """
    tables = by_name(tables)
    if not tables or not all(table["count"].sum() for table in tables.values()):
        raise DataError("There is no confidence to show.")
    shared = {"sharex": True, "sharey": "row", "height_ratios": (3, 1)}
    figure, rows = new_figure(2, len(tables), width=3.3 * len(tables) + 0.3, height=4.0, **shared)
    for (name, table), upper, lower in zip(tables.items(), *rows, strict=True):
        middle = (table["low"] + table["high"]) / 2
        bar = {"width": table["high"] - table["low"], "linewidth": 0.5}
        outline = {"edgecolor": "white", **bar}
        upper.bar(middle, table["accuracy"], color=PALETTE[0], label=kept, **outline)
        gap = table["confidence"] - table["accuracy"]
        hatched = {"facecolor": "none", "edgecolor": PALETTE[1], "hatch": "/////", **bar}
        upper.bar(middle, gap, bottom=table["accuracy"], label=f"gap to {promised}", **hatched)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as promised")
        ece = f"ECE {100 * calibration_error(table):.2f} %"
        upper.set(title=f"{plain(name)}: {ece}" if name else ece, xlim=(0, 1), ylim=(0, 1))
        lower.bar(middle, 100 * table["count"] / table["count"].sum(), color=GREY, **outline)
        lower.set_xlabel(promised)
    rows[0][0].set_ylabel(kept)
    rows[1][0].set_ylabel("images (%)")
    handles = rows[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3)
    figure.suptitle(title)
    return figure


def mistake_gallery(images: np.ndarray, mistakes: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Wrong predictions, each above its image: predicted class, confidence, true class.

    Args:
        images: uint8 (N, H, W, 3), all of them.
        mistakes: From `most_confident_mistakes`.
        classes: Names.
    """
    if mistakes.empty:
        raise DataError("There is no mistake to show.")
    titles = [
        f"{plain(classes[row.predicted], 30)} {100 * row.confidence:.0f} %\n"
        f"is {plain(classes[row.truth], 30)}"
        for row in mistakes.itertuples()
    ]
    shown = images[mistakes["index"].to_numpy()]
    columns = min(_PER_ROW, len(shown))
    return mosaic_figure(shown, columns, titles=titles, title="Most confident mistakes")


def answer_gallery(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Figure:
    """What a network says of each image, how sure it is, and what is right where that is wrong.

    Args:
        images: uint8 (N, H, W, 3).
        labels: Integers (N,), the right classes.
        probabilities: (N, C).
        classes: C names.
    """
    answers = probabilities.argmax(axis=1)
    titles = [
        " \n" * int(answer == label)  # the answer in the line just above the image
        + f"{plain(classes[answer], 30)} {100 * row[answer]:.0f} %"
        + f"\nno: {plain(classes[label], 30)}" * int(answer != label)
        for answer, label, row in zip(answers, labels, probabilities, strict=True)
    ]
    title = f"{(answers == labels).sum()} of {len(labels)} answers are right"
    return mosaic_figure(images, min(_PER_ROW, len(images)), titles=titles, title=title)


def tta_gain(table: pd.DataFrame) -> Figure:
    """What each step gains, with its interval, and how many images it corrects and spoils.

    Args:
        table: From `tta_table`: a row per step; `accuracy`, `corrected`, `spoiled`, and `gain` with
            its interval `low` to `high`.
    """
    need_columns(table, "accuracy", "corrected", "spoiled", "gain", "low", "high")
    figure, [[left, right]] = new_figure(1, 2, height=0.4 * len(table) + 1.1, sharey=True)
    gain, low, high = (100 * table[name].to_numpy() for name in ("gain", "low", "high"))
    places = np.arange(len(table))
    ends = np.clip([gain - low, high - gain], 0, None)
    left.errorbar(gain, places, xerr=ends, fmt="o", color=PALETTE[0], capsize=3, markersize=5)
    for place, value, accuracy in zip(places, gain, table["accuracy"], strict=True):
        text = f"{100 * accuracy:.2f} %"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "bbox": box}
        left.annotate(text, (value, place), **above)
    left.axvline(0, color="0.3", linewidth=0.8)
    left.margins(x=0.2)
    left.set_yticks(places, [plain(name) for name in table.index])
    left.set(ylim=(len(table) - 0.5, -0.7), xlabel="gain in accuracy (points)")
    right.barh(places, table["corrected"], color=PALETTE[2], label="corrected", height=0.5)
    right.barh(places, -table["spoiled"], color=PALETTE[3], label="spoiled", height=0.5)
    right.axvline(0, color="0.3", linewidth=0.8)
    right.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    right.set_xlabel("images, against the image alone")
    legend_beside(right)
    figure.suptitle("What test-time augmentation gains")
    return figure
