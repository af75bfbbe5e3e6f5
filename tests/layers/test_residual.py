import keras
import numpy as np
import pytest
from harness import check_layer
from keras import layers, ops

from common.layers import (
    BasicBlock,
    BottleneckBlock,
    PooledTransition,
    SingleConvBlock,
    SqueezeExcitation,
)
from common.models.resnet import ResNetConfig, resnet

# As if batch normalisation were absent: moving mean 0, variance 1, offset 0, scale 1.
NO_NORM = {"norm_epsilon": 1e-12}


def centre(value, channels_in=1, channels_out=1, size=3):
    """Kernel that multiplies each pixel by `value`, a number or a matrix."""
    kernel = np.zeros((size, size, channels_in, channels_out), "float32")
    kernel[size // 2, size // 2] = value
    return kernel


def image(*rows):
    """One image of one channel."""
    return np.array(rows, "float32")[None, :, :, None]


def numpy_call(layer, x, **kwargs):
    return ops.convert_to_numpy(layer(x, **kwargs))


# -- Keras's own checks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer_class", "arguments", "channels", "trainable"),
    [
        (BasicBlock, {"filters": 4}, 4, 6),
        (BasicBlock, {"filters": 6, "stride": 2, "shortcut": "A"}, 4, 6),
        (
            BasicBlock,
            {"filters": 6, "stride": 2, "shortcut": "B", "preactivation": True},
            4,
            7,
        ),
        (
            BottleneckBlock,
            {
                "filters": 2,
                "stride": 2,
                "shortcut": "B",
                "squeeze_excitation": 4,
                "zero_init_last": True,
            },
            4,
            16,
        ),
        (
            SingleConvBlock,
            {
                "filters": 4,
                "activation": "gelu_tanh",
                "norm_scale": False,
                "kernel_initializer": "he_uniform",
            },
            4,
            2,
        ),
    ],
)
def test_blocks_pass_keras_checks(layer_class, arguments, channels, trainable):
    stride = arguments.get("stride", 1)
    check_layer(
        layer_class,
        arguments,
        input_shape=(2, 5, 5, channels),
        expected_output_shape=(
            2,
            -(-5 // stride),
            -(-5 // stride),
            arguments["filters"] * layer_class.expansion,
        ),
        expected_num_trainable_weights=trainable,
    )


def test_squeeze_excitation_passes_keras_checks():
    check_layer(
        SqueezeExcitation,
        {"ratio": 2},
        input_shape=(2, 4, 4, 6),
        expected_output_shape=(2, 4, 4, 6),
        expected_num_trainable_weights=4,
    )


def test_pooled_transition_passes_keras_checks():
    check_layer(
        PooledTransition,
        {"filters": 6, "activation": "gelu_tanh"},
        input_shape=(2, 5, 5, 3),
        expected_output_shape=(2, 2, 2, 6),
        expected_num_trainable_weights=3,
    )


# -- Computed by hand ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preactivation", "residual", "expected"),
    [
        (False, True, (7, 0)),  # relu(x + 3 relu(2 x))
        (True, True, (7, -2)),  # x + 3 relu(2 relu(x))
        (False, False, (6, 0)),  # relu(3 relu(2 x))
        (True, False, (6, 0)),
    ],
)
def test_basic_block_by_hand(preactivation, residual, expected):
    block = BasicBlock(1, preactivation=preactivation, residual=residual, **NO_NORM)
    x = image([1, -2])
    block.build(x.shape)
    block.convs[0].set_weights([centre(2)])
    block.convs[1].set_weights([centre(3)])
    np.testing.assert_allclose(numpy_call(block, x), image(expected), atol=1e-5)


def test_bottleneck_block_by_hand():
    block = BottleneckBlock(1, **NO_NORM)
    x = np.array([1, 2, -1, 0], "float32").reshape(1, 1, 1, 4)
    block.build(x.shape)
    block.convs[0].set_weights([np.ones((1, 1, 4, 1))])  # 1 + 2 - 1 + 0 = 2
    block.convs[1].set_weights([centre(2)])  # 4
    block.convs[2].set_weights([centre([1, -1, 0, 2], 1, 4, size=1)])  # (4, -4, 0, 8)
    np.testing.assert_allclose(numpy_call(block, x).ravel(), [5, 0, 0, 8], atol=1e-5)


@pytest.mark.parametrize(
    ("preactivation", "expected"),
    [(False, (3, -2)), (True, (3, -2))],  # x + relu(2 x), x + 2 relu(x)
)
def test_single_conv_block_by_hand(preactivation, expected):
    block = SingleConvBlock(1, preactivation=preactivation, **NO_NORM)
    x = image([1, -2])
    block.build(x.shape)
    block.convs[0].set_weights([centre(2)])
    np.testing.assert_allclose(numpy_call(block, x), image(expected), atol=1e-5)


def test_a_step_moves_the_norm_by_what_its_momentum_leaves():
    block = SingleConvBlock(1, norm_momentum=0.75)
    x = np.random.default_rng(0).normal(2, 3, (8, 4, 4, 1)).astype("float32")
    block.build(x.shape)
    block.convs[0].set_weights([centre(1)])
    block(x, training=True)
    norm = block.norms[0]
    mean, variance = (ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
    np.testing.assert_allclose(mean, 0.25 * x.mean(), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * x.var(), rtol=1e-4)


def test_shortcut_a_skips_pixels_and_adds_zero_channels():
    block = BasicBlock(3, stride=2, shortcut="A", kernel_initializer="zeros", **NO_NORM)
    x = image([1, 2, 3], [4, 5, 6], [7, 8, 9])
    y = numpy_call(block, x)
    np.testing.assert_allclose(y[0, :, :, 0], [[1, 3], [7, 9]])
    assert y.shape == (1, 2, 2, 3)
    assert not y[..., 1:].any()


def test_shortcut_b_projects():
    block = BasicBlock(1, stride=2, shortcut="B", kernel_initializer="zeros", **NO_NORM)
    x = image([1, 2], [3, 4])
    block.build(x.shape)
    block.projection.set_weights([centre(5, size=1)])
    np.testing.assert_allclose(numpy_call(block, x), image([5]), atol=1e-4)


def test_squeeze_excitation_by_hand():
    layer = SqueezeExcitation(ratio=2)
    x = np.array([[[[0.0, 2.0], [2.0, 4.0]]]], "float32")  # the channels' means are 1 and 3
    layer.build(x.shape)
    layer.reduce.set_weights([np.ones((2, 1)), np.zeros(1)])  # 1 + 3 = 4
    layer.expand.set_weights([np.array([[0.25, -0.25]]), np.zeros(2)])  # 1 and -1
    weights = 1 / (1 + np.exp([-1.0, 1.0]))
    np.testing.assert_allclose(numpy_call(layer, x), x * weights, rtol=1e-5)


def test_pooled_transition_by_hand():
    layer = PooledTransition(1, **NO_NORM)
    x = image([1, -2, -1, -5], [-3, 4, -2, -1])
    layer.build(x.shape)
    layer.conv.set_weights([centre(2)])
    np.testing.assert_allclose(numpy_call(layer, x), image([8, 0]), atol=1e-5)


# -- The same graph built of Keras's own layers ----------------------------------------------


def reference(block, input_shape):
    """A functional model with the block's arithmetic and weights, written out separately."""

    def conv(number):
        size, filters, stride = block.convolutions()[number]
        return layers.Conv2D(
            filters, size, stride, padding="same", use_bias=False, name=f"conv{number + 1}"
        )

    def norm(name):
        return layers.BatchNormalization(epsilon=block.norm_epsilon, name=name)

    x = y = inputs = keras.Input(input_shape[1:])
    changes = block.stride > 1 or input_shape[-1] != block.filters * block.expansion
    single = isinstance(block, SingleConvBlock)
    relu = layers.ReLU()
    for number in range(len(block.convolutions())):
        if block.preactivation:
            y = relu(norm(f"norm{number + 1}")(y))
            if number == 0 and changes:
                x = y
            y = conv(number)(y)
        else:
            y = norm(f"norm{number + 1}")(conv(number)(relu(y) if number else y))
    if single and not block.preactivation:
        y = relu(y)
    if changes and block.shortcut == "B":
        x = layers.Conv2D(
            y.shape[-1], 1, block.stride, padding="same", use_bias=False, name="projection"
        )(x)
        if not block.preactivation:
            x = norm("projection_norm")(x)
    elif changes:
        x = layers.AveragePooling2D(1, block.stride)(x)
        zeros = ops.zeros_like(x)
        x = ops.concatenate([x, zeros], axis=-1)  # the case below doubles the channels
    y = layers.Add()([x, y])
    if not single and not block.preactivation:
        y = relu(y)
    model = keras.Model(inputs, y)
    parts = [*block.convs, *block.norms, block.projection, block.projection_norm]
    for part in parts:
        if part is not None:
            model.get_layer(part.name).set_weights(part.get_weights())
    return model


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("block_class", [BasicBlock, BottleneckBlock, SingleConvBlock])
def test_blocks_equal_the_graph_of_keras_layers(block_class, preactivation, shortcut, changes):
    channels_out = 8
    block = block_class(
        channels_out // block_class.expansion,
        stride=2 if changes else 1,
        shortcut=shortcut,
        preactivation=preactivation,
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 6, 4 if changes else 8)).astype("float32")
    block.build(x.shape)
    for norm in [*block.norms, block.projection_norm]:
        if norm is not None:  # gamma, beta, moving mean, moving variance
            norm.set_weights(rng.uniform(0.5, 1.5, size=(4, norm.gamma.shape[0])))
    model = reference(block, x.shape)
    assert block.count_params() == model.count_params()
    for training in (False, True):
        expected = numpy_call(model, x, training=training)
        np.testing.assert_allclose(numpy_call(block, x, training=training), expected, atol=1e-5)


# -- Initial state, precision, arguments -----------------------------------------------------


@pytest.mark.parametrize("preactivation", [False, True])
def test_zero_init_last_starts_as_the_shortcut_and_learns(preactivation):
    block = BasicBlock(3, preactivation=preactivation, zero_init_last=True)
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype("float32")
    model = keras.Sequential([block])
    expected = x if preactivation else np.maximum(x, 0)
    np.testing.assert_allclose(numpy_call(model, x), expected, atol=1e-6)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros_like(x), verbose=0)
    last = block.convs[-1].kernel if preactivation else block.norms[-1].gamma
    assert np.abs(ops.convert_to_numpy(last)).max() > 0


def test_convolutions_do_not_share_their_random_numbers():
    block = BasicBlock(4, kernel_initializer=keras.initializers.HeNormal())
    block.build((None, 8, 8, 4))
    first, second = (ops.convert_to_numpy(conv.kernel) for conv in block.convs)
    assert np.abs(first - second).max() > 0.01


def test_a_plain_block_has_no_projection():
    block = BasicBlock(8, stride=2, shortcut="B", residual=False)
    block.build((None, 8, 8, 4))
    assert block.projection is None


def test_unknown_height_and_width():
    block = BasicBlock(8, stride=2)
    assert block.compute_output_shape((None, None, None, 4)) == (None, None, None, 8)
    assert block.compute_output_shape((None, 7, 8, 4)) == (None, 4, 4, 8)
    outputs = block(keras.Input((None, None, 4)))
    assert tuple(outputs.shape) == (None, None, None, 8)


@pytest.mark.parametrize("layer_class", [BasicBlock, BottleneckBlock, SingleConvBlock])
def test_mixed_bfloat16(layer_class):
    block = layer_class(4, stride=2, shortcut="B", squeeze_excitation=2, dtype="mixed_bfloat16")
    y = block(np.ones((2, 6, 6, 3), "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert {w.dtype for w in block.weights} == {"float32"}


@pytest.mark.parametrize(
    ("layer_class", "arguments", "message"),
    [
        (BasicBlock, {"filters": 0}, "Received: filters=0"),
        (BasicBlock, {"filters": 4, "stride": 0}, "stride=0"),
        (BasicBlock, {"filters": 4, "shortcut": "C"}, "Received: shortcut=C"),
        (BasicBlock, {"filters": 4, "squeeze_excitation": -1}, "squeeze_excitation=-1"),
        (BasicBlock, {"filters": 4, "activation": "no_such"}, "no_such"),
        (BasicBlock, {"filters": 4, "zero_init_last": True, "residual": False}, "shortcut"),
        (BasicBlock, {"filters": 4, "zero_init_last": True, "norm_scale": False}, "norm_scale"),
        (SingleConvBlock, {"filters": 4, "zero_init_last": True}, "preactivation"),
        (SqueezeExcitation, {"ratio": 0}, "Received: ratio=0"),
        (PooledTransition, {"filters": 0}, "Received: filters=0"),
    ],
)
def test_bad_arguments_are_named(layer_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**arguments)


def test_shortcut_a_cannot_remove_channels():
    with pytest.raises(ValueError, match="Received: 8 channels"):
        BasicBlock(4).build((None, 8, 8, 8))


def test_an_initialiser_may_be_a_function():
    def halves(shape, dtype=None):
        return 0.5 * np.ones(shape, dtype)

    block = BasicBlock(2, kernel_initializer=halves)
    block.build((None, 4, 4, 2))
    assert all((ops.convert_to_numpy(conv.kernel) == 0.5).all() for conv in block.convs)


def test_channels_come_last_whatever_keras_is_set_to():
    images = np.random.default_rng(0).random((1, 6, 5, 3), "float32")
    keras.config.set_image_data_format("channels_first")
    try:
        network = resnet(ResNetConfig(blocks=(1, 1), widths=(4, 8), downsample="pool"), 2)
        assert network(images).shape == (1, 2)
    finally:
        keras.config.set_image_data_format("channels_last")
