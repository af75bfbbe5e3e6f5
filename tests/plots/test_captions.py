"""The figures of captions say what the data say."""

import numpy as np
import pandas as pd
import pytest
from caption_figures import COSTS, HISTORY, PHOTO, REWARDED, SCORES, SHARES

from common import plots
from common.errors import DataError


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_captions_stand_beside_their_images():
    figure = plots.captioned_images([PHOTO, PHOTO[:50]], [["One .", "Two"], ["Three"]])
    assert texts(figure) == ["• One\n• Two", "• Three"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), PHOTO)
    with pytest.raises(DataError, match="1 images, but captions of 2"):
        plots.captioned_images([PHOTO], [["a"], ["b"]])


def test_gallery_names_caption_score_and_two_references():
    figure = plots.caption_gallery([PHOTO], ["a dog"], [["one", "two", "three"]], [12.4])
    assert texts(figure)[0] == "• “a dog” (12)\n• one\n• two"


def test_lengths_are_shares():
    figure = plots.caption_lengths({"train": np.array([2, 2, 4, 4])}, 3)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0, 0, 50, 0, 50]


def test_frequencies_say_what_is_covered():
    counts = pd.Series([6, 3, 1], index=["a", "dog", "yak"])
    title = plots.word_frequencies(counts, 2).axes[0].get_title()
    assert title == "2 of 3 words occur at least 2 times: 90.0% of the text"


def test_frequent_words_are_shares_of_the_text():
    counts = pd.Series([6, 3, 1], index=["a", "dog", "yak"])
    axes = plots.frequent_words(counts).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [60, 30, 10]


def test_similarity_is_a_cosine():
    maps = np.zeros((2, 2, 2))
    maps[0, 0], maps[0, 1], maps[1, 0], maps[1, 1] = (1, 0), (1, 0), (-1, 0), (-1, 0)
    found = plots.region_similarity(PHOTO, maps, (0, 0)).axes[1].images[0].get_array()
    np.testing.assert_allclose(found, [[1, 1], [-1, -1]], atol=1e-4)


def test_feature_maps_show_channels_that_answer_somewhere():
    maps = np.zeros((3, 3, 4))
    maps[..., 1] = 9  # everywhere
    maps[1, 1, 2] = 5  # in one place
    figure = plots.feature_maps(PHOTO, maps, shown=1)
    assert texts(figure) == ["image", "channel 2"]


def test_curves_of_each_training():
    figure = plots.training_curves({"rnn": HISTORY, "multi_head": HISTORY})
    assert [line.get_ydata().tolist() for line in figure.axes[2].lines] == [[5, 9, 15.5]] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == ["nats", "nats", "BLEU-4"]
    with pytest.raises(DataError, match="no training"):
        plots.training_curves({})


def test_curves_of_each_reward():
    figure = plots.reward_curves({"bleu_4": REWARDED})
    drawn = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert drawn == [[0.17, 0.18, 0.185], [10, 9.5, 9], [2.0, 1.5, 1.2], [98, 90, 85]]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0.11, 0.14, 0.16]
    with pytest.raises(DataError, match="no training"):
        plots.reward_curves({})


def test_words_keep_their_distances_on_a_plane():
    """Vectors that lie in a plane: the map only turns it."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(6, 2)) * [3, 1]
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    figure = plots.word_map(plane @ turned, list("abcdef"), ["x"] * 6)
    drawn = figure.axes[0].collections[0].get_offsets()
    expected, found = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (plane, drawn))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert "%" in figure.axes[0].get_xlabel()
    with pytest.raises(DataError, match="5 vectors, 6 words"):
        plots.word_map(plane[:5], list("abcdef"), ["x"] * 6)


def test_bars_of_shares():
    bars = plots.scores_by_share(SHARES).axes[0].containers
    assert [[bar.get_height() for bar in group] for group in bars] == [[10.5, 15.0]] * 3
    true = SHARES.rename(columns={"bleu_4": "true_captions"}).assign(true_captions=0.25)
    bars = plots.scores_by_share(true, "true_captions").axes[0].containers
    assert all(bar.get_height() == 25 for group in bars for bar in group)


def test_truth_is_drawn_in_per_cent():
    bars = plots.metric_bars(SCORES, "true_captions").axes[0].containers
    assert [round(bar.get_height()) for bar in bars[0]] == [0, 10, 20, 30, 40]


def test_costs_need_times():
    with pytest.raises(DataError, match="no column of milliseconds"):
        plots.cost_per_step(COSTS[["parameters"]])


def test_error_kinds_in_per_cent():
    axes = plots.error_kinds(pd.Series({"colour": 0.2}), 50).axes[0]
    assert axes.patches[0].get_width() == pytest.approx(20)
    assert axes.get_title() == "What captions get wrong (n=50)"
