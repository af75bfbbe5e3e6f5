import numpy as np
import pytest

from common.layers.stain import HED, hed_to_rgb, rgb_to_hed


def pixels(low=1):
    return np.random.default_rng(0).integers(low, 256, (4, 9, 7, 3), dtype=np.uint8)


def test_hand_computed():
    white = np.array([255, 255, 255], "uint8")
    np.testing.assert_allclose(rgb_to_hed(white), [0, 0, 0], atol=1e-7)
    # Haematoxylin alone, an amount of 1: 255 exp(-0.65), 255 exp(-0.70), 255 exp(-0.29).
    np.testing.assert_array_equal(hed_to_rgb([1, 0, 0]), [133, 127, 191])
    np.testing.assert_allclose(rgb_to_hed(np.array([133, 127, 191], "uint8")), [1, 0, 0], atol=0.01)
    # Two stains in one place: optical densities add up, so light multiplies.
    both = 255 * np.exp(-(0.5 * HED[0] + 2 * HED[1]))
    np.testing.assert_array_equal(hed_to_rgb([0.5, 2, 0]), np.rint(both))


def test_there_and_back():
    images = pixels()
    assert rgb_to_hed(images).dtype == np.float32
    np.testing.assert_array_equal(hed_to_rgb(rgb_to_hed(images)), images)


def test_black_is_taken_as_the_darkest_grey_and_brighter_than_white_as_white():
    black, darkest = np.zeros(3, "uint8"), np.ones(3, "uint8")
    np.testing.assert_array_equal(rgb_to_hed(black), rgb_to_hed(darkest))
    np.testing.assert_array_equal(hed_to_rgb([-1, -1, -1]), [255, 255, 255])


def test_equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    images = pixels()
    # Its unit is the density of a millionth of the light, and it has no negative amounts.
    ours = np.maximum(rgb_to_hed(images), 0) / np.log(1e6)
    np.testing.assert_allclose(ours, color.rgb2hed(images), atol=1e-5)
    back = color.hed2rgb(rgb_to_hed(images).astype("float64") / np.log(1e6))
    np.testing.assert_allclose(hed_to_rgb(rgb_to_hed(images)) / 255, back, atol=1e-5)
    np.testing.assert_array_equal(HED, color.rgb_from_hed)


def test_wrong_types_and_shapes_are_named():
    with pytest.raises(ValueError, match=r"Received: float64 of shape \(2, 3\)"):
        rgb_to_hed(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Received: uint8 of shape \(2, 4\)"):
        rgb_to_hed(np.zeros((2, 4), "uint8"))
    with pytest.raises(ValueError, match=r"Received: \(2,\)"):
        hed_to_rgb([1, 2])
