import cv2
import numpy as np
import pytest
from keras import ops

from common.layers.resizing import AreaResize


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 24), (7, 9, 4), (16, 16, 16)])
def test_averages_areas_as_opencv_does(height, width, size):
    images = np.random.default_rng(0).random((2, height, width, 3), dtype="float32")
    expected = [cv2.resize(i, (size, size), interpolation=cv2.INTER_AREA) for i in images]
    resized = ops.convert_to_numpy(AreaResize(size)(images, training=False))
    np.testing.assert_allclose(resized, expected, atol=1e-5)


def test_images_pass_unchanged_in_training():
    images = np.random.default_rng(0).random((2, 8, 8, 3), dtype="float32")
    np.testing.assert_array_equal(AreaResize(4)(images, training=True), images)


def test_bad_size_is_told():
    with pytest.raises(ValueError, match="Received: size=0"):
        AreaResize(0)
