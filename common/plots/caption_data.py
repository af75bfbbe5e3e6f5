"""Figures of captions and their words: what people say, and what a captioner says."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.errors import DataError
from common.plots.style import (
    GREY,
    PALETTE,
    WIDTH,
    colour_of,
    legend_beside,
    new_figure,
    plain,
    plain_text,
)

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


def caption_gallery(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    scores: Sequence[float] | None = None,
) -> Figure:
    """Images with the caption of a captioner, and what people said.

    Args:
        images: uint8 (H, W, 3) each, of any sizes.
        captions: One text per image.
        references: What people said, by image; the first two are shown.
        scores: A score per caption, optional.
    """
    heads = [""] * len(captions) if scores is None else [f" ({score:.0f})" for score in scores]
    texts = [
        [f"“{caption}”{head}", *others[:2]]
        for caption, head, others in zip(captions, heads, references, strict=True)
    ]
    return captioned_images(images, texts)


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
        axes.plot(shares, "o-", markersize=3, color=colour_of(i), label=label)
    axes.axvline(cut, color=GREY, linestyle="--", linewidth=1)
    axes.text(cut, axes.get_ylim()[1], " cut here", va="top", color=GREY, fontsize=8.5)
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


def frequent_words(counts: pd.Series) -> Figure:
    """The most frequent words.

    Args:
        counts: Occurrences by word, the most frequent first.
    """
    top = counts.iloc[:25]
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
    for value, name, style in ((values.mean(), "mean", "-"), (np.median(values), "median", "--")):
        axes.axvline(value, color=PALETTE[1], linestyle=style, label=f"{name} {value:.1f}")
    axes.set(title="How much people agree", xlabel=label, ylabel="images")
    axes.legend()
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
    legend_beside(axes)
    axes.margins(0.2)
    _write_beside(axes, places, [plain(word) for word in words])
    return figure


def _write_beside(axes: Axes, places: np.ndarray, words: Sequence[str]) -> None:
    """Words beside their points, on the first side where there is room, else not at all."""
    figure = axes.figure
    figure.draw_without_rendering()  # places in pixels are known from now on
    taken = [axes.xaxis.label.get_window_extent()]
    sides = [(x, y) for far in (3, 9) for y in (far, -far) for x in (3, -3)]
    for word, place in zip(words, places, strict=True):
        for x, y in sides:
            align = {"ha": "left" if x > 0 else "right", "va": "bottom" if y > 0 else "top"}
            style = {"textcoords": "offset points", "fontsize": 7, **align}
            text = axes.annotate(word, place, (x, y), **style)
            box = text.get_window_extent().padded(1)
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
