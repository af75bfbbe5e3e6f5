import keras
import numpy as np
import pytest
from harness import check_layer
from keras import ops

from common.layers import PatchWhitening


def smooth_images(n=200, size=12, seed=0):
    """Images whose neighbouring pixels resemble each other, as in photographs."""
    noise = np.random.default_rng(seed).normal(size=(n, size + 2, size + 2, 3))
    x = sum(noise[:, i : i + size, j : j + size] for i in range(3) for j in range(3)) / 3
    return (x + x.mean(-1, keepdims=True)).astype("float32")


def patches(images):
    """All 2x2 patches as rows of 12, in the order of a kernel."""
    parts = [images[:, i : i + images.shape[1] - 1, j : j + images.shape[2] - 1]
             for i in (0, 1) for j in (0, 1)]  # fmt: skip
    return np.concatenate(parts, -1)


def test_passes_keras_checks():
    check_layer(
        PatchWhitening,
        {"kernel_size": 3, "epsilon": 1e-3},
        input_shape=(2, 6, 5, 3),
        expected_output_shape=(2, 4, 3, 54),
        expected_num_trainable_weights=0,
        expected_num_non_trainable_weights=1,
    )


def test_unadapted_it_copies_the_patches_in_both_signs():
    x = smooth_images(2)
    y = ops.convert_to_numpy(PatchWhitening()(x))
    np.testing.assert_allclose(y[..., :12], patches(x), atol=1e-6)
    np.testing.assert_allclose(y[..., 12:], -patches(x), atol=1e-6)


def test_adapted_outputs_are_uncorrelated_with_equal_variance():
    x = smooth_images()
    layer = PatchWhitening(epsilon=0.0)
    layer.adapt(x)
    y = ops.convert_to_numpy(layer(x))
    half = y[..., :12].reshape(-1, 12)
    np.testing.assert_allclose(half.T @ half / len(half), np.eye(12), atol=2e-3)
    np.testing.assert_allclose(y[..., 12:], -y[..., :12], atol=1e-5)


def test_epsilon_by_hand():
    # Patches of one pixel: (3, 0) and (0, 1) in turn, so C = diag(4.5, 0.5).
    x = np.array([[3, 0], [0, 1]], "float32").reshape(1, 1, 2, 2)
    layer = PatchWhitening(kernel_size=1, epsilon=0.5)
    layer.adapt(x)
    kernel = ops.convert_to_numpy(layer.kernel)[0, 0]
    np.testing.assert_allclose(np.abs(kernel[:, :2]), np.diag([5**-0.5, 1]), atol=1e-6)


def test_equals_a_convolution_with_its_weights():
    x = smooth_images(3)
    layer = PatchWhitening()
    layer.adapt(smooth_images(seed=1))
    conv = keras.layers.Conv2D(24, 2, use_bias=False)
    conv.build(x.shape)
    conv.set_weights([ops.convert_to_numpy(layer.kernel)])
    expected = ops.convert_to_numpy(conv(x))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


def test_training_leaves_the_kernel_as_it_is():
    x = smooth_images(8)
    layer = PatchWhitening()
    layer.adapt(x)
    before = ops.convert_to_numpy(layer.kernel)
    model = keras.Sequential([layer, keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, np.ones((8, 1)), verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.kernel), before)
    assert not layer.trainable_weights


def test_saved_weights_keep_the_kernel(tmp_path):
    x = smooth_images(3)
    model = keras.Sequential([keras.Input((None, None, 3)), PatchWhitening()])
    model.layers[0].adapt(smooth_images(seed=1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)), atol=1e-6
    )


def test_mixed_bfloat16():
    layer = PatchWhitening(dtype="mixed_bfloat16")
    y = layer(smooth_images(2))
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert layer.kernel.dtype == "float32"


def test_adapts_to_images_in_half_precision():
    """As they come from the scaling layer where a processor computes in bfloat16."""
    x = smooth_images(seed=1)
    kernels = []
    for dtype in ("float32", "bfloat16"):
        layer = PatchWhitening(kernel_size=2)
        layer.adapt(ops.cast(x, dtype))
        kernels.append(np.abs(ops.convert_to_numpy(layer.kernel)))
    np.testing.assert_allclose(*kernels, rtol=0.1, atol=0.1)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Received: kernel_size=0"):
        PatchWhitening(kernel_size=0)
    with pytest.raises(ValueError, match="Received: epsilon=-1"):
        PatchWhitening(epsilon=-1)
    layer = PatchWhitening()
    with pytest.raises(ValueError, match="uint8"):
        layer.adapt(np.zeros((4, 8, 8, 3), "uint8"))
    layer.build((None, None, None, 3))
    with pytest.raises(ValueError, match=r"Received: images of shape \(4, 8, 8, 1\)"):
        layer.adapt(np.zeros((4, 8, 8, 1), "float32"))


def test_noise_that_no_eye_sees_does_not_outshine_the_image():
    """What hardly varied in training, as after a file format, is not enlarged without bound."""
    level, down, right = np.random.default_rng(0).normal(size=(3, 200, 1, 1, 3))
    ramp = np.linspace(-1, 1, 12)
    x = level + down * ramp[:, None, None] + right * ramp[:, None]
    x = (x / x.std()).astype("float32")  # as scaled images; no checkerboard in any of them
    layer = PatchWhitening()
    layer.adapt(x)
    noise = np.random.default_rng(1).normal(0, 4 / 255 / 0.25, x.shape)  # of 4 grey levels
    change = ops.convert_to_numpy(layer(x + noise.astype("float32")) - layer(x))
    assert change.std(axis=(0, 1, 2)).max() < 1
