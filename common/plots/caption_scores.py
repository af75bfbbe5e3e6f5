"""Figures of the trainings of captioners, and of their scores and errors."""

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from common.errors import DataError
from common.plots.decoders import TITLES
from common.plots.style import (
    PALETTE,
    SEQUENTIAL,
    WIDTH,
    colour_of,
    label_bars,
    legend_beside,
    need_columns,
    new_figure,
    plain,
)

_TITLES_OF_SCORES = {
    "true_captions": "true captions (%)",
    "bleu_1": "BLEU-1",
    "bleu_4": "BLEU-4",
    "cider_d": "CIDEr-D",
}


def training_curves(histories: Mapping[str, pd.DataFrame], metric: str = "bleu_4") -> Figure:
    """Losses and dev score of several trainings over their epochs.

    Args:
        histories: The history of each decoder: `epoch`, `loss`, `val_loss` and `val_score`.
        metric: What the score is.
    """
    if not histories:
        raise DataError("There is no training to show.")
    score = _TITLES_OF_SCORES.get(metric, metric)
    titles = {"loss": "training loss", "val_loss": "dev loss", "val_score": "dev, greedily"}
    figure, [row] = new_figure(1, 3, width=1.18 * WIDTH, height=2.6)
    for axes, (column, title) in zip(row, titles.items(), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            label = plain(TITLES.get(name, name))
            axes.plot(
                history["epoch"], history[column], "o-", ms=3, color=colour_of(i), label=label
            )
        axes.set(title=title, xlabel="epoch", ylabel=score if column == "val_score" else "nats")
        axes.xaxis.get_major_locator().set_params(integer=True)
    legend_beside(row[-1])
    return figure


def metric_bars(table: pd.DataFrame, metric: str) -> Figure:
    """One score of several decoders, each decoding a bar.

    Args:
        table: `decoder`, `decoding` and the metric.
        metric: Its column.
    """
    need_columns(table, "decoder", "decoding", metric)
    names = table["decoder"].replace(TITLES).str.replace(" + ", " +\n")
    table = table.assign(decoder=names)
    return _score_bars(table, metric, "decoder", "decoding", "test", "decoder")


def beam_curve(table: pd.DataFrame, metric: str = "bleu_4") -> Figure:
    """A score against the width of the beam, a line per length penalty.

    Args:
        table: `beams`, `length_penalty`, `length` (mean words of the captions) and the metric.
        metric: Its column.
    """
    need_columns(table, "beams", "length_penalty", "length", metric)
    figure, [[left, right]] = new_figure(1, 2, width=1.18 * WIDTH, height=2.7)
    widths = sorted(table["beams"].unique())
    colours = sns.color_palette(SEQUENTIAL, table["length_penalty"].nunique())
    for axes, column, label in (
        (left, metric, _TITLES_OF_SCORES.get(metric, metric)),
        (right, "length", "mean length (words)"),
    ):
        for (penalty, part), colour in zip(table.groupby("length_penalty"), colours, strict=True):
            part = part.sort_values("beams")
            values = _as_told(part, column)
            axes.plot(part["beams"], values, "o-", ms=4, color=colour, label=f"{penalty:g}")
        axes.set(xlabel="beams", ylabel=label, xscale="log")
        axes.set_xticks(widths, widths)
        axes.minorticks_off()
    left.set_title("What wider beams are worth")
    right.set_title("And what they do to the length")
    legend_beside(right, title="length penalty")
    return figure


def scores_by_share(table: pd.DataFrame, metric: str = "bleu_4") -> Figure:
    """A score of several embeddings with parts of the training images and with all.

    Args:
        table: `embedding`, `share` of the training images, and the metric.
        metric: Its column.
    """
    need_columns(table, "share", "embedding", metric)
    shares = (100 * table["share"]).map("{:.0f} %".format)
    return _score_bars(
        table.assign(share=shares), metric, "share", "embedding", "dev", "of the training images"
    )


def error_kinds(shares: pd.Series, n: int) -> Figure:
    """How often each kind of error occurs.

    Args:
        shares: Shares of captions in 0..1, by kind.
        n: Captions that were looked at.
    """
    if shares.empty:
        raise DataError("There is no kind of error to show.")
    figure, [[axes]] = new_figure(height=0.3 * len(shares) + 0.9)
    sns.barplot(x=100 * shares.to_numpy(), y=shares.index, color=PALETTE[1], ax=axes)
    label_bars(axes, "{:.1f}")
    axes.set(title=f"What captions get wrong (n={n:,})", xlabel="captions (%)", ylabel="")
    axes.margins(x=0.1)
    return figure


def reward_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """What trainings by rewards do to the captions that are drawn, over their epochs.

    Args:
        histories: The history of each reward, see `fit_reward`; `val_score` is the reward, too.
    """
    if not histories:
        raise DataError("There is no training to show.")
    titles = {
        "val_score": ("dev, greedily (dashed: training, drawn)", "reward"),
        "length": ("length of captions drawn", "words"),
        "entropy": ("how open each word is", "entropy (nats)"),
        "distinct": ("different captions drawn", "% of a step's"),
    }
    figure, grid = new_figure(2, 2, width=WIDTH, height=4.6)
    row = [*grid[0], *grid[1]]
    for axes, (column, (title, label)) in zip(row, titles.items(), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            values = history[column] * (100 if column == "distinct" else 1)
            style = {"ms": 3, "color": colour_of(i)}
            axes.plot(history["epoch"], values, "o-", label=plain(name), **style)
            if column == "val_score":
                axes.plot(history["epoch"], history["reward"], "o--", mfc="white", **style)
        axes.set(title=title, xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlim(0.5, max(map(len, histories.values())) + 0.5)  # one epoch has a place, too
    legend_beside(row[1], title="reward")
    return figure


def reward_along_a_line(table: pd.DataFrame) -> Figure:
    """The score of greedy captions and the expected score, along a line in the space of weights.

    Args:
        table: `distance` from the trained weights, `greedy` and `expected`.
    """
    need_columns(table, "distance", "greedy", "expected")
    figure, [[axes]] = new_figure(height=2.7)
    axes.plot(
        table["distance"], table["greedy"], drawstyle="steps-mid", label="of the greedy caption"
    )
    axes.plot(table["distance"], table["expected"], label="expected, of a caption drawn")
    axes.set(
        title="One image: a score that jumps, and its mean, which does not",
        xlabel="distance from the trained weights",
        ylabel="reward",
    )
    legend_beside(axes)
    return figure


def _score_bars(
    table: pd.DataFrame, metric: str, x: str, hue: str, split: str, xlabel: str
) -> Figure:
    """A score of images of a split: a group of bars per `x`, a bar per `hue`."""
    figure, [[axes]] = new_figure(height=2.7)
    name = _TITLES_OF_SCORES.get(metric, metric)
    shown = table.assign(**{metric: _as_told(table, metric), hue: table[hue].map(plain)})
    sns.barplot(shown, x=x, y=metric, hue=hue, palette=SEQUENTIAL, errorbar=None, ax=axes)
    label_bars(axes, "{:.1f}", fontsize=6.5)
    axes.set(title=f"{name} on the {split} images", xlabel=xlabel, ylabel=name)
    legend_beside(axes)
    return figure


def _as_told(table: pd.DataFrame, metric: str) -> pd.Series:
    """The values of a column; shares in per cent."""
    return table[metric].astype(float) * (100 if metric == "true_captions" else 1)
