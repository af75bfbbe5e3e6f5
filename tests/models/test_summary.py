from dataclasses import replace

import keras
import numpy as np
import pytest

from common.models import (
    PRESETS,
    ResNetConfig,
    count_macs,
    model_summary_table,
    preset,
    receptive_fields,
    resnet,
)

# 3x3 convolutions by hand: outputs x 9 x channels in x channels out.
RESNET20 = (
    32 * 32 * 9 * 3 * 16
    + 6 * (32 * 32 * 9 * 16 * 16)
    + 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32)
    + 8 * 8 * 9 * (32 * 64 + 5 * 64 * 64)
    + 64 * 10
)


def test_resnet20_is_counted_right(zero_weights):
    model = resnet(PRESETS["resnet20"])
    table = model_summary_table(model)
    assert table["macs"].sum() == RESNET20 == 40_551_040
    assert (table["flops"] == 2 * table["macs"]).all()
    assert table["parameters"].sum() == model.count_params()
    rows = table.set_index("layer")
    assert list(table["layer"]) == [layer.name for layer in model.layers]
    assert rows.loc["images", "output_shape"] == (32, 32, 3)
    assert rows.loc["stage2_block1", "output_shape"] == (16, 16, 32)
    assert rows.loc["stage2_block1", "type"] == "BasicBlock"
    assert rows.loc["head", "output_shape"] == (10,)
    # Four times the pixels, four times the convolutions.
    assert count_macs(model, 64) == 4 * (RESNET20 - 640) + 640


def test_projections_squeeze_excitation_and_whitening_are_counted(zero_weights):
    base = ResNetConfig(blocks=(1, 1), widths=(4, 8))
    plain = count_macs(resnet(base), 8)
    projected = count_macs(resnet(ResNetConfig(**{**base.to_dict(), "shortcut": "B"})), 8)
    assert projected - plain == 4 * 4 * (4 * 8)
    excited = count_macs(resnet(ResNetConfig(**{**base.to_dict(), "squeeze_excitation": 2})), 8)
    assert excited - plain == 2 * (4 * 2) + 2 * (8 * 4)
    table = model_summary_table(
        resnet(ResNetConfig(**{**base.to_dict(), "stem": "whitening", "shortcut": "B"})), 8
    )
    assert table.set_index("layer").loc["whitening", "macs"] == 7 * 7 * 12 * 24


@pytest.mark.parametrize("size", [24, 31])
def test_output_shapes_follow_the_input_size(size, zero_weights):
    rows = model_summary_table(resnet(PRESETS["fast"]), size).set_index("layer")
    side = size - 1
    assert rows.loc["whitening", "output_shape"] == (side, side, 24)
    for stage in (1, 2, 3):
        side //= 2
        assert rows.loc[f"stage{stage}_block1", "output_shape"][:2] == (side, side)


def test_a_network_that_shrinks_its_images_is_counted_at_that_size():
    config = preset("fast_small")
    small = resnet(replace(config, image_size=24))
    assert count_macs(small, 32) == count_macs(resnet(config), 24) < count_macs(resnet(config), 32)


def test_receptive_fields_by_hand():
    # Stem 3; per block two convolutions, each 2 steps of 1, 2 and 4 pixels more.
    table = receptive_fields(preset("resnet20"), 32)
    assert table["field"].tolist() == [15, 37, 81]
    assert table["step"].tolist() == [1, 2, 4]
    assert table["side"].tolist() == [32, 16, 8]


@pytest.mark.parametrize(
    "config",
    [
        ResNetConfig(blocks=(1, 1), widths=(4, 4), shortcut="B"),
        ResNetConfig(blocks=(1, 2), widths=(2, 2), block="bottleneck", shortcut="B"),
        ResNetConfig(blocks=(1, 1), widths=(4, 4), stem="conv7x7", shortcut="B"),
        preset("fast_small", stages=2, widths=(8, 8), kernel_init="he_normal"),
    ],
)
def test_receptive_fields_are_what_a_pixel_reaches(config):
    size = 61
    table = receptive_fields(config, size)
    keras.utils.set_random_seed(0)
    model = resnet(replace(config, activation="linear"), 2)
    last = model.get_layer(f"stage{config.stages}_block{config.blocks[-1]}")
    features = keras.Model(model.input, last.output)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype("uint8")
    changed = np.repeat(image[None], size, axis=0)
    for row in range(size):  # each image has another row of pixels changed
        changed[row, row] = 255 - changed[row, row]
    # In one batch: a batch of another size may be summed in another order.
    before, *after = keras.ops.convert_to_numpy(features(np.stack([image, *changed])))
    assert before.shape[0] == table["side"].iloc[-1]
    middle = before.shape[0] // 2
    change = np.abs(after - before)[:, middle].max(axis=(1, 2))
    reached = change > 1e-3 * change.max()  # a true change is more, rounding a millionth
    rows = np.flatnonzero(reached)
    # With poolings a maximum may hide the outermost rows.
    slack = 0 if config.downsample == "stride" and config.stem != "conv7x7" else 6
    extent = rows[-1] - rows[0] + 1
    assert table["field"].iloc[-1] - slack <= extent <= table["field"].iloc[-1]


def test_macs_of_a_depthwise_network():
    """MobileNet 0.75: 325 million (Howard et al. 2017), 0.8 of them in the classifier."""
    model = keras.applications.MobileNet((224, 224, 3), alpha=0.75, include_top=False, weights=None)
    assert count_macs(model, 224) == pytest.approx(324.6e6, rel=0.005)
