import keras
import numpy as np
import pytest

from common.layers import gelu_tanh, get_activation


def test_gelu_tanh_is_the_formula_of_the_paper():
    x = np.linspace(-4, 4, 33, dtype="float32")
    formula = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(gelu_tanh(x), formula, atol=1e-6)


def test_get_activation_knows_keras_names_and_its_own():
    assert get_activation("relu") is keras.activations.relu
    assert get_activation("gelu_tanh") is gelu_tanh
    assert get_activation(keras.activations.serialize(gelu_tanh)) is gelu_tanh
    with pytest.raises(ValueError, match="no_such"):
        get_activation("no_such")
