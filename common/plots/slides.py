"""Figures of whole slides: labels and probabilities of their patches."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from common.errors import DataError
from common.plots.patients import CLASSES, NEGATIVE, POSITIVE, class_legend
from common.plots.style import SEQUENTIAL, WIDTH, new_figure, plain

# Told apart by lightness too: light where nothing is wrong, black where a tumour is missed.
CALLS = {
    "right: negative": "#cfe0ec",
    "right: positive": POSITIVE,
    "false alarm": "#b04fa0",
    "missed": "black",
}


def labelled_slides(
    slides: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str] = CLASSES,
    millimetre: float | None = None,
) -> Figure:
    """Rebuilt slides, and below each its patches tinted by their label.

    Args:
        slides: uint8 (H, W, 3) by the name of the patient; a handful.
        labels: (rows, columns) of the same slides: 0, 1, or NaN where there is no patch.
        classes: Names of class 0 and class 1.
        millimetre: Pixels of the slides as they are given; a bar of that length is drawn.
    """
    _same_names(slides, labels)
    tall = max(image.shape[0] / image.shape[1] for image in slides.values())
    height = 2 * min(1.5, tall * (WIDTH / len(slides))) + 0.8
    figure, rows = new_figure(2, len(slides), height=height)
    for name, upper, lower in zip(slides, *rows, strict=True):
        image = _shrink(slides[name])
        _picture(upper, image)
        _picture(lower, tint(image, labels[name]))
        if millimetre is not None:
            _bar(upper, millimetre * image.shape[1] / slides[name].shape[1], image.shape[0])
        upper.set_title(plain(name, 30))
    class_legend(figure, classes)
    figure.suptitle("Slides and their labels")
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
        class_legend(figure, [truth + name for name in classes], CALLS if truth else None)
    figure.suptitle(title)
    return figure


def _calls(truth, probability, threshold) -> np.ndarray:
    """The place in `CALLS` of each patch; NaN where there is none."""
    called = np.asarray(probability) >= threshold
    place = np.select([(truth == 0) & ~called, (truth == 1) & called, truth == 0], [0, 1, 2], 3)
    return np.where(np.isnan(truth) | np.isnan(probability), np.nan, place)


def _picture(axes: Axes, image: np.ndarray, **kwargs):
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes.imshow(image, interpolation="nearest" if kwargs else "antialiased", **kwargs)


def _bar(axes: Axes, length: float, bottom: int) -> None:
    """A bar of one millimetre below a picture, so that nothing is hidden."""
    place = bottom * 1.04
    axes.plot([0, length], [place, place], color="0.15", linewidth=2, clip_on=False)
    axes.text(length / 2, place * 1.02, "1 mm", ha="center", va="top", fontsize=7, clip_on=False)


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
