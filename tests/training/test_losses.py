import keras
import numpy as np
import pytest
from keras import ops
from small import small_data

from common.errors import DataError
from common.training.backend import gradient_function
from common.training.losses import FocalLoss, WeightedCrossEntropy, class_weights

ONE_HOT = np.eye(3, dtype="float32")


def batch(n=64, seed=0):
    """Logits and soft targets."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 3)).astype("float32")
    return rng.dirichlet([0.5] * 3, n).astype("float32"), logits


def value(loss, targets, logits):
    return float(ops.convert_to_numpy(loss(targets, logits)))


def test_class_weights_by_hand():
    data = small_data(40, classes=2)
    few = data.subset([*range(0, 40, 2), *range(1, 11, 2)])  # 20 and 5
    weights = class_weights(few)
    np.testing.assert_allclose(weights, [25 / 40, 25 / 10])
    assert weights[few.labels].mean() == pytest.approx(1)


def test_a_class_without_images_has_no_weight():
    with pytest.raises(DataError, match=r"small \(train\) has no image of class1, class3"):
        class_weights(small_data(40).subset(range(0, 40, 2)))


def test_weighted_cross_entropy_by_hand():
    # Probabilities of 1/3 each: the loss of an image is its weight times ln 3.
    loss = WeightedCrossEntropy([1, 2, 6])
    logits = np.zeros((3, 3), "float32")
    assert value(loss, ONE_HOT, logits) == pytest.approx(3 * np.log(3), rel=1e-6)
    blended = np.array([[0.5, 0.0, 0.5]], "float32")
    assert value(loss, blended, logits[:1]) == pytest.approx(3.5 * np.log(3), rel=1e-6)
    # The weight is the image's, whatever its classes are thought to be.
    unsure = np.log([[0.5, 0.25, 0.25]]).astype("float32")
    expected = 3.5 * -(0.5 * np.log(0.5) + 0.5 * np.log(0.25))
    assert value(loss, blended, unsure) == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_equals_keras_s_with_sample_weights():
    _, logits = batch()
    labels = np.arange(64) % 3
    weights = np.array([0.5, 1.5, 3.0], "float32")
    expected = keras.losses.CategoricalCrossentropy(from_logits=True)(
        ONE_HOT[labels], logits, weights[labels]
    )
    ours = value(WeightedCrossEntropy(weights), ONE_HOT[labels], logits)
    assert ours == pytest.approx(float(expected), rel=1e-5)


def test_focal_loss_by_hand():
    logits = np.log([[0.9, 0.05, 0.05]]).astype("float32")
    hit, miss = value(FocalLoss(2), ONE_HOT[:1], logits), value(FocalLoss(2), ONE_HOT[1:2], logits)
    assert hit == pytest.approx(-(0.1**2) * np.log(0.9), rel=1e-4)
    assert miss == pytest.approx(-(0.95**2) * np.log(0.05), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_equals_keras_s(gamma):
    targets, logits = batch()
    reference = keras.losses.CategoricalFocalCrossentropy(alpha=1, gamma=gamma, from_logits=True)
    for target in (ONE_HOT[np.arange(64) % 3], targets):
        expected = value(reference, target, logits)
        assert value(FocalLoss(gamma), target, logits) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [FocalLoss(0), WeightedCrossEntropy([1, 1, 1])])
def test_the_neutral_choice_is_cross_entropy(loss):
    targets, logits = batch()
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert value(loss, targets, logits) == pytest.approx(
        value(cross_entropy, targets, logits), rel=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_of_the_focal_loss_is_finite_where_the_prediction_is_certain(gamma):
    logits = np.array([[60.0, -60.0, 0.0], [0.0, 80.0, -80.0]], "float32")
    function = gradient_function(lambda x, t: (FocalLoss(gamma)(t, x), ops.sum(x)))
    loss, _, gradient = function(logits, ONE_HOT[:2])
    assert np.isfinite(ops.convert_to_numpy(loss))
    assert np.isfinite(ops.convert_to_numpy(gradient)).all()


def test_gradients_of_a_list_are_a_list():
    function = gradient_function(lambda parts, c: (ops.sum(parts[0] ** 2) * c + parts[1], c))
    value, more, gradients = function([np.array([1, 2], "f"), np.float32(5)], np.float32(3))
    assert (float(value), float(more)) == (20, 3)
    wanted = [[6, 12], 1]
    for gradient, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected)


@pytest.mark.parametrize("loss", [FocalLoss(1.5), WeightedCrossEntropy([1, 2, 3])])
def test_losses_are_saved_by_their_arguments(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    targets, logits = batch()
    assert value(again, targets, logits) == value(loss, targets, logits)


def test_negative_gamma_is_named():
    with pytest.raises(ValueError, match="gamma=-1"):
        FocalLoss(-1)
