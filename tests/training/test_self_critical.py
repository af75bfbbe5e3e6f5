"""Training by rewards: the gradient is right, and what it does to captions."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
from colours import KINDS, coloured, names_the_colour, right_colours
from killing import KillAt, KilledError

from common.data.vocabulary import END, START, Vocabulary
from common.errors import ConfigError, DataError
from common.models.captioning import DECODERS, decoder
from common.training.backend import device_scope, device_settings
from common.training.generation import Generator, build_decoder
from common.training.recipes import BASELINES, CaptionRecipe, RewardRecipe
from common.training.self_critical import (
    Critic,
    DrawnGradient,
    Rewarded,
    advantages,
    fit_reward,
    learned_from,
    seen_regions,
    step_statistics,
)
from common.training.teacher_forcing import fit_captioner

SETTINGS = device_settings(precision="float32")


def small(name, words, max_length, **arguments):
    recurrent = name in ("rnn", "lstm", "attention_lstm")
    options = {"units": 16} if recurrent else {"num_blocks": 1}
    keras.utils.set_random_seed(0)
    made = decoder(name, words, width=16, max_length=max_length, **options, **arguments)
    return build_decoder(made, 4, 5)


# -- The gradient --------------------------------------------------------------------------------

TOY = Vocabulary(["yes", "no", "well"], 1)
IMAGES, DRAWN = 100, 4


@pytest.fixture(scope="module")
def toy():
    """A decoder of three words and captions of up to three, and one image, many times."""
    image = np.random.default_rng(1).standard_normal((1, 4, 5))
    return toy_decoder("rnn"), np.repeat(image, IMAGES, axis=0).astype("float32")


def toy_decoder(name):
    network = small(name, len(TOY), 4, dropout=0.5)
    rng = np.random.default_rng(1)
    network.set_weights([rng.standard_normal(w.shape) * 0.3 for w in network.get_weights()])
    return network


def toy_reward(captions, images):
    """Two points for each "yes", one for an end, and many for nothing: a baseline is needed."""
    return np.array([2.0 * c.count("yes") + c.count("<end>") + 20 for c in captions])


def every_caption():
    """All that the toy can write, as rows of `<start>`, words, `<end>` and `<pad>`."""
    words, rows = (4, 5, 6), []
    for count in range(3):
        rows += [
            [START, *w, END, *[0] * (2 - count)] for w in itertools.product(words, repeat=count)
        ]
    rows += [[START, *w] for w in itertools.product(words, repeat=3)]
    return np.array(rows, "int32")


def log_probabilities(network, features, rows):
    found = Rewarded(network)({"features": features[:1], "tokens": rows[None]})
    return keras.ops.convert_to_numpy(found)[0].astype("float64")


def expected_reward(network, features):
    rows = every_caption()
    rewards = toy_reward([[TOY.words[t] for t in row[1:] if t] for row in rows], None)
    probability = np.exp(log_probabilities(network, features, rows))
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    return float(probability @ rewards)


@pytest.mark.parametrize(("name", "hidden"), [("rnn", 0.0), *[(name, 0.5) for name in DECODERS]])
def test_probabilities_are_those_of_drawing(toy, name, hidden):
    """With the very regions hidden that were hidden from the drawing."""
    network, features = toy_decoder(name), toy[1]
    mask = seen_regions(IMAGES, 4, hidden, seed=1)
    recipe = RewardRecipe(1, batch_size=IMAGES, captions=DRAWN)
    critic = Critic(Generator(network, TOY, IMAGES), toy_reward, recipe)
    drawn = critic(features, np.arange(IMAGES), 0, mask)
    inputs = learned_from(features, drawn)
    assert ("region_mask" in inputs) == (hidden > 0)
    found = keras.ops.convert_to_numpy(Rewarded(network)(inputs))
    np.testing.assert_allclose(found, drawn["log_p"], atol=1e-4)
    if hidden:
        of_all = Rewarded(network)({"features": features, "tokens": drawn["tokens"]})
        assert np.abs(found - keras.ops.convert_to_numpy(of_all)).max() > 1e-2


def test_the_estimated_gradient_is_that_of_the_expected_reward(toy):
    """Along a direction in the space of weights: by finite differences, and by drawing."""
    network, features = toy
    before = network.get_weights()
    rng = np.random.default_rng(2)
    direction = [rng.standard_normal(w.shape).astype("float32") for w in before]

    def moved(by):
        network.set_weights([w + by * d for w, d in zip(before, direction, strict=True)])
        return expected_reward(network, features)

    exact = (moved(0.01) - moved(-0.01)) / 0.02
    assert abs(exact) > 0.1
    variances = {}
    gradient = DrawnGradient(network)
    generator = Generator(network, TOY, IMAGES)
    along = np.concatenate([d.ravel() for d in direction])
    for baseline in BASELINES:
        recipe = RewardRecipe(1, batch_size=IMAGES, captions=DRAWN, baseline=baseline)
        critic = Critic(generator, toy_reward, recipe)
        network.set_weights(before)
        drawn = [critic(features, np.arange(IMAGES), seed) for seed in range(30)]
        estimates = [float(gradient(features, one) @ along) for one in drawn]
        error = np.std(estimates) / np.sqrt(len(estimates))
        assert abs(np.mean(estimates) - exact) < 4 * error, baseline
        variances[baseline] = np.var(estimates)
    assert variances["leave_one_out"] < 0.2 * variances["none"]
    assert variances["greedy"] < 0.2 * variances["none"]


def test_advantages_by_hand():
    rewards = np.array([[1.0, 2.0, 6.0]])
    np.testing.assert_allclose(advantages(rewards, "leave_one_out"), [[-3, -1.5, 4.5]])
    np.testing.assert_allclose(advantages(rewards, "greedy", np.array([2.0])), [[-1, 0, 4]])
    np.testing.assert_allclose(advantages(rewards, "none"), rewards)


def test_a_share_of_the_regions_is_hidden():
    seen = seen_regions(50, 49, 0.25, 3)
    assert seen.shape == (50, 49) and 0.72 < seen.mean() < 0.78
    assert np.array_equal(seen_regions(50, 49, 0.25, 3), seen)
    assert seen_regions(50, 49, 0.0, 3) is None


def test_what_is_told_of_captions_by_hand():
    tokens = np.array(
        [
            [[START, 4, 7, END, 0], [START, 4, 5, END, 0]],  # the second one stops at a bad word
            [[START, END, 0, 0, 0], [START, 4, 7, 4, 7]],  # empty; cut off
        ]
    )
    drawn = {
        "tokens": tokens,
        "rewards": np.array([[1.0, 0.0], [0.0, 1.0]]),
        "advantages": np.array([[1.0, -1.0], [-1.0, 1.0]]),
        "log_p": np.array([[-3.0, -3.0], [-1.0, -4.0]]),
    }
    assert step_statistics(drawn, [5, 6]) == pytest.approx(
        {
            "reward": 0.5,
            "length": 11 / 4,  # `<end>` is a word
            "entropy": 1.0,
            "distinct": 1.0,
            "variance": 1.0,
            "cut": 0.25,
            "bad_endings": 0.5,
        }
    )


# -- Training ------------------------------------------------------------------------------------

TEXTS = ("a X thing", "a thing")  # half of them name the colour
TRAIN, DEV = coloured(32, TEXTS), coloured(16, TEXTS, seed=1)
VOCABULARY = Vocabulary.build([c for image in TRAIN.references for c in image], 1)
RECIPE = RewardRecipe(epochs=8, batch_size=8, captions=8, learning_rate=0.01)


def of_colour(captions, images):
    return names_the_colour(captions, [TRAIN.references[i] for i in images])


def rewarded(folder=None, name="rnn", recipe=RECIPE, reward=of_colour, **options):
    """A decoder after a little teacher forcing, then trained by the reward."""
    with device_scope(SETTINGS):
        network = small(name, len(VOCABULARY), 6, dropout=0.1)
        little = CaptionRecipe(epochs=12, batch_size=8, learning_rate=0.01)
        fit_captioner(network, VOCABULARY, TRAIN, DEV, little, SETTINGS, progress=False)
        result = fit_reward(
            network,
            VOCABULARY,
            TRAIN,
            DEV,
            reward,
            recipe,
            SETTINGS,
            score=right_colours,
            folder=folder,
            tensorboard=False,
            progress=False,
            **options,
        )
    return network, result


@pytest.mark.parametrize("name", KINDS)
def test_learns_what_is_rewarded(name):
    _, result = rewarded(name=name, recipe=dataclasses.replace(RECIPE, epochs=12))
    history = result.history
    assert history["reward"].iloc[-1] > history["reward"].iloc[0] + 0.3
    assert history["val_score"].iloc[-1] > 0.9
    assert history["entropy"].iloc[-1] < history["entropy"].iloc[0]
    assert set(history) >= {"length", "distinct", "variance", "cut", "bad_endings"}


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=3, baseline="greedy", region_dropout=0.2)
    expected, known = rewarded(tmp_path / "whole", recipe=recipe)
    with pytest.raises(KilledError):
        rewarded(tmp_path / "killed", recipe=recipe, callbacks=(KillAt(1, 1),))
    network, result = rewarded(tmp_path / "killed", recipe=recipe)
    assert result.history["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(result.history["reward"], known.history["reward"], atol=1e-6)
    for one, other in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reward, message",
    [
        (lambda c, i: np.full(len(c), np.nan), "of training image [0-9]+ is nan. Rewards must be"),
        (
            lambda c, i: np.zeros(3),
            "one number per caption, 64 in all. Received: an array of shape",
        ),
    ],
)
def test_rewards_that_are_none(reward, message):
    with device_scope(SETTINGS):
        network = small("rnn", len(VOCABULARY), 6)
        with pytest.raises(DataError, match=message):
            fit_reward(
                network, VOCABULARY, TRAIN, DEV, reward, RECIPE, SETTINGS, score=right_colours,
                progress=False,
            )  # fmt: skip


def test_recipes_are_checked():
    with pytest.raises(ConfigError, match="Choose one of"):
        RewardRecipe(1, baseline="median")
    with pytest.raises(ConfigError, match="must be at least 1. Received: epochs=0"):
        RewardRecipe(0)
    with pytest.raises(ConfigError, match="region_dropout must lie in"):
        RewardRecipe(1, region_dropout=1)
    with pytest.raises(ConfigError, match="needs two captions of each image"):
        RewardRecipe(1, captions=1)


def test_the_greedy_baseline_is_of_the_same_image(toy):
    network, features = small("rnn", len(TOY), 4), toy[1]
    rng = np.random.default_rng(11)  # of weights whose captions depend on the regions that are seen
    network.set_weights([rng.standard_normal(w.shape) for w in network.get_weights()])
    generator = Generator(network, TOY, 5)
    plan = RewardRecipe(epochs=1, batch_size=5, captions=3, baseline="greedy")

    def reward(captions, images):
        return np.array([100.0 * i + c.count("yes") for c, i in zip(captions, images, strict=True)])

    yes, mask = TOY.ids["yes"], np.tile([[False, False, False, True]], (5, 1))
    greedy = {}
    for seen in (None, mask):
        drawn = Critic(generator, reward, plan)(features[:5], np.arange(5), 1, seen)
        tokens, _ = generator.tokens(features[:5], region_mask=seen)
        greedy[seen is None] = (tokens == yes).sum(axis=-1)
        counts = (drawn["tokens"] == yes).sum(axis=-1)
        np.testing.assert_allclose(drawn["advantages"], counts - greedy[seen is None], atol=1e-9)
    assert (greedy[True] != greedy[False]).any()  # each with the regions that are seen
