"""Figures of the five decoders of captions: what each sees, remembers and costs."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from common.errors import DataError
from common.plots.style import (
    PALETTE,
    WIDTH,
    colour_of,
    label_bars,
    legend_beside,
    need_columns,
    new_figure,
    plain,
)

# Of the decoders, from the first rung to the last.
TITLES = {
    "rnn": "RNN",
    "lstm": "LSTM",
    "attention_lstm": "LSTM + attention",
    "self_attention": "self-attention",
    "multi_head": "multi-head",
}
# What each rung can see when it writes the next word: from the image and from the words before.
_SEES = {
    "rnn": ("mean", "state", "image seen once,\nstate rewritten"),
    "lstm": ("mean", "memory", "image seen once,\nmemory kept"),
    "attention_lstm": ("regions", "memory", "looks at each word,\nwords in a memory"),
    "self_attention": ("regions", "words", "looks at each word,\nand at every word"),
    "multi_head": ("heads", "words", "several places\nat once"),
}


def ladder_diagram() -> Figure:
    """What each of the five decoders can see when it writes the fifth word of a caption."""
    figure, axes = new_figure(1, 5, width=1.18 * WIDTH, height=2.5)
    for place, (name, sees) in zip(axes[0], _SEES.items(), strict=True):
        _draw_rung(place, *sees)
        place.set_title(TITLES[name], fontsize=9)
    return figure


def _draw_rung(axes: Axes, image: str, words: str, note: str) -> None:
    axes.set(xlim=(-0.3, 5.3), ylim=(-1.0, 6.3), aspect="equal")
    axes.axis("off")

    def box(x, y, colour, size=0.72, text=""):
        corner = (x - size / 2, y - size / 2)
        axes.add_patch(Rectangle(corner, size, size, facecolor=colour, edgecolor="0.3", lw=0.7))
        axes.text(x, y, text, ha="center", va="center", fontsize=7)

    def arrow(start, end, colour, bend=0.0, width=1.0):
        head = {"arrowstyle": "-|>", "mutation_scale": 6, "shrinkA": 4, "shrinkB": 5}
        line = {"connectionstyle": f"arc3,rad={bend}", "color": colour, "lw": width}
        axes.add_patch(FancyArrowPatch(start, end, **head, **line))

    # The image: 3x3 regions, or their mean.
    blue, orange, green, red, violet = PALETTE[:5]
    looks = image in ("regions", "heads")
    for row in range(3):
        for column in range(3):
            box(1.6 + 0.6 * column, 4.5 + 0.6 * row, (*blue, 0.25 if looks else 0.6), 0.55)
    # The words so far, and the one to be written.
    for t in range(5):
        box(0.5 + t, 0, "white" if t < 4 else (*orange, 0.5), text="?" if t == 4 else f"w{t + 1}")
    target = (4.5, 0.3)
    if words == "words":
        for t in range(4):
            arrow((0.5 + t, 0.3), target, green, -0.35)
    else:
        colour = red if words == "state" else green
        for t in range(5):
            axes.add_patch(Rectangle((0.25 + t, 1.5), 0.5, 0.5, facecolor=colour, alpha=0.55))
            if t < 4:
                arrow((0.75 + t, 1.75), (1.25 + t, 1.75), colour, width=1.8 - 0.3 * t)
                arrow((0.5 + t, 0.3), (1.5 + t, 1.5), "0.55", width=0.6)
        arrow((4.5, 1.5), target, colour)
    if not looks:
        box(2.2, 3.2, (*blue, 0.6), 0.55)
        axes.text(2.65, 3.2, "mean", va="center", fontsize=7)
        arrow((2.2, 4.3), (2.2, 3.4), blue)
        arrow((2.0, 3.0), (0.5, 2.0), blue)
    else:
        ends = [(1.6, 5.7), (2.8, 4.5)] if image == "heads" else [(2.2, 5.1)]
        for (x, y), colour in zip(ends, (blue, violet), strict=False):
            box(x, y, (*colour, 0.9), 0.55)
            goal = (4.5, 2.0) if words == "memory" else (4.6, 0.4)
            arrow((x + 0.2, y), goal, colour, -0.25)
    axes.text(2.5, -0.6, note, ha="center", va="top", fontsize=7.5)


def memory_curves(table: pd.DataFrame) -> Figure:
    """How much another image changes the logits, word by word.

    Args:
        table: A row per word, a column per decoder; 1 is the change at the first word.
    """
    need_columns(table)
    figure, [[axes]] = new_figure(height=2.8)
    for i, name in enumerate(table):
        values = table[name].to_numpy()
        label = plain(TITLES.get(name, name))
        axes.plot(
            np.arange(1, len(values) + 1), values, "o-", ms=3, color=colour_of(i), label=label
        )
    axes.set(
        title="What another image changes, untrained",
        xlabel="word",
        ylabel="change of the logits\n(1: first word)",
        ylim=(0, None),
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_beside(axes)
    return figure


def cost_per_step(table: pd.DataFrame) -> Figure:
    """Milliseconds of each decoder, a panel per column of times.

    Args:
        table: A row per decoder; columns that begin with "ms".
    """
    columns = [column for column in table if column.startswith("ms")]
    if not columns:
        raise DataError("The table has no column of milliseconds (one that begins with 'ms').")
    need_columns(table)
    figure, [row] = new_figure(1, len(columns), width=1.18 * WIDTH, height=2.2, sharey=True)
    names = [TITLES.get(name, name) for name in table.index]
    colours = sns.color_palette(PALETTE, len(names))
    for axes, column in zip(row, columns, strict=True):
        values = table[column].astype(float)
        sns.barplot(x=values.to_numpy(), y=names, hue=names, palette=colours, ax=axes)
        label_bars(axes, "{:.3g}")
        axes.set_title(column, fontsize=8.5)
        axes.set(xlabel="", ylabel="")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.margins(x=0.3)
    return figure
