import dataclasses
import functools
import shutil

import keras
import numpy as np
import pytest
from killing import KillAt, KilledError
from small import small_data, small_network

from common.errors import ConfigError, CourseError, DataError
from common.layers import AreaResize
from common.training import backend
from common.training.backend import device_scope, device_settings
from common.training.batches import BatchTransformed
from common.training.fit import fit
from common.training.recipes import Recipe

RECIPE = Recipe(
    epochs=4, batch_size=16, learning_rate=0.05, other_learning_rate=0.003,
    head_learning_rate=0.012,
    sizes=((0.5, 6), (0.5, 8)), shift=0, flip="none", mixup=0.2,
    ema_momentum=0.9, ema_overwrite_every=2,
)  # fmt: skip
SETTINGS = device_settings(precision="float32")


BALANCED = dataclasses.replace(RECIPE, imbalance="balanced_batches")


def train(folder=None, recipe=RECIPE, dropout=0.2, **options):
    network = small_network(dropout=dropout)
    result = fit(
        network, small_data(), small_data(32, seed=1), recipe, SETTINGS, seed=5, folder=folder,
        tensorboard=False, progress=False, **options,
    )  # fmt: skip
    return network, result


def test_it_learns_and_keeps_a_row_per_epoch(tmp_path):
    recipe = Recipe(epochs=12, batch_size=16, learning_rate=0.1, other_learning_rate=0.006,
                    head_learning_rate=0.03, label_smoothing=0.0, shift=0, flip="none")  # fmt: skip
    _, result = train(tmp_path, recipe, dropout=0.0)
    assert result.history["epoch"].tolist() == list(range(1, 13))
    assert result.history["loss"].iloc[-1] < 0.6 * result.history["loss"].iloc[0]
    assert result.history["val_accuracy"].iloc[-1] > 0.6
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 13


@functools.cache
def undisturbed_training(recipe):
    return train(recipe=recipe)


@pytest.mark.parametrize(
    ("at", "recipe"),
    [((0, 1), RECIPE), ((1, 3), RECIPE), ((2, 0), RECIPE), ((3, 2), RECIPE), ((2, 1), BALANCED)],
)
def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path, at, recipe):
    undisturbed, expected = undisturbed_training(recipe)
    with pytest.raises(KilledError):
        train(tmp_path, recipe, callbacks=(KillAt(*at),))
    network, result = train(tmp_path, recipe)
    assert result.history["epoch"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(
        result.history.drop(columns="seconds"), expected.history.drop(columns="seconds"), atol=1e-4
    )
    for ours, theirs in zip(network.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first, expected = train(tmp_path)
    again, result = train(tmp_path)
    assert result.history.equals(expected.history)
    for ours, theirs in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_sizes_need_a_network_that_can_shrink_images():
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    network = keras.Model(pixels, keras.layers.Dense(4)(features))
    with pytest.raises(ConfigError, match="cannot shrink images"):
        fit(network, small_data(), None, RECIPE, SETTINGS, progress=False)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles in its own way")
def test_a_step_is_traced_once(monkeypatch):
    # Tracing takes seconds; TensorFlow traces again what made variables the first time.
    traced = []
    train_step = BatchTransformed.train_step

    def counting(self, data):
        traced.append(self)
        return train_step(self, data)

    monkeypatch.setattr(BatchTransformed, "train_step", counting)
    train(recipe=dataclasses.replace(RECIPE, sizes=()))
    assert len(traced) == 1


def test_each_phase_trains_at_its_size():
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, images, training=False):
            if training:
                seen.append(images.shape[1])
            return images

    pixels = keras.Input((None, None, 3), dtype="uint8")
    x = Spy()(AreaResize(8)(keras.layers.Rescaling(1 / 255)(pixels)))
    network = keras.Model(pixels, keras.layers.Dense(4)(keras.layers.GlobalMaxPooling2D()(x)))
    fit(network, small_data(), None, RECIPE, SETTINGS, progress=False)
    assert set(seen[:1]) == {6} and set(seen[-1:]) == {8} and set(seen) == {6, 8}


def share_of_the_rare_class(imbalance):
    """What a network that can learn nothing else predicts for the class of one image in eight."""
    noise = small_data(128, classes=2)
    noise = dataclasses.replace(noise, labels=(np.arange(128) % 8 == 7).astype("int32"))
    recipe = Recipe(epochs=6, batch_size=16, optimizer="sgd", learning_rate=0.3, momentum=0.9,
                    label_smoothing=0.0, shift=0, flip="none", imbalance=imbalance)  # fmt: skip
    pixels = keras.Input((None, None, 3), dtype="uint8")
    blind = keras.layers.Rescaling(0.0)(keras.layers.GlobalAveragePooling2D()(pixels))
    network = keras.Model(pixels, keras.layers.Dense(2, dtype="float32")(blind))
    result = fit(network, noise, noise, recipe, SETTINGS, progress=False)
    logits = network.predict(noise.images, verbose=0)
    assert np.isfinite(result.history["loss"]).all()
    # Validation is scored with plain cross-entropy, whatever the network was trained on.
    p = 1 / (1 + np.exp(logits[0, 0] - logits[0, 1]))
    entropy = -(7 / 8 * np.log(1 - p) + 1 / 8 * np.log(p))
    assert result.history["val_loss"].iloc[-1] == pytest.approx(entropy, rel=1e-4)
    return p


def test_each_method_against_imbalance_does_its_part():
    assert share_of_the_rare_class("none") == pytest.approx(1 / 8, abs=0.03)
    assert share_of_the_rare_class("class_weights") == pytest.approx(1 / 2, abs=0.1)
    assert share_of_the_rare_class("balanced_batches") == pytest.approx(1 / 2, abs=0.05)
    # Where (1 - p)^2 ln p / 8 + 7 p^2 ln(1 - p) / 8 is largest.
    assert share_of_the_rare_class("focal") == pytest.approx(0.326, abs=0.05)


def test_keep_best_ends_with_the_best_epoch(tmp_path):
    network, result = train(tmp_path, keep_best=True)
    network.compile(metrics=["accuracy"])
    validation = small_data(32, seed=1)
    logits = network.predict(validation.images, verbose=0)
    accuracy = (logits.argmax(1) == validation.labels).mean()
    best = result.history["val_accuracy"].idxmax()
    if best >= 2:  # epochs before are scored at the smaller size
        assert accuracy == pytest.approx(result.history["val_accuracy"].max(), abs=1e-6)
    with pytest.raises(ConfigError, match="keep_best"):
        train(None, keep_best=True)


def test_a_foreign_or_damaged_checkpoint_is_told(tmp_path):
    (tmp_path / "checkpoint.weights.h5").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"checkpoint\.weights\.h5"):
        train(tmp_path)


def test_a_disk_too_full_for_a_checkpoint_is_told_and_the_last_one_stays(tmp_path, monkeypatch):
    train(tmp_path, dataclasses.replace(RECIPE, epochs=2))
    before = (tmp_path / "checkpoint.weights.h5").read_bytes()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(CourseError, match="MB left"):
        train(tmp_path)
    assert (tmp_path / "checkpoint.weights.h5").read_bytes() == before


def test_tensorboard_logs_or_a_notice(tmp_path, capsys):
    network = small_network()
    data = small_data(32)
    recipe = Recipe(epochs=1, batch_size=16, shift=0)
    fit(network, data, None, recipe, SETTINGS, folder=tmp_path, progress=False)
    if backend.tensorboard_available():
        assert list(tmp_path.glob("tensorboard/train/events*"))
    else:
        assert "no TensorBoard" in capsys.readouterr().out


def test_precision_applies_inside_the_scope_only():
    with device_scope(device_settings(precision="mixed_bfloat16")):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_unknown_settings_are_told():
    with pytest.raises(ConfigError, match="mixed_bfloat16"):
        device_settings(precision="float8")
    with pytest.raises(ConfigError, match="'all'"):
        device_settings(devices="two")
