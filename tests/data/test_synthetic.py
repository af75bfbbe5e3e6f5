import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from common.data.synthetic import CLASSES, synthetic_images
from common.errors import ConfigError


def test_shapes_and_balance():
    data = synthetic_images("train", 1000)
    assert data.images.shape == (1000, 32, 32, 3)
    assert data.class_counts().to_dict() == dict.fromkeys(CLASSES, 100)
    assert synthetic_images("test", 30, size=48).images.shape == (30, 48, 48, 3)


def test_same_pixels_everywhere():
    # Computed once: changes only if the pictures change, and then figures quoted must be remade.
    assert synthetic_images("train", 100).fingerprint() == "786b7cddbcf71f95"


def test_short_set_begins_the_long_one():
    short, long = synthetic_images("train", 20), synthetic_images("train", 120)
    np.testing.assert_array_equal(short.images, long.images[:20])
    np.testing.assert_array_equal(short.labels, long.labels[:20])


def test_train_test_and_seeds_share_no_image():
    sets = [
        synthetic_images("train", 300),
        synthetic_images("test", 300),
        synthetic_images("train", 300, seed=1),
    ]
    pictures = {image.tobytes() for data in sets for image in data.images}
    assert len(pictures) == 900


def test_colour_tells_nothing():
    data = synthetic_images("train", 2000)
    means = np.stack([data.images[data.labels == c].mean(axis=(0, 1, 2)) for c in range(10)])
    # The spread of 200 images' mean colour, were they of one class.
    assert np.ptp(means, axis=0).max() < 20


@pytest.mark.parametrize("arguments", [("validation", 10), ("train", 0)])
def test_wrong_arguments(arguments):
    with pytest.raises(ConfigError):
        synthetic_images(*arguments)


def test_linear_model_fails():
    train, test = synthetic_images("train", 1500), synthetic_images("test", 500)
    pixels = [data.images.reshape(len(data), -1) / np.float32(255) for data in (train, test)]
    linear = RidgeClassifier(alpha=1000).fit(pixels[0], train.labels)
    assert linear.score(pixels[1], test.labels) < 0.3
