"""The figure of where a captioner looked for each word that it wrote."""

import math
import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from common.data.vocabulary import BAD_ENDINGS
from common.errors import DataError
from common.evaluation.attention import looked_regions
from common.plots.style import (
    DPI,
    GREY,
    LONGEST_LINE,
    LONGEST_NAME,
    WIDTH,
    PlainFigure,
    plain,
)

_HUE = np.array([1.0, 0.55, 0.0])  # orange: seen on grey by colour-blind eyes, too
_COVER = 0.8  # of the hue, where attention is at the end of the scale
_RANKS = ("sharpest\nhead", "second", "third")
_WORD = {"fontsize": 8.5, "fontweight": "bold"}
_SMALL = {"fontsize": 7, "color": GREY}
# In pixels of the figure: names of rows, the widest map, what is between maps, a line of text above
# a map, the photo and the place of it.
_LEFT, _WIDEST, _GAP, _LINE, _PHOTO, _TOP = 52, 90, 4, 14, (150, 110), 26


def attention_words(
    image: np.ndarray,
    words: Sequence[str],
    attention: np.ndarray,
    heads: int = 2,
    columns: int = 6,
) -> Figure:
    """Where a captioner looked for each word: the mean of its heads, and the sharpest ones.

    Heads look at different places, so that their mean is spread over most of the image; what there
    is to see stands in single heads. Drawn are, of each word, those whose looks are spread over the
    fewest regions (`looked_regions`): which head that is differs from word to word, and is said
    above its map. Of several blocks it is the last one, from which the word is read.

    Maps are smoothed, as in Xu et al., "Show, Attend and Tell" (2015), by a Gaussian whose standard
    deviation is a region: about so far does a region see around itself. All have one scale: a look
    at everything is told from a look at one place.

    Args:
        image: uint8 (H, W, 3): all of the photo. It was squashed to a square for the network, and
            nothing was cut off, so that `h` by `w` regions cover all of it.
        words: The caption.
        attention: (words, blocks, heads, h, w), each map with sum 1. `attention[:, :1]` shows the
            first block, `attention[:, :, 2:3]` one head alone.
        heads: How many heads are drawn of each word.
        columns: Most words beside each other. From a caption of more, words like "a" and "of" are
            left out; what is too long even so goes on below.

    Returns:
        The figure; its `alt` tells where the sharpest heads looked.

    Raises:
        DataError: for no word, or arrays of other shapes.
    """
    if image.ndim != 3 or attention.ndim != 5:
        raise DataError(
            "Wanted an image (H, W, 3) and attention (words, blocks, heads, h, w). "
            f"Received: {image.shape} and {attention.shape}"
        )
    if not len(words) or len(words) != len(attention):
        raise DataError(f"{len(words)} words, but attention of {len(attention)}.")
    shown = _shown(words, columns)
    lines = math.ceil(len(shown) / columns)
    columns = math.ceil(len(shown) / lines)  # lines of about the same length

    width = round(WIDTH * DPI)
    widest = min(_WIDEST, (width - _LEFT) // columns - _GAP)
    size, photo_size = _fitted(image, widest, 1.4 * widest), _fitted(image, *_PHOTO)
    rows = _rows(attention[:, -1], heads)
    # Where there are heads to choose from, the sharpest one: the second row.
    *_, sharpest = rows[:2][-1]
    # The end of the scale: the most that it gives to one place, on the mean of the words.
    seen = [_smooth(values, size) for values in sharpest]
    top = max(np.mean([light.max() for light in seen]), 1 / sharpest[0].size)
    step = max(size[1], 26) + _LINE
    head = _TOP + max(photo_size[1], 90) + 10
    page = _page(width, head + lines * (len(rows) * step + 2 * _GAP))
    _place(page, _resized(image, photo_size), (0, _TOP), photo_size)
    text = textwrap.fill(f"“{plain(' '.join(words))}”", 50, max_lines=3, placeholder=" …")
    page.text(photo_size[0] + 14, _TOP, text, ha="left", va="top", fontsize=10)
    _scale(page, photo_size[0] + 16, head - 38, top, sharpest[0].size)
    grey = 0.2 + 0.6 * cv2.cvtColor(_resized(image, size), cv2.COLOR_RGB2GRAY) / 255
    for place, i in enumerate(shown):
        line, column = divmod(place, columns)
        x = _LEFT + column * (widest + _GAP) + widest / 2
        for row, (label, names, maps) in enumerate(rows):
            y = head + line * (len(rows) * step + 2 * _GAP) + row * step + _LINE
            tinted = _tinted(grey, _smooth(maps[i], size) / top)
            _place(page, tinted, (x - size[0] / 2, y), size)
            above = (plain(words[i], int(widest / 5.8)), _WORD) if row == 0 else (names[i], _SMALL)
            page.text(x, y - 3, above[0], ha="center", va="baseline", **above[1])
            if column == 0:
                page.text(_LEFT - 6, y + size[1] / 2, label, ha="right", va="center", fontsize=8)
    page.figure.alt = _alt(words, shown, seen)
    return page.figure


def _shown(words: Sequence[str], columns: int) -> list[int]:
    """Numbers of the words that are drawn."""
    telling = [i for i, word in enumerate(words) if word not in BAD_ENDINGS]
    return telling if len(words) > columns and telling else list(range(len(words)))


def _rows(attention: np.ndarray, heads: int) -> list[tuple[str, list[str], np.ndarray]]:
    """The rows of the figure: a name, and of each word which head it is and its map.

    Args:
        attention: (words, heads, h, w).
    """
    words, count = attention.shape[:2]
    if count == 1:
        return [("", [""] * words, attention[:, 0])]
    rows = [(f"mean of\n{count} heads", [""] * words, attention.mean(axis=1))]
    order = np.argsort(looked_regions(attention.reshape(words, count, -1)), axis=1, kind="stable")
    for rank, chosen in enumerate(order.T[:heads]):
        label = _RANKS[rank] if rank < len(_RANKS) else f"{rank + 1}th"
        names = [f"head {head + 1}" for head in chosen]
        rows.append((label, names, attention[np.arange(words), chosen]))
    return rows


def _page(width: int, height: int) -> Axes:
    """One axes whose units are the figure's pixels, y down."""
    figure = PlainFigure(figsize=(width / DPI, height / DPI), dpi=DPI)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.axis("off")
    style = {"ha": "left", "va": "bottom", "fontsize": 10, "fontweight": "bold"}
    figure.heading = page.text(0, 17, "Where it looked for each word", **style)
    return page


def _scale(page: Axes, x: float, y: float, top: float, regions: int) -> None:
    """The colour bar, its upper left corner at `x`, `y`; a line where all regions are alike."""
    width, height = page.figure.bbox.size
    middle = np.full(3, 0.5)
    colours = LinearSegmentedColormap.from_list(
        "attention", [middle, (1 - _COVER) * middle + _COVER * _HUE]
    )
    place = page.figure.add_axes((x / width, 1 - (y + 9) / height, 170 / width, 9 / height))
    bar = page.figure.colorbar(
        ScalarMappable(Normalize(0, top), colours),
        cax=place,
        orientation="horizontal",
        extend="max",
        ticks=MaxNLocator(5, steps=[1, 2, 5, 10]),
        format=FuncFormatter(lambda share, _: f"{100 * share:g} %"),
    )
    bar.ax.axvline(1 / regions, color="black", linewidth=1)
    bar.ax.tick_params(labelsize=7.5, length=2, pad=2)
    label = f"attention to a region, smoothed (line: to each of {regions} alike)"
    page.text(x, y - 4, label, ha="left", va="baseline", fontsize=8, color=GREY)


def _fitted(image: np.ndarray, width: float, height: float) -> tuple[int, int]:
    """Width and height in which an image fits into a box."""
    scale = min(width / image.shape[1], height / image.shape[0])
    return max(1, int(scale * image.shape[1])), max(1, int(scale * image.shape[0]))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image with twice the pixels of `size`, for screens that have them."""
    width, height = 2 * size[0], 2 * size[1]
    shrinks = width < image.shape[1] or height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else 1)


def _smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) on a picture of `size`, each region spread over its neighbours."""
    width, height = 2 * size[0], 2 * size[1]
    squares = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.GaussianBlur(
        squares,
        ksize=(0, 0),
        sigmaX=width / values.shape[1],
        sigmaY=height / values.shape[0],
        borderType=cv2.BORDER_CONSTANT,
    )


def _tinted(grey: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The hue over a grey picture (H, W), as much as a map (H, W) says; both of 0 to 1."""
    cover = _COVER * np.clip(light, 0, 1)[..., None]
    return (255 * ((1 - cover) * grey[..., None] + cover * _HUE)).round().astype("uint8")


def _place(page: Axes, picture: np.ndarray, corner, size) -> None:
    """A picture on the page, its upper left corner at `corner`."""
    (x, y), (width, height) = corner, size
    page.imshow(picture, extent=(x, x + width, y + height, y), aspect="auto")


def _alt(words: Sequence[str], shown: list[int], maps: list[np.ndarray]) -> str:
    """What is to be seen: where the maps of one row are highest."""
    seen = [f"“{plain(words[i], LONGEST_NAME)}” {_where(maps[i])}" for i in shown]
    return (
        f"A photo with the caption “{plain(' '.join(words), LONGEST_LINE)}”, and maps of where the "
        f"captioner looked for each word. The sharpest heads looked most at: {', '.join(seen)}."
    )


def _where(values: np.ndarray) -> str:
    """The part of the image in which a map is highest."""
    rows, columns = values.shape
    row, column = np.unravel_index(values.argmax(), values.shape)
    down = ("top", "", "bottom")[3 * (2 * row + 1) // (2 * rows)]
    across = ("left", "", "right")[3 * (2 * column + 1) // (2 * columns)]
    return f"{down} {across}".strip() or "middle"
