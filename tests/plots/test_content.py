"""The figures say what the tables say."""

import numpy as np
import pandas as pd
import pytest

from common import plots
from common.errors import ConfigError, DataError
from common.evaluation import binary
from common.evaluation.thresholds import operating_points
from common.plots.saliency import as_cells, overlay
from common.plots.slides import CALLS, tint
from common.plots.style import PALETTE

HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "seconds": [10.0, 20.0]}
)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


def solid(*values, size=4):
    """Images of one colour each."""
    values = np.asarray(values, "uint8").reshape(-1, 1, 1, 3)
    return np.broadcast_to(values, (len(values), size, size, 3)).copy()


def pixels(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def test_gallery_has_a_row_per_class():
    images = solid((255, 0, 0), (255, 0, 0), (0, 0, 255))
    figure = plots.class_gallery(images, np.array([0, 0, 1]), ("red", "blue"), per_class=2)
    canvas = pixels(figure)
    half = len(canvas) // 2
    assert (canvas[:half] == (255, 0, 0)).all(axis=-1).sum() == 2 * 100**2
    assert (canvas[half:] == (0, 0, 255)).all(axis=-1).sum() == 100**2  # the second place is empty
    assert texts(figure.axes[0])[:2] == ["red", "blue"]


def test_histograms_give_shares_of_each_channel():
    images = solid((0, 10, 200), (100, 10, 200))
    figure = plots.channel_histograms(images)
    red, green, blue = (line.get_ydata() for line in figure.axes[0].lines[::2])
    assert (red[0], red[100], red.sum()) == (50, 50, 100)
    assert (green[10], blue[200]) == (100, 100)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == "red: mean 50.0, std 50.0"
    with pytest.raises(DataError, match="float64"):
        plots.channel_histograms(images / 255)


def test_mean_images_are_means_of_stretched_contrast():
    images = solid((10, 0, 0), (20, 0, 0), (0, 0, 90))
    figure = plots.mean_images(images, np.array([0, 0, 1]), ("a", "b"))
    canvas = pixels(figure)
    red = round(15 * 255 / 90)
    assert (canvas == (red, 0, 0)).all(axis=-1).any() and (canvas == (0, 0, 255)).all(axis=-1).any()
    assert "0 to 90 drawn as 0 to 255" in texts(figure.axes[0])[-1]
    with pytest.raises(DataError, match="'c'"):
        plots.mean_images(images, np.array([0, 0, 1]), ("a", "b", "c"))


def test_templates_are_grey_at_zero():
    weights = np.zeros((2, 4, 4, 3))
    weights[0, ..., 0], weights[1, ..., 2] = 0.5, -0.5
    canvas = pixels(plots.class_templates(weights, ("a", "b")))
    assert (canvas == (255, 128, 128)).all(axis=-1).any()
    assert (canvas == (128, 128, 0)).all(axis=-1).any()
    with pytest.raises(DataError, match="3 names"):
        plots.class_templates(weights, ("a", "b", "c"))


def test_the_title_of_a_mosaic_is_replaced():
    figure = plots.mosaic_figure(solid((1, 2, 3)), 1, title="before")
    plots.show(figure, "what is to be seen", title="after")
    assert texts(figure.axes[0]) == ["after"] and not figure.axes[0].get_title()


def test_near_duplicates_stand_below_each_other():
    train, test = solid((10, 0, 0), (20, 0, 0)), solid((0, 30, 0))
    pairs = pd.DataFrame({"index_a": [1], "index_b": [0], "distance": [0.5]})
    pairs["class_a"], pairs["class_b"] = "bird", "airplane"
    figure = plots.near_duplicates(train, pairs, test)
    canvas = pixels(figure)
    half = len(canvas) // 2
    assert (canvas[:half] == (20, 0, 0)).all(axis=-1).any()
    assert (canvas[half:] == (0, 30, 0)).all(axis=-1).any()
    assert {"0.50", "bird", "airplane"} <= set(texts(figure.axes[0]))
    with pytest.raises(DataError, match="no pair"):
        plots.near_duplicates(train, pairs[:0])


def test_distances_below_the_threshold_are_counted():
    figure = plots.distance_histogram(np.array([1.0, 2.0, 3.0, 4.0]), 2.5)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "threshold 2.5: 2 below"
    figure = plots.distance_histogram(np.array([1.0, 2.0, 3.0, 4.0]), 2.5, copies=[0.5, 0.5])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["images (4)", "known copies (2)", "threshold 2.5: 2 below"]
    assert max(bar.get_height() for bar in figure.axes[0].patches) == 100  # per cent of the copies


def test_resolution_averages_areas():
    image = np.zeros((1, 4, 4, 3), "uint8")
    image[0, :, ::2] = 200
    canvas = pixels(plots.resolution_comparison(image, sizes=(4, 2)))
    assert (canvas == 200).all(axis=-1).any()
    assert (canvas == 100).all(axis=-1).sum() == 100**2
    with pytest.raises(ConfigError, match="1..4"):
        plots.resolution_comparison(image, sizes=(8, 4))


def test_learning_curves_are_in_per_cent_and_need_no_validation():
    figure = plots.learning_curves(HISTORY)
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [2, 1]
    assert accuracy.lines[0].get_ydata().tolist() == [50, 60]
    assert len(accuracy.lines) == 1
    with pytest.raises(DataError, match="no column accuracy"):
        plots.learning_curves(HISTORY.drop(columns="accuracy"))
    with pytest.raises(DataError, match="no row"):
        plots.learning_curves(HISTORY[:0])


def test_runs_are_compared_by_epoch():
    losses = plots.compare_runs({"one": HISTORY}, "loss")
    assert losses.axes[0].lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    with pytest.raises(DataError, match="no run"):
        plots.compare_runs({})


def test_finder_marks_the_suggestion_and_keeps_the_explosion_out():
    rates = [0.001, 0.01, 0.1, 1.0]
    figure = plots.learning_rate_finder(rates, [2.0, 1.0, 1.5, 1e6], {"suggested": 0.01})
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_ylim()[1] < 3
    assert axes.lines[1].get_xdata()[0] == 0.01
    assert "0.01" in axes.get_legend().get_texts()[0].get_text()
    with pytest.raises(DataError, match=r"\(4,\) and \(2,\)"):
        plots.learning_rate_finder(rates, [1, 2])


def test_ablation_draws_differences_and_every_seed():
    table = pd.DataFrame(
        {
            "arm": ["no flip", "full", "full", "no flip"],
            "seed": [0, 0, 1, 1],
            "val_accuracy": [0.88, 0.89, 0.91, 0.89],
        }
    )
    axes = plots.ablation(table, "full").axes[0]
    assert widths(axes) == pytest.approx([0, -1.5])
    assert texts(axes) == ["+0.00", "-1.50"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["full (n=2)", "no flip (n=2)"]
    lines, *dots = axes.collections
    points = np.concatenate([seeds.get_offsets()[:, 0] for seeds in dots])
    assert sorted(points) == pytest.approx([-2, -1, 0, 0])
    half = 12.7062 * np.std([-2, -1], ddof=1) / np.sqrt(2)  # Student's t of one degree of freedom
    assert lines.get_segments()[1][:, 0] == pytest.approx([-1.5 - half, -1.5 + half], rel=1e-4)
    assert "90.00 %" in axes.get_xlabel()
    with pytest.raises(DataError, match="'none'"):
        plots.ablation(table, "none")


def test_sweep_writes_means_and_costs_into_its_cells():
    table = pd.DataFrame(
        {
            "stages": [1, 1, 2, 2],
            "blocks": [1, 1, 1, 2],
            "val_accuracy": [0.8, 0.9, 0.7, 0.6],
            "parameters": [1500, 1500, 2_000_000, 12],
            "seconds": [10.0, 20.0, 5.0, 6.0],
        }
    )
    axes = plots.stages_by_blocks(table).axes[0]
    assert sorted(texts(axes)) == [
        "60.00 %\n12\n6 s",
        "70.00 %\n2 M\n5 s",
        "85.00 %\n1.5 k\n15 s",
        "not run",
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("stages", "blocks per stage")
    assert len(texts(plots.stages_by_blocks(table, notes=()).axes[0])) == 4
    with pytest.raises(DataError, match="no column macs"):
        plots.stages_by_blocks(table, notes=("macs",))


def test_minutes_are_means_and_lines_are_stages():
    table = pd.DataFrame(
        {
            "stages": [2, 2, 2, 3],
            "blocks": [1, 1, 2, 1],
            "val_accuracy": [0.7, 0.8, 0.9, 0.6],
            "seconds": [60.0, 120.0, 240.0, 30.0],
        }
    )
    axes = plots.accuracy_against_minutes(table).axes[0]
    two, three = ([list(point) for point in line.lines[0].get_xydata()] for line in axes.containers)
    assert two == [[1.5, pytest.approx(75)], [4, pytest.approx(90)]]
    assert three == [[0.5, pytest.approx(60)]]
    assert texts(axes) == ["1", "2", "1"]


def test_schedules_and_singular_values_are_shares_of_the_largest():
    [line] = plots.learning_rate_schedules({"falls": [4, 2, 1]}).axes[0].lines
    assert line.get_ydata().tolist() == [1, 0.5, 0.25] and line.get_label() == "falls"
    [line] = plots.singular_values({"gradient": [1, 4]}).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 1], [2, 0.25]]


def test_a_failed_run_of_a_sweep_is_not_drawn():
    table = pd.DataFrame({"stages": [1, 2], "blocks": [1, 1], "val_accuracy": [0.8, np.nan]})
    assert texts(plots.stages_by_blocks(table, notes=()).axes[0]) == ["80.00 %", "not run"]


def test_stage_costs_add_up():
    table = pd.DataFrame({"stage": ["a", "b"], "parameters": [100, 300], "macs": [1e6, 1e6]})
    left, right = plots.stage_costs(table).axes
    assert widths(left) == [100, 300]
    assert texts(left) == ["100 (25 %)", "300 (75 %)"]
    assert "together 2 M" in right.get_xlabel()


def test_depth_has_a_line_per_network_through_the_means():
    table = pd.DataFrame(
        {
            "depth": [8, 8, 20],
            "network": "plain",
            "accuracy": [0.8, 0.9, 0.7],
        }
    )
    axes = plots.depth_degradation(table).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[8, 85], [20, 70]])
    assert len(axes.collections[0].get_offsets()) == 3


def test_gradients_have_a_line_per_network():
    table = pd.DataFrame(
        {"layer": [1, 2, 1, 2], "network": ["a", "a", "b", "b"], "norm": [4.0, 2.0, 1.0, 3.0]}
    )
    axes = plots.gradient_norms(table).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 4], [2, 2]])
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[1, 1], [2, 3]])


def test_confusion_shows_shares_of_the_true_class():
    counts = pd.DataFrame([[8, 2], [0, 5]], index=["cat", "dog"], columns=["cat", "dog"])
    axes = plots.confusion_matrix(counts).axes[0]
    mesh = axes.collections[0]
    mesh.update_scalarmappable()
    np.testing.assert_allclose(mesh.get_facecolors()[2], 1, atol=0.01)  # 0 is white
    # Nothing is written where nothing is confused.
    assert sorted(filter(None, texts(axes))) == ["100.0", "20.0", "80.0"]
    shown = axes.collections[0].get_array()
    assert shown.compressed().tolist() == [20, 0]


def test_confusion_of_a_class_without_images():
    counts = pd.DataFrame([[8, 2], [0, 0]], index=["cat", "dog"], columns=["cat", "dog"])
    assert "20.0" in texts(plots.confusion_matrix(counts).axes[0])


def test_scores_put_the_best_class_on_top():
    table = pd.DataFrame(
        {"precision": [0.5, 0.9], "recall": [0.7, 0.8], "F1": [0.6, 0.85], "support": [10, 20]},
        index=["cat", "dog"],
    )
    axes = plots.class_scores(table).axes[0]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["dog (n=20)", "cat (n=10)"] and axes.yaxis_inverted()


def test_of_many_classes_the_best_and_the_worst_are_drawn():
    table = pd.DataFrame({"F1": np.linspace(0, 1, 50)}).assign(precision=0.5, recall=0.5, support=9)
    [axes] = plots.class_scores(table, most=4).axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["49 (n=9)", "48 (n=9)", "1 (n=9)", "0 (n=9)"]
    assert axes.get_title() == "Scores of the 2 best and 2 worst of 50 classes"


def test_reliability_gives_the_calibration_error():
    table = pd.DataFrame(
        {
            "low": [0.0, 0.5],
            "high": [0.5, 1.0],
            "count": [10, 30],
            "confidence": [0.4, 0.9],
            "accuracy": [0.5, 0.7],
        }
    )
    figure = plots.reliability_diagram(table)
    assert figure.axes[0].get_title() == "ECE 17.50 %"  # (10 * 0.1 + 30 * 0.2) / 40
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == [25, 75]
    both = plots.reliability_diagram({"before": table, "after": table})
    assert both.axes[1].get_title() == "after: ECE 17.50 %"


def test_reliability_says_what_is_promised_and_kept():
    table = binary.binary_reliability([0, 1], [0.2, 0.7])
    figure = plots.reliability_diagram(table, promised="probability of IDC", kept="share of IDC")
    upper, lower = figure.axes
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("share of IDC", "probability of IDC")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[1:] == ["share of IDC", "gap to probability of IDC"]


def test_mistakes_are_named():
    mistakes = pd.DataFrame({"index": [1], "truth": [0], "predicted": [1], "confidence": [0.987]})
    images = solid((1, 2, 3), (4, 5, 6))
    figure = plots.mistake_gallery(images, mistakes, ("cat", "dog"))
    assert {"dog 99 %", "is cat"} <= set(texts(figure.axes[0]))
    assert (pixels(figure) == (4, 5, 6)).all(axis=-1).any()
    with pytest.raises(DataError, match="no mistake"):
        plots.mistake_gallery(images, mistakes[:0], ("cat", "dog"))


def test_answers_are_told_and_what_is_right_where_they_are_not():
    images = solid((1, 2, 3), (4, 5, 6))
    sure = np.array([[0.2, 0.8], [0.3, 0.7]])
    figure = plots.answer_gallery(images, np.array([1, 0]), sure, ("cat", "dog"))
    found = texts(figure.axes[0])
    assert {"dog 80 %", "dog 70 %", "no: cat", "1 of 2 answers are right"} <= set(found)
    assert "no: dog" not in found
    line = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert line["dog 80 %"] == line["no: cat"] > line["dog 70 %"]  # just above the image


def test_tta_gain_tells_what_is_gained_corrected_and_spoiled():
    table = pd.DataFrame(
        {"accuracy": [0.9, 0.92], "corrected": [0, 30], "spoiled": [0, 10]}, index=["one", "six"]
    ).assign(gain=[0, 0.02], low=[0, 0.007], high=[0, 0.033])
    left, right = plots.tta_gain(table).axes
    assert texts(left) == ["90.00 %", "92.00 %"]
    (bars,) = left.containers[0].lines[2]
    np.testing.assert_allclose(bars.get_segments()[1][:, 0], [0.7, 3.3])
    assert sorted(widths(right)) == [-10, 0, 0, 30]


def test_cells_are_squares_around_their_centres_and_end_where_they_see_nothing():
    maps = np.array([[[1, 2], [3, 4]]], "float32")
    rows = columns = np.array([0.5, 2.5])
    shown = as_cells(maps, rows, columns, (5, 4))[0]
    np.testing.assert_array_equal(shown[:4], maps[0].repeat(2, axis=0).repeat(2, axis=1))
    assert not shown[4].any()  # no cell lies there
    assert (as_cells(maps[:, :1, :1], [2], [2], (5, 5)) == 1).all()
    with pytest.raises(DataError, match="2 and 3"):
        as_cells(maps, rows, np.arange(3), (5, 4))


def test_overlay_is_hot_where_the_map_is_high():
    image = np.full((8, 8, 3), 120, "uint8")
    values = np.zeros((8, 8))
    values[0, 0] = 5.0
    values[7, 7] = -5.0
    shown = overlay(image, values).astype(int)
    assert shown[0, 0].sum() > shown[4, 4].sum()
    np.testing.assert_array_equal(shown[7, 7], shown[4, 4])  # negative parts are left out
    np.testing.assert_array_equal(overlay(image, 100 * values), overlay(image, values))
    flat = overlay(image, np.zeros((8, 8)))
    assert (flat == flat[0, 0]).all()


def test_overlays_need_maps_of_the_images_size():
    images = solid((1, 2, 3))
    with pytest.raises(DataError, match=r"'Grad-CAM' must have shape \(1, 4, 4\)"):
        plots.saliency_overlays(images, {"Grad-CAM": np.zeros((1, 2, 2))})


def names_below(axes):
    return [tick.get_text() for tick in axes.get_xticklabels()]


def legend_of(owner):
    return [text.get_text() for text in owner.get_texts()]


def test_patients_stand_by_their_share():
    table = pd.DataFrame({"patches": [10, 40, 50], "positives": [1, 20, 0]}, index=["a", "b", "c"])
    figure = plots.patient_balance(table, ("benign", "IDC"))
    upper, lower = figure.axes
    assert [bar.get_height() for bar in upper.patches] == [50, 10, 0]
    assert [bar.get_height() for bar in lower.patches] == [20, 1, 0, 20, 9, 50]
    assert names_below(lower) == ["b", "a", "c"]
    assert figure.get_suptitle() == "21.0 % of 100 patches of 3 patients are IDC"
    assert legend_of(upper.get_legend()) == ["all: 21.0 %"]
    with pytest.raises(DataError, match="no column positives"):
        plots.patient_balance(table[["patches"]])


def test_names_of_many_patients_are_left_out():
    table = pd.DataFrame({"patches": 10, "positives": 1}, index=range(100))
    lower = plots.patient_balance(table).axes[1]
    positive, negative = (shape.get_data() for shape in lower.patches)
    assert set(positive.values) == {1} and set(negative.values) == {10}
    assert set(negative.baseline) == {1} and len(negative.values) == 100
    assert names_below(lower) == [] and lower.get_xlabel().startswith("100 patients")


def test_stains_are_sorted_by_the_median_of_the_first():
    table = pd.DataFrame(
        {
            "patient": ["a"] * 5 + ["b"] * 5 + ["a", "b"],
            "stain": ["H"] * 10 + ["E"] * 2,
            "density": [1.0, 2, 3, 4, 5, 0, 0, 0.5, 1, 1, 7, 8],
        }
    )
    upper, lower = plots.stain_densities(table).axes
    assert names_below(lower) == ["b", "a"]
    outer, inner, medians = upper.collections
    np.testing.assert_allclose(inner.get_segments()[1], [[1, 2], [1, 4]])
    np.testing.assert_allclose(outer.get_segments()[1], [[1, 1.2], [1, 4.8]])
    np.testing.assert_allclose(medians.get_offsets(), [[0, 0.5], [1, 3]])
    np.testing.assert_allclose(lower.collections[2].get_offsets(), [[0, 8], [1, 7]])
    figure = plots.stain_densities(table.assign(label=[0, 1] * 6), ("benign", "IDC"))
    assert legend_of(figure.legends[0]) == ["benign", "IDC"]


def test_slides_are_tinted_by_label():
    image = np.full((4, 6, 3), 100, "uint8")
    shown = tint(image, np.array([[0, 1, np.nan], [1, 1, 0]]))
    blue, orange, none = shown[0, 0].astype(int), shown[0, 2].astype(int), shown[0, 4].astype(int)
    assert blue[2] > blue[0] and orange[0] > orange[2]
    assert none.min() > 200 and np.ptp(none) == 0
    np.testing.assert_array_equal(shown[2:, :4], np.broadcast_to(orange, (2, 4, 3)))
    np.testing.assert_array_equal(shown[2:, 4:], np.broadcast_to(blue, (2, 2, 3)))
    figure = plots.labelled_slides({"a": image}, {"a": np.zeros((2, 3))}, millimetre=12)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image)
    assert (figure.axes[1].images[0].get_array() == blue).all()
    large = np.zeros((200, 480, 3), "uint8")  # drawn at half its size
    figure = plots.labelled_slides({"a": large}, {"a": np.zeros((2, 3))}, millimetre=100)
    [bar] = figure.axes[0].lines
    assert np.ptp(bar.get_xdata()) == 50


def test_slides_must_be_the_same_everywhere():
    image = np.zeros((4, 6, 3), "uint8")
    with pytest.raises(DataError, match="same slides.*a and b"):
        plots.labelled_slides({"a": image}, {"b": np.zeros((2, 3))})
    with pytest.raises(DataError, match="no slide"):
        plots.labelled_slides({}, {})
    with pytest.raises(DataError, match=r"a: a truth of shape \(2, 2\).*\(2, 3\)"):
        plots.probability_maps({"a": np.zeros((2, 3))}, {"a": np.zeros((2, 2))})


def test_maps_show_what_is_wrong_at_the_threshold():
    truth = np.array([[0, 1, 0, 1, np.nan]])
    probability = np.array([[0.1, 0.5, 0.9, 0.2, np.nan]])
    figure = plots.probability_maps({"a": probability}, {"a": truth}, 0.5)
    errors = figure.axes[2].images[0]
    assert list(CALLS) == ["right: negative", "right: positive", "false alarm", "missed"]
    assert errors.get_array().tolist() == [[0, 1, 2, 3, None]]
    assert errors.get_clim() == (0, 3)
    shown = figure.axes[1].images[0]
    assert shown.get_clim() == (0, 1) and shown.get_array()[0, 2] == 0.9
    assert figure.axes[0].get_ylabel() == "a"
    assert legend_of(figure.legends[0])[2:] == list(CALLS)
    alone = plots.probability_maps({"a": probability}, {"a": truth})
    assert [axes.get_title() for axes in alone.axes[:2]] == ["truth", "probability"]
    assert legend_of(alone.legends[0]) == ["negative", "positive"]


def test_maps_of_which_nobody_knows_the_truth_show_what_is_called():
    probability = np.array([[0.1, 0.5, np.nan]])
    figure = plots.probability_maps({"a": probability}, None, 0.5)
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["probability", "calls at 0.50"]
    assert figure.axes[1].images[0].get_array().tolist() == [[0, 1, None]]
    assert legend_of(figure.legends[0]) == ["negative", "positive"]
    alone = plots.probability_maps({"a": probability}, None)
    assert [axes.get_title() for axes in alone.axes[:1]] == ["probability"] and not alone.legends


POINTS = operating_points([1, 1, 0, 1, 0], [0.9, 0.8, 0.6, 0.5, 0.1])


def test_curves_tell_their_areas_and_mark_the_threshold():
    figure = plots.precision_recall_roc(POINTS, thresholds=0.7)
    left, right = figure.axes
    # Positives rank 1, 2 and 4 of five.
    assert legend_of(left.get_legend()) == ["AP 0.917", "chance", "chosen threshold"]
    assert legend_of(right.get_legend()) == ["AUC 0.833"]
    np.testing.assert_allclose(left.collections[0].get_offsets(), [[2 / 3, 1]])
    np.testing.assert_allclose(right.collections[0].get_offsets(), [[0, 2 / 3]])
    assert left.lines[1].get_ydata()[0] == pytest.approx(3 / 5)  # the prevalence
    both = plots.precision_recall_roc({"a": POINTS, "b": POINTS})
    assert legend_of(both.axes[1].get_legend()) == ["a: AUC 0.833", "b: AUC 0.833"]


def test_bands_lie_around_their_curve():
    band = {"precision_low": 0.1, "precision_high": 0.4, "recall_low": 0.5, "recall_high": 0.8}
    band = pd.DataFrame({"at": [0, 0.5, 1], **band})
    left, right = plots.precision_recall_roc({"a": POINTS, "b": POINTS}, bands={"b": band}).axes
    for axes, low, high in ((left, 0.1, 0.4), (right, 0.5, 0.8)):
        (shade,) = axes.collections
        assert set(shade.get_paths()[0].vertices[:, 1]) == {low, high}
        np.testing.assert_allclose(shade.get_facecolor()[0, :3], PALETTE[1], atol=1e-6)


def test_sweep_over_thresholds_holds_between_two_probabilities():
    axes = plots.threshold_sweep(POINTS, chosen=0.7).axes[0]
    precision = axes.lines[0]
    np.testing.assert_allclose(precision.get_xdata(), [0.1, 0.5, 0.6, 0.8, 0.9])
    np.testing.assert_allclose(precision.get_ydata(), [60, 75, 200 / 3, 100, 100])
    assert precision.get_drawstyle() == "steps-pre"
    assert legend_of(axes.get_legend())[3] == "chosen: 0.700\n(F1 80.0 %)"


def test_forest_writes_values_and_intervals():
    table = pd.DataFrame(
        {"value": [0.8, np.nan], "low": [0.7, np.nan], "high": [0.85, np.nan]},
        pd.Index(["f1", "roc_auc"], name="metric"),
    )
    axes = plots.forest_plot(table).axes[0]
    assert texts(axes) == ["80.0  (70.0 to 85.0)", "not defined"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["F1", "ROC AUC"]
    assert axes.yaxis_inverted()
    (bars,) = axes.containers[0].lines[2]
    np.testing.assert_allclose(bars.get_segments()[0], [[70, 0], [85, 0]])
    line = plots.forest_plot(table, reference=0.75).axes[0].lines[-1]
    assert list(line.get_xdata()) == [75, 75]


def test_forest_of_differences_leaves_the_reference_out():
    table = pd.DataFrame(
        {
            "method": ["none", "focal"],
            "metric": "f1",
            "difference": [0, 0.02],
            "difference_low": [0, -0.01],
            "difference_high": [0, 0.05],
        }
    )
    axes = plots.forest_plot(table, "method", "metric", differences=True).axes[0]
    assert texts(axes) == ["+2.0  (-1.0 to +5.0)"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["focal"]
    with pytest.raises(DataError, match="All differences are 0"):
        plots.forest_plot(table[:1], "method", differences=True)
    with pytest.raises(DataError, match="no column value"):
        plots.forest_plot(table, "method")


def test_patients_without_a_score_stand_at_the_right():
    table = pd.DataFrame(
        {
            "patches": [5, 6, 7],
            "positives": [0, 2, 3],
            "f1": [np.nan, 0.5, 0.8],
            "recall": [np.nan, 0.4, 0.9],
            "specificity": [0.6, 0.7, 0.5],
        },
        index=["a", "b", "c"],
    )
    upper, lower = plots.patient_scores(table).axes
    assert names_below(lower) == ["c", "b", "a"]
    recall, specificity, f1 = (dots.get_offsets() for dots in upper.collections[:3])
    np.testing.assert_allclose(f1.compressed().reshape(-1, 2), [[0, 80], [1, 50]])
    np.testing.assert_allclose(specificity, [[0, 50], [1, 70], [2, 60]])
    assert legend_of(upper.get_legend()) == ["recall", "specificity", "F1"]
    assert [bar.get_height() for bar in lower.patches] == [3, 2, 0, 4, 4, 5]


def test_randomisation_has_a_line_per_method():
    table = pd.DataFrame(
        {"layer": ["unchanged", "head"], "similarity": [1, 0.2], "low": [1, 0], "high": [1, 0.4]}
    )
    axes = plots.randomisation_curves({"gradient": table, "edges": table}, limit=0.7).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1], [1, 0.2]])
    assert names_below(axes) == ["unchanged", "head"]
    assert legend_of(axes.get_legend())[2].startswith("refused from 0.7")
    other = table.assign(layer=["unchanged", "stem"])
    with pytest.raises(DataError, match="'edges' is of another model"):
        plots.randomisation_curves({"gradient": table, "edges": other})
    with pytest.raises(DataError, match="no method"):
        plots.randomisation_curves({})
