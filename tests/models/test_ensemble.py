"""Several networks that answer together."""

import keras
import numpy as np
import pytest
from small import small_data

from common.errors import ConfigError
from common.models.ensemble import Ensemble, members_of
from common.models.resnet import ResNetConfig, resnet

SMALL = ResNetConfig(blocks=(1, 1), widths=(4, 8))
WIDER = ResNetConfig(blocks=(1,), widths=(6,))


def networks():
    found = []
    for i, config in enumerate((SMALL, WIDER, SMALL)):
        keras.utils.set_random_seed(i)
        found.append(resnet(config, 4, name=f"network{i}"))
    return found


def test_logits_are_the_mean_of_the_members():
    made, images = networks(), small_data(6).images
    ensemble = Ensemble(made)
    logits = [network.predict_on_batch(images) for network in made]
    np.testing.assert_allclose(
        ensemble.predict_on_batch(images), np.mean(logits, axis=0), rtol=1e-5, atol=1e-6
    )
    assert ensemble.count_params() == sum(network.count_params() for network in made)
    assert ensemble.input_shape == made[0].input_shape and ensemble.output_shape == (None, 4)


def test_members_are_those_given_in_order():
    made = networks()
    assert Ensemble(made).members == made == members_of(Ensemble(made))
    assert members_of(made[1]) == [made[1]]


def test_it_is_saved_and_loaded(tmp_path):
    ensemble, images = Ensemble(networks()), small_data(6).images
    ensemble.save(tmp_path / "three.keras")
    loaded = keras.saving.load_model(tmp_path / "three.keras", compile=False)
    assert isinstance(loaded, Ensemble) and len(loaded.members) == 3
    np.testing.assert_array_equal(
        loaded.predict_on_batch(images), ensemble.predict_on_batch(images)
    )


def test_logits_are_float32_in_half_precision():
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float16")
        assert Ensemble(networks()).compute_output_spec(
            keras.KerasTensor((2, 16, 16, 3), "uint8")
        ).dtype == ("float32")
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda made: made[:1], "two members or more. Received: 1"),
        (lambda made: [made[0], made[0]], "different names. Received: network0, network0"),
        (lambda made: [made[0], resnet(SMALL, 5, name="five")], "must have the same shapes"),
        (
            lambda made: [made[0], resnet(SMALL, 4, (8, 8, 3), name="eight")],
            r"\(None, 8, 8, 3\) to \(None, 4\)",
        ),
    ],
)
def test_what_makes_no_ensemble(change, told):
    with pytest.raises(ConfigError, match=told):
        Ensemble(change(networks()))
