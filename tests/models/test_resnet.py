import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

import common
from common.errors import ConfigError
from common.layers import RandomColour, RandomCutout, RandomFlip, RandomShift
from common.models import PRESETS, ResNetConfig, adapt, preset, resnet, with_depth
from common.models.resnet import spread, with_pixel_statistics

PARAMETERS = {  # trainable, all
    "resnet20": (269_722, 271_098),
    "resnet32": (464_154, 466_426),
    "resnet44": (658_586, 661_754),
    "resnet56": (853_018, 857_082),
    "resnet110": (1_727_962, 1_736_058),
    "resnet18": (11_173_962, 11_183_562),
    "fast": (1_971_328, 1_973_920),
    "fast_small": (294_336, 295_520),
    "fast_large": (6_080_512, 6_084_896),
}
SMALL = {"blocks": (1, 1), "widths": (4, 8)}


def raw_images(n=8, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), "uint8")


def augmentation():
    return [RandomShift(2), RandomFlip(), RandomCutout(4), RandomColour()]


def small(**overrides):
    return ResNetConfig(**{**SMALL, **overrides})


def names(model):
    return [layer.name for layer in model.layers]


# -- Architecture ----------------------------------------------------------------------------


def test_every_preset_is_counted():
    assert set(PARAMETERS) == set(PRESETS)


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet110"])
def test_names_say_the_depth(name):
    assert f"resnet{PRESETS[name].depth}" == name


def test_depth():
    """Stem and head; transitions and convolutions."""
    assert PRESETS["fast"].depth == 8
    assert ResNetConfig(blocks=(2, 1), widths=(4, 8), block="bottleneck").depth == 11


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name, zero_weights):
    # The seed of an augmentation is no parameter.
    model = resnet(PRESETS[name], augmentation=[RandomFlip()])
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert (trainable, model.count_params()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        (PRESETS["resnet20"], 20),
        (PRESETS["resnet110"], 110),
        (PRESETS["resnet18"], 18),
        (PRESETS["fast"], 8),
        (ResNetConfig((3, 4, 6, 3), (64, 128, 256, 512), "bottleneck", shortcut="B"), 50),
    ],
)
def test_depth_is_the_number_in_the_name(config, depth):
    assert config.depth == depth


def test_layers_are_named_by_stage_and_block():
    model = resnet(small(blocks=(2, 1)), augmentation=[RandomFlip(name="flip")])
    assert names(model) == [
        "images",
        "scaling",
        "flip",
        "stem_conv",
        "stem_norm",
        "stem_activation",
        "stage1_block1",
        "stage1_block2",
        "stage2_block1",
        "features",
        "head",
    ]
    assert model.get_layer("stage2_block1").stride == 2


def test_preactivation_normalises_once_more_at_the_end():
    layers = names(resnet(small(preactivation=True)))
    assert "stem_norm" not in layers
    assert layers[-4:] == ["final_norm", "final_activation", "features", "head"]


def test_fast_net_pools_before_each_stage_and_scales_its_logits():
    model = resnet(preset("fast"))
    layers = names(model)
    assert layers[2:6] == ["whitening", "stem_activation", "stage1_transition", "stage1_block1"]
    assert model.get_layer("stage2_block1").stride == 1
    model.get_layer("head").set_weights([np.ones((256, 10))])
    features = keras.Model(model.inputs, model.get_layer("features").output)
    expected = features.predict(raw_images(), verbose=0).mean(axis=1)
    logits = model.predict(raw_images(), verbose=0)
    np.testing.assert_allclose(logits, np.tile(expected[:, None], 10), rtol=1e-4, atol=1e-5)


def test_images_too_small_for_the_stages_are_told_by_their_number():
    with pytest.raises(ConfigError, match="9 stages are too many.*stage 5 would get 1 pixel. Take"):
        resnet(preset("fast", stages=9), input_shape=(24, 24, 3))
    assert resnet(preset("fast", stages=4), input_shape=(24, 24, 3)).output_shape == (None, 10)


@pytest.mark.parametrize(
    "overrides",
    [
        {"block": "bottleneck", "shortcut": "B", "stem": "conv7x7"},
        {"block": "bottleneck", "downsample": "pool"},
        {"block": "single", "preactivation": True, "zero_init_last": True},
        {"preactivation": True, "shortcut": "B", "squeeze_excitation": 4, "kernel_init": "dirac"},
        {"residual": False, "stem": "whitening", "downsample": "pool", "activation": "gelu_tanh"},
        {"zero_init_last": True, "head_scale": 0.1, "global_pooling": "max", "norm_scale": False,
         "preactivation": True},
    ],
)  # fmt: skip
def test_combinations_run_in_float32_and_mixed_bfloat16(overrides):
    config = small(**overrides)
    float32 = resnet(config, num_classes=7).predict(raw_images(), verbose=0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = resnet(config, num_classes=7, augmentation=augmentation())
        bfloat16 = model.predict(raw_images(), verbose=0)
        block = model.get_layer("stage1_block1")
        assert keras.backend.standardize_dtype(block.compute_dtype) == "bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    for logits in (float32, bfloat16):
        assert (logits.shape, logits.dtype) == ((8, 7), "float32")
        assert np.isfinite(logits).all()


def test_other_numbers_of_channels():
    model = resnet(small(mean=[0.5], std=[0.2]), input_shape=(12, 12, 1))
    assert model.predict(np.zeros((2, 12, 12, 1), "uint8"), verbose=0).shape == (2, 10)


# -- Training, saving ------------------------------------------------------------------------


def test_one_model_learns_at_two_image_sizes():
    # Class = the brightest channel: learned in a few steps by any network that trains.
    labels = np.arange(64) % 3
    model = resnet(small(), num_classes=3, augmentation=[RandomShift(1), RandomFlip()])
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    for size in (12, 8):
        images = raw_images(64, size) // 2
        images[np.arange(64), :, :, labels] += 60
        loss = model.fit(images, labels, batch_size=16, epochs=6, verbose=0).history["loss"]
        assert loss[-1] < 0.6 * np.log(3)
    assert model.predict(raw_images(4, 20), verbose=0).shape == (4, 3)


def test_adapt_whitens_what_the_scaling_layer_makes():
    images = raw_images(32)
    images[:, :, 1::2] = images[:, :, ::2]  # neighbours of equal colour
    model = resnet(preset("fast", widths=(8, 16, 16)))
    adapt(model, images)
    whitened = keras.Model(model.inputs, model.get_layer("whitening").output)
    outputs = whitened.predict(images, verbose=0)[..., :12].reshape(-1, 12)
    covariance = outputs.T @ outputs / len(outputs)
    np.testing.assert_allclose(covariance, np.eye(12), atol=0.01)


def test_adapt_leaves_other_stems_alone():
    model = resnet(small())
    before = model.get_weights()
    adapt(model, raw_images())
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


LOAD = """
import sys
import common.layers  # registers the course's layers: nothing else of the course is needed
import keras
import numpy as np
images = np.load("images.npy")
for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras")
    np.save(f"{name}.npy", model.predict(images, verbose=0))
"""


def installed(module):
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # made unimportable on purpose
        return False


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of saved models and raw images, and the models' logits by name."""
    folder = tmp_path_factory.mktemp("saved")
    configs = {
        "fast": preset("fast", widths=(8, 16, 16)),
        "bottleneck": small(
            block="bottleneck", shortcut="B", preactivation=True, squeeze_excitation=2
        ),
    }
    images = raw_images(16)
    np.save(folder / "images.npy", images)
    rng = np.random.default_rng(0)
    logits = {}
    for name, config in configs.items():
        model = resnet(config, augmentation=augmentation())
        adapt(model, images)
        for variable in model.non_trainable_variables:
            if variable.name.startswith("moving"):  # as after training
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        model.save(folder / f"{name}.keras")
        logits[name] = model.predict(images, verbose=0)
    return folder, logits


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_saved_models_in_a_fresh_process(backend, saved):
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    folder, logits = saved
    path = [str(Path(common.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, "-c", LOAD, *logits],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(path)},
        check=True,
    )
    tolerance = 1e-6 if backend == keras.backend.backend() else 1e-3
    for name, expected in logits.items():
        loaded = np.load(folder / f"{name}.npy")
        np.testing.assert_allclose(loaded, expected, atol=tolerance, rtol=tolerance)


# -- Configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_config_survives_json(name):
    values = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert ResNetConfig.from_dict(values) == PRESETS[name]


def test_pixel_statistics_travel_with_the_network():
    config = small(mean=[0.7, 0.5, 0.6], std=(0.2, 0.25, 0.15))
    again = ResNetConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config == with_depth(config, blocks=(1, 1))
    scaling = resnet(again).get_layer("scaling")
    assert (scaling.mean, scaling.std) == ((0.7, 0.5, 0.6), (0.2, 0.25, 0.15))


def test_phase_1_is_described_as_it_was_before_there_were_pixel_statistics():
    """Else a run that is half done could not be gone on with."""
    record = Path(__file__).parents[2] / "phase1_cifar" / "weights" / "record.json"
    released = json.loads(record.read_text())["network"]
    assert preset("fast").to_dict() == released
    assert ResNetConfig.from_dict(released).mean == PRESETS["fast"].mean == (0.4914, 0.4822, 0.4465)


def test_pixel_statistics_by_hand():
    images = np.zeros((2, 1, 2, 3), "uint8")
    images[..., 0] = 51  # 0.2 and 0.6: mean 0.4, standard deviation 0.2
    images[1, ..., 0] = 153
    images[:, :, 0, 1] = 255
    images[0, 0, 0, 2] = 255
    config = with_pixel_statistics(small(), images)
    assert config.mean == (0.4, 0.5, 0.25)
    assert config.std == (0.2, 0.5, 0.433)
    assert (config.blocks, config.widths) == (small().blocks, small().widths)


def test_pixel_statistics_equal_numpy_s_on_a_spread_sample():
    images = raw_images(20)
    images[10:] //= 2
    config = with_pixel_statistics(small(), images)
    np.testing.assert_allclose(config.mean, (images / 255).mean((0, 1, 2)), atol=5.1e-5)
    np.testing.assert_allclose(config.std, (images / 255).std((0, 1, 2)), atol=5.1e-5)
    numbers = np.arange(12)
    np.testing.assert_array_equal(spread(numbers, 12), numbers)
    np.testing.assert_array_equal(spread(numbers, 5), [0, 3, 6, 9])
    np.testing.assert_array_equal(spread(numbers, 6), [0, 2, 4, 6, 8, 10])


def test_from_dict_fills_in_defaults():
    assert ResNetConfig.from_dict({"blocks": [3, 3, 3]}) == PRESETS["resnet20"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": (1, 1)}, "2 stages"),
        ({"blocks": (), "widths": ()}, "blocks="),
        ({"blocks": (1, 0, 1)}, "blocks="),
        ({"blocks": 3}, "blocks=3"),
        ({"widths": (16, 32.5, 64)}, "widths="),
        ({"block": "wide"}, "block='wide' is unknown"),
        ({"shortcut": "C"}, "shortcut='C'"),
        ({"stem": "none"}, "stem='none'"),
        ({"downsample": "crop"}, "downsample='crop'"),
        ({"global_pooling": "sum"}, "global_pooling='sum'"),
        ({"kernel_init": "ones"}, "kernel_init='ones'"),
        ({"activation": "no_such"}, "activation='no_such'"),
        ({"squeeze_excitation": -1}, "squeeze_excitation=-1"),
        ({"norm_momentum": 1.0}, "norm_momentum=1.0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon=0.0"),
        ({"head_scale": 0.0}, "head_scale=0.0"),
        ({"mean": (0.5,)}, r"mean=\(0.5,\) and std="),
        ({"std": (0.2, 0.2, 0.0)}, r"std=\(0.2, 0.2, 0.0\)"),
        ({"mean": 0.5, "std": 0.2}, "mean=0.5 and std=0.2"),
        ({"widths": (64, 32, 16)}, "shortcut='A'"),
        ({"stem": "whitening"}, "stem='whitening' has 24 channels"),
        ({"zero_init_last": True, "residual": False}, "residual=True"),
        ({"zero_init_last": True, "norm_scale": False}, "norm_scale=True"),
        ({"zero_init_last": True, "block": "single"}, "preactivation=True"),
    ],
)
def test_inconsistent_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        ResNetConfig(**values)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="'resnet21' is unknown.*resnet20.*fast"):
        preset("resnet21")
    with pytest.raises(ConfigError, match="no depth, width.*blocks"):
        preset("resnet20", width=3, depth=2)
    with pytest.raises(ConfigError, match="no depth"):
        ResNetConfig.from_dict({"depth": 2})
    with pytest.raises(ConfigError, match="num_classes=0"):
        resnet(PRESETS["resnet20"], num_classes=0)


def test_preset_with_overrides():
    config = preset("resnet20", blocks=5, preactivation=True)
    assert (config.blocks, config.preactivation) == ((5, 5, 5), True)
    config = preset("fast", stages=2)
    assert (config.blocks, config.widths, config.head_scale) == ((1, 1), (64, 256), 1 / 256)
    config = preset("resnet20", blocks=(1, 2), widths=(8, 16))
    assert (config.blocks, config.widths) == ((1, 2), (8, 16))
    config = preset("fast", widths=(8, 16, 32))
    assert (config.widths, config.head_scale) == ((8, 16, 32), 32**-0.5 / 16)
    assert preset("fast", widths=(8, 16, 32), head_scale=0.5).head_scale == 0.5


@pytest.mark.parametrize(
    ("name", "stages", "blocks", "expected_blocks", "expected_widths"),
    [
        ("resnet20", None, None, (3, 3, 3), (16, 32, 64)),
        ("resnet20", 2, None, (3, 3), (16, 32)),
        ("resnet20", 4, 1, (1, 1, 1, 1), (16, 32, 64, 128)),
        ("resnet20", None, (1, 2), (1, 2), (16, 32)),
        ("resnet20", None, 2, (2, 2, 2), (16, 32, 64)),
        ("fast", 5, None, (1,) * 5, (64, 256, 256, 512, 512)),
        ("resnet18", 5, (1, 1, 1, 1, 2), (1, 1, 1, 1, 2), (64, 128, 256, 512, 512)),
    ],
)
def test_with_depth(name, stages, blocks, expected_blocks, expected_widths):
    config = with_depth(PRESETS[name], stages, blocks)
    assert (config.blocks, config.widths) == (expected_blocks, expected_widths)


def test_with_depth_scales_the_head_with_the_width():
    assert with_depth(PRESETS["fast"], stages=1).head_scale == 1 / 128


def test_with_depth_contradictions():
    with pytest.raises(ConfigError, match="stages=3 contradicts"):
        with_depth(PRESETS["resnet20"], 3, (1, 2))
    with pytest.raises(ConfigError, match="blocks="):
        with_depth(PRESETS["resnet20"], 0)
    with pytest.raises(ConfigError, match="2 stages"):
        with_depth(PRESETS["resnet20"], 2, widths=(16, 32, 64))
    with pytest.raises(ConfigError, match="widths="):
        with_depth(PRESETS["fast"], widths=())


def test_images_of_one_colour_can_be_trained_on():
    images = np.full((3, 4, 4, 3), 7, "uint8")
    config = with_pixel_statistics(small(), images)
    assert config.std == (0.0039,) * 3
    assert np.isfinite(
        resnet(config, num_classes=2).predict(np.zeros((1, 32, 32, 3)), verbose=0)
    ).all()


# -- Elsewhere -------------------------------------------------------------------------------


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("kind", ["tf_saved_model", "litert"])
def test_exported_with_open_batch_and_image_size(kind, tmp_path):
    import tensorflow as tf

    network = resnet(small(image_size=12, stem="whitening", shortcut="B"), 4)
    path = str(tmp_path / ("network.tflite" if kind == "litert" else "network"))
    network.export(path, format=kind, verbose=False)
    for images in (raw_images(3), raw_images(2, 20)):
        if kind == "litert":
            run = tf.lite.Interpreter(path).get_signature_runner()
            (found,) = run(**dict.fromkeys(run.get_input_details(), images)).values()
        else:
            loaded = tf.saved_model.load(path)
            found = loaded.serve(images)
        np.testing.assert_allclose(found, network(images), atol=1e-5)
