import os
from pathlib import Path

import keras
import numpy as np
import pytest

from common.errors import ConfigError, DataError
from common.models import backbones
from common.models.backbones import (
    BACKBONES,
    backbone,
    pooled_backbone,
    weights_hash,
    weights_path,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
# The narrowest MobileNet: quick to make.
TINY = "mobilenet_0.25"


@pytest.fixture(scope="module")
def tiny():
    return backbone(TINY, "random", seed=1)


CHANNELS = {"mobilenet": 1024, "mobilenet_0.75": 768, "resnet50": 2048, "efficientnetb0": 1280}
if keras.backend.backend() != "tensorflow":
    del CHANNELS["efficientnetb0"]  # half a minute to compile, and no other than with TensorFlow


@pytest.mark.parametrize("name, channels", CHANNELS.items())
def test_raw_pixels_to_49_regions(name, channels):
    family = name.split("_")[0]
    model = backbone(name, "random")
    assert model.input_shape == (None, 224, 224, 3)
    assert model.input.dtype == "uint8"
    assert model.output_shape == (None, 7, 7, channels)
    assert not model.trainable_variables
    module = getattr(keras.applications, family.removesuffix("b0"))
    expected = module.preprocess_input(IMAGES.astype("float32"))
    found = keras.ops.convert_to_numpy(model.get_layer("pixels")(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_scales_pixels_itself(tiny):
    network = tiny.layers[-1]
    scaled = keras.applications.mobilenet.preprocess_input(IMAGES.astype("float32"))
    expected = keras.ops.convert_to_numpy(network(scaled, training=False))
    found = keras.ops.convert_to_numpy(tiny(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.std() > 0


def test_computes_in_float32_under_any_policy(tiny):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbone(TINY, "random", seed=1)
    finally:
        keras.config.set_dtype_policy(before)
    assert weights_hash(model) == weights_hash(tiny)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(IMAGES)), keras.ops.convert_to_numpy(tiny(IMAGES))
    )


def test_seed_decides_random_weights(tiny):
    assert weights_hash(backbone(TINY, "random", seed=1)) == weights_hash(tiny)
    assert weights_hash(backbone(TINY, "random", seed=2)) != weights_hash(tiny)


def test_hash_is_of_the_tensors_not_of_the_file(tiny, tmp_path, monkeypatch):
    """Both file formats, found by name under COURSE_DATA, give the same network."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    path = weights_path(TINY)
    assert path == tmp_path / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir()
    new = path.with_name("mobilenet_2_5_224_tf_no_top.weights.h5")
    tiny.layers[-1].save_weights(new)
    assert weights_hash(backbone(TINY)) == weights_hash(tiny)
    assert weights_hash(backbone(TINY, new)) == weights_hash(tiny)
    new.unlink()
    tiny.layers[-1].save(path)  # as Keras's download, a whole model in HDF5
    assert weights_hash(backbone(TINY)) == weights_hash(tiny)


def test_downloads_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    asked = []

    def make(include_top, weights, input_shape, alpha):
        asked.append((include_top, weights, alpha))
        keras.utils.set_random_seed(7 if weights == "imagenet" else 8)
        return keras.applications.MobileNet(
            include_top=include_top, weights=None, input_shape=input_shape, alpha=alpha
        )

    family = backbones.Family(make, "signed", BACKBONES["mobilenet"].file, (0.25,))
    monkeypatch.setitem(BACKBONES, "mobilenet", family)
    model = backbone(TINY)
    assert asked == [(False, None, 0.25), (False, "imagenet", 0.25)]
    assert weights_hash(model) == weights_hash(make(False, "imagenet", (224, 224, 3), 0.25))


def test_says_where_weights_belong_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))

    def make(weights, **more):
        if weights == "imagenet":
            raise Exception("URL fetch failure")  # what Keras raises
        return keras.applications.MobileNet(weights=None, **more)

    family = backbones.Family(make, "signed", BACKBONES["mobilenet"].file, (0.25,))
    monkeypatch.setitem(BACKBONES, "mobilenet", family)
    with pytest.raises(DataError, match=r"mobilenet_2_5_224_tf_no_top\.h5 .*URL fetch failure"):
        backbone(TINY)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network_or_damaged(tiny, tmp_path):
    with pytest.raises(DataError, match="no file of weights of .* at"):
        backbone(TINY, tmp_path / "none.weights.h5")
    path = tmp_path / "x.weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"x\.weights\.h5 is damaged or not the weights of"):
        backbone(TINY, path)
    tiny.layers[-1].save_weights(path)
    with pytest.raises(DataError, match="not the weights of mobilenet_0.5"):
        backbone("mobilenet_0.5", path)


@pytest.mark.parametrize("name", ["vgg19", "resnet50_0.5", "mobilenet_", "mobilenet_0", ""])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match="is unknown. Choose one of mobilenet, resnet50"):
        backbone(name, "random")


def test_widths_without_imagenet_weights():
    with pytest.raises(ConfigError, match="no ImageNet weights for 'mobilenet_0.6'"):
        backbone("mobilenet_0.6")
    assert backbone("mobilenet_0.3", "random").output_shape == (None, 7, 7, 307)


REAL = Path(os.environ.get("COURSE_DATA", "")) / "weights"


@pytest.mark.skipif(
    not (REAL / "mobilenet_7_5_224_tf_no_top.weights.h5").is_file(),
    reason="no MobileNet 0.75 weights under COURSE_DATA",
)
def test_real_weights():
    assert weights_hash(backbone("mobilenet_0.75")) == "35be84f705cf027d"


@pytest.mark.parametrize(
    "name, channels",
    [(TINY, 64 + 128 + 256), ("resnet50", 512 + 1024 + 2048), ("efficientnetb0", 40 + 112 + 1280)],
)
def test_means_at_three_depths(name, channels):
    model = pooled_backbone(name, "random", size=64)
    assert model.output_shape == (None, channels) and not model.trainable_variables
    # Maps at an eighth, a sixteenth and a thirty-second of the side.
    network = next(layer for layer in model.layers if len(getattr(layer, "outputs", [])) == 3)
    assert [maps.shape[1] for maps in network.outputs] == [8, 4, 2]


def test_means_are_those_of_the_maps():
    whole, means = (
        backbone(TINY, "random", seed=1),
        pooled_backbone(TINY, "random", size=224, seed=1),
    )
    maps = keras.ops.convert_to_numpy(whole(IMAGES))  # (1, 7, 7, 256)
    found = keras.ops.convert_to_numpy(means(IMAGES))
    np.testing.assert_allclose(found[:, -256:], maps.mean(axis=(1, 2)), atol=1e-5)
    # Images of any size, enlarged or shrunk.
    small = keras.ops.convert_to_numpy(means(IMAGES[:, ::4, ::4]))
    assert small.shape == found.shape and np.isfinite(small).all()
