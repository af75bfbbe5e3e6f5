"""Every figure: shown once, small, labelled, and nothing in it overlaps or is cut."""

import functools
import io
import itertools
import sys
import types
import warnings

import caption_figures
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from common import plots
from common.data.synthetic import synthetic_images
from common.errors import ConfigError, DataError
from common.evaluation import binary
from common.evaluation.thresholds import operating_points
from common.plots.style import new_figure

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RNG = np.random.default_rng(0)
DATA = synthetic_images("train", 200)
IMAGES, LABELS = DATA.images, DATA.labels
EPOCHS = np.arange(1, 13)
HISTORY = pd.DataFrame(
    {
        "epoch": EPOCHS,
        "loss": 2 / EPOCHS,
        "accuracy": 1 - 0.6 / EPOCHS,
        "val_loss": 2.2 / EPOCHS,
        "val_accuracy": 0.97 - 0.6 / EPOCHS,
        "seconds": 30.0,
    }
)
SWEEP = pd.DataFrame(
    [
        {
            "stages": stages,
            "blocks": blocks,
            "val_accuracy": 0.7 + 0.04 * stages + 0.02 * blocks,
            "parameters": 10_000 * blocks * 4**stages,
            "seconds": 60.0 * stages * blocks,
        }
        for stages, blocks in itertools.product((1, 2, 3), (1, 2, 3))
    ]
)
ABLATION = pd.DataFrame(
    [
        {"arm": arm, "seed": seed, "val_accuracy": mean + 0.001 * (seed - 1)}
        for arm, mean in (("full recipe", 0.91), ("no cutout", 0.904), ("no flip", 0.912))
        for seed in range(3)
    ]
)
RELIABILITY = pd.DataFrame(
    {
        "low": [0.0, 0.25, 0.5, 0.75],
        "high": [0.25, 0.5, 0.75, 1.0],
        "count": [0, 20, 30, 50],
        "confidence": [np.nan, 0.4, 0.6, 0.9],
        "accuracy": [np.nan, 0.5, 0.6, 0.8],
    }
)
CONFUSION = pd.DataFrame(
    np.eye(10, dtype=int) * 90 + RNG.integers(0, 5, (10, 10)), index=CLASSES, columns=CLASSES
)
SCORES = pd.DataFrame(
    {"precision": 0.9, "recall": np.linspace(0.8, 0.98, 10), "F1": 0.9, "support": 500},
    index=CLASSES,
)
MISTAKES = pd.DataFrame(
    {"index": range(12), "truth": 0, "predicted": 1, "confidence": np.linspace(1, 0.9, 12)}
)
TTA = pd.DataFrame(
    {"accuracy": [0.9, 0.905, 0.91], "corrected": [0, 30, 45], "spoiled": [0, 10, 12]},
    index=["image alone", "and its mirror image", "and shifts by a pixel"],
).assign(gain=[0, 0.005, 0.01], low=[0, 0.001, 0.004], high=[0, 0.009, 0.016])
STAGES = pd.DataFrame(
    {
        "stage": ["stem", "stage 1", "stage 2", "stage 3", "head"],
        "parameters": [464, 14_016, 51_584, 205_056, 650],
        "macs": [442_368, 14_155_776, 12_976_128, 12_976_128, 640],
    }
)
DEPTH = pd.DataFrame(
    [
        {"depth": depth, "network": network, "accuracy": 0.9 - slope * depth}
        for depth in (8, 20, 56)
        for network, slope in (("plain", 0.002), ("residual", -0.0005))
    ]
)
PAIRS = pd.DataFrame({"index_a": range(8), "index_b": range(8, 16), "distance": 0.125})
GRADIENTS = pd.DataFrame(
    [
        {"layer": layer, "network": network, "norm": 1.1 ** (factor * layer)}
        for layer in range(1, 20)
        for network, factor in (("plain", -2), ("residual", 1))
    ]
)
MAPS = RNG.standard_normal((4, 32, 32))

PATIENT = RNG.integers(0, 24, 3000)
TUMOUR = (RNG.random(3000) < (PATIENT / 48)).astype(int)
PROBABILITY = 1 / (1 + np.exp(-3 * TUMOUR + 1.5 - RNG.standard_normal(3000)))
NAMES = np.array([f"{10253 + 7 * i}" for i in range(24)])[PATIENT]
POINTS = operating_points(TUMOUR, PROBABILITY)
PATIENTS = binary.scores_per_patient(TUMOUR, PROBABILITY, NAMES, 0.5)
MANY_PATIENTS = pd.concat([PATIENTS] * 3, ignore_index=True)
INTERVALS = binary.compare_bootstrap(
    TUMOUR,
    {"no weights": PROBABILITY, "focal loss": PROBABILITY**2},
    NAMES,
    0.5,
    reference="no weights",
    samples=20,
)
STAINS = pd.DataFrame(
    [
        {"patient": name, "stain": stain, "label": label, "density": density + 0.1 * RNG.random()}
        for name, label in zip(NAMES[:600], TUMOUR[:600], strict=True)
        for stain, density in (("haematoxylin", 0.3), ("eosin", 0.2))
    ]
)
MANY_STAINS = STAINS.assign(patient=np.arange(len(STAINS)) // 10)
LABEL_MAPS = {f"1025{i}": np.where(RNG.random((25, 28)) < 0.2, np.nan, i % 2) for i in range(3)}
CHANCES = {name: 0.8 * labels + 0.1 for name, labels in LABEL_MAPS.items()}
TISSUE = RNG.integers(120, 255, (100, 112, 3)).astype("uint8").repeat(5, axis=0).repeat(5, axis=1)
SLIDES = dict.fromkeys(LABEL_MAPS, TISSUE)
RANDOMISED = pd.DataFrame(
    {
        "layer": ["unchanged", "head", *(f"stage{i}_block1" for i in (3, 2, 1)), "stem_conv"],
        "similarity": np.linspace(1, 0.1, 6),
        "low": np.linspace(1, -0.2, 6),
        "high": np.linspace(1, 0.3, 6),
    }
)
CLASS_1 = {"promised": "probability of IDC", "kept": "share of IDC"}

MOSAICS = {
    "gallery": lambda: plots.class_gallery(IMAGES, LABELS, CLASSES),
    "means": lambda: plots.mean_images(IMAGES, LABELS, CLASSES),
    "duplicates": lambda: plots.near_duplicates(IMAGES, PAIRS),
    "resolution": lambda: plots.resolution_comparison(IMAGES[:6]),
    "mistakes": lambda: plots.mistake_gallery(IMAGES, MISTAKES, CLASSES),
    "answers": lambda: plots.answer_gallery(
        IMAGES[:7], LABELS[:7], np.eye(10)[[*LABELS[:6], 0]], CLASSES
    ),
    "saliency": lambda: plots.saliency_overlays(
        IMAGES[:4], {"gradient": MAPS, "SmoothGrad": MAPS, "Grad-CAM": MAPS}, CLASSES[:4]
    ),
    "templates": lambda: plots.class_templates(RNG.standard_normal((10, 32, 32, 3)), CLASSES),
}
CHARTS = {
    "block_diagram": lambda: plots.block_diagram("residual", "bottleneck"),
    "network_strip": lambda: plots.network_strip([("image", 32, 3), ("stage", 16, 64)], "tiny"),
    "histograms": lambda: plots.channel_histograms(IMAGES),
    "distances": lambda: plots.distance_histogram(RNG.gamma(4, 1, 500), 0.5),
    "curves": lambda: plots.learning_curves(HISTORY),
    "runs": lambda: plots.compare_runs({f"seed {i}": HISTORY for i in range(3)}),
    "finder": lambda: plots.learning_rate_finder(
        np.geomspace(1e-4, 1, 20), np.ones(20), {"lowest loss": 0.1, "the recipe": 0.2}
    ),
    "ablation": lambda: plots.ablation(ABLATION, "full recipe"),
    "sweep": lambda: plots.stages_by_blocks(SWEEP),
    "minutes": lambda: plots.accuracy_against_minutes(SWEEP),
    "schedules": lambda: plots.learning_rate_schedules({"a": [3, 2, 1], "b": [1, 2, 1]}),
    "singular values": lambda: plots.singular_values({"a": [3, 2, 0.1], "b": [1, 1, 0.9]}),
    "stages": lambda: plots.stage_costs(STAGES),
    "depth": lambda: plots.depth_degradation(DEPTH),
    "fields": lambda: plots.fields_on_image(IMAGES[0], {"a": (3, 9), "b": (5, 40)}),
    "gradients": lambda: plots.gradient_norms(GRADIENTS),
    "confusion": lambda: plots.confusion_matrix(CONFUSION),
    "scores": lambda: plots.class_scores(SCORES),
    "reliability": lambda: plots.reliability_diagram({"before": RELIABILITY, "T": RELIABILITY}),
    "tta": lambda: plots.tta_gain(TTA),
    "patients": lambda: plots.patient_balance(PATIENTS, ("benign", "IDC")),
    "many patients": lambda: plots.patient_balance(MANY_PATIENTS),
    "stains": lambda: plots.stain_densities(STAINS.drop(columns="label")),
    "stains of classes": lambda: plots.stain_densities(STAINS, ("benign", "IDC")),
    "many stains": lambda: plots.stain_densities(MANY_STAINS),
    "operating points": lambda: plots.precision_recall_roc(
        {"random split": POINTS, "patient-wise split": POINTS},
        {"random split": 0.5, "patient-wise split": 0.4},
        {"patient-wise split": binary.curve_bands(TUMOUR, PROBABILITY, NAMES, samples=20)},
    ),
    "operating points of one": lambda: plots.precision_recall_roc(POINTS, 0.5),
    "thresholds": lambda: plots.threshold_sweep(POINTS, 0.5),
    "forest": lambda: plots.forest_plot(INTERVALS, "metric", "method"),
    "forest of differences": lambda: plots.forest_plot(
        INTERVALS, "method", "metric", differences=True
    ),
    "patient scores": lambda: plots.patient_scores(PATIENTS),
    "many patient scores": lambda: plots.patient_scores(MANY_PATIENTS),
    "randomisation": lambda: plots.randomisation_curves(
        {"gradient": RANDOMISED, "Grad-CAM": RANDOMISED}, limit=0.7
    ),
    "reliability of class 1": lambda: plots.reliability_diagram(
        binary.binary_reliability(TUMOUR, PROBABILITY), **CLASS_1
    ),
    "confusion of two": lambda: plots.confusion_matrix(
        binary.binary_confusion(TUMOUR, PROBABILITY, 0.5, ("benign", "IDC")),
        title="Confusion at the threshold 0.5",
    ),
}
ON_SLIDES = {
    "slides": lambda: plots.labelled_slides(SLIDES, LABEL_MAPS),
    "probabilities": lambda: plots.probability_maps(CHANCES, LABEL_MAPS, 0.5, SLIDES),
    "probabilities alone": lambda: plots.probability_maps(CHANCES, LABEL_MAPS),
}
CHARTS |= caption_figures.CHARTS
PUBLIC = {name for name, value in vars(plots).items() if isinstance(value, types.FunctionType)}
FIGURES = {**MOSAICS, **CHARTS, **ON_SLIDES, **caption_figures.PICTURES}
# Second figures of a function.
VARIANTS = {
    "balance of splits",
    "many patients",
    "stains of classes",
    "many stains",
    "operating points of one",
    "forest of differences",
    "many patient scores",
    "reliability of class 1",
    "confusion of two",
    "probabilities alone",
} | caption_figures.VARIANTS


@pytest.fixture(scope="module", autouse=True)
def style():
    with plt.rc_context():
        plots.use_style()
        yield


def test_every_figure_of_the_package_is_tested_here():
    others = {"mosaic_figure", "png", "save_figure", "show", "use_style"}
    assert len(PUBLIC - others) == len(FIGURES.keys() - VARIANTS)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_returned_once_and_small(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", FutureWarning)
        # Matplotlib 3.10.0's own calls into a newer pyparsing, whose warning is a UserWarning too.
        warnings.simplefilter("ignore", DeprecationWarning)
        before = str(np.random.get_state())  # noqa: NPY002
        figure = FIGURES[name]()
        data = plots.png(figure)
    # The reader's random numbers are hers.
    assert str(np.random.get_state()) == before  # noqa: NPY002
    assert isinstance(figure, Figure)
    assert not plt.get_fignums()  # a figure that pyplot knows of would be shown twice
    image = Image.open(io.BytesIO(data))
    assert image.width <= 620 and image.height <= 700
    # Images cost a byte per pixel at least: 60 of them in the gallery.
    large = name in ON_SLIDES or name in caption_figures.PICTURES
    assert len(data) < (70_000 if name == "gallery" else 60_000 if large else 20_000)


@functools.cache
def drawn_figure(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("name", CHARTS)
def test_chart_has_titles_and_labels(name):
    figure = drawn_figure(name)
    assert figure.get_suptitle() or all(axes.get_title() for axes in figure.axes[:1])
    for axes in figure.axes:
        drawn = axes.axison and axes.get_label() != "<colorbar>"
        if drawn and axes.get_subplotspec().is_last_row():
            assert axes.get_xlabel()


def drawn_texts(figure):
    """Upright texts; ticks beyond the ends of an axis have labels that are not drawn."""
    beyond = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    beyond |= {tick.label1, tick.label2}
    for text in figure.findobj(plt.Text):
        if text.get_visible() and text.get_text().strip() and text not in beyond:
            if text.get_rotation() % 90 == 0:  # the box of a slanted text says little
                yield text


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_overlaps_another_or_is_cut(name):
    figure = drawn_figure(name)
    boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    assert len(boxes) >= 2
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 2 or height < 2, f"{one!r} overlaps {other!r}"
    if name in MOSAICS:
        for text, box in boxes:
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, f"{text!r} is cut"


def pixels(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def test_mosaic_shows_each_pixel_as_a_square():
    figure = plots.mosaic_figure(IMAGES[:6], columns=3)
    canvas = pixels(figure)
    scale = 3
    for i in range(6):
        y, x = (i // 3) * (32 * scale + 2), (i % 3) * (32 * scale + 2)
        part = canvas[y : y + 32 * scale, x : x + 32 * scale]
        np.testing.assert_array_equal(part[::scale, ::scale], IMAGES[i])
        np.testing.assert_array_equal(part[scale - 1 :: scale, scale - 1 :: scale], IMAGES[i])


def test_mosaic_shrinks_large_images_to_the_width():
    large = np.full((4, 300, 400, 3), 200, "uint8")
    figure = plots.mosaic_figure(large, columns=4, titles=["a"] * 4)
    assert figure.bbox.width <= 6.4 * 80 + 1
    assert (pixels(figure) == 200).all(axis=-1).mean() > 0.7


def test_mosaic_needs_images_of_one_size():
    with pytest.raises(DataError, match="one size"):
        plots.mosaic_figure([IMAGES[0], IMAGES[1][:20]], columns=2)
    with pytest.raises(DataError, match="one at least"):
        plots.mosaic_figure([], columns=2)


def test_png_of_a_page_has_few_colours():
    figure = plots.learning_curves(HISTORY)
    few = plots.png(figure)
    image = Image.open(io.BytesIO(few))
    assert image.mode == "P" and len(image.getcolors()) <= 256
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight")
    assert len(few) < 0.6 * len(buffer.getvalue())


def test_a_figure_is_saved_whole_with_all_colours(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    figure = plots.mosaic_figure(images, columns=2)
    path = plots.save_figure(figure, tmp_path / "figures" / "images.png")
    assert [file.name for file in path.parent.iterdir()] == ["images.png"]
    image = Image.open(path)
    assert image.mode == "RGB" and len(image.getcolors(2**24)) > 2000


def test_background_stays_white_beside_photos():
    images = np.random.default_rng(0).integers(150, 256, (4, 32, 32, 3), "uint8")
    data = plots.style.png(plots.mosaic_figure(images, columns=2, title="light photos"))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert {image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, 5)} == {(255,) * 3}


def test_notebooks_show_figures_with_twice_the_pixels():
    figure = plots.learning_curves(HISTORY)
    data, told = figure._repr_png_()
    once, twice = (Image.open(io.BytesIO(d)).size for d in (plots.style.png(figure), data))
    assert all(abs(a - 2 * b) <= 4 for a, b in zip(twice, once, strict=True))
    assert told == {"width": twice[0] // 2, "height": twice[1] // 2}


def test_block_diagrams_have_every_step_and_a_shortcut():
    figure = plots.block_diagram("plain", "residual", "bottleneck")
    plain, residual, bottleneck = figure.axes
    steps = [text.get_text() for text in bottleneck.texts]
    assert steps.count("conv 1x1") == 2 and steps.count("norm") == 3 and steps[-1] == "y"
    assert len(plain.lines) == 0 and len(residual.lines) == len(bottleneck.lines) == 1
    with pytest.raises(ConfigError, match="no diagram of 'dense'. There are: plain, residual"):
        plots.block_diagram("dense")


def test_a_network_strip_is_as_high_as_its_maps():
    figure = plots.network_strip([("image", 32, 3), ("stage", 8, 64)], "tiny")
    heights = [patch.get_height() for patch in figure.axes[0].patches if hasattr(patch, "xy")]
    heights = [height for height in heights if height]
    assert heights[0] == 4 * heights[1]
    assert "8 x 8\n64" in [text.get_text() for text in figure.axes[0].texts]


def test_a_shown_figure_has_a_text_and_a_title_that_tells(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    plots.show(plots.learning_curves(HISTORY), "Validation ends\n  at 92.7 %.", title="92.7 %")
    [figure] = shown
    data, told = figure._repr_png_()
    assert told["alt"] == "Validation ends at 92.7 %." and data[:4] == b"\x89PNG"
    assert figure.get_suptitle() == "92.7 %"
    plots.show(plots.compare_runs({"a": HISTORY}), "One run.", title="found")
    texts = [axes.get_title() for axes in shown[1].axes] + [shown[1].get_suptitle()]
    assert texts.count("found") == 1 and len([text for text in texts if text]) == 1
    plots.show(plots.confusion_matrix(CONFUSION), "Ten classes.", title="found")  # and a colour bar
    assert [axes.get_title() for axes in shown[2].axes] == ["found", ""]
    assert not shown[2].get_suptitle()
    plots.show(plots.mistake_gallery(IMAGES, MISTAKES, CLASSES), "Mistakes.", title="found")
    written = [text.get_text() for text in shown[3].findobj(plt.Text)]
    assert written.count("found") == 1 and "Most confident mistakes" not in written


def test_a_run_of_one_epoch_is_seen():
    one = pd.DataFrame({"epoch": [1], "val_accuracy": [0.5]})
    [axes] = plots.compare_runs({"a": one}).axes
    assert axes.lines[0].get_marker() == "o"


def test_notebooks_show_the_small_png(monkeypatch):
    printers = {}
    formatter = types.SimpleNamespace(for_type=printers.__setitem__)
    display = types.SimpleNamespace(formatters={"image/png": formatter})
    shell = types.SimpleNamespace(display_formatter=display)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    plt.close(plt.figure())  # pyplot's own backend is loaded before
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    plots.use_style()
    figure, _ = new_figure()
    assert figure._repr_png_() == printers[Figure](figure)  # and without the style
    assert Image.open(io.BytesIO(printers[Figure](figure)[0])).mode == "P"
    assert not plt.get_fignums()
