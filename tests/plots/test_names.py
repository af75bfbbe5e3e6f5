"""Names from data are drawn as they are: no TeX, no crash, no figure as wide as a name is long."""

import io
import warnings

import caption_figures as told
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import test_figures as made
from matplotlib.legend import Legend
from PIL import Image

from common import plots
from common.errors import CourseError, DataError
from common.plots.style import LARGEST, LONGEST_LINE, LONGEST_NAME, new_figure, plain, plain_text

HOSTILE = {
    "sale": "$$ sale $$",
    "command": "a$\\frac{$",
    "subscript": "9$_",
    "html": "<b>&amp;",
    "underscore": "_hidden",
    "empty": "",
    "newline": "one\ntwo",
    "NUL": "a\x00b\x1b[31m",
    "surrogate": "caf\udce9",
    "right to left": "\u202e\u0627\u0644\u0642\u0637",
    "no such letter": "\u732b \U0001f408 \u092c\u093f\u0932\u094d\u0932\u0940",
    "percent": "100 % {0}",
    "long": "x" * 5000,
}
# Half a surrogate pair is left out: pandas refuses it, and most names stand in tables.
ALL_AT_ONCE = "_$$ a$\\frac{$ <b>&\x00\u732b\n{0} %s"
# Each public function that is handed names: a figure in which all of them are `name`.
NAMED = {
    "ablation": lambda name: plots.ablation(
        made.ABLATION.replace("full recipe", name).replace("no flip", f"{name}2"), name
    ),
    "agreement": lambda name: plots.agreement(np.arange(9.0), name),
    "attention_words": lambda name: plots.attention_words(
        told.PHOTO, [name, f"{name}2"], told.ATTENTION[:2]
    ),
    "beam_curve": lambda name: plots.beam_curve(told.BEAMS.rename(columns={"bleu_4": name}), name),
    "caption_gallery": lambda name: plots.caption_gallery([told.PHOTO], [name], [[name] * 5], [1]),
    "caption_lengths": lambda name: plots.caption_lengths({name: np.array([3, 4])}, 5),
    "captioned_images": lambda name: plots.captioned_images([told.PHOTO] * 2, [[name]] * 2),
    "class_gallery": lambda name: plots.class_gallery(made.IMAGES, made.LABELS, [name] * 10, 2),
    "class_scores": lambda name: plots.class_scores(made.SCORES.set_axis([name, *"abcdefghi"])),
    "class_templates": lambda name: plots.class_templates(
        np.ones((10, 4, 4, 3)), [name] * 10, name
    ),
    "compare_runs": lambda name: plots.compare_runs({name: made.HISTORY}, "loss", title=name),
    "confusion_matrix": lambda name: plots.confusion_matrix(
        made.CONFUSION.set_axis([name] * 10).set_axis([name] * 10, axis=1), name
    ),
    "cost_per_step": lambda name: plots.cost_per_step(
        told.COSTS.set_axis([name, *"abcd"]).rename(columns={"ms per step": f"ms {name}"})
    ),
    "depth_degradation": lambda name: plots.depth_degradation(made.DEPTH.replace("plain", name)),
    "error_kinds": lambda name: plots.error_kinds(pd.Series({name: 0.2, f"{name}2": 0.1}), 9),
    "fields_on_image": lambda name: plots.fields_on_image(made.TISSUE, {name: (3, 9, 400)}),
    "forest_plot": lambda name: plots.forest_plot(
        made.INTERVALS.replace("f1", name).replace("focal loss", name), hue="method", title=name
    ),
    "frequent_words": lambda name: plots.frequent_words(pd.Series([3, 2], [name, "dog"])),
    "gradient_norms": lambda name: plots.gradient_norms(made.GRADIENTS.replace("plain", name)),
    "labelled_slides": lambda name: plots.labelled_slides(
        {name: made.TISSUE}, {name: np.ones((25, 28))}, (name, f"{name}2")
    ),
    "learning_curves": lambda name: plots.learning_curves(made.HISTORY, name),
    "mean_images": lambda name: plots.mean_images(made.IMAGES, made.LABELS, [name] * 10),
    "memory_curves": lambda name: plots.memory_curves(told.MEMORY.rename(columns={"rnn": name})),
    "learning_rate_finder": lambda name: plots.learning_rate_finder([1, 2], [2, 1], {name: 1}),
    "learning_rate_schedules": lambda name: plots.learning_rate_schedules({name: [2, 1]}),
    "metric_bars": lambda name: plots.metric_bars(
        told.SCORES.rename(columns={"bleu_4": name}).replace({"rnn": name, "greedy": name}), name
    ),
    "answer_gallery": lambda name: plots.answer_gallery(
        made.IMAGES[:2], np.array([0, 1]), np.full((2, 10), 0.1), [name] * 10
    ),
    "mistake_gallery": lambda name: plots.mistake_gallery(made.IMAGES, made.MISTAKES, [name] * 10),
    "mosaic_figure": lambda name: plots.mosaic_figure(
        made.IMAGES[:4], 2, [name] * 4, [name] * 2, [name] * 2, name
    ),
    "network_strip": lambda name: plots.network_strip([(name, 4, 3), ("head", 1, 2)], name),
    "patient_balance": lambda name: plots.patient_balance(
        made.PATIENTS.set_axis([name, *made.PATIENTS.index[1:]]), (name, f"{name}2")
    ),
    "patient_scores": lambda name: plots.patient_scores(
        made.PATIENTS.set_axis([name, *made.PATIENTS.index[1:]])
    ),
    "precision_recall_roc": lambda name: plots.precision_recall_roc({name: made.POINTS}, 0.5),
    "probability_maps": lambda name: plots.probability_maps(
        {name: np.ones((25, 28))}, {name: np.ones((25, 28))}, 0.5, None, (name, f"{name}2")
    ),
    "randomisation_curves": lambda name: plots.randomisation_curves(
        {name: made.RANDOMISED.replace("head", name)}
    ),
    "reliability_diagram": lambda name: plots.reliability_diagram(
        {name: made.RELIABILITY}, name, promised=name, kept=name
    ),
    "reward_curves": lambda name: plots.reward_curves({name: told.REWARDED}),
    "saliency_overlays": lambda name: plots.saliency_overlays(
        made.IMAGES[:4], {name: made.MAPS}, [name] * 4
    ),
    "scores_by_share": lambda name: plots.scores_by_share(told.SHARES.replace("random", name)),
    "singular_values": lambda name: plots.singular_values({name: [2, 1]}),
    "stage_costs": lambda name: plots.stage_costs(made.STAGES.replace("stem", name), name),
    "accuracy_against_minutes": lambda name: plots.accuracy_against_minutes(
        made.SWEEP.rename(columns={"val_accuracy": name}), name
    ),
    "stages_by_blocks": lambda name: plots.stages_by_blocks(
        made.SWEEP.rename(columns={"val_accuracy": name}), name
    ),
    "stain_densities": lambda name: plots.stain_densities(
        made.STAINS.replace({"eosin": name, "10253": name}), (name, f"{name}2")
    ),
    "training_curves": lambda name: plots.training_curves({name: told.HISTORY}, name),
    "tta_gain": lambda name: plots.tta_gain(made.TTA.set_axis([name, "a", "b"])),
    "word_frequencies": lambda name: plots.word_frequencies(pd.Series([9, 3], [name, "dog"]), 5),
    "word_map": lambda name: plots.word_map(np.eye(4), [name, *"abc"], [name, name, *"ab"]),
}
NAMELESS = {
    "block_diagram",
    "channel_histograms",
    "distance_histogram",
    "feature_maps",
    "ladder_diagram",
    "near_duplicates",
    "region_similarity",
    "resolution_comparison",
    "reward_along_a_line",
    "threshold_sweep",
}


def test_all_functions_that_are_handed_names_are_tested():
    others = {"png", "save_figure", "show", "use_style"}
    assert NAMED.keys() | NAMELESS | others == made.PUBLIC


def check(figure):
    figure.draw_without_rendering()
    for text in figure.findobj(plt.Text):
        assert all(len(line) <= LONGEST_LINE for line in text.get_text().split("\n"))
    assert figure.bbox.width < 4000 and figure.bbox.height < 2000
    for legend in figure.findobj(Legend):
        assert legend.get_texts()  # a name that begins with _ or is empty has its line, too
    assert not plt.get_fignums()


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.parametrize("function", NAMED)
def test_any_name_is_drawn(function, no_warnings):
    for name in (ALL_AT_ONCE, "x$" * 2500):
        check(NAMED[function](name))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("function", ["captioned_images", "compare_runs", "saliency_overlays"])
def test_each_kind_of_name_is_drawn(function, name, no_warnings):
    figure = NAMED[function](name)
    check(figure)
    assert len(plots.png(figure)) > 100


def drawn(axes):
    buffer = io.BytesIO(plots.png(axes.figure))
    return np.asarray(Image.open(buffer).convert("L"))


@pytest.mark.parametrize("text", ["$x$", r"$\alpha$", "a$b_c$"])
def test_dollars_are_dollars(text):
    """Drawn as a text is that matplotlib is told to take as it is, and not as TeX."""
    pictures = []
    for parse in (False, True):
        figure, [[axes]] = new_figure()
        axes.set(title=text, xlabel=text, ylabel=text)
        axes.set_xticks([0, 1], [text, text])
        axes.plot([0, 1], label=text)
        axes.legend()
        pictures.append(drawn(axes))
        plain_figure = plt.Figure(figsize=(6.4, 3), dpi=80, layout="constrained")
        with plt.rc_context({"text.parse_math": parse}):
            other = plain_figure.subplots()
            other.set(title=text, xlabel=text, ylabel=text)
            other.set_xticks([0, 1], [text, text])
            other.plot([0, 1], label=text)
            other.legend()
            buffer = drawn(other)
        assert np.array_equal(pictures[-1], buffer) != parse


def test_powers_of_ten_stay_powers():
    figure = plots.gradient_norms(made.GRADIENTS)
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert any("10^{" in label.get_text() for label in labels)
    assert all(label.get_parse_math() for label in labels)


def test_plain_names():
    assert plain("cat") == "cat" and plain(7) == "7"
    assert plain("a\nb\x00\udce9") == r"a\nb\x00\udce9"
    cut = plain("a" * 5000 + "b", LONGEST_NAME)
    assert len(cut) == LONGEST_NAME and "…" in cut and cut.endswith("ab")
    assert plain("_x") == " _x" and plain("") == " "


def test_two_names_that_begin_alike_stay_two_bars():
    long = "x" * 100
    axes = plots.frequent_words(pd.Series([3, 1], [long + "1", long + "2"])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [75, 25]


def test_texts_can_be_measured_before_drawing():
    with plain_text():
        figure, [[axes]] = new_figure()
        assert axes.text(0, 0, "a$\\frac{$").get_window_extent().width > 0


# Many, none, and no numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 41, 200])
def test_any_number_of_classes(n):
    classes = [f"class {i}" for i in range(n)]
    labels = np.arange(n)
    images = np.zeros((n, 8, 8, 3), "uint8")
    counts = pd.DataFrame(np.eye(n, dtype=int), classes, classes)
    scores = pd.DataFrame(
        {"precision": 0.5, "recall": 0.4, "F1": 0.45, "support": 3}, index=classes
    )
    matrix = plots.confusion_matrix(counts)
    for figure in (
        plots.class_gallery(images, labels, classes, 2),
        plots.mean_images(images, labels, classes),
        plots.class_templates(np.ones((n, 8, 8, 3)), classes),
        plots.class_scores(scores),
        matrix,
    ):
        figure.draw_without_rendering()
        assert max(figure.bbox.size) < 8000
    names = [label.get_text() for label in matrix.axes[0].get_xticklabels()]
    places = matrix.axes[0].get_xticks()
    assert names == [f"class {int(place)}" for place in places]


def test_a_gallery_says_how_many_classes_it_leaves_out():
    classes = [str(i) for i in range(200)]
    figure = plots.class_gallery(np.zeros((200, 8, 8, 3), "uint8"), np.arange(200), classes)
    assert "(the first 60 of 200)" in [text.get_text() for text in figure.axes[0].texts][-1]


def test_a_mosaic_too_large_for_a_file_is_refused():
    with pytest.raises(DataError, match="2,000 images do not fit"):
        plots.mosaic_figure(np.zeros((2000, 32, 32, 3), "uint8"), 2)
    figure, _ = new_figure(height=10_000)
    assert figure.get_figheight() == LARGEST


def test_more_lines_than_colours():
    names = [f"run {i}" for i in range(23)]
    histories = dict.fromkeys(names, told.HISTORY)
    assert len(plots.training_curves(histories).axes[0].lines) == 23
    assert len(plots.reward_curves(dict.fromkeys(names, told.REWARDED)).axes[1].lines) == 23
    assert len(plots.memory_curves(pd.DataFrame(1.0, range(3), names)).axes[0].lines) == 23
    lengths = dict.fromkeys(names, np.array([3]))
    assert len(plots.caption_lengths(lengths, 5).axes[0].get_legend().get_texts()) == 23
    curves = plots.precision_recall_roc(dict.fromkeys(names, made.POINTS))
    assert len(curves.axes[1].lines) == 24  # and that of chance
    gradients = pd.DataFrame({"layer": 1, "network": names, "norm": 1.0})
    assert len(plots.gradient_norms(gradients).axes[0].get_legend().get_texts()) == 23
    depths = pd.DataFrame({"depth": 8, "network": names, "accuracy": 0.5})
    plots.depth_degradation(depths).draw_without_rendering()
    costs = pd.DataFrame({"ms": 1.0}, index=names)
    plots.cost_per_step(costs).draw_without_rendering()


NOTHING = {
    "ablation": lambda: plots.ablation(made.ABLATION[:0], "full recipe"),
    "agreement": lambda: plots.agreement(np.array([np.nan]), "x"),
    "attention_words": lambda: plots.attention_words(told.PHOTO, [], told.ATTENTION[:0]),
    "beam_curve": lambda: plots.beam_curve(told.BEAMS[:0]),
    "captioned_images": lambda: plots.captioned_images([], []),
    "caption_lengths": lambda: plots.caption_lengths({}, 3),
    "caption_lengths of none": lambda: plots.caption_lengths({"a": np.array([], int)}, 3),
    "class_templates": lambda: plots.class_templates(np.ones((0, 4, 4, 3)), []),
    "class_gallery": lambda: plots.class_gallery(made.IMAGES, made.LABELS, []),
    "class_scores": lambda: plots.class_scores(made.SCORES[:0]),
    "confusion_matrix": lambda: plots.confusion_matrix(pd.DataFrame()),
    "cost_per_step": lambda: plots.cost_per_step(told.COSTS[:0]),
    "distance_histogram": lambda: plots.distance_histogram(np.array([]), 1),
    "error_kinds": lambda: plots.error_kinds(pd.Series([], dtype=float), 0),
    "frequent_words": lambda: plots.frequent_words(told.WORDS[:0]),
    "labelled_slides": lambda: plots.labelled_slides({}, {}),
    "mean_images": lambda: plots.mean_images(made.IMAGES, made.LABELS, []),
    "memory_curves": lambda: plots.memory_curves(told.MEMORY[:0]),
    "learning_rate_schedules": lambda: plots.learning_rate_schedules({}),
    "metric_bars": lambda: plots.metric_bars(told.SCORES[:0], "bleu_4"),
    "reliability_diagram": lambda: plots.reliability_diagram({}),
    "reliability of none": lambda: plots.reliability_diagram(made.RELIABILITY[:0]),
    "reliability of no count": lambda: plots.reliability_diagram(made.RELIABILITY.assign(count=0)),
    "resolution_comparison": lambda: plots.resolution_comparison(made.IMAGES[:0]),
    "resolution of no size": lambda: plots.resolution_comparison(made.IMAGES[:1], ()),
    "reward_along_a_line": lambda: plots.reward_along_a_line(told.LINE[:0]),
    "saliency_overlays": lambda: plots.saliency_overlays(made.IMAGES[:0], {}),
    "scores_by_share": lambda: plots.scores_by_share(told.SHARES[:0]),
    "singular_values": lambda: plots.singular_values({"gradient": []}),
    "stain_densities": lambda: plots.stain_densities(made.STAINS[:0]),
    "threshold_sweep": lambda: plots.threshold_sweep(made.POINTS, np.nan),
    "tta_gain": lambda: plots.tta_gain(made.TTA[:0]),
    "word_frequencies": lambda: plots.word_frequencies(told.WORDS[:0], 1),
    "word_map": lambda: plots.word_map(np.zeros((0, 3)), [], []),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_figure_of_nothing_is_refused_with_a_word(name):
    with pytest.raises(CourseError):
        NOTHING[name]()


NAN = np.nan
NO_NUMBERS = {
    "ablation": lambda: plots.ablation(
        made.ABLATION.assign(val_accuracy=[0.9, *[NAN] * 8]), "full recipe"
    ),
    "agreement": lambda: plots.agreement(np.array([1, NAN, np.inf]), "x"),
    "class_scores": lambda: plots.class_scores(made.SCORES.assign(F1=NAN, support=NAN)),
    "compare_runs": lambda: plots.compare_runs({"a": made.HISTORY.assign(loss=NAN)}, "loss"),
    "distance_histogram": lambda: plots.distance_histogram(np.array([1, NAN, np.inf]), 2),
    "learning_curves": lambda: plots.learning_curves(made.HISTORY.assign(loss=NAN)),
    "learning_rate_finder": lambda: plots.learning_rate_finder([1, 2, 3], [1, NAN, -np.inf]),
    "metric_bars": lambda: plots.metric_bars(told.SCORES.assign(bleu_4=NAN), "bleu_4"),
    "patient_scores": lambda: plots.patient_scores(made.PATIENTS.assign(f1=NAN)),
    "saliency_overlays": lambda: plots.saliency_overlays(
        made.IMAGES[:4], {"gradient": np.full((4, 32, 32), NAN)}
    ),
    "stage_costs": lambda: plots.stage_costs(made.STAGES.assign(macs=0)),
    "stages_by_blocks": lambda: plots.stages_by_blocks(
        made.SWEEP.assign(val_accuracy=[0.5, *[NAN] * 8])
    ),
    "training_curves": lambda: plots.training_curves({"rnn": told.HISTORY.assign(val_loss=NAN)}),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_values_that_are_no_numbers_do_not_stop_a_figure(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        NO_NUMBERS[name]().draw_without_rendering()


def test_long_captions_are_cut():
    figure = plots.captioned_images([told.PHOTO], [["word " * 1000, "a dog ."]])
    lines = figure.axes[1].texts[0].get_text().split("\n")
    assert len(lines) == 9 and lines[-2].endswith(" …") and lines[-1] == "• a dog"
