"""Lessons on data of one's own: few, rare, many, odd, easy, of one patient, with one caption each.

Their cells run in this process. Of classifiers nothing is trained, which `tests/training` does on
few images: `fit` leaves a network as it was made, of a few channels. Captioners are trained for a
step or two.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import keras
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from small_photos import tiny_backbone

from common.files import read_json
from common.models.resnet import config as resnet_config
from common.training import classification, finder, recipes
from common.training.loop import FitResult

ROOT = Path(__file__).resolve().parents[2]
# Height and width: tall, a single pixel, wide, large.
SHAPES = [(32, 32), (90, 7), (1, 1), (4, 60), (500, 400)]
NETWORKS = ("fast_small", "fast")


def write_image(path, colour, shape, rng, noise):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(colour) + rng.normal(0, noise, (*shape, 3))
    pixels = np.clip(pixels, 0, 255).astype("uint8")
    cv2.imwrite(str(path), pixels[..., 1] if shape == (4, 60) else pixels)  # some are grey


def write_images(root, train, test, shapes=SHAPES, noise=60):
    """`train` and `test`: the number of images of each class."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", train), ("test", test)):
        for c, count in enumerate(counts):
            for i in range(count):
                colour = (40 + 170 * (c % 2), 90, 200 - 170 * (c % 2))
                path = root / split / f"class {c:03}" / f"{i}.png"
                write_image(path, colour, shapes[i % len(shapes)], rng, noise)


def write_slides(root, patients, noise=40):
    """`patients`: the number of patches of class 0 and of class 1 of each."""
    rng = np.random.default_rng(0)
    for p, counts in enumerate(patients):
        place = 0
        for c, count in enumerate(counts):
            for _ in range(count):
                x, y = 1 + 50 * (place % 6), 1 + 50 * (place // 6)
                name = f"p{p}_idx5_x{x}_y{y}_class{c}.png"
                colour = ((220, 150, 200), (110, 60, 140))[c]
                write_image(root / f"p{p}" / str(c) / name, colour, (50, 50), rng, noise)
                place += 1


IMAGES = {
    "twenty": {"train": (8, 8), "test": (2, 2)},
    "rare": {"train": (100, 1), "test": (20, 1)},
    "two each": {"train": (2, 2), "test": (1, 1), "noise": 0},
    "many classes": {"train": (2,) * 200, "test": (1,) * 200, "shapes": [(8, 8)]},
}
SLIDES = {
    "one patient": [(20, 10)],
    "one patient, one positive": [(30, 1)],
    "a class each": [(9, 0), (0, 8), (7, 0), (0, 9)],
    "positives of one": [(6, 0)] * 11 + [(4, 3)],
}


@pytest.fixture(autouse=True)
def untrained(tmp_path, monkeypatch):
    """Outputs in a folder of their own, networks of a few channels, no training."""
    import tensorflow as tf

    def fit(network, train, validation, recipe, settings, **options):
        epochs = np.arange(1, recipe.epochs + 1)
        names = ["loss", "accuracy", *(["val_loss", "val_accuracy"] if validation else [])]
        columns = {"epoch": epochs, **dict.fromkeys(names, 0.5 + 0.01 * epochs), "seconds": 0.1}
        history = pd.DataFrame(columns)
        if folder := options.get("folder"):
            history.to_csv(Path(folder) / "history.csv", index=False)
        return FitResult(history, 0.1 * recipe.epochs)

    def range_test(*arguments, steps, **options):
        rates = np.geomspace(0.01, 1, steps)
        return pd.DataFrame({"learning_rate": rates, "smooth_loss": (rates - 0.1) ** 2})

    presets = resnet_config.PRESETS
    for name in NETWORKS:
        monkeypatch.setitem(presets, name, replace(presets[name], widths=(4,) * 3))
    monkeypatch.setattr(classification, "fit", fit)
    monkeypatch.setattr(finder, "learning_rate_range_test", range_test)
    for table in (recipes.RECIPES, recipes.PHASE2_RECIPES):
        monkeypatch.setitem(table, "laptop", replace(table["smoke"], epochs=2))
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    tf.config.run_functions_eagerly(True)  # to trace a function takes longer than to run it once
    yield
    tf.config.run_functions_eagerly(False)
    plt.close("all")
    keras.backend.clear_session()


def run_lesson(lesson, monkeypatch, **parameters):
    """Runs the cells of a lesson; gives its variables."""
    path = ROOT / f"{lesson}.ipynb"
    monkeypatch.chdir(path.parent)
    found = {"display": lambda *figures: None}
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        # Tables of what networks cost, whatever the data: most of the time of lessons 1.2 and 3.2.
        costs = "cost(config)" in cell.source or "make_backbone(title" in cell.source
        if cell.cell_type == "code" and not costs:
            source = TransformerManager().transform_cell(cell.source)  # %pip
            exec(compile(source, f"{lesson}, cell {number}", "exec"), found)
            if "parameters" in cell.metadata.get("tags", []):
                assert {*parameters} <= {*found}
                found.update(parameters)
            plt.close("all")
    return found


def records(tmp_path):
    runs = tmp_path / "outputs" / "runs"
    return {p.parent.relative_to(runs).as_posix(): read_json(p) for p in runs.rglob("record.json")}


@pytest.mark.parametrize(
    ("name", "profile"),
    [("two each", "smoke"), ("rare", "smoke"), ("many classes", "smoke"), ("rare", "laptop")],
)
def test_images(tmp_path, monkeypatch, name, profile):
    folder = tmp_path / "cats & dogs"
    write_images(folder, **IMAGES[name])
    parameters = {"dataset": f"folder:{folder}", "profile": profile}
    if profile == "smoke":
        run_lesson("phase1_cifar/01_eda", monkeypatch, **parameters)
    if name == "two each":  # what else it needs of the data the other lessons need, too
        run_lesson("phase1_cifar/02_model", monkeypatch, **parameters)
    trained = run_lesson("phase1_cifar/03_training", monkeypatch, **parameters)
    [run] = records(tmp_path)
    assert run == trained["run"].name and run.startswith("own-cats-dogs-")
    assert {"val_accuracy", "test_accuracy"} <= {*records(tmp_path)[run]["metrics"]}
    run_lesson("phase1_cifar/04_evaluation", monkeypatch, **parameters, run_name=run)


@pytest.mark.parametrize("phase", ["phase1_cifar", "phase2_histopathology"])
def test_a_run_is_found_whoever_names_its_data(tmp_path, monkeypatch, phase):
    if phase == "phase1_cifar":
        write_images(tmp_path / "own", **IMAGES["twenty"])
    else:
        write_slides(tmp_path / "own", SLIDES["one patient"])
    dataset, lesson = f"folder:{tmp_path / 'own'}", f"{phase}/03_training"
    first = run_lesson(lesson, monkeypatch, dataset=dataset, profile="smoke", explore=False)
    monkeypatch.setenv("COURSE_DATASET", dataset)
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    again = run_lesson(lesson, monkeypatch, dataset=None, profile=None, explore=False)
    assert [*records(tmp_path)] == [first["run"].name] == [again["run"].name]
    assert again["run"].config == first["run"].config


@pytest.mark.parametrize("name", SLIDES)
def test_slides(tmp_path, monkeypatch, name):
    write_slides(tmp_path / "slides", SLIDES[name])
    parameters = {"dataset": f"folder:{tmp_path / 'slides'}", "profile": "smoke"}
    run_lesson("phase2_histopathology/01_eda", monkeypatch, **parameters)
    if name == "one patient":
        run_lesson("phase2_histopathology/02_model", monkeypatch, **parameters)
    trained = run_lesson("phase2_histopathology/03_training", monkeypatch, **parameters)
    run = trained["run"].name
    assert run.startswith("own-slides-") and records(tmp_path)[run]["threshold"] >= 0
    run_lesson("phase2_histopathology/04_evaluation", monkeypatch, **parameters, run_name=run)


CAPTIONS = (
    "Ein kleiner Hund läuft über die Wiese.",
    "Two brown cats sleep on a sofa.",
    "Un garçon en été près d'un vélo.",
    "猫 が 赤い 敷物 の 上 で 眠る",
    "A man with a hat, and a dog.",
)


def write_captioned(root, captions):
    """A photo for each list of captions."""
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for i, texts in enumerate(captions):
        write_image(root / f"{i}.png", (40 * i, 90, 200 - 40 * i), SHAPES[i % 5], rng, 60)
        lines += [f"{i}.png,{text}" for text in texts]
    (root / "captions.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def small_captioners(monkeypatch):
    """A backbone of one convolution, decoders of a few numbers, a pass or two."""
    import tensorflow as tf

    from common.training.recipes import captioning

    tf.config.run_functions_eagerly(False)  # loops over words are slow in that way
    for module in ("caption_task", "captioner"):
        name = f"common.training.{module}.image_backbone"
        monkeypatch.setattr(name, lambda *_: tiny_backbone())
    sizes = {"width": 16, "max_length": 8, "places_std": 0.0}
    monkeypatch.setitem(captioning.SIZES, "photos", sizes)
    monkeypatch.setitem(captioning.RECURRENT, "photos", {"units": 16, "dropout": 0.1})
    monkeypatch.setitem(captioning._FEWEST_STEPS, "smoke", 1)


def test_photos_with_one_caption_each(tmp_path, monkeypatch, capsys, small_captioners):
    folder = tmp_path / "my photos"
    write_captioned(folder, [[text] for text in CAPTIONS])
    parameters = {"dataset": f"folder:{folder}", "profile": "smoke"}
    found = run_lesson("phase3_captioning/01_eda", monkeypatch, **parameters)
    assert [len(data) for data in found["data"].values()] == [3, 1, 1]
    assert "Each image has one caption" in capsys.readouterr().out
    for lesson in ("02_features", "03_embeddings"):  # of the data, 4 takes what 5 does
        run_lesson(f"phase3_captioning/{lesson}", monkeypatch, **parameters)
    run_lesson("phase3_captioning/05_training", monkeypatch, **parameters, decoder="multi_head")
    [run] = records(tmp_path)
    assert run.startswith("own-my-photos-") and run.endswith("-multi_head-seed0")
    quick = {"reward": "bleu_4", "explore": False}
    run_lesson("phase3_captioning/06_reward", monkeypatch, **parameters, **quick)
    rewarded = [record for name, record in records(tmp_path).items() if name != run]
    assert [record["start"] for record in rewarded] == [run]  # found again, not another one
    run_lesson("phase3_captioning/07_evaluation", monkeypatch, **parameters, run_name=run)
    assert len(records(tmp_path)) == 2


def test_photos_with_one_caption_or_more(tmp_path, monkeypatch, small_captioners):
    texts = [CAPTIONS[i % 5 : i % 5 + 1 + i % 3] for i in range(17)]
    write_captioned(tmp_path / "own", texts)
    parameters = {"dataset": str(tmp_path / "own"), "profile": "smoke"}
    found = run_lesson("phase3_captioning/01_eda", monkeypatch, **parameters)
    assert sum(map(len, found["data"].values())) == 17
    several = [len(captions) > 1 for captions in found["test"].captions]
    assert len(found["several"]) == sum(several)


def test_images_without_a_mistake(tmp_path, monkeypatch, capsys):
    from common.evaluation import classification

    def logits(model, images, *_, **__):
        blue, _, red = images.mean(axis=(1, 2)).T[::-1]
        return np.stack([red - blue, blue - red], axis=1).astype("float32")

    def views(model, images, *_):
        return np.repeat(logits(model, images)[:, None], 6, axis=1)

    write_images(tmp_path / "own", (6, 6), (3, 3), shapes=SHAPES[:1], noise=1)
    monkeypatch.setattr(classification, "predict_logits", logits)
    monkeypatch.setattr(classification, "predict_views", views)
    parameters = {"dataset": str(tmp_path / "own"), "profile": "smoke"}
    found = run_lesson("phase1_cifar/04_evaluation", monkeypatch, **parameters)
    assert found["correct"].all()
    said = capsys.readouterr().out
    assert "There is no mistake." in said and "none: every image is classified correctly" in said


def test_slides_without_a_mistake(tmp_path, monkeypatch, capsys):
    from common.evaluation import patches

    def logits(model, images, *_, **__):
        dark = 160 - images.mean(axis=(1, 2, 3))
        return np.stack([-dark, dark], axis=1).astype("float32") / 10

    write_slides(tmp_path / "own", [(3, 2)] * 10, noise=1)
    monkeypatch.setattr(patches, "predict_logits", logits)
    parameters = {"dataset": str(tmp_path / "own"), "profile": "smoke"}
    run_lesson("phase2_histopathology/04_evaluation", monkeypatch, **parameters)
    said = capsys.readouterr().out
    assert "There are no false alarms." in said and "There are no misses." in said
