import keras
import numpy as np
import pytest

from common.layers import PartialDirac


def test_the_first_channels_are_copied():
    conv = keras.layers.Conv2D(
        5, 3, padding="same", use_bias=False, kernel_initializer=PartialDirac()
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(conv(x))
    np.testing.assert_allclose(y[..., :3], x, atol=1e-6)
    assert np.abs(y[..., 3:]).min(axis=(0, 1, 2)).max() > 0


def test_other_filters_are_uniform_by_fan_in():
    kernel = keras.ops.convert_to_numpy(PartialDirac(seed=0)((3, 3, 4, 400)))
    random, bound = kernel[..., 4:], 1 / np.sqrt(3 * 3 * 4)
    assert 0.99 * bound < np.abs(random).max() <= bound
    assert random.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_fewer_filters_than_channels_are_all_copies():
    kernel = keras.ops.convert_to_numpy(PartialDirac()((1, 1, 4, 2)))
    np.testing.assert_array_equal(kernel[0, 0], np.eye(4, 2))


def test_config_and_seed():
    initializer = PartialDirac(seed=3)
    again = keras.initializers.get(keras.initializers.serialize(initializer))
    shape = (3, 3, 2, 6)
    np.testing.assert_array_equal(initializer(shape), again(shape))
    unseeded = PartialDirac()
    assert np.abs(np.asarray(unseeded(shape)) - np.asarray(unseeded.clone()(shape))).max() > 0


def test_only_2d_convolutions():
    with pytest.raises(ValueError, match="Received: shape="):
        PartialDirac()((3, 3))
