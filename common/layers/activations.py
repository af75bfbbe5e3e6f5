"""Activations that Keras has no name for."""

from collections.abc import Callable

import keras
from keras import ops


@keras.saving.register_keras_serializable("course")
def gelu_tanh(x):
    """GELU in its tanh approximation: `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.

    `keras.activations.gelu` is the exact one by default; it has no name for this one.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016).
    """
    return ops.gelu(x, approximate=True)


def get_activation(identifier: str | dict | Callable | None) -> Callable:
    """`keras.activations.get`, which also knows `"gelu_tanh"`.

    Raises:
        ValueError: if Keras does not know the activation.
    """
    return gelu_tanh if identifier == "gelu_tanh" else keras.activations.get(identifier)
