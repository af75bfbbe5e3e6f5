import tracemalloc

import keras
import numpy as np
import pytest
from scipy.special import softmax

from common.data.images import ImageData
from common.errors import ConfigError, DataError
from common.evaluation.classification import (
    VIEW_WEIGHTS,
    average_views,
    calibration,
    evaluate,
    predict,
    predict_logits,
    predict_views,
    symmetric_views,
    test_time_views,
    tta_table,
)
from common.evaluation.metrics import expected_calibration_error, temperature_scaling

SIZE = 6


def random_images(n, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype("uint8")


@pytest.fixture(scope="module")
def linear():
    """A linear classifier of raw pixels, and what it computes, in NumPy."""
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    weights = np.random.default_rng(1).standard_normal((SIZE * SIZE * 3, 4)).astype("float32")
    bias = np.array([0.1, 0.2, 0.3, 0.4], "float32")
    model.layers[-1].set_weights([weights, bias])
    return model, lambda images: images.reshape(len(images), -1) / 255 @ weights + bias


def test_views_by_hand():
    image = np.arange(1, 10, dtype="uint8").reshape(1, 3, 3, 1)
    views = [view[0, :, :, 0].tolist() for view in test_time_views(image)]
    assert views == [
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[3, 2, 1], [6, 5, 4], [9, 8, 7]],
        [[5, 6, 5], [8, 9, 8], [5, 6, 5]],  # up and left: row 2, column 2 comes first
        [[5, 6, 5], [8, 9, 8], [5, 6, 5]],
        [[5, 4, 5], [2, 1, 2], [5, 4, 5]],  # down and right: the image begins at row 2, column 2
        [[5, 4, 5], [2, 1, 2], [5, 4, 5]],
    ]
    assert sum(VIEW_WEIGHTS) == 1 and len(VIEW_WEIGHTS) == 6


def test_views_keep_type_and_shape_and_come_in_mirrored_pairs():
    images = random_images(2, 8)
    views = test_time_views(images)
    assert all(v.shape == images.shape and v.dtype == np.uint8 for v in views)
    assert all(v.flags.c_contiguous for v in views)
    for view, mirrored in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, view[:, :, ::-1])
    np.testing.assert_array_equal(views[2][:, :-1, :-1], images[:, 1:, 1:])
    np.testing.assert_array_equal(views[4][:, 1:, 1:], images[:, :-1, :-1])


def test_predictions_are_the_models_whatever_the_batch_size(linear):
    model, by_hand = linear
    images = random_images(7)
    for batch_size in (1, 3, 7, 500):
        got = predict(model, images, batch_size)
        assert got.shape == (7, 4) and got.dtype == np.float32
        np.testing.assert_allclose(got, softmax(by_hand(images), axis=1), rtol=1e-4, atol=1e-6)


def test_tta_weighs_the_logits_of_six_views(linear):
    model, by_hand = linear
    images = random_images(5)
    views = [by_hand(view) for view in test_time_views(images)]
    in_place, shifted = sum(views[:2]) / 2, sum(views[2:]) / 4
    expected = (in_place + shifted) / 2
    got = predict_logits(model, images, batch_size=2, tta=True)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    probabilities = predict(model, images, batch_size=2, tta=True)
    np.testing.assert_allclose(probabilities, softmax(expected, axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(predict_views(model, images)[:, 3], views[3], rtol=1e-4, atol=1e-5)


def test_the_eight_symmetries_are_each_there_once():
    image = np.arange(1, 5, dtype="uint8").reshape(1, 2, 2, 1)
    views = [tuple(view.ravel().tolist()) for view in symmetric_views(image)]
    assert views[:4] == [(1, 2, 3, 4), (2, 1, 4, 3), (2, 4, 1, 3), (4, 2, 3, 1)]
    assert len(set(views)) == 8
    with pytest.raises(DataError, match="square"):
        symmetric_views(np.zeros((1, 2, 3, 3), "uint8"))


def test_averaged_over_symmetries_a_turned_image_gets_the_same_answer(linear):
    model, by_hand = linear
    images = random_images(5)
    expected = np.mean([by_hand(view) for view in symmetric_views(images)], axis=0)
    for view in symmetric_views(images):
        got = predict_logits(model, view, batch_size=2, tta="symmetries")
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(predict_logits(model, images) - expected).max() > 0.01
    with pytest.raises(ConfigError, match="tta='turns'.*symmetries"):
        predict(model, images, tta="turns")


class CountsTraces(keras.layers.Layer):
    traces = 0

    def call(self, x):
        type(self).traces += 1
        return x


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch compiles nothing")
def test_a_short_last_batch_compiles_nothing_anew():
    layers = [CountsTraces(), keras.layers.Rescaling(1.0), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3), dtype="uint8"), *layers])
    predict(model, random_images(6), batch_size=3)
    traces = CountsTraces.traces
    predict(model, random_images(8), batch_size=3, tta=True)
    assert CountsTraces.traces == traces


def test_memory_does_not_grow_with_the_images():
    layers = [keras.layers.Rescaling(1.0), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *layers])
    images = random_images(2000, 32)
    predict(model, images[:50], batch_size=50, tta=True)
    tracemalloc.start()
    predict(model, images, batch_size=50, tta=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 2


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (random_images(2).astype("float32"), "float32"),
        (random_images(2)[0], r"uint8 \(6, 6, 3\)"),
        ([1, 2], "list"),
        (random_images(0), "no image"),
        (random_images(2, 8), r"takes images of \(6, 6, 3\).*\(8, 8, 3\)"),
    ],
)
def test_images_that_do_not_fit_are_named(linear, images, problem):
    with pytest.raises(DataError, match=problem):
        predict(linear[0], images)


def test_batch_size_and_output_are_checked(linear):
    with pytest.raises(ConfigError, match="batch_size"):
        predict(linear[0], random_images(2), batch_size=0)
    maps = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3), dtype="uint8"), keras.layers.Rescaling(1.0)]
    )
    with pytest.raises(ConfigError, match=r"logits \(N, classes\)"):
        predict(maps, random_images(2))


def labelled(model, n, classes=("a", "b", "c", "d")):
    """Images whose true class the model finds in three of four cases."""
    images = random_images(n)
    labels = predict(model, images).argmax(axis=1).astype("int32")
    labels[::4] = (labels[::4] + 1) % 4
    return ImageData(images, labels, classes, "made up", "test")


def test_evaluate_scores_with_and_without_tta(linear):
    model, by_hand = linear
    data = labelled(model, 40)
    result = evaluate(model, data, batch_size=16)
    assert result["n"] == 40 and result["accuracy"] == 0.75
    assert result["accuracy_low"] < 0.75 < result["accuracy_high"]
    probabilities = softmax(by_hand(data.images), axis=1)
    chosen = probabilities[np.arange(40), data.labels]
    assert result["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    ece = expected_calibration_error(data.labels, probabilities)
    assert result["ece"] == pytest.approx(ece, rel=1e-3)
    predicted = predict(model, data.images, tta=True).argmax(axis=1)
    assert result["accuracy_tta"] == np.mean(predicted == data.labels)
    plain = evaluate(model, data, tta=False)
    assert "accuracy_tta" not in plain
    assert plain["loss"] == pytest.approx(result["loss"], rel=1e-5)


def test_evaluate_wants_the_models_number_of_classes(linear):
    data = labelled(linear[0], 8, classes=("a", "b", "c", "d", "e"))
    with pytest.raises(DataError, match="4 classes.*has 5"):
        evaluate(linear[0], data)


def test_tta_table_counts_what_changes():
    # Three images of class 0; logits of class 1 are 0. Alone: right, wrong, wrong.
    first = np.array([[1, 1, 1, 1, 1, 1], [-1, 3, -9, -9, -9, -9], [-1, -1, 5, 5, 5, 5]], "float32")
    views = np.stack([first, np.zeros_like(first)], axis=2)
    table = tta_table(np.zeros(3, int), views)
    assert table["accuracy"].tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert table["corrected"].tolist() == [0, 1, 1]  # the second image, then the third instead
    assert table["spoiled"].tolist() == [0, 0, 0]
    assert table["gain"].tolist() == pytest.approx([0, 1 / 3, 1 / 3])
    assert table["low"].iloc[2] < 1 / 3 < table["high"].iloc[2]
    assert tta_table(np.ones(3, int), views)["spoiled"].tolist() == [0, 1, 1]
    np.testing.assert_allclose(average_views(views)[:, 0], [1, -4, 2])
    with pytest.raises(DataError, match=r"\(N, 6, classes\)"):
        tta_table(np.zeros(3, int), views[:, :5])


def test_calibration_for_a_record(linear):
    model, logits_of = linear
    images = random_images(300)
    logits = logits_of(images)
    noise = np.random.default_rng(5).gumbel(size=logits.shape)
    labels = (logits / 2 + noise).argmax(axis=1).astype("int32")
    data = ImageData(images, labels, ("a", "b", "c", "d"), "random", "validation")
    found = calibration(model, data)
    assert found["split"] == "validation" and found["n"] == 300
    assert found["temperature"] == pytest.approx(2, rel=0.3)
    assert found["ece_calibrated"] < found["ece"]
    right = np.flatnonzero(logits.argmax(axis=1) == labels)[:3]
    boastful = temperature_scaling(logits[right], labels[right])
    assert calibration(model, data.subset(right))["temperature"] > 2 * boastful
