import keras
import numpy as np
import pytest
from harness import check_layer

from common.layers import PixelRange

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("range", ["signed", "caffe", "raw"])
def test_passes_keras_checks(range):
    check_layer(
        PixelRange,
        {"range": range},
        input_shape=(2, 5, 4, 3),
        expected_output_shape=(2, 5, 4, 3),
        expected_num_trainable_weights=0,
        expected_num_non_trainable_weights=0,
        supports_masking=False,
        assert_built_after_instantiation=False,
    )


@pytest.mark.parametrize(
    "range, network",
    [
        ("signed", keras.applications.mobilenet),
        ("caffe", keras.applications.resnet50),
        ("raw", keras.applications.efficientnet),
    ],
)
def test_equals_what_the_network_was_trained_with(range, network):
    expected = network.preprocess_input(IMAGES.astype("float32"))
    found = keras.ops.convert_to_numpy(PixelRange(range)(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_computes_in_float32_under_any_precision():
    found = PixelRange("caffe", dtype="mixed_bfloat16")(IMAGES)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    exact = keras.ops.convert_to_numpy(PixelRange("caffe")(IMAGES))
    half = keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))
    np.testing.assert_allclose(half, exact, rtol=1 / 128)


def test_unknown_range():
    with pytest.raises(ValueError, match="range='torch' is unknown"):
        PixelRange("torch")
