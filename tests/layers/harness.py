"""The one place that touches Keras's private layer tests."""

import warnings

from keras.src.testing import TestCase


def check_layer(layer_class, arguments, **expected):
    """Keras's own check of a layer: config, JSON, build, eager, symbolic, fit, mixed precision.

    `expected` is that of `TestCase.run_layer_test`: `input_shape` or `input_data`,
    `expected_output_shape`, `expected_num_trainable_weights`, `call_kwargs`, ...
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`shuffle=True` was passed")
        TestCase().run_layer_test(layer_class, arguments, **expected)
