import json

import keras
import numpy as np
import pytest
from keras import ops

from common.errors import ConfigError
from common.training.recipes import PROFILES, RECIPES, Recipe, recipe


def test_every_profile_has_a_recipe_that_is_plain_json():
    assert set(RECIPES) == set(PROFILES)
    for value in RECIPES.values():
        json.dumps(value.to_dict())


def test_phases_cover_every_epoch_once():
    phases = Recipe(epochs=7, sizes=((0.4, 20), (0.4, 24), (0.2, 28))).phases()
    assert phases == [(0, 3, 20), (3, 6, 24), (6, 7, 28)]
    assert Recipe(epochs=2, sizes=((0.1, 8), (0.9, 16))).phases() == [(0, 2, 16)]
    assert Recipe(epochs=3).phases() == [(0, 3, None)]


def test_weight_decay_spares_norms_and_biases():
    """With a gradient of zero, only decay moves a variable."""
    names = ("kernel", "bias", "gamma", "beta")
    variables = [keras.Variable(np.ones(2, "float32"), name=name) for name in names]
    optimizer = Recipe(epochs=1, optimizer="sgd", weight_decay=0.1).make_optimizer(10)
    optimizer.build(variables)
    optimizer.apply([ops.zeros(2) for _ in variables], variables)
    moved = {v.name for v in variables if float(ops.convert_to_numpy(v)[0]) < 1}
    assert moved == {"kernel"}


def test_layers_and_transforms_follow_the_recipe():
    plain = Recipe(epochs=1, flip="none", shift=0)
    assert plain.augmentation_layers() == [] and plain.batch_transforms() == []
    rich = Recipe(epochs=1, flip="random", shift=2, cutout=4, colour=0.1, mixup=0.2)
    names = [type(layer).__name__ for layer in rich.augmentation_layers()]
    assert names == ["RandomFlip", "RandomShift", "RandomColour", "RandomCutout"]
    assert [type(t).__name__ for t in rich.batch_transforms()] == ["MixUp"]


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": 1, "optimizer": "adam"},
        {"epochs": 1, "flip": "maybe"},
        {"epochs": 1, "sizes": ((0.5, 16),)},
    ],
)
def test_bad_values_are_told(bad):
    with pytest.raises(ConfigError):
        Recipe(**bad)


def test_unknown_profile_and_hyper_parameter_name_what_there_is():
    with pytest.raises(ConfigError, match="smoke"):
        recipe("huge")
    with pytest.raises(ConfigError, match="label_smoothing"):
        recipe("smoke", dropuot=0.5)
