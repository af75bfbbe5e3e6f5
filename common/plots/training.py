"""Figures of trainings: learning curves, learning rates, ablations, sweeps.

Accuracies come as fractions, as records and histories hold them, and are drawn in per cent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from common.errors import DataError
from common.plots.style import (
    GREY,
    PALETTE,
    SEQUENTIAL,
    legend_beside,
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
        for column, label, colour in (
            (name, "training", PALETTE[0]),
            (f"val_{name}", "validation", PALETTE[1]),
        ):
            if column in history:
                values = factor * history[column]
                style = {"marker": "o" if len(history) < 20 else None, "markersize": 3}
                label = f"{label}: {values.iloc[-1]:.3g} at the end"
                axes.plot(history["epoch"], values, color=colour, label=label, **style)
        axes.set(xlabel="epoch", ylabel="loss (nats)" if name == "loss" else "accuracy (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
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
    lines = ("-", "--", "-.", ":")
    for i, (name, history) in enumerate(histories.items()):
        need_columns(history, metric, "epoch")
        style = {"color": colours[i], "label": plain(name), "markersize": 3}
        style["marker"] = "o" if len(history) < 20 else None  # one epoch is no line
        values = in_percent(history[metric], metric)
        axes.plot(history["epoch"], values, lines[i % 4], **style)
    axes.set(title=title, xlabel="epoch", ylabel=NAMES.get(metric, metric))
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_beside(axes)
    return figure


def learning_rate_finder(
    rates: Sequence[float], losses: Sequence[float], suggested: float | None = None
) -> Figure:
    """The loss while the learning rate grows from step to step (Smith 2017), and a suggestion.

    Args:
        rates: Learning rate of each step.
        losses: Training loss of each step, smoothed or not.
        suggested: The rate to mark.
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
    if suggested is not None:
        label = f"suggested: {suggested:.2g}"
        axes.axvline(suggested, color=PALETTE[1], linestyle="--", label=label)
        axes.legend()
    axes.set(
        xscale="log",
        title="Learning-rate range test",
        xlabel="learning rate",
        ylabel="training loss (nats)",
    )
    return figure


def ablation(table: pd.DataFrame, reference: str, metric: str = "val_accuracy") -> Figure:
    """What each change of the recipe does to the accuracy; a point per seed, a bar per mean.

    Bars show the difference from the reference, so that their length means something.

    Args:
        table: A row per run: `variant`, `seed` and the metric.
        reference: The variant that all others are compared with, such as the full recipe.
        metric: An accuracy.
    """
    need_columns(table, "variant", metric)
    table = table[np.isfinite(table[metric].astype(float))]
    if reference not in set(table["variant"]):
        raise DataError(f"The table has no variant {reference!r} with a {metric}.")
    base = table.loc[table["variant"] == reference, metric].mean()
    shown = table.assign(change=100 * (table[metric] - base))
    order = [reference, *(name for name in table["variant"].unique() if name != reference)]
    figure, [[axes]] = new_figure(height=0.32 * len(order) + 1.0)
    means = shown.groupby("variant")["change"].mean()
    style = {"x": "change", "y": "variant", "order": order, "ax": axes}
    colours = [GREY if n == reference else PALETTE[0 if means[n] >= 0 else 1] for n in order]
    sns.barplot(
        shown, hue="variant", hue_order=order, palette=colours, errorbar=None, alpha=0.55, **style
    )
    # Not `sns.stripplot`: it draws from NumPy's global random numbers, which are the reader's.
    rows = shown["variant"].map(order.index)
    axes.scatter(shown["change"], rows, s=16, color="0.15", linewidths=0, zorder=3)
    axes.axvline(0, color="0.3", linewidth=0.8)
    seeds = table.groupby("variant").size()
    labels = [f"{plain(name, 40)} (n={seeds[name]})" for name in order]
    axes.set_yticks(range(len(order)), labels)
    span = max(shown["change"].max(), 0) - min(shown["change"].min(), 0) or 1.0
    right = max(shown["change"].max(), 0) + 0.04 * span
    for place, name in enumerate(order):
        axes.text(right, place, f"{means[name]:+.2f}", va="center", ha="left", fontsize=8.5)
    axes.set_xlim(min(shown["change"].min(), 0) - 0.05 * span, right + 0.14 * span)
    name = NAMES.get(metric, metric).removesuffix(" (%)")
    axes.set(
        title=f"Change of the {name}",
        xlabel=f"percentage points against {plain(reference)} ({100 * base:.2f} %)",
        ylabel="",
    )
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
    """1234567 as "1.23 M", seconds as "12 s"."""
    if np.isnan(value):
        return ""
    if column == "seconds":
        return f"{value:.0f} s"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
