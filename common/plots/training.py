"""Figures of trainings: learning curves, learning rates, ablations, sweeps.

Accuracies come as fractions, as records and histories hold them, and are drawn in per cent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from common.errors import DataError
from common.evaluation.seeds import paired_differences
from common.plots.style import (
    GREY,
    LINES,
    PALETTE,
    SEQUENTIAL,
    legend_beside,
    line_of,
    need_columns,
    new_figure,
    plain,
    plain_text,
)

# Words for the columns of histories and records.
NAMES = {
    "accuracy": "training accuracy (%)",
    "val_accuracy": "validation accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "test_accuracy_tta": "test accuracy with TTA (%)",
    "loss": "training loss (nats)",
    "val_loss": "validation loss (nats)",
    "seconds": "training time (s)",
    "parameters": "parameters",
    "macs": "multiply-adds per image",
}


def learning_curves(history: pd.DataFrame, title: str = "Learning curves") -> Figure:
    """Loss and accuracy of one run over its epochs, training beside validation.

    Args:
        history: A row per epoch: `epoch`, `loss`, `accuracy` and, if validated, `val_loss`,
            `val_accuracy`.
        title: Of the figure.
    """
    need_columns(history, "epoch", "loss", "accuracy")
    figure, [[left, right]] = new_figure(1, 2, height=2.7)
    for axes, name, factor in ((left, "loss", 1), (right, "accuracy", 100)):
        for column, label, colour, line in (
            (name, "training", PALETTE[0], "-"),
            (f"val_{name}", "validation", PALETTE[1], "--"),
        ):
            if column in history:
                values = factor * history[column]
                style = {"marker": "o" if len(history) < 20 else None, "markersize": 3}
                label = f"{label}: {values.iloc[-1]:.3g} at the end"
                axes.plot(history["epoch"], values, line, color=colour, label=label, **style)
        axes.set(xlabel="epoch", ylabel="loss (nats)" if name == "loss" else "accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    figure.suptitle(title)
    return figure


def compare_runs(
    histories: Mapping[str, pd.DataFrame],
    metric: str = "val_accuracy",
    title: str = "Runs compared",
) -> Figure:
    """One value of several runs over their epochs.

    Args:
        histories: The history of each run by its name.
        metric: A column of the histories.
        title: Of the figure.
    """
    if not histories:
        raise DataError("There is no run to compare.")
    figure, [[axes]] = new_figure(height=3.0)
    palette = PALETTE if len(histories) <= len(PALETTE) else SEQUENTIAL
    colours = sns.color_palette(palette, len(histories))
    for i, (name, history) in enumerate(histories.items()):
        need_columns(history, metric, "epoch")
        style = {"color": colours[i], "label": plain(name), "markersize": 3}
        style["marker"] = "o" if len(history) < 20 else None  # one epoch is no line
        values = in_percent(history[metric], metric)
        axes.plot(history["epoch"], values, LINES[i % len(LINES)], **style)
    axes.set(title=title, xlabel="epoch", ylabel=NAMES.get(metric, metric))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_beside(axes)
    return figure


def learning_rate_finder(
    rates: Sequence[float], losses: Sequence[float], marks: Mapping[str, float] | None = None
) -> Figure:
    """The loss while the learning rate grows from step to step (Smith 2017), and rates of interest.

    Args:
        rates: Learning rate of each step.
        losses: Training loss of each step, smoothed or not.
        marks: Rates to mark, by name.
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    if rates.shape != losses.shape or rates.ndim != 1 or not np.isfinite(losses).any():
        raise DataError(
            f"Wanted as many rates as losses. Received: {rates.shape} and {losses.shape}"
        )
    figure, [[axes]] = new_figure(height=2.8)
    axes.plot(rates, losses, color=PALETTE[0])
    finite = losses[np.isfinite(losses)]
    low, start = finite.min(), finite[0]
    # Beyond, the loss explodes and would hide the rest.
    axes.set_ylim(low - 0.1 * (start - low + 1e-9), start + 0.5 * (start - low + 1e-9))
    for number, (name, rate) in enumerate((marks or {}).items(), start=1):
        style = line_of(number)
        axes.axvline(rate, label=f"{plain(name)}: {rate:.2g}", **style)
    if marks:
        legend_beside(axes)
    axes.set(
        xscale="log",
        title="Learning-rate range test",
        xlabel="learning rate",
        ylabel="training loss (nats)",
    )
    return figure


def ablation(table: pd.DataFrame, reference: str, metric: str = "val_accuracy") -> Figure:
    """What each change of the recipe does to the accuracy, seed by seed.

    A bar per mean, a point per seed, a line for the 95 % interval: `paired_differences`.

    Args:
        table: A row per run: `arm`, `seed` and the metric.
        reference: The arm that all others are compared with, such as the whole recipe.
        metric: An accuracy.
    """
    need_columns(table, "arm", "seed", metric)
    shown = paired_differences(table, reference, metric)
    places = np.arange(len(shown))
    figure, [[axes]] = new_figure(height=0.32 * len(shown) + 1.0)
    mean = 100 * shown["difference"]
    colours = [PALETTE[0 if value >= 0 else 1] for value in mean]
    axes.barh(places, mean, color=colours, alpha=0.45, height=0.7)
    low, high = 100 * shown["low"], 100 * shown["high"]
    axes.hlines(places, low, high, color="0.25", linewidth=1.2)
    for place, differences in zip(places, shown["by_seed"], strict=True):
        points = 100 * np.array(differences)
        axes.scatter(points, [place] * len(points), s=14, color="0.15", linewidths=0, zorder=3)
    axes.axvline(0, color="0.3", linewidth=0.8)
    names = zip(shown["arm"], shown["n"], strict=True)
    axes.set_yticks(places, [f"{plain(name, 40)} (n={n})" for name, n in names])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    every = 100 * np.array(sum(shown["by_seed"], []))
    left = np.nanmin([0, *low, *every])
    right = np.nanmax([0, *high, *every])
    span = right - left or 1.0
    for place, value in zip(places, mean, strict=True):
        axes.text(right + 0.04 * span, place, f"{value:+.2f}", va="center", fontsize=8.5)
    axes.set_xlim(left - 0.05 * span, right + 0.18 * span)
    name = NAMES.get(metric, metric).removesuffix(" (%)")
    axes.set(
        title=f"Change of the {name}",
        xlabel=f"percentage points against {plain(reference)} ({100 * shown['mean'][0]:.2f} %)",
    )
    return figure


def accuracy_against_minutes(table: pd.DataFrame, metric: str = "val_accuracy") -> Figure:
    """What each combination of stages and blocks reaches, and how long its training took.

    A line per number of stages, a point per number of blocks: the mean over seeds, with the
    lowest and the highest of them.

    Args:
        table: A row per run: `stages`, `blocks`, `seconds` and the metric.
        metric: An accuracy.
    """
    need_columns(table, "stages", "blocks", "seconds", metric)
    figure, [[axes]] = new_figure(height=3.2)
    cells = table.groupby(["stages", "blocks"])
    found = cells[metric].agg(["mean", "min", "max"]).mul(100)
    found["minutes"] = cells["seconds"].mean() / 60
    for number, (stages, line) in enumerate(found.groupby(level="stages")):
        style = line_of(number)
        error = [line["mean"] - line["min"], line["max"] - line["mean"]]
        label = f"{stages} stage{'s' * (stages != 1)}"
        axes.errorbar(
            line["minutes"], line["mean"], error, label=label, marker="o", markersize=4, **style
        )
        for (_, blocks), row in line.iterrows():
            axes.annotate(
                str(blocks),
                (row["minutes"], row["mean"]),
                (4, -9),
                textcoords="offset points",
                fontsize=8,
                color=style["color"],
            )
    axes.set(
        title="Accuracy against training time",
        xlabel="minutes of training; beside each point its blocks per stage",
        ylabel=NAMES.get(metric, metric),
    )
    legend_beside(axes)
    return figure


def learning_rate_schedules(schedules: Mapping[str, Sequence[float]]) -> Figure:
    """Learning rates over a training, as shares of their peak.

    Args:
        schedules: By name, the rate of each step.
    """
    if not schedules or not all(len(rates) for rates in schedules.values()):
        raise DataError("There is no schedule to draw.")
    figure, [[axes]] = new_figure(height=2.2)
    for number, (name, rates) in enumerate(schedules.items()):
        style = line_of(number)
        rates = np.asarray(rates, float)
        axes.plot(100 * np.arange(len(rates)) / len(rates), rates / rates.max(), **style)
        axes.lines[-1].set_label(plain(name))
    axes.set(
        title="Learning rate over the training",
        xlabel="share of the steps (%)",
        ylabel="share of the peak",
    )
    legend_beside(axes)
    return figure


def singular_values(spectra: Mapping[str, Sequence[float]]) -> Figure:
    """Singular values of matrices, each from its largest on, as shares of the largest.

    Args:
        spectra: By name, the singular values of a matrix.
    """
    if not spectra or not all(len(values) for values in spectra.values()):
        raise DataError("There are no singular values to draw.")
    figure, [[axes]] = new_figure(height=2.4)
    for number, (name, values) in enumerate(spectra.items()):
        values = np.sort(np.asarray(values, float))[::-1]
        style = line_of(number)
        axes.plot(np.arange(1, len(values) + 1), values / values[0], label=plain(name), **style)
    axes.set(
        yscale="log",
        title="Singular values",
        xlabel="number, from the largest on",
        ylabel="share of the largest",
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_beside(axes)
    return figure


@plain_text()
def stages_by_blocks(
    table: pd.DataFrame,
    metric: str = "val_accuracy",
    notes: Sequence[str] = ("parameters", "seconds"),
) -> Figure:
    """Accuracy of each combination of stages and blocks, as a heatmap; means over seeds.

    Args:
        table: A row per run: `stages`, `blocks`, the metric, and the columns of `notes`.
        metric: An accuracy.
        notes: Columns written below each accuracy.
    """
    need_columns(table, "stages", "blocks", metric, *notes)
    means = table.pivot_table([metric, *notes], "blocks", "stages", dropna=False)
    accuracy = 100 * means[metric]
    text = accuracy.map(lambda value: f"{value:.2f} %")
    for note in notes:
        text = text + "\n" + means[note].map(lambda value, note=note: short_number(value, note))
    text = text.where(accuracy.notna(), "not run")
    rows, columns = accuracy.shape
    figure, [[axes]] = new_figure(
        width=min(6.4, 1.15 * columns + 1.8),
        height=(0.30 + 0.16 * len(notes)) * rows + 1.0,
    )
    sns.heatmap(
        accuracy,
        annot=text,
        fmt="",
        cmap=SEQUENTIAL,
        annot_kws={"fontsize": 8.5},
        linewidths=1,
        cbar_kws={"label": NAMES.get(metric, metric)},
        ax=axes,
    )
    for (row, column), value in np.ndenumerate(accuracy.to_numpy()):
        if np.isnan(value):  # seaborn writes nothing into an empty cell
            axes.text(column + 0.5, row + 0.5, "not run", ha="center", va="center", color=GREY)
    axes.set(title="Stages x blocks", xlabel="stages", ylabel="blocks per stage")
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(left=False, bottom=False)
    return figure


def in_percent(values: pd.Series, metric: str) -> pd.Series:
    return 100 * values if "accuracy" in metric else values


def short_number(value: float, column: str = "") -> str:
    """1234567 as "1.23 M", seconds as "12 s", epochs as "6 epochs"."""
    if np.isnan(value):
        return ""
    if column == "seconds":
        return f"{value:.0f} s"
    if column == "epochs":
        return f"{value:.0f} epoch{'s' if value != 1 else ''}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
