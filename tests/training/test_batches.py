import keras
import numpy as np
import pytest
from keras import ops
from small import small_data, small_network

from common.errors import ConfigError, DataError
from common.layers.batch_transforms import AlternatingFlip, MixUp
from common.training.batches import BatchTransformed, CaptionBatches, ImageBatches
from common.training.losses import FocalLoss


def order(batches):
    return np.concatenate([batches[i][0]["index"] for i in range(len(batches))])


def test_order_follows_from_seed_and_epoch_alone():
    data = small_data(50)
    first, second = (ImageBatches(data, 16, seed=3) for _ in range(2))
    first.start_epoch(4)
    second.start_epoch(1)
    second.start_epoch(4)
    np.testing.assert_array_equal(order(first), order(second))
    assert sorted(order(first)) == list(range(50))
    second.start_epoch(5)
    assert (order(first) != order(second)).any()


def test_without_seed_the_order_is_the_data_s_and_the_last_batch_short():
    batches = ImageBatches(small_data(50), 16)
    np.testing.assert_array_equal(order(batches), np.arange(50))
    assert len(batches) == 4 and len(batches[3][1]) == 2
    assert len(ImageBatches(small_data(50), 16, drop_remainder=True)) == 3


def test_corrupted_batches_follow_from_seed_and_epoch_and_leave_the_rest_alone():
    data = small_data(200)
    plain, first, second = (
        ImageBatches(data, 100, seed=3, corruption=share) for share in (0.0, 0.5, 0.5)
    )
    (clean, labels), (inputs, same) = plain[0], first[0]
    np.testing.assert_array_equal(inputs["images"], second[0][0]["images"])
    np.testing.assert_array_equal(inputs["index"], clean["index"])
    np.testing.assert_array_equal(labels, same)
    changed = (inputs["images"] != clean["images"]).any(axis=(1, 2, 3))
    assert 0.3 < changed.mean() < 0.7
    assert (inputs["images"] != first[1][0]["images"]).any()
    first.start_epoch(1), plain.start_epoch(1)
    again = (first[0][0]["images"] != plain[0][0]["images"]).any(axis=(1, 2, 3))
    assert (changed != again).any(), "others each time"
    np.testing.assert_array_equal(data.images, small_data(200).images)
    with pytest.raises(ConfigError, match="seed"):
        ImageBatches(data, 100, corruption=0.5)


def uneven(classes=2, small=6, large=44):
    """`large` images of class 0 and `small` of each other."""
    data = small_data(classes * large, classes=classes)
    members = [np.flatnonzero(data.labels == label) for label in range(classes)]
    return data.subset([*members[0], *(i for m in members[1:] for i in m[:small])])


@pytest.mark.parametrize(("classes", "batch_size"), [(2, 10), (3, 10), (4, 8)])
def test_balanced_batches_have_every_class_equally_often(classes, batch_size):
    data = uneven(classes)
    plain = ImageBatches(data, batch_size, seed=3)
    batches = ImageBatches(data, batch_size, seed=3, balance=True)
    assert len(batches) == len(plain) and len(order(batches)) == len(data)
    for i in range(len(batches)):
        labels = batches[i][1]
        counts = np.bincount(labels, minlength=classes)
        assert counts.max() - counts.min() == (0 if len(labels) % classes == 0 else 1)
    # Nothing of a small class is left out, nothing of the large one comes twice.
    seen = np.bincount(order(batches), minlength=len(data))
    assert seen[:44].max() == 1
    for label in range(1, classes):
        times = seen[data.labels == label]
        assert times.min() >= 1 and times.max() - times.min() <= 1


def test_balanced_batches_follow_from_seed_and_epoch_alone():
    data = uneven()
    first, second = (ImageBatches(data, 10, seed=3, balance=True) for _ in range(2))
    first.start_epoch(4)
    second.start_epoch(1)
    second.start_epoch(4)
    np.testing.assert_array_equal(order(first), order(second))
    left_out = set(range(44)) - set(order(first))
    second.start_epoch(5)
    assert left_out & set(order(second)), "other images each time"
    other = ImageBatches(data, 10, seed=4, balance=True)
    other.start_epoch(4)
    assert (order(other) != order(first)).any()


def test_balanced_batches_are_in_random_order_within():
    """Else mixup, which pairs the ends of a batch, would always pair different classes."""
    batches = ImageBatches(uneven(large=400, small=100), 100, seed=0, balance=True)
    pairs = np.concatenate([batches[i][1] == batches[i][1][::-1] for i in range(len(batches))])
    assert 0.4 < pairs.mean() < 0.6


def test_batches_that_cannot_be_balanced_are_told():
    with pytest.raises(ConfigError, match="need a seed"):
        ImageBatches(uneven(), 10, balance=True)
    with pytest.raises(DataError, match=r"small \(train\) has no image of class1 to balance"):
        ImageBatches(uneven().subset(range(44)), 10, seed=0, balance=True)


@pytest.mark.parametrize("integers", ["int32", "int64"])
def test_alternating_flip_shows_each_image_once_either_way_in_two_epochs(integers):
    images = np.arange(40 * 2 * 4 * 3, dtype="uint8").reshape(40, 2, 4, 3)
    targets = np.eye(40, dtype="float32")
    flip, index = AlternatingFlip(seed=7), np.arange(40, dtype=integers)

    def epoch(number):
        result, same = flip(
            ops.convert_to_tensor(images), targets, index, np.full(40, number, integers)
        )
        np.testing.assert_array_equal(ops.convert_to_numpy(same), targets)
        return ops.convert_to_numpy(result)

    even, odd = epoch(0), epoch(1)
    np.testing.assert_array_equal(epoch(2), even)
    mirrored = (even == images[:, :, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(even[mirrored], odd[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(odd[~mirrored], images[~mirrored][:, :, ::-1])
    assert 8 <= mirrored.sum() <= 32
    other, _ = AlternatingFlip(seed=8)(images, targets, index, np.zeros(40, integers))
    assert 8 <= (ops.convert_to_numpy(other) != even).any((1, 2, 3)).sum() <= 32


def test_mixup_blends_images_and_targets_alike():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0] = 200
    mixed, targets = MixUp(alpha=1.0, seed=1)(images, np.eye(2, dtype="float32"), None, None)
    mixed, targets = ops.convert_to_numpy(mixed), ops.convert_to_numpy(targets)
    assert mixed.dtype == np.uint8
    np.testing.assert_allclose(mixed[:, 0, 0, 0] / 200, targets[:, 0], atol=0.01)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert 0 < targets[0, 0] < 1
    with pytest.raises(ValueError, match="alpha"):
        MixUp(alpha=0)


def test_transforms_act_in_training_only_and_loss_is_smoothed_cross_entropy():
    data = small_data(8)
    inputs, labels = ImageBatches(data, 8)[0]
    model = BatchTransformed(small_network(), 4, label_smoothing=0.2, transforms=[MixUp(1.0)])
    inference = model(inputs, training=False)
    np.testing.assert_allclose(
        ops.convert_to_numpy(inference["logits"]),
        ops.convert_to_numpy(model.network(data.images, training=False)),
        atol=1e-5,
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(inference["targets"]), np.eye(4)[labels])
    training = BatchTransformed(small_network(), 4, label_smoothing=0.2)(inputs, training=True)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(
        np.eye(4)[labels], training["logits"]
    )
    loss = model.compute_loss(y=labels, y_pred=training)
    assert float(ops.convert_to_numpy(loss)) == pytest.approx(float(expected), rel=1e-5)


def test_another_loss_is_for_training_alone():
    data = small_data(8)
    inputs, labels = ImageBatches(data, 8)[0]
    model = BatchTransformed(small_network(), 4, loss=FocalLoss(2))
    outputs = model(inputs, training=False)
    for loss, training in ((FocalLoss(2), True), (model.cross_entropy, False)):
        expected = loss(np.eye(4)[labels], outputs["logits"])
        ours = model.compute_loss(y=labels, y_pred=outputs, training=training)
        assert float(ops.convert_to_numpy(ours)) == pytest.approx(float(expected), rel=1e-6)


def test_keras_trains_on_the_batches_of_each_epoch_in_their_order():
    data = small_data(50)
    batches = ImageBatches(data, 16, seed=3, drop_remainder=True)
    seen = {}

    class Witness(keras.Model):
        def call(self, inputs, training=False):
            if training:
                seen.setdefault(batches.epoch, []).append(ops.convert_to_numpy(inputs["index"]))
            return ops.zeros((ops.shape(inputs["index"])[0], 1))

    class NextEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            batches.start_epoch(epoch)

    model = Witness()
    model.compile(loss="mse", run_eagerly=True)
    for first, end in ((0, 3), (3, 5)):
        model.fit(
            batches.for_fit(),
            validation_data=ImageBatches(data, 16).for_fit(),
            initial_epoch=first,
            epochs=end,
            shuffle=False,
            verbose=0,
            callbacks=[NextEpoch()],
        )
    for epoch in range(5):
        expected = ImageBatches(data, 16, seed=3, drop_remainder=True)
        expected.start_epoch(epoch)
        np.testing.assert_array_equal(np.concatenate(seen[epoch]), order(expected)[:48])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about tf.data")
def test_tf_data_is_not_autotuned():
    batches = ImageBatches(small_data(50), 16).for_fit()
    assert batches.options().autotune.enabled is False
    assert int(batches.cardinality()) == 4


def test_each_row_of_captions_comes_with_its_image():
    features = np.arange(3, dtype="float16")[:, None, None]
    owners, tokens = np.array([0, 1, 2, 2, 2]), np.arange(10).reshape(5, 1, 2)
    batches = CaptionBatches(features, tokens, 2, seed=1, owners=owners)
    found = [batches[i] for i in range(len(batches))]
    rows = np.concatenate([inputs["tokens"][:, 0, 0] // 2 for inputs, _ in found])
    assert sorted(rows) == [0, 1, 2, 3, 4]
    images = np.concatenate([inputs["features"].ravel() for inputs, _ in found])
    np.testing.assert_array_equal(images, owners[rows])


def test_other_images_are_mirrored_in_each_epoch():
    plain, tokens = np.zeros((64, 1, 1), "float16"), np.ones((64, 1, 3), "int32")
    batches = CaptionBatches(plain, tokens, 16, seed=3, mirrored=plain + 1)

    def turned(epoch):
        batches.start_epoch(epoch)
        found = np.zeros(64)
        for i in range(len(batches)):
            found[batches.indices(i)] = batches[i][0]["features"][:, 0, 0]
        return found

    first, second = turned(0), turned(1)
    np.testing.assert_array_equal(turned(0), first)
    assert 16 < (first != second).sum() < 48 and 16 < first.sum() < 48
    slots = [batches[i][0]["features"].ravel().tolist() for i in range(4)]
    batches.start_epoch(1)
    slots += [batches[i][0]["features"].ravel().tolist() for i in range(4)]
    assert len(set(map(tuple, slots))) == 8  # not the same places of every batch, or epoch
