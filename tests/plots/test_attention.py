"""The figure of attention shows where a captioner looked, and in which heads."""

import math

import numpy as np
import pytest
from caption_figures import ATTENTION, PHOTO

from common import plots
from common.errors import DataError

GREY = np.full((120, 200, 3), 100, "uint8")


def looks(*places, blocks=1, heads=1, size=(4, 5)):
    """Attention (words, blocks, heads, h, w), of each word to one region: row and column."""
    attention = np.zeros((len(places), blocks, heads, *size))
    for word, place in enumerate(places):
        attention[(word, slice(None), slice(None), *place)] = 1
    return attention


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def maps_of(figure):
    """Arrays and extents of all maps, row by row of each word; the photo is left out."""
    images = figure.axes[0].images[1:]
    return [np.asarray(image.get_array()) for image in images], [i.get_extent() for i in images]


def hue(picture):
    """How much of the hue lies over the grey: 0 where nothing was looked at."""
    return picture[..., 0].astype(int) - picture[..., 2]


def test_a_region_lies_where_it_lies_on_the_photo():
    """All of a photo that is no square: its rows and columns are cut into as many parts."""
    places, words = [(0, 0), (2, 4), (1, 2)], ["a", "dog", "runs"]
    figure = plots.attention_words(GREY, words, looks(*places))
    pictures, extents = maps_of(figure)
    assert len(pictures) == 3
    for picture, (row, column) in zip(pictures, places, strict=True):
        height, width = picture.shape[:2]
        assert width / height == pytest.approx(200 / 120, rel=0.03)
        found = np.argwhere(hue(picture) == hue(picture).max()).mean(axis=0)
        wanted = (row + 0.5) * height / 4, (column + 0.5) * width / 5
        np.testing.assert_allclose(found, wanted, atol=2)
        assert hue(picture).max() > 180
        # Two regions further there is a seventh of it left.
        far = hue(picture)[(int((row + 2.5) % 4 * height / 4), int((column + 2.5) % 5 * width / 5))]
        assert far < 0.2 * hue(picture).max()
    assert not hue(np.asarray(figure.axes[0].images[0].get_array())).any()
    # Each word stands above the middle of its map.
    for word, (left, right, _, top) in zip(words, extents, strict=True):
        [text] = [text for text in figure.axes[0].texts if text.get_text() == word]
        assert text.get_position() == (pytest.approx((left + right) / 2), pytest.approx(top - 3))


def test_rows_are_the_mean_and_the_sharpest_heads():
    """Of the last block: of each word its own heads, the one that looks at the least first."""
    attention = np.full((2, 2, 3, 4, 5), 0.05)
    attention[:, 0, 0] = looks((0, 4), (0, 4))[:, 0, 0]  # the first block is not drawn
    attention[[0, 1], 1, [1, 2]] = looks((1, 1), (2, 3))[:, 0, 0]
    attention[[0, 1], 1, [0, 1]] = 0.5 * attention[[0, 1], 1, [1, 2]] + 0.025
    figure = plots.attention_words(GREY, ["red", "dog"], attention, heads=3)
    rows = ["mean of\n3 heads", "sharpest\nhead", "second", "third"]
    assert [text for text in texts(figure) if text in rows] == rows
    named = ["head 2", "head 1", "head 3", "head 3", "head 2", "head 1"]
    assert [text for text in texts(figure) if text in named] == named
    pictures, extents = maps_of(figure)
    tops = [top for *_, top in extents]
    assert tops[:4] == sorted(set(tops)) == tops[4:]
    for mean, *heads in (map(hue, pictures[:4]), map(hue, pictures[4:])):
        assert heads[0].max() > heads[1].max() > heads[2].max() > 0
        np.testing.assert_allclose(mean, np.mean(heads, axis=0), atol=2)
    assert figure.alt.endswith("The sharpest heads looked most at: “red” left, “dog” right.")
    two = plots.attention_words(GREY, ["red", "dog"], attention)
    assert len(maps_of(two)[0]) == 6 and "third" not in texts(two)


def test_the_scale_ends_with_the_most_that_the_sharpest_heads_give():
    attention = np.full((2, 1, 2, 4, 5), 0.05)
    attention[:, 0, 1] = looks((1, 1), (2, 3))[:, 0, 0]
    bar = plots.attention_words(GREY, ["a", "dog"], attention).axes[1]
    # Of a look at one region its middle keeps what lies within half a standard deviation.
    share = math.erf(0.5 / math.sqrt(2))
    assert bar.get_xlim() == (0, pytest.approx(share**2, rel=0.02))
    assert bar.lines[-1].get_xdata()[0] == 0.05
    # A look at everything never has all of the hue, but where there is no other.
    even = plots.attention_words(GREY, ["a", "dog"], attention[:, :, :1])
    assert even.axes[1].get_xlim() == (0, pytest.approx(0.05))


def test_of_long_captions_the_telling_words_are_drawn_in_lines():
    caption = "a brown dog is running in the green grass with a red ball".split()
    telling = ["brown", "dog", "running", "green", "grass", "red", "ball"]
    figure = plots.attention_words(PHOTO, caption, np.full((13, 1, 1, 7, 7), 1 / 49))
    assert [text for text in texts(figure) if text in caption] == telling
    tops = [extent[3] for extent in maps_of(figure)[1]]
    assert tops[:4] == tops[:1] * 4 and tops[4:] == tops[4:5] * 3 and tops[4] > tops[0]
    every = plots.attention_words(PHOTO, caption[:6], ATTENTION[:6])
    assert [text for text in texts(every) if text in caption] == caption[:6]
    only = plots.attention_words(PHOTO, ["a"] * 9, ATTENTION)  # none of them tells anything
    assert texts(only).count("a") == 9


@pytest.mark.parametrize("shape", [(20, 2000, 3), (2000, 20, 3), (3, 3, 3)])
def test_photos_of_any_shape(shape):
    figure = plots.attention_words(np.zeros(shape, "uint8"), ["a", "dog"], ATTENTION[:2])
    assert figure.bbox.width == pytest.approx(512) and figure.bbox.height < 900


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="3 words, but attention of 2"):
        plots.attention_words(GREY, ["a", "dog", "runs"], ATTENTION[:2])
    with pytest.raises(DataError, match="0 words, but attention of 0"):
        plots.attention_words(GREY, [], ATTENTION[:0])
    with pytest.raises(DataError, match=r"Wanted .* attention \(words, blocks, heads, h, w\)"):
        plots.attention_words(GREY, ["a"], ATTENTION[:1, 0, 0])
