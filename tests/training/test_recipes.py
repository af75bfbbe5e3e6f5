import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from small import small_data

from common.errors import ConfigError
from common.models import PRESETS
from common.training.losses import FocalLoss, WeightedCrossEntropy
from common.training.recipes import (
    AUGMENTATIONS,
    NETWORKS,
    PAPER,
    PATIENTS,
    PHASE2_NETWORKS,
    PHASE2_RECIPES,
    PROFILES,
    RECIPES,
    TEST_IMAGES,
    TRAIN_IMAGES,
    Recipe,
    augmented,
    for_images,
    recipe,
    with_batch_size,
)

RELEASED = Path(__file__).parents[2] / "phase1_cifar" / "weights" / "record.json"


def test_every_profile_has_its_values_in_each_phase():
    phase1 = (RECIPES, NETWORKS, TRAIN_IMAGES, TEST_IMAGES)
    phase2 = (PHASE2_RECIPES, PHASE2_NETWORKS, PATIENTS)
    assert all(set(table) == set(PROFILES) for table in phase1 + phase2)
    assert set(NETWORKS.values()) | set(PHASE2_NETWORKS.values()) <= set(PRESETS)
    for value in (*RECIPES.values(), *PHASE2_RECIPES.values()):
        json.dumps(value.to_dict())


def test_a_recipe_is_that_of_its_phase():
    assert recipe("laptop") == RECIPES["laptop"]
    assert recipe("laptop", phase="phase2_histopathology") == PHASE2_RECIPES["laptop"]
    changed = recipe("smoke", phase="phase2_histopathology", imbalance="focal")
    assert changed == replace(PHASE2_RECIPES["smoke"], imbalance="focal")
    with pytest.raises(ConfigError, match="'phase3' has no recipes.*phase2_histopathology"):
        recipe("smoke", phase="phase3")


@pytest.mark.parametrize("profile", PROFILES)
def test_augmentation_is_taken_apart_kind_by_kind(profile):
    """Each kind alone differs from none, and in nothing else from the whole recipe."""
    whole = recipe(profile, phase="phase2_histopathology")
    assert augmented(whole, "all") == whole
    none = augmented(whole, "none")
    assert none.augmentation_layers() == [] and none.batch_transforms() == []
    for kind, name in AUGMENTATIONS.items():
        alone = augmented(whole, kind)
        assert replace(none, **{name: getattr(whole, name)}) == alone != none
        assert len(alone.augmentation_layers()) + len(alone.batch_transforms()) == 1
    with pytest.raises(ConfigError, match="'blur'.*symmetries"):
        augmented(whole, "blur")


def test_the_learning_rate_goes_with_the_batch_size():
    muon = Recipe(epochs=1, batch_size=400, learning_rate=0.1)
    assert with_batch_size(muon, 100) == replace(muon, batch_size=100, learning_rate=0.05)
    normalised = replace(muon, optimizer="normalised")
    assert with_batch_size(normalised, 100).learning_rate == 0.05
    sgd = replace(muon, optimizer="sgd")
    assert with_batch_size(sgd, 100) == replace(sgd, batch_size=100, learning_rate=0.025)


def test_rates_per_image_are_multiplied_by_the_batch():
    plan = Recipe(epochs=1, batch_size=40, other_learning_rate=0.05, head_learning_rate=0.7)
    optimizer = plan.make_optimizer(10)
    assert optimizer.other_learning_rate == pytest.approx(2)
    assert optimizer.head_learning_rate == pytest.approx(28)
    assert optimizer.peak_learning_rate == plan.learning_rate


def test_what_recipes_did_not_have_at_first_is_told_where_it_acts():
    """Else no run from before would be found again."""
    plan = Recipe(epochs=1)
    assert "light" not in plan.to_dict() and Recipe(**plan.to_dict()) == plan
    lit = replace(plan, light=0.5)
    assert lit.to_dict() == {**plan.to_dict(), "light": 0.5} and Recipe(**lit.to_dict()) == lit


def test_the_papers_rate_falls_to_a_tenth_twice():
    schedule = Recipe(epochs=1, **PAPER).make_optimizer(400)._learning_rate
    rates = [float(ops.convert_to_numpy(schedule(step))) for step in (0, 199, 201, 299, 301, 399)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)
    for drops, said in (((0.75, 0.5), "in order"), ((0.5, 1.0), "in order")):
        with pytest.raises(ConfigError, match=said):
            Recipe(epochs=1, drops=drops)
    with pytest.raises(ConfigError, match="warm-up"):
        Recipe(epochs=1, drops=(0.5,), warmup=0.1)


def test_few_images_come_in_small_batches():
    plan = Recipe(epochs=1, batch_size=400)
    assert for_images(plan, 8000) == plan
    assert for_images(plan, 7999).batch_size == 399
    assert for_images(plan, 768) == with_batch_size(plan, 38)
    assert for_images(plan, 100).batch_size == 16


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
    tissue = replace(rich, flip="symmetries", stain=0.1, light=0.3)
    layers = tissue.augmentation_layers(7, mean=(0.7, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    names = [type(layer).__name__ for layer in layers]
    assert names == ["RandomSymmetry", "RandomShift", "RandomStain", "RandomColour", "RandomCutout"]
    assert (layers[2].strength, layers[2].light) == (0.1, 0.3)
    assert layers[2].mean == (0.7, 0.5, 0.6)
    seeds = [layer.seed for layer in layers]
    assert len(set(seeds)) == len(seeds)


def test_the_loss_follows_the_recipe():
    data = small_data(12).subset([0, 4, 8, 1, 2, 3])  # 3, 1, 1 and 1
    weighted = Recipe(epochs=1, imbalance="class_weights").make_loss(data)
    assert isinstance(weighted, WeightedCrossEntropy)
    assert weighted.weights == (0.5, 1.5, 1.5, 1.5)
    focal = Recipe(epochs=1, imbalance="focal", focal_gamma=1.5).make_loss(data)
    assert isinstance(focal, FocalLoss) and focal.gamma == 1.5
    for imbalance in ("none", "balanced_batches"):
        loss = Recipe(epochs=1, imbalance=imbalance).make_loss(data)
        assert isinstance(loss, keras.losses.CategoricalCrossentropy)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": 1, "optimizer": "adam"},
        {"epochs": 1, "flip": "maybe"},
        {"epochs": 1, "sizes": ((0.5, 16),)},
        {"epochs": 1, "stain": 1.5},
        {"epochs": 1, "light": -0.1},
        {"epochs": 1, "imbalance": "weights"},
        {"epochs": 1, "focal_gamma": -1.0},
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


def test_only_values_that_act_are_told():
    muon = Recipe(epochs=2, flip="none", shift=0)
    assert list(muon.acting()) == [
        *("epochs", "batch_size", "optimizer", "learning_rate", "momentum"),
        *("other_learning_rate", "head_learning_rate", "label_smoothing"),
    ]
    sgd = replace(muon, optimizer="sgd", label_smoothing=0.0, mixup=0.2, sizes=((1.0, 8),))
    assert sgd.acting().keys() - muon.acting().keys() == {"weight_decay", "mixup", "sizes"}
    assert not {"other_learning_rate", "head_learning_rate", "label_smoothing"} & {*sgd.acting()}
    assert replace(muon, optimizer="normalised").acting().keys() == muon.acting().keys()
    assert "focal_gamma" in replace(muon, imbalance="focal").acting()


def test_the_normalised_optimizer_is_muon_without_its_iterations():
    muon = Recipe(epochs=2).make_optimizer(10).get_config()
    normalised = Recipe(epochs=2, optimizer="normalised").make_optimizer(10).get_config()
    assert (muon.pop("newton_schulz_steps"), normalised.pop("newton_schulz_steps")) == (3, 0)
    assert str(muon) == str(normalised)
