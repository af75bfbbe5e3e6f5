import cv2
import numpy as np
import pytest
from keras import ops

from common.layers.resizing import AreaResize


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 24), (7, 9, 4), (16, 16, 16)])
def test_averages_areas_as_opencv_does(height, width, size):
    images = np.random.default_rng(0).random((2, height, width, 3), dtype="float32")
    expected = [cv2.resize(i, (size, size), interpolation=cv2.INTER_AREA) for i in images]
    for training in (False, True):
        resized = ops.convert_to_numpy(AreaResize(size)(images, training=training))
        np.testing.assert_allclose(resized, expected, atol=1e-5)


def test_training_may_have_a_size_of_its_own():
    images = np.random.default_rng(0).random((2, 8, 8, 3), dtype="float32")
    layer = AreaResize(4)
    layer.training_size = 2
    assert layer(images, training=True).shape == (2, 2, 2, 3)
    assert layer(images, training=False).shape == (2, 4, 4, 3)
    assert AreaResize.from_config(layer.get_config()).training_size is None


def test_bad_size_is_told():
    with pytest.raises(ValueError, match="Received: size=0"):
        AreaResize(0)


def test_integers_do_not_become_zeros():
    images = np.full((1, 16, 16, 3), 200, "uint8")
    for size in (8, 16):
        resized = ops.convert_to_numpy(AreaResize(size)(images))
        np.testing.assert_allclose(resized, 200, rtol=1e-6)


def test_an_image_without_its_batch_is_told():
    with pytest.raises(ValueError, match=r"must be \(batch, height, width, channels\)"):
        AreaResize(8)(np.zeros((16, 16, 3)))
