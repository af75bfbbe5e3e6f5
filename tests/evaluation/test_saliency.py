import functools

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from common.errors import ConfigError, DataError
from common.evaluation import saliency
from common.evaluation.classification import predict_logits
from common.layers import PixelScaling, RandomShift
from common.models.ensemble import Ensemble
from common.models.resnet import ResNetConfig, preset, resnet
from common.training.runs import read_model

SIZE = 8
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.25, 0.2)


def random_images(n=2, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype("uint8")


def linear_model():
    """Logits are weighted sums of the scaled pixels; also gives the weights (H, W, 3, 4)."""
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), dtype="uint8"),
            PixelScaling(MEAN, STD),
            layers.Flatten(),
            layers.Dense(4, kernel_initializer="zeros"),
        ]
    )
    weights = np.random.default_rng(1).standard_normal((SIZE, SIZE, 3, 4)).astype("float32")
    model.layers[-1].set_weights([weights.reshape(-1, 4), np.zeros(4, "float32")])
    return model, weights


def small_resnet():
    """With kernels of one shape: JAX compiles a random initialiser for each."""
    keras.utils.set_random_seed(0)
    config = preset("resnet20", stages=2, blocks=1, widths=(3, 3), activation="gelu_tanh")
    return resnet(config, num_classes=5, augmentation=[RandomShift(2)])


@pytest.fixture(scope="module")
def network():
    return small_resnet()


def three_layers(seed=0):
    """As small as a network with something to randomise can be: maps of it take little time."""
    zeros = {"kernel_initializer": "zeros"}  # until weights are set below
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3), dtype="uint8"),
            PixelScaling(MEAN, STD, name="scaling"),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="first", **zeros),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="second", **zeros),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="head", **zeros),
        ]
    )
    rng = np.random.default_rng(seed)  # the same weights on every backend
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def colour_model(nested=False):
    """Class 0 is the amount of red, class 1 of blue: features are the scaled channels."""
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    scaled = layers.Rescaling(1 / 255, name="scaling")
    features = layers.Conv2D(2, 1, use_bias=False, kernel_initializer="zeros", name="features")
    if nested:
        inner_image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
        front = keras.Model(inner_image, scaled(inner_image), name="front")
        inner = keras.Sequential([keras.Input((SIZE, SIZE, 3)), features], name="inner")
        pixels = keras.Input((SIZE, SIZE, 3))
        backbone = keras.Model(pixels, inner(pixels), name="backbone")
        x = backbone(front(image))
    else:
        x = features(scaled(image))
    x = layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(2, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(image, head(x))
    features.set_weights([np.array([[[[1, 0], [0, 0], [0, 1]]]], "float32")])
    head.set_weights([np.array([[2, -1], [-1, 3]], "float32")])
    return model


def red_and_blue():
    """A red square at the top left, a blue one at the bottom right."""
    image = np.zeros((1, SIZE, SIZE, 3), "uint8")
    image[0, :3, :3, 0] = 255
    image[0, 5:, 5:, 2] = 255
    return image


def test_gradients_of_a_linear_model_are_its_weights():
    model, weights = linear_model()
    images = random_images(3)
    for class_index in (0, 3):
        got = saliency.pixel_gradients(model, images, class_index)
        np.testing.assert_allclose(got, np.stack([weights[..., class_index]] * 3), rtol=1e-5)
    each = saliency.pixel_gradients(model, images, [2, 0, 1])
    np.testing.assert_allclose(each, np.stack([weights[..., c] for c in (2, 0, 1)]), rtol=1e-5)
    predicted = predict_logits(model, images).argmax(axis=1)
    expected = np.stack([np.abs(weights[..., c]).max(axis=-1) for c in predicted])
    got = saliency.gradient_saliency(model, images)
    assert got.shape == (3, SIZE, SIZE) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_noise_changes_no_gradient_of_a_linear_model():
    model, _ = linear_model()
    images = random_images()
    plain = saliency.gradient_saliency(model, images, 1)
    np.testing.assert_allclose(saliency.smooth_grad(model, images, 1, samples=3), plain, rtol=1e-4)


def test_smooth_grad_is_the_gradient_of_the_smoothed_score():
    # Score: sum of x**3. Its gradient 3 x**2 becomes 3 (x**2 + s**2) under noise of deviation s.
    cubes = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Lambda(lambda x: x**3),
            layers.Flatten(),
            layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    x = np.linspace(0, 1, SIZE * SIZE).reshape(1, SIZE, SIZE, 1).repeat(3, axis=3)
    images = (255 * x).round().astype("uint8")
    got = saliency.smooth_grad(cubes, images, samples=400, noise=0.2, seed=1)
    again = saliency.smooth_grad(cubes, images, samples=400, noise=0.2, seed=1)
    np.testing.assert_array_equal(got, again)
    plain = saliency.gradient_saliency(cubes, images)
    np.testing.assert_allclose(plain, 3 * (images[..., 0] / 255) ** 2, rtol=1e-3, atol=1e-6)
    # The largest of three noisy channels lies a little above their expectation.
    assert (got - plain).mean() == pytest.approx(3 * 0.2**2, rel=0.3)
    with pytest.raises(ConfigError, match="samples=0"):
        saliency.smooth_grad(cubes, images, samples=0)


def test_gradients_of_a_resnet_agree_with_differences(network):
    images = random_images(1, 16)
    gradient = saliency.pixel_gradients(network, images, 2)
    scaling = network.get_layer("scaling")
    strongest = np.argsort(-np.abs(gradient[0]).ravel())[:5]
    for place in strongest:
        where = (0, *np.unravel_index(place, gradient.shape[1:]))
        pair = np.concatenate([images, images])
        pair[0][where[1:]] = min(int(images[where]) + 2, 255)
        pair[1][where[1:]] = max(int(images[where]) - 2, 0)
        logits = predict_logits(network, pair)[:, 2]
        scaled = keras.ops.convert_to_numpy(scaling(pair))[(slice(None), *where[1:])]
        difference = (logits[0] - logits[1]) / (scaled[0] - scaled[1])
        assert gradient[where] == pytest.approx(difference, rel=0.05)


@pytest.mark.parametrize("nested", [False, True])
def test_grad_cam_finds_the_corner_of_each_class(nested):
    model, image = colour_model(nested), red_and_blue()
    positions = SIZE * SIZE
    red = saliency.grad_cam(model, image, 0)[0]
    blue = saliency.grad_cam(model, image, 1)[0]
    expected = np.zeros((SIZE, SIZE))
    expected[:3, :3] = 2 / positions  # the red feature is 1 there, its weight 2 / positions
    np.testing.assert_allclose(red, expected, atol=1e-6)
    expected = np.zeros((SIZE, SIZE))
    expected[5:, 5:] = 3 / positions
    np.testing.assert_allclose(blue, expected, atol=1e-6)
    by_name = saliency.grad_cam(model, image, 1, layer="features")[0]
    np.testing.assert_array_equal(by_name, blue)


def test_grad_cam_weighs_feature_maps_by_their_mean_gradient():
    model, weights = linear_model()
    images = random_images()
    features = (images / 255 - MEAN) / STD  # the scaling is the last layer with positions
    expected = np.maximum((features * weights[..., 2].mean(axis=(0, 1))).sum(axis=-1), 0)
    np.testing.assert_allclose(saliency.grad_cam(model, images, 2), expected, atol=1e-5)


def test_all_methods_reach_into_nested_models():
    flat, nested = colour_model(), colour_model(nested=True)
    image = red_and_blue()
    for method in (saliency.gradient_saliency, saliency.smooth_grad, saliency.occlusion):
        np.testing.assert_allclose(method(nested, image, 0), method(flat, image, 0), atol=1e-6)


def test_grad_cam_of_a_resnet_takes_the_last_feature_maps(network):
    images = random_images(2, 16)
    got = saliency.grad_cam(network, images)
    assert got.shape == (2, 16, 16) and got.min() >= 0 and got.max() > 0
    last = saliency.grad_cam(network, images, layer="stage2_block1")  # 8x8 cells
    np.testing.assert_array_equal(got, last)
    fewer = saliency.grad_cam(network, images[:, :12, :12])  # 6x6 cells would be too few
    layer = network.get_layer("stage1_block1")
    earlier = saliency.grad_cam(network, images[:, :12, :12], layer=layer)
    np.testing.assert_array_equal(fewer, earlier)


def test_grad_cam_reaches_a_layer_that_a_shortcut_passes_by():
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    branch = layers.Conv2D(3, 3, padding="same", name="branch")(x)
    x = layers.Flatten()(layers.Add()([x, branch]))
    model = keras.Model(image, layers.Dense(2)(x))
    got = saliency.grad_cam(model, random_images(), 0, layer="branch")
    assert got.max() > 0


def test_grad_cam_names_layers_it_cannot_use(network):
    images = random_images(1, 16)
    with pytest.raises(ConfigError, match="no layer named 'stage9'.*stage1_block1"):
        saliency.grad_cam(network, images, layer="stage9")
    for layer in ("head", "features"):
        with pytest.raises(ConfigError, match=f"{layer}.*no output.*Choose one before"):
            saliency.grad_cam(network, images, layer=layer)
    with pytest.raises(ConfigError, match="7x7 cells or more for images of 6x6 pixels. Name"):
        saliency.grad_cam(network, images[:, :6, :6])
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    x = layers.GlobalAveragePooling2D()(shared(shared(x)))
    twice = keras.Model(image, layers.Dense(2)(x))
    with pytest.raises(ConfigError, match="'shared' once, not 2 times"):
        saliency.grad_cam(twice, random_images(), layer="shared")
    assert "call" not in vars(shared)


def test_gradients_need_scaled_pixels():
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(2)(x))
    with pytest.raises(ConfigError, match="PixelScaling"):
        saliency.gradient_saliency(model, random_images())


def test_occlusion_falls_only_where_the_class_looks():
    model, _ = linear_model()
    weights = np.zeros((SIZE, SIZE, 3, 4), "float32")
    weights[:2, :2, :, 1] = 0.5  # class 1 looks at the top left corner
    model.layers[-1].set_weights([weights.reshape(-1, 4), np.zeros(4, "float32")])
    images = np.full((2, SIZE, SIZE, 3), 60, "uint8")
    images[:, :2, :2] = 250
    got = saliency.occlusion(model, images, 1, patch=2, stride=2)
    assert got.shape == (2, SIZE, SIZE)
    assert got[:, :2, :2].min() > 0.1
    got[:, :2, :2] = 0
    np.testing.assert_allclose(got, 0, atol=1e-6)


def test_occlusion_covers_every_pixel_and_checks_the_patch():
    model, images = colour_model(), np.full((1, SIZE, SIZE, 3), 90, "uint8")
    images[0, :, -1] = (255, 0, 0)  # only the last patch, put at the edge, reaches this column
    got = saliency.occlusion(model, images, 0, patch=3, stride=3)
    assert got[0, :, -1].min() > 0
    for patch, stride in ((9, 1), (0, 1), (2, 3), (2, 0)):
        with pytest.raises(ConfigError, match=f"patch={patch}, stride={stride}"):
            saliency.occlusion(model, images, patch=patch, stride=stride)


@pytest.mark.parametrize("class_index", [5, -1, [0, 1, 2]])
def test_class_index_is_checked(network, class_index):
    with pytest.raises(ConfigError, match="class_index"):
        saliency.gradient_saliency(network, random_images(2, 16), class_index)


def test_images_must_be_raw_pixels(network):
    with pytest.raises(DataError, match="float32"):
        saliency.grad_cam(network, random_images(2, 16).astype("float32"))


def test_the_model_is_left_as_it_was(network):
    images = random_images(2, 16)
    before = predict_logits(network, images)
    for method in (saliency.gradient_saliency, saliency.grad_cam):
        method(network, images)
    assert not any("call" in vars(layer) for layer in network._flatten_layers())
    np.testing.assert_array_equal(predict_logits(network, images), before)


def test_maps_of_a_saved_model_are_the_same(network, tmp_path):
    images = random_images(2, 16)
    network.save(tmp_path / "model.keras")
    loaded = read_model(tmp_path / "model.keras")
    expected = saliency.pixel_gradients(network, images, 1)
    got = saliency.pixel_gradients(loaded, images, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def edges(model, images, class_index):
    """Looks like a saliency map, and never asks the model."""
    return np.stack([cv2.Laplacian(image.mean(axis=2), cv2.CV_64F) for image in images])


def test_the_map_of_an_edge_detector_is_refused(network):
    table = saliency.randomisation_test(network, random_images(3, 16), edges)
    assert table["layer"].tolist() == [
        "unchanged",
        "head",
        "stage2_block1",
        "stage1_block1",
        "stem_norm",
        "stem_conv",
    ]
    np.testing.assert_allclose(table[["similarity", "low", "high"]], 1)
    with pytest.raises(DataError, match="edges is refused.*1.00, limit 0.7.*show the image"):
        saliency.require_sensitive(table, method="edges")


@pytest.mark.parametrize(
    "method",
    [
        saliency.gradient_saliency,
        functools.partial(saliency.smooth_grad, samples=4),
        saliency.grad_cam,
        functools.partial(saliency.occlusion, patch=4),
    ],
    ids=["gradient", "smooth_grad", "grad_cam", "occlusion"],
)
def test_maps_depend_on_what_the_model_learnt(method):
    table = saliency.randomisation_test(three_layers(), random_images(4, 16), method)
    assert table["similarity"].iloc[0] == pytest.approx(1, abs=1e-3)
    assert table["similarity"].iloc[-1] < 0.4
    saliency.require_sensitive(table)


def test_each_step_is_the_map_of_a_model_with_those_weights():
    """Nothing is remembered from step to step, as a compiled function might its weights."""
    model, images = three_layers(), random_images(2, 16)
    before, steps = model.get_weights(), {}

    def gradient(model, images, classes):
        maps = saliency.gradient_saliency(model, images, classes)
        steps[len(steps)] = (model.get_weights(), np.array(classes), maps)
        return maps

    maps = saliency.randomised_maps(model, images, gradient, seed=4)
    assert list(maps) == ["original", "unchanged", "head", "second", "first"]
    predicted = predict_logits(model, images).argmax(axis=1)
    other = three_layers(seed=1)
    for name, (weights, classes, got) in zip(maps, steps.values(), strict=True):
        np.testing.assert_array_equal(classes, predicted)  # whatever the shuffled model says
        np.testing.assert_array_equal(maps[name], got)
        other.set_weights(weights)
        expected = saliency.gradient_saliency(other, images, predicted)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    # Kernels and biases, from the pixels to the logits: those above a step stay shuffled.
    for step, first_changed in enumerate([6, 6, 4, 2, 0]):
        for place, (learnt, now) in enumerate(zip(before, steps[step][0], strict=True)):
            np.testing.assert_array_equal(np.sort(learnt.ravel()), np.sort(now.ravel()))
            if np.ptp(learnt):  # biases of convolutions are all 0
                assert (learnt != now).any() == (place >= first_changed)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_weights_come_back_after_an_error(network):
    before = network.get_weights()
    calls = []

    def fails(model, images, classes):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("no memory")
        return np.zeros(images.shape[:3])

    with pytest.raises(RuntimeError, match="no memory"):
        saliency.randomised_maps(network, random_images(2, 16), fails)
    assert all((a == b).all() for a, b in zip(before, network.get_weights(), strict=True))


def test_layers_of_nested_models_are_randomised_one_by_one():
    model = colour_model(nested=True)
    table = saliency.randomisation_test(model, red_and_blue(), saliency.occlusion, 0)
    assert table["layer"].tolist()[1:] == [model.layers[-1].name, "backbone/inner/features"]
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    empty = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Rescaling(1.0)(image)))
    with pytest.raises(ConfigError, match="no weights"):
        saliency.randomisation_test(empty, red_and_blue(), saliency.occlusion)


def test_similarity_by_hand():
    first = np.array([[[1.0, -2.0], [3.0, -4.0]]])
    maps = {"first": first, "sign": -first, "squares": first**2, "turned": 5 - np.abs(first)}
    maps |= {"swapped": np.array([[[2, 1], [3, 4]]]), "nothing": np.zeros((1, 2, 2))}
    table = saliency.map_similarity(maps).set_index("layer")
    # Spearman: 1 - 6 sum d^2 / (n (n^2 - 1)) = 1 - 6 * 2 / 60 for two neighbouring ranks swapped.
    expected = {"sign": 1, "squares": 1, "turned": -1, "swapped": 0.8, "nothing": 0}
    assert table["similarity"].to_dict() == pytest.approx(expected)
    two = saliency.map_similarity(
        {"a": np.concatenate([first, 0 * first]), "b": np.concatenate([maps["swapped"], 0 * first])}
    )
    assert two.loc[0, ["similarity", "low", "high"]].tolist() == pytest.approx([0.9, 0.8, 1])


def test_maps_that_cannot_be_compared_are_named():
    maps = np.ones((2, 4, 4))
    with pytest.raises(DataError, match="two sets.*Received: 1"):
        saliency.map_similarity({"original": maps})
    with pytest.raises(DataError, match=r"\(2, 4, 4\) and, for 'head', \(2, 3, 3\)"):
        saliency.map_similarity({"original": maps, "head": maps[:, 1:, 1:]})
    with pytest.raises(DataError, match="not finite"):
        saliency.map_similarity({"original": maps, "head": maps * np.nan})


def test_a_method_that_never_repeats_itself_cannot_be_tested(network):
    rng = np.random.default_rng(0)
    table = saliency.randomisation_test(
        network, random_images(2, 16), lambda model, images, classes: rng.random(images.shape[:3])
    )
    with pytest.raises(DataError, match="Noise cannot be tested.*Fix its seed"):
        saliency.require_sensitive(table, method="Noise")


def test_networks_that_shrink_patches_of_two_classes_have_maps_of_the_patches_size():
    keras.utils.set_random_seed(1)
    config = preset("fast_small", stages=2, blocks=1, widths=(24, 24), image_size=24)
    model = resnet(config, 2, (50, 50, 3), augmentation=[RandomShift(2)])
    images = random_images(2, 50)
    head = model.get_layer("head")  # every feature speaks for class 1
    head.set_weights([np.abs(head.get_weights()[0]) * [-1, 1]])
    model.get_layer("resizing").training_size = 16  # of training only
    for method in (saliency.gradient_saliency, saliency.grad_cam):
        maps = method(model, images, 1)
        assert maps.shape == (2, 50, 50) and np.ptp(maps, axis=(1, 2)).min() > 0
    falls = saliency.occlusion(model, images, 1, patch=25, stride=25)
    assert falls.shape == (2, 50, 50) and np.ptp(falls) > 0
    table = saliency.randomisation_test(model, images, edges, 1)
    assert table["layer"].tolist()[1:3] == ["head", "stage2_block1"]
    assert table["layer"].iloc[-1] == "whitening"


def test_maps_of_gradients_are_of_one_network():
    config = ResNetConfig(blocks=(1, 1), widths=(4, 8))
    ensemble = Ensemble([resnet(config, 3, name=name) for name in ("one", "two")])
    images = np.zeros((1, 16, 16, 3), "uint8")
    for method in (saliency.gradient_saliency, saliency.smooth_grad, saliency.grad_cam):
        with pytest.raises(ConfigError, match="take one of its `members`"):
            method(ensemble, images, 0)
    maps = saliency.occlusion(ensemble, images, 0, patch=8, stride=8)
    assert maps.shape == (1, 16, 16)
