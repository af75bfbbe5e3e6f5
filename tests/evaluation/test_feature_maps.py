from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from common.evaluation import saliency
from common.evaluation.feature_maps import cell_centres, feature_maps
from common.layers import AreaResize
from common.models.resnet import PRESETS, preset, resnet


def centres(model, height, width=None):
    """By size of its maps: the first row, the first column, and the steps between them."""
    image = (height, width or height)
    maps = feature_maps(model, np.zeros((2, *image, 3), "uint8"))
    places = {}
    for size in {made.shape[1:3] for made in maps}:
        rows, columns = cell_centres(maps, size, image)
        assert (len(rows), len(columns)) == size
        places[size] = tuple(
            (values[0], *sorted({*np.diff(values).round(6)})) for values in (rows, columns)
        )
    return places


def rows(model, side):
    return {size[0]: by_axis[0] for size, by_axis in centres(model, side).items()}


def layered(*stack):
    """Of any size of images."""
    pixels = [keras.Input((None, None, 3), dtype="uint8"), layers.Rescaling(1 / 255)]
    return keras.Sequential([*pixels, *stack])


def test_pooling_by_floor_drops_the_last_rows():
    model = resnet(preset("fast", widths=(24, 24, 24)))
    # Patches of 2x2: their centres lie between pixels. Each pooling doubles the step from there.
    expected = {32: (0, 1), 31: (0.5, 1), 15: (1, 2), 7: (2, 4), 3: (4, 8)}
    assert rows(model, 32) == expected  # 3 cells at 4, 12 and 20 of 32 pixels
    assert rows(model, 33) == {33: (0, 1), 32: (0.5, 1), 16: (1, 2), 8: (2, 4), 4: (4, 8)}


def test_strided_blocks_differ_between_even_and_odd_sides():
    """Of even sides the convolution sees 2i..2i+2, the shortcut 2i; of odd sides both 2i."""
    for name, widths in (("resnet20", (3, 3, 3)), ("resnet18", (3, 3, 3, 3))):
        model = resnet(preset(name, blocks=1, widths=widths))  # shortcuts "A" and "B"
        found = [rows(model, side) for side in (32, 33, 50)]
        wanted = [{32: (0, 1), 16: (0.5, 2), 8: (1.5, 4), 4: (3.5, 8)}]
        wanted += [{33: (0, 1), 17: (0, 2), 9: (0, 4), 5: (0, 8)}]
        wanted += [{50: (0, 1), 25: (0.5, 2), 13: (0.5, 4), 7: (0.5, 8)}]
        for got, expected in zip(found, wanted, strict=True):
            assert got == dict(list(expected.items())[: len(widths)])
    plain = resnet(preset("resnet20", blocks=1, widths=(3, 3, 3), residual=False))
    assert rows(plain, 32) == {32: (0, 1), 16: (1, 2), 8: (3, 4)}


def test_each_axis_has_its_own_places():
    model = layered(layers.Conv2D(1, (3, 1), strides=(2, 1)), layers.MaxPooling2D((1, 3)))
    assert centres(model, 9, 12) == {
        (9, 12): ((0, 1), (0, 1)),
        (4, 12): ((1, 2), (0, 1)),
        (4, 4): ((1, 2), (1, 3)),
    }


@pytest.mark.parametrize(
    "layer, side, expected",
    [
        (layers.Conv2D(1, 5), 9, {5: (2, 1)}),
        (layers.Conv2D(1, 3, dilation_rate=2), 9, {5: (2, 1)}),
        (layers.Conv2D(1, 7, strides=2, padding="same"), 32, {16: (1, 2)}),
        (layers.Conv2D(1, 7, strides=2, padding="same"), 33, {17: (0, 2)}),
        (layers.DepthwiseConv2D(3, strides=2), 9, {4: (1, 2)}),
        (layers.AveragePooling2D(3, strides=2, padding="same"), 8, {4: (1, 2)}),
        (layers.MaxPooling2D(2, padding="same"), 9, {5: (0.5, 2)}),
        (AreaResize(4), 10, {4: (0.75, 2.5)}),
        (layers.UpSampling2D(2), 4, {8: (-0.25, 0.5)}),
        (layers.Conv2DTranspose(1, 2, strides=2), 4, {8: (-0.25, 0.5)}),
        (layers.GlobalAveragePooling2D(keepdims=True), 9, {1: (4,)}),
        (layers.Conv2D(1, 3, padding="same"), 9, {}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_by_hand(layer, side, expected):
    assert rows(layered(layer), side) == {side: (0, 1)} | expected


def test_layers_count_from_the_map_that_they_take():
    model = layered(AreaResize(12), layers.MaxPooling2D(3), layers.Conv2D(1, 2))
    # Pixels of 3 rows each: the first at 1; three of them pooled: 4, 13, ...; two of those: 8.5.
    assert rows(model, 36) == {36: (0, 1), 12: (1, 3), 4: (4, 9), 3: (8.5, 9)}


def test_maps_are_listed_without_being_computed():
    inner = layers.Conv2D(4, 3, strides=2, name="inner")
    pixels = keras.Input((None, None, 3))
    nested = keras.Model(pixels, inner(pixels), name="nested")
    model = layered(nested, layers.GlobalAveragePooling2D())
    scaling, first, whole = feature_maps(model, np.zeros((5, 9, 11, 3), "uint8"))
    assert (scaling.shape, scaling.dtype) == ((5, 9, 11, 3), "float32")
    assert first.layer is inner and whole.layer is nested
    assert (first.source, first.shape) == ((9, 11), (5, 4, 5, 4))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def one_block(name, **others):
    """A preset with one block a stage: deeper ones repeat blocks that keep the size."""
    widths = [24] * PRESETS[name].stages
    return preset(name, blocks=1, widths=widths, head_scale=None, **others)


PRESETS_ONCE = {one_block(name): name for name in reversed(PRESETS)}  # many are then the same
NETWORKS = {
    **{name: (config, (32, 33, 42)) for config, name in PRESETS_ONCE.items()},
    "large stem": (one_block("resnet20", stem="conv7x7"), (32, 33, 42)),
    "shrunk": (one_block("fast", image_size=24), (50,)),
}


def blurring(config):
    """A network of positive kernels, black being 0: a white pixel is a hill in all its maps."""
    model = resnet(replace(config, mean=(0, 0, 0), std=(1 / 255,) * 3), num_classes=2)
    weights = model.get_weights()
    for i, shape in enumerate(weight.shape for weight in weights):
        if len(shape) == 4:  # binomial: 1 2 1 by 1 2 1
            hill = np.outer(*(np.poly(-np.ones(side - 1)) for side in shape[:2]))[..., None, None]
            weights[i] = np.broadcast_to(hill / hill.sum() / shape[2], shape)
        elif len(shape) == 2:
            weights[i] = np.ones(shape)
    model.set_weights(weights)
    return model


@pytest.mark.parametrize("config, sides", NETWORKS.values(), ids=NETWORKS)
def test_grad_cam_is_hottest_where_the_only_spot_is(config, sides):
    model = blurring(config)
    for side in sides:  # their maps have about 4 pixels from cell to cell
        along = np.arange(0, side, 3)
        diagonals = [np.stack([along, across], axis=1) for across in (along, side - 1 - along)]
        spots = np.concatenate(diagonals)
        images = np.zeros((len(spots), side, side, 3), "uint8")
        images[np.arange(len(spots)), *spots.T] = 255
        maps = saliency.grad_cam(model, images, 1)
        assert maps.shape == images.shape[:3] and maps.dtype == np.float32
        distances = np.abs(np.indices((side, side)) - spots[:, :, None, None]).max(axis=1)
        for spot, heat, distance in zip(spots, maps, distances, strict=True):
            assert heat[distance <= 3].max() == heat.max() > 0, (side, spot)
            assert heat[distance > 12].max() < heat.max() / 4, (side, spot)


def test_grad_cam_puts_the_three_cells_of_32_pixels_at_4_12_and_20():
    model = blurring(NETWORKS["fast"][0])
    image = np.zeros((1, 32, 32, 3), "uint8")
    image[0, 19:22, 3:6] = 255  # seen best by the last row's first cell
    got = saliency.grad_cam(model, image, 1, layer="stage3_block1")[0]
    assert np.unravel_index(got.argmax(), got.shape) == (20, 0)
    np.testing.assert_array_equal(got[20:], got[[20]].repeat(12, axis=0))  # constant beyond centres
    np.testing.assert_array_equal(got[:, :5], got[:, [4]].repeat(5, axis=1))
    np.testing.assert_allclose(got[16], (got[12] + got[20]) / 2, rtol=1e-5)
