"""Teacher forcing: losses by hand, training, kills and resumption."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from colours import LEARNERS, coloured, right_colours
from killing import KillAt, KilledError

from common.data.vocabulary import PAD, UNK, Vocabulary
from common.errors import ConfigError, DataError
from common.evaluation.captioners import bleu_4
from common.files import read_json
from common.models.captioning import decoder
from common.training.backend import device_scope, device_settings
from common.training.generation import SAMPLES, build_decoder
from common.training.teacher_forcing import (
    CaptionedFeatures,
    CaptionRecipe,
    TeacherForced,
    doubly_stochastic_penalty,
    fit_captioner,
    word_losses,
)

HERE = Path(__file__).parent
SETTINGS = device_settings(precision="float32")
RECIPE = CaptionRecipe(epochs=4, batch_size=4, learning_rate=0.02)

TEXTS = ("a X thing", "there is a X thing")
TRAIN, DEV = coloured(16, TEXTS), coloured(8, TEXTS, seed=1)
VOCABULARY = Vocabulary.build([c for image in TRAIN.references for c in image], 1)


def untrained(name):
    recurrent = name in ("rnn", "lstm", "attention_lstm")
    arguments = {"units": 24} if recurrent else {"num_blocks": 1}
    keras.utils.set_random_seed(0)
    made = decoder(name, len(VOCABULARY), width=16, dropout=0.1, max_length=8, **arguments)
    return build_decoder(made, 4, 5)


def train(folder=None, recipe=RECIPE, name="rnn", score=bleu_4, **options):
    """By default the decoder that compiles fastest."""
    with device_scope(SETTINGS):
        network = untrained(name)
        result = fit_captioner(
            network,
            VOCABULARY,
            TRAIN,
            DEV,
            recipe,
            SETTINGS,
            score=score,
            seed=5,
            folder=folder,
            tensorboard=False,
            progress=False,
            **options,
        )
    return network, result


# -- The loss ----------------------------------------------------------------------------------


def test_word_losses_by_hand():
    # <pad>, <start>, <end>, <unk> and two words.
    first, second = [0.01, 0.02, 0.1, 0.07, 0.2, 0.6], [0.1, 0.1, 0.25, 0.25, 0.2, 0.1]
    logits = np.log(np.array([[first, second, [1 / 6] * 6]], "float32"))
    targets = np.array([[5, UNK, PAD]], "int32")
    losses, counted = word_losses(targets, logits)
    np.testing.assert_allclose(losses, [[-np.log(0.6), -np.log(0.25), 0]], rtol=1e-5)
    np.testing.assert_array_equal(counted, [[1, 1, 0]])
    # The share goes to <end> and the two words: a caption has no other.
    smoothed = keras.ops.convert_to_numpy(word_losses(targets, logits, 0.3)[0])
    shares = [-0.7 * np.log(0.6) - 0.1 * np.log([0.1, 0.2, 0.6]).sum()]
    shares += [-0.7 * np.log(0.25) - 0.1 * np.log([0.25, 0.2, 0.1]).sum(), 0]
    np.testing.assert_allclose(smoothed[0], shares, rtol=1e-5)


def test_labels_are_smoothed_in_training_only():
    rng = np.random.default_rng(0)
    predicted = {"logits": rng.normal(size=(2, 3, 6, 9)).astype("float32")}
    tokens = rng.integers(4, 9, (2, 3, 7)).astype("int32")
    plain, smooth = TeacherForced(keras.Sequential()), TeacherForced(keras.Sequential(), 0.1)

    def loss(model, training):
        return float(model.compute_loss(y=tokens, y_pred=predicted, training=training))

    assert loss(smooth, False) == loss(plain, False) == loss(plain, True) != loss(smooth, True)


def test_pads_are_not_in_the_loss():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 6, 9)).astype("float32")
    tokens = rng.integers(4, 9, (2, 3, 7)).astype("int32")
    tokens[..., 4:] = PAD
    model = TeacherForced(keras.Sequential())
    loss = model.compute_loss(y=tokens, y_pred={"logits": logits}, training=False)
    other = logits.copy()
    other[:, :, 3:] = rng.normal(size=(2, 3, 3, 9))  # predictions of pads
    again = model.compute_loss(y=tokens, y_pred={"logits": other}, training=False)
    assert float(loss) == float(again)
    short = {"logits": logits[:, :, :3]}
    cut = model.compute_loss(y=tokens[:, :, :4], y_pred=short, training=False)
    assert float(loss) == pytest.approx(float(cut), rel=1e-6)


def test_doubly_stochastic_penalty_by_hand():
    even = np.full((1, 4, 2), 0.5, "float32")
    counted = np.ones((1, 4), "float32")
    assert float(doubly_stochastic_penalty(even, counted)) == pytest.approx(0)
    one_place = np.zeros((1, 4, 2), "float32")
    one_place[..., 0] = 1
    # (1 - 2)^2 and (1 - 0)^2
    assert float(doubly_stochastic_penalty(one_place, counted)) == pytest.approx(1)
    # A caption of pads counts for nothing, nor does what is looked at on pads.
    both = np.concatenate([one_place, even])
    found = doubly_stochastic_penalty(both, np.array([[1, 1, 1, 1], [0, 0, 0, 0]], "float32"))
    assert float(found) == pytest.approx(1)
    # Nor what is looked at on the pads of a caption that has words.
    half = np.concatenate([one_place[:, :2], even[:, :2]], axis=1)
    found = doubly_stochastic_penalty(half, np.array([[1, 1, 0, 0]], "float32"))
    assert float(found) == pytest.approx(1)


def test_the_penalty_is_of_the_last_block_and_the_mean_of_its_heads():
    tokens = np.full((1, 1, 3), 4, "int32")
    attention = np.zeros((1, 1, 2, 2, 2, 2), "float32")
    attention[..., 0, :, 0] = 1  # the first block: one region, as above
    attention[..., 1, 0, 0] = attention[..., 1, 1, 1] = 1  # the last one: each head another
    predicted = {"logits": np.zeros((1, 1, 2, 9), "float32")}

    def loss(attention):
        told = predicted | {"attention": attention}
        model = TeacherForced(keras.Sequential(), attention_penalty=0.5)
        return float(model.compute_loss(y=tokens, y_pred=told, training=True))

    without = float(TeacherForced(keras.Sequential()).compute_loss(y=tokens, y_pred=predicted))
    assert loss(attention) == pytest.approx(without)
    assert loss(attention[..., ::-1, :, :]) == pytest.approx(without + 0.5)


def test_weight_decay_leaves_biases_norms_and_embeddings():
    network = untrained("self_attention")
    network.set_weights([np.ones(w.shape) for w in network.get_weights()])
    optimizer = dataclasses.replace(RECIPE, weight_decay=0.1).make_optimizer(10)
    optimizer.build(network.trainable_variables)
    optimizer.apply([keras.ops.zeros(w.shape) for w in network.trainable_variables])
    for weight in network.trainable_variables:
        kept = weight.name in ("bias", "gamma", "beta", "embeddings", "positions", "places")
        kept = kept or weight.name.endswith("_bias")
        assert (keras.ops.convert_to_numpy(weight) == 1).all() == kept, weight.path


# -- Training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_decoders_learn_to_name_colours(name, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=20, label_smoothing=0.0)
    _, result = train(tmp_path, recipe, name, score=right_colours)
    history = result.history
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert history["val_score"].max() > 0.8
    samples = read_json(tmp_path / SAMPLES)
    assert list(samples) == [str(epoch) for epoch in range(1, 21)]
    assert set(samples["20"].split()) <= set(VOCABULARY.words)


def test_ends_with_the_best_epoch(tmp_path):
    scores = iter([10.0, 30.0, 20.0, 5.0])
    network, result = train(tmp_path, score=lambda *_: next(scores))
    assert result.history["val_score"].tolist() == [10, 30, 20, 5]
    # The same steps: the schedule is of four epochs in both.
    stopped, _ = train(score=None, callbacks=(StopAfter(2),))
    for one, other in zip(network.get_weights(), stopped.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


class StopAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


def test_patience_stops_and_stays_stopped(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=2)
    scores = [10.0, 30.0, 20.0, 5.0, 99.0]
    told = iter(scores)
    _, result = train(tmp_path, recipe, score=lambda *_: next(told))
    assert result.history["val_score"].tolist() == scores[:4]
    _, again = train(tmp_path, recipe, score=lambda *_: next(told))
    assert len(again.history) == 4 and next(told) == 99.0
    with pytest.raises(ConfigError, match="patience needs a score"):
        train(recipe=recipe, score=None)


MIRRORED = dataclasses.replace(RECIPE, epochs=3, mirrored=True, attention_penalty=0.5)


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    name, whole = "attention_lstm", tmp_path / "whole"
    whole.mkdir()
    expected, known = train(whole, MIRRORED, name)
    with pytest.raises(KilledError):
        train(tmp_path, MIRRORED, name, callbacks=(KillAt(1, 1),))
    network, result = train(tmp_path, MIRRORED, name)
    assert result.history["epoch"].tolist() == [1, 2, 3]
    for column in ("loss", "val_loss", "val_score"):
        np.testing.assert_allclose(result.history[column], known.history[column], atol=1e-3)
    for one, other in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert read_json(tmp_path / SAMPLES) == read_json(whole / SAMPLES)


SCRIPT = """
import sys, time
sys.path[:0] = [{here!r}, {root!r}]
import keras
from test_teacher_forcing import *
class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.2)
train({folder!r}, callbacks=(Slow(),))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="no other with this backend")
def test_kill_minus_nine(tmp_path):
    """The process itself is killed in the middle of an epoch; the next one goes on."""
    script = SCRIPT.format(here=str(HERE), root=str(HERE.parents[1]), folder=str(tmp_path / "run"))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=HERE.parents[1])
    history = tmp_path / "run" / "history.csv"
    deadline = time.monotonic() + 240
    while not history.exists() or len(history.read_text().splitlines()) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(history.read_text().splitlines()) - 1
    assert done < RECIPE.epochs
    shutil.copy(history, tmp_path / "before.csv")
    _, result = train(tmp_path / "run")
    _, expected = train(tmp_path / "whole")
    # What was done is not done again.
    before = (tmp_path / "before.csv").read_text().splitlines()
    assert history.read_text().splitlines()[: len(before)] == before
    np.testing.assert_allclose(result.history["val_loss"], expected.history["val_loss"], atol=1e-3)


# -- Bad input ---------------------------------------------------------------------------------


def test_features_and_captions_of_different_images():
    with pytest.raises(DataError, match="Features of 3 images, but captions of 16"):
        CaptionedFeatures(TRAIN.features[:3], TRAIN.references)


def test_vocabulary_of_another_model():
    larger = Vocabulary([*VOCABULARY.words[4:], "zebra"], 1)
    with pytest.raises(DataError, match="The vocabulary has 12 words, the decoder"):
        fit_captioner(untrained("rnn"), larger, TRAIN, DEV, RECIPE, SETTINGS)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_recipes_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(RECIPE, **values)


def test_subset():
    part = TRAIN.subset([2, 0])
    assert part.references == [TRAIN.references[2], TRAIN.references[0]]
    np.testing.assert_array_equal(part.mirrored[1], TRAIN.mirrored[0])
