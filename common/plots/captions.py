"""Figures of captions: what people say, what a captioner sees, where it looks, what it writes."""

import textwrap
from collections.abc import Mapping, Sequence

import cv2
import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from common.errors import DataError
from common.plots.style import (
    GREY,
    HEAT,
    PALETTE,
    SEQUENTIAL,
    WIDTH,
    label_bars,
    mosaic_figure,
    new_figure,
    plain,
    plain_text,
)
from common.plots.training import _need

# Of the decoders, from the first rung to the last.
TITLES = {
    "rnn": "RNN",
    "lstm": "LSTM",
    "attention_lstm": "LSTM + attention",
    "self_attention": "self-attention",
    "multi_head": "multi-head",
}
_TITLES_OF_SCORES = {
    "true_captions": "true captions (%)",
    "bleu_1": "BLEU-1",
    "bleu_4": "BLEU-4",
    "cider_d": "CIDEr-D",
}
_SMALL = {"fontsize": 8.5}
_MOST_LINES = 8  # of one caption beside its image


def captioned_images(
    images: Sequence[np.ndarray], captions: Sequence[Sequence[str]], columns: int = 2
) -> Figure:
    """Images, each with its captions beside it.

    Args:
        images: uint8 (H, W, 3) each, of any sizes.
        captions: Texts of each image.
        columns: Images per row.
    """
    if not len(images) or len(images) != len(captions):
        raise DataError(f"{len(images)} images, but captions of {len(captions)}.")
    rows = -(-len(images) // columns)
    ratios = [1, 1.25] * columns
    figure, axes = new_figure(
        rows, 2 * columns, width=0.59 * WIDTH * columns, height=1.75 * rows, width_ratios=ratios
    )
    for place in axes.ravel():
        place.axis("off")
    for i, (image, texts) in enumerate(zip(images, captions, strict=True)):
        picture, words = axes[i // columns, 2 * (i % columns) :][:2]
        picture.imshow(image)
        lines = [line.removesuffix(".").strip() for line in texts]
        wrap = {"subsequent_indent": "  ", "max_lines": _MOST_LINES, "placeholder": " …"}
        text = "\n".join(textwrap.fill(f"• {line}", 28, **wrap) for line in lines)
        words.text(0, 1, text, va="top", transform=words.transAxes, fontsize=7)
    return figure


def caption_lengths(lengths: Mapping[str, np.ndarray], cut: int) -> Figure:
    """How many words captions have.

    Args:
        lengths: Words of each caption, by split.
        cut: The longest caption that is kept whole, its end included.
    """
    if not lengths or not all(map(len, lengths.values())):
        raise DataError("There is no caption to count words of.")
    figure, [[axes]] = new_figure(height=2.6)
    longest = max(int(values.max()) for values in lengths.values())
    for i, (name, values) in enumerate(lengths.items()):
        shares = 100 * np.bincount(values, minlength=longest + 1) / len(values)
        label = f"{plain(name, 40)}, n={len(values):,}"
        axes.plot(shares, "o-", markersize=3, color=_colour(i), label=label)
    axes.axvline(cut, color=GREY, linestyle="--", linewidth=1)
    axes.text(cut, axes.get_ylim()[1], " cut here", va="top", color=GREY, **_SMALL)
    axes.set(title="Lengths of captions", xlabel="words", ylabel="captions (%)")
    axes.legend()
    return figure


def word_frequencies(counts: pd.Series, min_count: int) -> Figure:
    """How often each word occurs, by rank, on log-log axes (Zipf's law).

    Args:
        counts: Occurrences by word, the most frequent first.
        min_count: Rarer words are left out of the vocabulary.
    """
    if counts.empty:
        raise DataError("There is no word to show.")
    figure, [[axes]] = new_figure(height=2.8)
    ranks = np.arange(1, len(counts) + 1)
    kept = int((counts >= min_count).sum())
    axes.plot(ranks[:kept], counts.iloc[:kept], ".", color=PALETTE[0], markersize=4)
    axes.plot(ranks[kept:], counts.iloc[kept:], ".", color=PALETTE[1], markersize=4)
    covered = counts.iloc[:kept].sum() / counts.sum()
    label = f"{kept:,} of {len(counts):,} words occur at least {min_count} times: {covered:.1%} of"
    axes.set_title(f"{label} the text", fontsize=9)
    for rank in np.unique(np.geomspace(1, len(counts), 7).astype(int)):
        word = plain(counts.index[rank - 1])
        place = (rank, counts.iloc[rank - 1])
        axes.annotate(word, place, (3, 3), textcoords="offset points", fontsize=8, color="0.25")
    axes.set(xscale="log", yscale="log", xlabel="rank of the word", ylabel="occurrences")
    axes.margins(0.1)
    return figure


def frequent_words(counts: pd.Series, shown: int = 25, stop: Sequence[str] = ()) -> Figure:
    """The most frequent words.

    Args:
        counts: Occurrences by word, the most frequent first.
        shown: How many words.
        stop: Words to pass over.
    """
    top = counts[~counts.index.isin(stop)].iloc[:shown]
    if top.empty:
        raise DataError("There is no word to show.")
    figure, [[axes]] = new_figure(height=2.6)
    sns.barplot(x=top.index, y=100 * top.to_numpy() / counts.sum(), color=PALETTE[0], ax=axes)
    axes.tick_params(axis="x", rotation=60)
    axes.set(title=f"The {len(top)} most frequent words", xlabel="word", ylabel="words (%)")
    return figure


def agreement(values: np.ndarray, label: str) -> Figure:
    """How much the captions of an image agree, over all images.

    Args:
        values: A score per image.
        label: What it is.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        raise DataError("There is no score to show.")
    figure, [[axes]] = new_figure(height=2.5)
    sns.histplot(x=values, bins=40, color=PALETTE[0], ax=axes)
    for value, name, style in (
        (np.mean(values), "mean", "-"),
        (np.median(values), "median", "--"),
    ):
        axes.axvline(value, color=PALETTE[1], linestyle=style, label=f"{name} {value:.1f}")
    axes.set(title="How much people agree", xlabel=label, ylabel="images")
    axes.legend()
    return figure


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A coarse map, each number a block of the image; borders stay where they are."""
    return cv2.resize(values.astype("float32"), (width, height), interpolation=cv2.INTER_NEAREST)


def _heat(values: np.ndarray, colours: str) -> np.ndarray:
    span = values.max() - values.min()
    scaled = (values - values.min()) / (span if span > 0 else 1)
    return (255 * matplotlib.colormaps[colours](scaled)[..., :3]).round().astype("uint8")


def _over(image: np.ndarray, values: np.ndarray, top: float | None = None) -> np.ndarray:
    """A map in 0..top as light over the dimmed image."""
    light = _resized(values, *image.shape[:2])
    light = cv2.GaussianBlur(light, (0, 0), image.shape[0] / (3 * values.shape[0]))
    light = np.clip(light / (top or light.max() or 1), 0, 1)[..., None]
    heat = matplotlib.colormaps[HEAT](light[..., 0])[..., :3]
    share = 0.55 * light
    dimmed = image / 255 * (0.5 + 0.5 * light)
    return (255 * np.clip((1 - share) * dimmed + share * heat, 0, 1)).round().astype("uint8")


def _require_maps(image: np.ndarray, maps: np.ndarray, dims: int) -> None:
    if image.ndim != 3 or maps.ndim != dims:
        raise DataError(
            f"Wanted an image (H, W, 3) and {dims} axes of maps. Received: {image.shape} and "
            f"{maps.shape}"
        )


def feature_maps(image: np.ndarray, maps: np.ndarray, shown: int = 11) -> Figure:
    """The channels of a feature map that answer to a part of the image only, most clearly.

    Args:
        image: uint8 (H, W, 3).
        maps: (h, w, channels).
        shown: How many channels.
    """
    _require_maps(image, maps, 3)
    order = np.argsort(maps.mean(axis=(0, 1)) - maps.max(axis=(0, 1)))[:shown]
    size = image.shape[:2]
    pictures = [_heat(_resized(maps[..., c], *size), SEQUENTIAL) for c in order]
    titles = ["image", *(f"channel {c}" for c in order)]
    return mosaic_figure([image, *pictures], 6, titles=titles)


def region_similarity(image: np.ndarray, maps: np.ndarray, region: tuple[int, int]) -> Figure:
    """Each region's cosine with one of them, after taking off the mean of all.

    Args:
        image: uint8 (H, W, 3).
        maps: (h, w, channels).
        region: Row and column of the one, marked by a frame.
    """
    _require_maps(image, maps, 3)
    centred = maps - maps.mean(axis=(0, 1))
    unit = centred / (np.linalg.norm(centred, axis=-1, keepdims=True) + 1e-6)
    similar = unit @ unit[region]
    figure, [[left, right]] = new_figure(1, 2, width=5.4, height=2.5)
    height, width = image.shape[:2]
    left.imshow(image)
    shown = right.imshow(
        similar, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, width, height, 0), aspect="auto"
    )
    right.set_aspect(left.get_aspect())
    step_y, step_x = height / maps.shape[0], width / maps.shape[1]
    for axes in (left, right):
        corner = (region[1] * step_x, region[0] * step_y)
        axes.add_patch(Rectangle(corner, step_x, step_y, fill=False, edgecolor="lime", lw=2))
        axes.axis("off")
    left.set_title("image")
    right.set_title("cosine with the framed region")
    figure.colorbar(shown, ax=right, shrink=0.85)
    return figure


def attention_words(
    image: np.ndarray, words: Sequence[str], attention: np.ndarray, columns: int = 6
) -> Figure:
    """Where a captioner looked at each word that it wrote.

    All words share one scale, so that a look at everything is told from a look at one place.

    Args:
        image: uint8 (H, W, 3).
        words: The caption, of `T` words.
        attention: (T, h, w) or longer, each with sum 1.
        columns: Words per row.
    """
    _require_maps(image, attention, 3)
    if len(attention) < len(words):
        raise DataError(f"{len(words)} words, but attention of {len(attention)}.")
    scale = 224 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else 1)
    top = np.percentile(attention[: len(words)], 99) if len(words) else 1.0
    pictures = [_over(small, part, top) for part in attention[: len(words)]]
    return mosaic_figure([small, *pictures], columns, titles=["", *map(plain, words)])


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
            axes.plot(history["epoch"], history[column], "o-", ms=3, color=_colour(i), label=label)
        axes.set(title=title, xlabel="epoch", ylabel=score if column == "val_score" else "nats")
        axes.xaxis.get_major_locator().set_params(integer=True)
    row[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _colour(number: int) -> tuple[float, float, float]:
    return PALETTE[number % len(PALETTE)]


def _as_told(table: pd.DataFrame, metric: str) -> pd.Series:
    """A score's values; shares in per cent."""
    return table[metric].astype(float) * (100 if metric == "true_captions" else 1)


def metric_bars(table: pd.DataFrame, metric: str, level: float | None = None) -> Figure:
    """One score of several decoders, each decoding a bar.

    Args:
        table: `decoder`, `decoding` and the metric.
        metric: Its column.
        level: A score to compare with, such as that of people; optional.
    """
    _need(table, "decoder", "decoding", metric)
    figure, [[axes]] = new_figure(height=2.7)
    name = _TITLES_OF_SCORES.get(metric, metric)
    values = _as_told(table, metric)
    names = table["decoder"].replace(TITLES).str.replace(" + ", " +\n")
    decodings = table["decoding"].map(plain)
    shown = table.assign(**{metric: values, "decoder": names, "decoding": decodings})
    sns.barplot(
        shown, x="decoder", y=metric, hue="decoding", palette=SEQUENTIAL, errorbar=None, ax=axes
    )
    label_bars(axes, "{:.1f}", fontsize=6.5)
    if level is not None:
        axes.axhline(level, color=PALETTE[1], linestyle="--", label=f"people: {level:.1f}")
    axes.set(title=f"{name} on the test images", xlabel="decoder", ylabel=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def beam_curve(table: pd.DataFrame, metric: str = "bleu_4") -> Figure:
    """A score against the width of the beam, a line per length penalty.

    Args:
        table: `beams`, `length_penalty`, `length` (mean words of the captions) and the metric.
        metric: Its column.
    """
    _need(table, "beams", "length_penalty", "length", metric)
    figure, [[left, right]] = new_figure(1, 2, width=1.18 * WIDTH, height=2.7)
    widths = sorted(table["beams"].unique())
    colours = sns.color_palette(SEQUENTIAL, table["length_penalty"].nunique())
    factor = 100 if metric == "true_captions" else 1
    for axes, column, label in (
        (left, metric, _TITLES_OF_SCORES.get(metric, metric)),
        (right, "length", "mean length (words)"),
    ):
        for (penalty, part), colour in zip(table.groupby("length_penalty"), colours, strict=True):
            part = part.sort_values("beams")
            values = part[column].astype(float) * (factor if column == metric else 1)
            axes.plot(part["beams"], values, "o-", ms=4, color=colour, label=f"{penalty:g}")
        axes.set(xlabel="beams", ylabel=label, xscale="log")
        axes.set_xticks(widths, widths)
        axes.minorticks_off()
    left.set_title("What wider beams are worth")
    right.set_title("And what they do to the length")
    right.legend(title="length penalty", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


# What each rung can see when it writes the next word: from the image and from the words before.
_SEES = {
    "rnn": ("mean", "state"),
    "lstm": ("mean", "memory"),
    "attention_lstm": ("regions", "memory"),
    "self_attention": ("regions", "words"),
    "multi_head": ("heads", "words"),
}


def ladder_diagram() -> Figure:
    """What each of the five decoders can see when it writes the fifth word of a caption."""
    figure, axes = new_figure(1, 5, width=1.18 * WIDTH, height=2.5)
    for place, (name, (image, words)) in zip(axes[0], _SEES.items(), strict=True):
        _draw_rung(place, image, words)
        place.set_title(TITLES[name], fontsize=9)
    return figure


def _draw_rung(axes, image: str, words: str) -> None:
    axes.set(xlim=(-0.3, 5.3), ylim=(-1.0, 6.3), aspect="equal")
    axes.axis("off")

    def box(x, y, colour, size=0.72, text=""):
        corner = (x - size / 2, y - size / 2)
        axes.add_patch(Rectangle(corner, size, size, facecolor=colour, edgecolor="0.3", lw=0.7))
        axes.text(x, y, text, ha="center", va="center", fontsize=7)

    def arrow(start, end, colour, bend=0.0, width=1.0):
        style = f"arc3,rad={bend}"
        axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                connectionstyle=style,
                arrowstyle="-|>",
                mutation_scale=6,
                color=colour,
                lw=width,
                shrinkA=4,
                shrinkB=5,
            )
        )

    # The image: 3x3 regions, or their mean.
    blue, orange, green, red = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3]
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
        for (x, y), colour in zip(ends, (blue, PALETTE[4]), strict=False):
            box(x, y, (*colour, 0.9), 0.55)
            goal = (4.5, 2.0) if words == "memory" else (4.6, 0.4)
            arrow((x + 0.2, y), goal, colour, -0.25)
    notes = {
        ("mean", "state"): "image seen once,\nstate rewritten",
        ("mean", "memory"): "image seen once,\nmemory kept",
        ("regions", "memory"): "looks at each word,\nwords in a memory",
        ("regions", "words"): "looks at each word,\nand at every word",
        ("heads", "words"): "several places\nat once",
    }
    axes.text(2.5, -0.6, notes[image, words], ha="center", va="top", fontsize=7.5)


def memory_curves(table: pd.DataFrame) -> Figure:
    """How much another image changes the logits, word by word.

    Args:
        table: A row per word, a column per decoder; 1 is the change at the first word.
    """
    _need(table)
    figure, [[axes]] = new_figure(height=2.8)
    for i, name in enumerate(table):
        values = table[name].to_numpy()
        label = plain(TITLES.get(name, name))
        axes.plot(np.arange(1, len(values) + 1), values, "o-", ms=3, color=_colour(i), label=label)
    axes.set(
        title="What another image changes, untrained",
        xlabel="word",
        ylabel="change of the logits\n(1: first word)",
        ylim=(0, None),
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def cost_per_step(table: pd.DataFrame) -> Figure:
    """Milliseconds of each decoder, a panel per column of times.

    Args:
        table: A row per decoder; columns that begin with "ms".
    """
    columns = [column for column in table if column.startswith("ms")]
    if not columns:
        raise DataError("The table has no column of milliseconds (one that begins with 'ms').")
    _need(table)
    figure, [row] = new_figure(1, len(columns), width=1.18 * WIDTH, height=2.2, sharey=True)
    names = [TITLES.get(name, name) for name in table.index]
    colours = [_colour(i) for i in range(len(names))]
    for axes, column in zip(row, columns, strict=True):
        values = table[column].astype(float)
        sns.barplot(x=values.to_numpy(), y=names, hue=names, palette=colours, ax=axes)
        label_bars(axes, "{:.3g}")
        axes.set_title(column, fontsize=8.5)
        axes.set(xlabel="", ylabel="")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.margins(x=0.3)
    return figure


def caption_gallery(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    scores: Sequence[float] | None = None,
    columns: int = 2,
) -> Figure:
    """Images with the caption of a captioner, and what people said.

    Args:
        images: uint8 (H, W, 3) each, of any sizes.
        captions: One text per image.
        references: What people said, by image; the first two are shown.
        scores: A score per caption, optional.
        columns: Images per row.
    """
    heads = [""] * len(captions) if scores is None else [f" ({score:.0f})" for score in scores]
    texts = [
        [f"“{caption}”{head}", *others[:2]]
        for caption, head, others in zip(captions, heads, references, strict=True)
    ]
    return captioned_images(images, texts, columns)


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
            style = {"ms": 3, "color": _colour(i)}
            axes.plot(history["epoch"], values, "o-", label=plain(name), **style)
            if column == "val_score":
                axes.plot(history["epoch"], history["reward"], "o--", mfc="white", **style)
        axes.set(title=title, xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlim(0.5, max(map(len, histories.values())) + 0.5)  # one epoch has a place, too
    row[1].legend(title="reward", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def reward_along_a_line(table: pd.DataFrame) -> Figure:
    """The score of greedy captions and the expected score, along a line in the space of weights.

    Args:
        table: `distance` from the trained weights, `greedy` and `expected`.
    """
    _need(table, "distance", "greedy", "expected")
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
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@plain_text()
def word_map(vectors: np.ndarray, words: Sequence[str], groups: Sequence[str]) -> Figure:
    """Words on the plane that keeps most of the variance of their vectors (PCA).

    Args:
        vectors: `(words, dim)`.
        words: To be written.
        groups: What each is, for its colour.
    """
    if not len(vectors) == len(words) == len(groups) or len(vectors) < 2:
        raise DataError(
            f"{len(vectors)} vectors, {len(words)} words and {len(groups)} groups: wanted as many, "
            "and two at least."
        )
    centred = vectors - vectors.mean(axis=0)
    _, scales, axes_of = np.linalg.svd(centred, full_matrices=False)
    places = centred @ axes_of[:2].T
    share = 100 * scales[:2] ** 2 / (scales**2).sum()
    figure, [[axes]] = new_figure(height=4.2)
    names = list(dict.fromkeys(groups))
    for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        own = [i for i, group in enumerate(groups) if group == name]
        axes.scatter(*places[own].T, s=9, color=colour, label=plain(name))
    axes.set(
        title="Words by their vectors",
        xlabel=f"first axis ({share[0]:.0f} % of the variance)",
        ylabel=f"second axis ({share[1]:.0f} %)",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.margins(0.2)
    _write_beside(axes, places, [plain(word) for word in words])
    return figure


def _write_beside(axes, places: np.ndarray, words: Sequence[str]) -> None:
    """Words beside their points, on the first side where there is room, else not at all."""
    figure = axes.figure
    figure.draw_without_rendering()  # places in pixels are known from now on
    taken = [axes.xaxis.label.get_window_extent()]
    for word, place in zip(words, places, strict=True):
        sides = [(x, y) for far in (3, 9) for y in (far, -far) for x in (3, -3)]
        for x, y in sides:
            text = axes.annotate(
                word,
                place,
                (x, y),
                textcoords="offset points",
                ha="left" if x > 0 else "right",
                va="bottom" if y > 0 else "top",
                fontsize=7,
            )
            box = text.get_window_extent().padded(1)
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def scores_by_share(table: pd.DataFrame, metric: str = "bleu_4") -> Figure:
    """A score of several embeddings with parts of the training images and with all.

    Args:
        table: `embedding`, `share` of the training images, and the metric.
        metric: Its column.
    """
    _need(table, "share", "embedding", metric)
    figure, [[axes]] = new_figure(height=2.7)
    name = _TITLES_OF_SCORES.get(metric, metric)
    shares = (100 * table["share"]).map("{:.0f} %".format)
    embeddings = table["embedding"].map(plain)
    told = {metric: _as_told(table, metric), "share": shares, "embedding": embeddings}
    shown = table.assign(**told)
    sns.barplot(
        shown, x="share", y=metric, hue="embedding", palette=SEQUENTIAL, errorbar=None, ax=axes
    )
    label_bars(axes, "{:.1f}", fontsize=6.5)
    axes.set(title=f"{name} on the dev images", xlabel="of the training images", ylabel=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
