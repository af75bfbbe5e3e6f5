"""The look of all figures, and how they are shown and saved.

A plot function returns a `Figure` that pyplot does not know of: as the last expression of a
notebook's cell, or through `display(figure)`, it is shown exactly once.
"""

import io
import math
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, LogFormatterMathtext
from PIL import Image

from common.errors import DataError
from common.files import write_atomically
from common.paths import cut

DPI = 80
WIDTH = 6.4  # inches: about the text width of a notebook
PALETTE = sns.color_palette("colorblind")  # Okabe and Ito's colours, told apart by nearly all
GREY = "0.45"
LINES = ("-", "--", "-.", ":")  # beside the colours, for whoever does not see these
SEQUENTIAL = "cividis"  # of even lightness steps, the same for colour-blind eyes
HEAT = "inferno"

# Characters of a name (in a legend, below an axis, beside an image), and of any other line.
LONGEST_NAME = 50
LONGEST_LINE = 120
# Inches. The files that matplotlib writes have less than 2**16 pixels on a side.
LARGEST = 500

# What matplotlib cannot draw: control characters, halves of surrogate pairs.
_UNDRAWABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# A letter that no font has is a box; too many names leave no room for the axes: not worth a word.
_QUIET = "Glyph .* missing|Matplotlib currently does not support|constrained_layout not applied"
# Spaces between the images of a mosaic, in pixels of the figure.
_GAP = 2
_TITLE = {"ha": "center", "va": "baseline", "fontsize": 8}


def use_style() -> None:
    """Sets fonts, palette and resolution; call it once, at the top of a notebook.

    In a notebook, figures are then stored with at most 256 colours: a third of the size.
    """
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        font_scale=1.0,
        rc={
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.labelsize": 9,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "figure.titlesize": 10,
            "figure.titleweight": "bold",
        },
    )
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        plt.close(plt.figure())  # loads the notebook's backend, which sets its own format
        shell.display_formatter.formatters["image/png"].for_type(Figure, shown_png)


class PlainFigure(Figure):
    """A figure whose texts are shown as they are, whatever signs their data hold.

    For matplotlib text between two `$` is TeX, and names are as long as they are. Here all texts
    are drawn letter by letter, but for the powers of ten that a logarithmic axis writes itself.
    """

    def draw(self, renderer):
        axes = [axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)]
        powers = {
            text
            for axis in axes
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
            for text in (tick.label1, tick.label2)
        }
        names = {text for legend in self.findobj(Legend) for text in legend.get_texts()}
        for axis in axes:
            _write_names_plainly(axis)
        for text in self.findobj(Text):
            text.set_parse_math(text in powers)
            before = text.get_text()
            shown = _plain_lines(before, LONGEST_NAME if text in names else LONGEST_LINE)
            if shown != before:
                text.set_text(shown)
        with _quiet():
            super().draw(renderer)

    def _repr_png_(self) -> bytes | tuple[bytes, dict[str, int]]:
        """What a notebook shows, with `use_style` or without."""
        return shown_png(self)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _QUIET)
        yield


@contextmanager
def plain_text() -> Iterator[None]:
    """For texts that are measured before their figure is drawn: they are plain from the start."""
    with plt.rc_context({"text.parse_math": False}), _quiet():
        yield


def _write_names_plainly(axis: Axis) -> None:
    """Drawing writes the labels of an axis anew, from its formatter."""
    if isinstance(axis.get_major_locator(), (FixedLocator, StrCategoryLocator)):
        places = axis.get_majorticklocs()
        names = [str(name) for name in axis.get_major_formatter().format_ticks(places)]
        shown = [_plain_lines(name, LONGEST_NAME) for name in names]
        if shown != names:
            axis.set_ticks(places, shown)


def _plain_lines(text: str, longest: int) -> str:
    text = _UNDRAWABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return "\n".join(cut(line, longest, "…") for line in text.split("\n"))


def plain(name: object, longest: int = sys.maxsize) -> str:
    """The name of a class, a run, a patient, as figures show it: on one line.

    Drawing cuts it. Where a figure is made as wide as its names, they are to be cut before. Legends
    leave out what begins with `_`, and empty names: neither is left of one that was given.
    """
    text = _plain_lines(str(name).replace("\n", r"\n"), longest)
    return f" {text}" if not text or text.startswith("_") else text


def new_figure(
    rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = 3.0, **kwargs
) -> tuple[Figure, np.ndarray]:
    """A figure of `width` x `height` inches and its axes (rows, columns), unknown to pyplot."""
    size = (min(width, LARGEST), min(height, LARGEST))
    with plain_text():
        figure = PlainFigure(figsize=size, dpi=DPI, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def show(figure: Figure, alt: str, title: str | None = None) -> None:
    """Shows a figure in a notebook, with what is to be seen in it as a text.

    Args:
        figure: Of one of the plot functions.
        alt: The finding, with its numbers, for who cannot see the figure. The notebook keeps it,
            and the HTML that is made of it.
        title: The finding in a few words, in place of the figure's title.
    """
    from IPython.display import display

    figure.alt = " ".join(alt.split())
    if title is not None:
        _retitle(figure, title)
    display(figure)


def _retitle(figure: Figure, title: str) -> None:
    """Puts a title where the figure has one."""
    titled = [axes for axes in figure.axes if axes.get_title()]
    if hasattr(figure, "heading"):
        figure.heading.set_text(title)
    elif figure.get_suptitle():
        figure.suptitle(title)
    elif len(titled) == 1 or len(figure.axes) == 1:
        (*titled, figure.axes[0])[0].set_title(title)
    else:
        figure.suptitle(title, fontsize=10, fontweight="bold")


def shown_png(figure: Figure) -> tuple[bytes, dict[str, int | str]]:
    """What a notebook shows: a PNG file; the size to show it in, and its text.

    The file has twice the pixels in each direction, sharp on any screen, unless the figure is very
    large.
    """
    scale = 2 if max(figure.get_size_inches()) < LARGEST / 2 else 1
    data = png(figure, scale=scale)
    width, height = Image.open(io.BytesIO(data)).size
    about = {"alt": figure.alt} if hasattr(figure, "alt") else {}
    return data, about | {"width": width // scale, "height": height // scale}


def png(figure: Figure, colours: int | None = 256, scale: int = 1) -> bytes:
    """The figure as a PNG file of so many colours, `scale` times as large as it is shown."""
    look = {"bbox_inches": "tight", "pad_inches": 0.05, "facecolor": "white"}
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=scale * DPI, **look)
    image = Image.open(buffer).convert("RGB")
    if colours is None:
        buffer = io.BytesIO()
        image.save(buffer, format="png", optimize=True)
        return buffer.getvalue()
    few = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    # Among photos' colours the background's is not quite white, which a white page would show.
    background, palette = few.getpixel((0, 0)), bytearray(few.getpalette())
    palette[3 * background : 3 * background + 3] = b"\xff\xff\xff"
    few.putpalette(palette)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, scale: int = 2) -> Path:
    """Writes the figure as a PNG to be looked at alone: all colours, whole or not at all."""
    path = Path(path)
    with write_atomically(path) as temporary:
        temporary.write_bytes(png(figure, colours=None, scale=scale))
    return path


def mosaic_figure(
    images: np.ndarray | list[np.ndarray],
    columns: int,
    titles: list[str] | None = None,
    row_labels: list[str] | None = None,
    column_labels: list[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Images of one size side by side, each pixel a square of whole pixels of the figure.

    Images too large for the width of a notebook are shrunk.

    Args:
        images: uint8 (H, W, 3) each.
        columns: Images per row.
        titles: One above each image, all of as many lines.
        row_labels: One at the left of each row.
        column_labels: One above each column.
        title: Of the figure.

    Raises:
        DataError: if there is no image, or their sizes differ.
    """
    if not len(images) or any(np.shape(image) != np.shape(images[0]) for image in images):
        raise DataError("A mosaic needs images of one size, and one at least.")
    row_labels = [plain(text, LONGEST_NAME) for text in row_labels or ()]
    column_labels = [plain(text, LONGEST_NAME) for text in column_labels or ()]
    titles = [_plain_lines(text, LONGEST_NAME) for text in titles or ()]
    rows = math.ceil(len(images) / columns)
    left = 14 + round(6.5 * max(map(len, row_labels))) if row_labels else 2
    lines = [line for text in titles for line in text.split("\n")]
    texts = [*lines, *column_labels]
    text_width = round(5.8 * max(map(len, texts), default=0))
    above = 13 * (len(lines) // len(images)) + 5 * bool(lines)
    head = (24 if title else 2) + (18 if column_labels else 0)
    room = max(1, int((WIDTH * DPI - left) // columns) - _GAP)
    height, width = images[0].shape[:2]
    if width > room:
        size = (room, max(1, round(height * room / width)))
        images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
        width, height = size
    scale = max(1, min(room, 100) // width)
    step_x = max(width * scale, text_width) + _GAP
    step_y = height * scale + _GAP + above
    total = (left + columns * step_x, head + rows * step_y)
    if max(total) > LARGEST * DPI:
        raise DataError(f"{len(images):,} images do not fit in one figure. Show fewer of them.")
    figure = PlainFigure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    # One axes whose data units are the figure's pixels, y down.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, total[0]), ylim=(total[1], 0))
    axes.axis("off")
    canvas = np.full((rows * step_y, columns * step_x, 3), 255, "uint8")
    for i, image in enumerate(images):
        y, x = step_y * (i // columns) + above, step_x * (i % columns)
        x += (step_x - _GAP - width * scale) // 2
        enlarged = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
        canvas[y : y + height * scale, x : x + width * scale] = enlarged
        if titles:
            for line, text in enumerate(reversed(titles[i].split("\n"))):
                axes.text(left + x + width * scale / 2, head + y - 5 - 13 * line, text, **_TITLE)
    axes.imshow(
        canvas,
        extent=(left, left + canvas.shape[1], head + canvas.shape[0], head),
        interpolation="nearest",
        aspect="auto",
    )
    axes.set(xlim=(0, total[0]), ylim=(total[1], 0))
    for i, text in enumerate(row_labels):
        y = head + step_y * i + above + height * scale / 2
        axes.text(left - 6, y, text, ha="right", va="center", fontsize=8.5)
    for i, text in enumerate(column_labels):
        axes.text(left + step_x * (i + 0.5) - _GAP / 2, head - 5, text, **_TITLE)
    if title:
        style = {"ha": "left", "va": "bottom", "fontsize": 10, "fontweight": "bold"}
        figure.heading = axes.text(left, 15, title, **style)
    return figure


def label_bars(axes: Axes, form: str = "{:,.0f}", **kwargs) -> None:
    """Writes each bar's value at its end."""
    for bars in axes.containers:
        axes.bar_label(bars, fmt=form, **{"padding": 2, "fontsize": 8, **kwargs})


def need_columns(table: pd.DataFrame, *columns: str) -> None:
    """Raises a `DataError` if a table has no row, or not these columns."""
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        what = f"no column {', '.join(missing)}" if missing else "no row"
        raise DataError(f"The table has {what}. It has: {', '.join(map(str, table.columns))}")


def by_name(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
    """Tables by name; a single one has none."""
    return {"": tables} if isinstance(tables, pd.DataFrame) else tables


def legend_beside(axes: Axes, **kwargs) -> None:
    """The legend at the right of the axes."""
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), **kwargs)


def colour_of(number: int) -> tuple[float, float, float]:
    """The colour of a line, its number from 0 on; they come again."""
    return PALETTE[number % len(PALETTE)]


def line_of(number: int) -> dict:
    """Colour and line style of a line, its number from 0 on; they come again."""
    return {"color": colour_of(number), "linestyle": LINES[number % len(LINES)]}
