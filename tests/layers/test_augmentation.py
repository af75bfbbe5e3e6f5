import keras
import numpy as np
import pytest
from harness import check_layer
from keras import ops

from common.layers import (
    PixelScaling,
    RandomAugmentation,
    RandomColour,
    RandomCutout,
    RandomFlip,
    RandomShift,
    RandomStain,
    RandomSymmetry,
)
from common.layers.stain import HED

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.15)
STAIN = {"mean": MEAN, "std": STD, "strength": 0.2}

RANDOM_LAYERS = [
    (RandomShift, {"pixels": 2}),
    (RandomShift, {"pixels": 2, "mode": "zero"}),
    (RandomFlip, {}),
    (RandomCutout, {"size": 3}),
    (RandomColour, {}),
    (RandomSymmetry, {}),
    (RandomStain, STAIN),
]


def images(n=16, height=8, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, height, width, 3)).astype("float32")


def augment(layer, x):
    return ops.convert_to_numpy(layer(x, training=True))


# -- Pixel scaling ---------------------------------------------------------------------------


def test_pixel_scaling_passes_keras_checks():
    check_layer(
        PixelScaling,
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)},
        input_data=np.full((2, 4, 4, 3), 51, "uint8"),
        # 51 / 255 = 0.2
        expected_output=ops.broadcast_to(
            ops.convert_to_tensor([-1.5, -0.8, -0.2], "float32"), (2, 4, 4, 3)
        ),
        run_training_check=False,
    )


def test_pixel_scaling_equals_keras_layers():
    raw = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), "uint8")
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    reference = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Normalization(mean=mean, variance=np.square(std)),
        ]
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(PixelScaling(mean, std)(raw)),
        ops.convert_to_numpy(reference(raw)),
        atol=1e-5,
    )


def test_pixel_scaling_computes_in_float32():
    raw = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    layer = PixelScaling([0.47], [0.25], dtype="mixed_bfloat16")
    exact = PixelScaling([0.47], [0.25])(raw)
    for pixels in (raw, raw.astype("float32")):
        scaled = layer(pixels)
        assert keras.backend.standardize_dtype(scaled.dtype) == "bfloat16"
        rounded = ops.cast(ops.cast(exact, "bfloat16"), "float32")
        np.testing.assert_array_equal(ops.cast(scaled, "float32"), rounded)
    assert keras.backend.standardize_dtype(layer.normalise(raw).dtype) == "float32"


def test_pixel_scaling_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Received: mean="):
        PixelScaling([0.5, 0.5], [0.2])
    with pytest.raises(ValueError, match="std="):
        PixelScaling([0.5], [0.0])
    with pytest.raises(ValueError, match="Received: images of shape"):
        PixelScaling([0.5], [0.2])(np.zeros((1, 4, 4, 3), "uint8"))


# -- All random layers -----------------------------------------------------------------------


@pytest.mark.parametrize(("layer_class", "arguments"), RANDOM_LAYERS)
def test_random_layers_pass_keras_checks(layer_class, arguments):
    check_layer(
        layer_class,
        {**arguments, "seed": 1},
        input_shape=(2, 5, 5, 3),
        expected_output_shape=(2, 5, 5, 3),
        expected_num_seed_generators=1,
        expected_num_trainable_weights=0,
        call_kwargs={"training": True},
        run_training_check=False,  # nothing to train
    )


@pytest.mark.parametrize(("layer_class", "arguments"), RANDOM_LAYERS)
def test_identity_at_inference_and_change_in_training(layer_class, arguments):
    x = images(width=8)
    layer = layer_class(**arguments)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), x)
    y = augment(layer, x)
    changed = np.abs(y - x).max(axis=(1, 2, 3)) > 1e-6
    assert changed.any()
    # Each image has its own draw: equal images come out different.
    same = augment(layer, np.repeat(x[:1], 16, axis=0))
    assert np.abs(same - same[:1]).max() > 1e-6


@pytest.mark.parametrize(("layer_class", "arguments"), RANDOM_LAYERS)
def test_the_seed_decides(layer_class, arguments):
    x = images(width=8)
    first, second = (layer_class(**arguments, seed=7) for _ in range(2))
    drawn = augment(first, x)
    np.testing.assert_array_equal(drawn, augment(second, x))
    assert np.abs(drawn - augment(first, x)).max() > 1e-6, "a second batch is drawn anew"
    assert np.abs(drawn - augment(layer_class(**arguments, seed=8), x)).max() > 1e-6


@pytest.mark.parametrize(("layer_class", "arguments"), RANDOM_LAYERS)
def test_dtype_is_kept(layer_class, arguments):
    x = ops.cast(images(width=8), "bfloat16")
    y = layer_class(**arguments, dtype="mixed_bfloat16")(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"


def test_raw_pixels_are_refused():
    with pytest.raises(ValueError, match="Received: images of dtype uint8"):
        RandomFlip()(np.zeros((2, 4, 4, 3), "uint8"), training=True)


def test_the_base_class_takes_an_augment_method():
    class Negative(RandomAugmentation):
        def augment(self, images):
            return -images

    x = images(2)
    np.testing.assert_array_equal(augment(Negative(), x), -x)
    np.testing.assert_array_equal(ops.convert_to_numpy(Negative()(x)), x)


@pytest.mark.parametrize(
    ("layer_class", "arguments", "message"),
    [
        (RandomShift, {"pixels": -1}, "Received: pixels=-1"),
        (RandomShift, {"pixels": 1.5}, "Received: pixels=1.5"),
        (RandomShift, {"mode": "wrap"}, "Received: mode=wrap"),
        (RandomCutout, {"size": 0}, "Received: size=0"),
        (RandomColour, {"brightness": -1}, "brightness=-1"),
        (RandomColour, {"contrast": 2}, "contrast=2"),
        (RandomColour, {"saturation": -0.1}, "saturation=-0.1"),
        (RandomStain, {**STAIN, "strength": 1.5}, "strength=1.5"),
        (RandomStain, {**STAIN, "light": -0.1}, "light=-0.1"),
        (RandomStain, {**STAIN, "std": (0.2, 0.0, 0.2)}, "std="),
        (RandomStain, {**STAIN, "mean": (0.5,)}, "mean="),
    ],
)
def test_bad_arguments_are_named(layer_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**arguments)


# -- Geometry and colour ---------------------------------------------------------------------


def test_every_shift_occurs_and_none_is_larger():
    n, pixels = 2000, 2
    x = np.zeros((n, 9, 11, 1), "float32")
    x[:, 4, 5] = 1
    y = augment(RandomShift(pixels, seed=0), x)
    assert (y.sum(axis=(1, 2, 3)) == 1).all()
    _, rows, columns, _ = np.nonzero(y)
    moves, counts = np.unique(np.stack([rows - 4, columns - 5]), axis=1, return_counts=True)
    every = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    assert sorted(map(tuple, moves.T.tolist())) == every
    assert counts.min() > 0.5 * n / 25  # 80 expected of each


@pytest.mark.parametrize("mode", ["reflect", "zero"])
def test_shift_is_a_crop_from_the_padded_image(mode):
    x = images(64, 7, 5)
    y = augment(RandomShift(3, mode, seed=0), x)
    how = {"mode": "reflect"} if mode == "reflect" else {"mode": "constant"}
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), **how)
    crops = np.stack(
        [padded[:, i : i + 7, j : j + 5] for i in range(7) for j in range(7)]
    )  # (49, 64, 7, 5, 3)
    matches = (crops == y).all(axis=(2, 3, 4))
    assert (matches.sum(axis=0) == 1).all(), "each image is one of the 49 crops"
    assert len(set(matches.argmax(axis=0))) > 20


def test_shift_by_zero_is_the_identity():
    x = images()
    np.testing.assert_array_equal(augment(RandomShift(0), x), x)


def test_reflection_needs_larger_images():
    with pytest.raises(ValueError, match="Received: images of shape"):
        RandomShift(4)(images(2, 4, 4))
    RandomShift(4, mode="zero")(images(2, 4, 4), training=True)


def test_flip_mirrors_half_of_the_images():
    x = images(400)
    y = augment(RandomFlip(seed=0), x)
    kept = (y == x).all(axis=(1, 2, 3))
    mirrored = (y == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept != mirrored).all()
    assert 150 < mirrored.sum() < 250


def symmetries(x):
    """The eight of a square image (side, side, channels), each once."""
    return [np.rot90(turned, k) for turned in (x, x.swapaxes(0, 1)) for k in range(4)]


def test_each_image_gets_one_of_the_eight_symmetries_of_the_square():
    n = 800
    x = images(n, 5, 5)
    y = augment(RandomSymmetry(seed=0), x)
    candidates = np.stack([symmetries(image) for image in x])  # (n, 8, 5, 5, 3)
    same = (candidates == y[:, None]).all(axis=(2, 3, 4))
    assert (same.sum(axis=1) == 1).all()
    counts = same.sum(axis=0)
    # 100 expected of each, standard deviation 9.4.
    assert counts.min() > 60 and counts.max() < 140


def test_symmetries_in_a_model_of_any_size():
    model = keras.Sequential([keras.Input((None, None, 3)), RandomSymmetry(seed=0)])
    for side in (4, 7):
        x = images(40, side, side)
        y = ops.convert_to_numpy(model(x, training=True))
        for before, after in zip(x, y, strict=True):
            assert any((after == turned).all() for turned in symmetries(before))


def test_symmetries_need_square_images():
    layer = RandomSymmetry()
    oblong = images(2, 4, 5)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(oblong)), oblong)
    with pytest.raises(ValueError, match=r"Received: images of shape \(2, 4, 5, 3\)"):
        layer(oblong, training=True)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_blanks_one_square(size):
    x = np.ones((500, 12, 9, 3), "float32")
    blank = augment(RandomCutout(size, seed=0), x)[..., 0] == 0
    rows, columns = blank.any(axis=2), blank.any(axis=1)
    np.testing.assert_array_equal(blank, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):
        lengths = side.sum(axis=1)
        assert lengths.max() == size
        assert lengths.min() == (size + 1) // 2, "a centre at the border leaves half the square"
        edges = np.abs(np.diff(side.astype(int), axis=1)).sum(axis=1)
        assert edges.max() <= 2, "one piece"
        assert side.any(axis=0).all(), "every position is reached"


def test_brightness_moves_all_pixels_alike():
    x = images(300)
    change = augment(RandomColour(0.3, 0, 0, seed=0), x) - x
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1, :1], x.shape), atol=1e-6)
    assert 0.27 < np.abs(change).max() <= 0.3 + 1e-6
    assert change.min() < 0 < change.max()


def test_contrast_scales_around_the_mean_of_the_image():
    x = images(300)
    y = augment(RandomColour(0, 0.5, 0, seed=0), x)
    mean = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(y.mean(axis=(1, 2), keepdims=True), mean, atol=1e-5)
    factor = (y - mean).std(axis=(1, 2, 3)) / (x - mean).std(axis=(1, 2, 3))
    np.testing.assert_allclose(y, mean + factor[:, None, None, None] * (x - mean), atol=1e-4)
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5


def test_saturation_scales_around_grey():
    x = images(300)
    y = augment(RandomColour(0, 0, 0.5, seed=0), x)
    grey = x.mean(axis=-1, keepdims=True)
    factor = (y - grey).std(axis=(1, 2, 3)) / (x - grey).std(axis=(1, 2, 3))
    np.testing.assert_allclose(y, grey + factor[:, None, None, None] * (x - grey), atol=1e-4)
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    flat = np.ones((4, 5, 5, 3), "float32")
    np.testing.assert_allclose(augment(RandomColour(0, 0, 0.5), flat), flat, atol=1e-6)


def stained(n=200, seed=0):
    """Colours of H&E tissue, and the same after `PixelScaling`."""
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0.4, 1.2, (n, 6, 6, 3)) * [1, 1, 0.2]
    rgb = np.exp(-amounts @ HED)
    return rgb, ((rgb - MEAN) / STD).astype("float32")


def amounts(scaled):
    rgb = scaled.astype("float64") * STD + MEAN
    return -np.log(rgb) @ np.linalg.inv(HED)


def test_each_stain_of_an_image_is_scaled_and_shifted():
    _, x = stained()
    y = augment(RandomStain(**STAIN, seed=0), x)
    before, after = (amounts(values).reshape(len(x), -1, 3) for values in (x, y))
    factors, shifts = [], []
    for stain in range(3):
        for b, a in zip(before[..., stain], after[..., stain], strict=True):
            factor, shift = np.polyfit(b, a, 1)
            np.testing.assert_allclose(a, factor * b + shift, atol=1e-4)
            factors.append(factor)
            shifts.append(shift)
    for drawn, centre in ((factors, 1), (shifts, 0)):
        distance = np.abs(np.array(drawn) - centre)
        assert 0.19 < distance.max() < 0.2 + 1e-3
        assert np.min(drawn) < centre < np.max(drawn)
    # Drawn for each image and stain alone.
    assert np.abs(np.corrcoef(np.reshape(factors, (3, -1)))[np.triu_indices(3, 1)]).max() < 0.3
    assert abs(np.corrcoef(factors, shifts)[0, 1]) < 0.3


def test_the_light_of_an_image_is_one_factor():
    rgb, x = stained()
    y = augment(RandomStain(MEAN, STD, strength=0, light=0.25, seed=0), x) * STD + MEAN
    factors = y / rgb
    dark = rgb.max(axis=(1, 2, 3)) < 0.8  # no pixel can reach white
    np.testing.assert_allclose(factors[dark].std(axis=(1, 2, 3)), 0, atol=1e-5)
    drawn = factors[dark][:, 0, 0, 0]
    assert 1 / 1.25 <= drawn.min() < 0.82 and 1.22 < drawn.max() <= 1.25 + 1e-6
    assert y.max() <= 1 + 1e-6


def test_stain_of_no_strength_is_the_identity():
    _, x = stained(8)
    y = augment(RandomStain(MEAN, STD, strength=0), x)
    np.testing.assert_allclose(y, x, atol=1e-5)


def test_stain_stays_between_black_and_white():
    raw = np.random.default_rng(0).choice([0, 255], (100, 4, 4, 3))
    x = ((raw / 255 - MEAN) / STD).astype("float32")
    rgb = augment(RandomStain(MEAN, STD, 1.0, seed=0), x) * STD + MEAN
    assert np.isfinite(rgb).all()
    assert -1e-6 <= rgb.min() and rgb.max() <= 1 + 1e-6


def test_stain_computes_in_float32():
    _, x = stained(8)
    x = ops.cast(x, "bfloat16")
    exact = RandomStain(**STAIN, seed=0)(ops.cast(x, "float32"), training=True)
    mixed = RandomStain(**STAIN, seed=0, dtype="mixed_bfloat16")(x, training=True)
    rounded = ops.cast(ops.cast(exact, "bfloat16"), "float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.cast(mixed, "float32")), ops.convert_to_numpy(rounded)
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_single_image_is_refused(training):
    with pytest.raises(ValueError, match=r"takes \(batch, height, width, channels\)"):
        RandomColour(seed=0)(np.zeros((8, 8, 3), "float32"), training=training)
