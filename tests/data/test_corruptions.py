import numpy as np
import pytest

from common.data.corruptions import CORRUPTIONS, corrupt, corrupt_some
from common.data.synthetic import synthetic_images
from common.errors import ConfigError, DataError

IMAGES = synthetic_images("test", 20).images


def distance(changed):
    return np.abs(changed.astype(int) - IMAGES).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_changes_images_a_little_and_always_in_the_same_way(name):
    before = IMAGES.copy()
    changed = corrupt(IMAGES, *CORRUPTIONS[name])
    assert changed.dtype == np.uint8 and changed.shape == IMAGES.shape
    assert 0.1 < distance(changed) < 80
    np.testing.assert_array_equal(changed, corrupt(IMAGES, *CORRUPTIONS[name]))
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_files_of_high_quality_are_nearer_and_colours_stay_in_their_order(kind):
    assert distance(corrupt(IMAGES, kind, 95)) < distance(corrupt(IMAGES, kind, 30))
    red = np.zeros((1, 16, 16, 3), "uint8")
    red[..., 0] = 200
    mean = corrupt(red, kind, 90).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [200, 0, 0], atol=6)


def test_noise_has_its_strength_and_its_seed():
    grey = np.full((4, 64, 64, 3), 128, "uint8")
    noisy = corrupt(grey, "noise", 8)
    assert noisy.std() == pytest.approx(8, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.2)
    assert (noisy != corrupt(grey, "noise", 8, seed=1)).any()
    black = corrupt(np.zeros((1, 64, 64, 3), "uint8"), "noise", 8)
    assert black.max() < 60  # pixels below 0 do not come back as bright ones


def test_shift_and_brightness_by_hand():
    row = np.arange(1, 7, dtype="uint8").reshape(1, 1, 6, 1).repeat(3, axis=3)
    assert corrupt(row, "shift", 2)[0, 0, :, 0].tolist() == [3, 2, 1, 2, 3, 4]
    assert corrupt(row, "shift", 0)[0, 0, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert corrupt(row, "brightness", 0.5)[0, 0, :, 0].tolist() == [0, 1, 2, 2, 2, 3]
    assert corrupt(row, "brightness", 60)[0, 0, :, 0].tolist() == [60, 120, 180, 240, 255, 255]


@pytest.mark.parametrize(
    ("kind", "strength", "problem"),
    [
        ("fog", 1, "kind='fog' is unknown.*jpeg"),
        ("jpeg", 0, "jpeg needs a quality of 1 to 100. Received: 0"),
        ("webp", 101, "Received: 101"),
        ("shift", 1.5, "shift needs whole pixels, 0 to 31"),
        ("shift", 32, "Received: 32"),
        ("noise", -1, "noise needs 0 or more"),
        ("brightness", float("nan"), "brightness needs 0 or more. Received: nan"),
    ],
)
def test_what_cannot_be_done_is_told(kind, strength, problem):
    with pytest.raises(ConfigError, match=problem):
        corrupt(IMAGES, kind, strength)


def test_images_must_be_raw_pixels():
    with pytest.raises(DataError, match="float32"):
        corrupt(IMAGES.astype("float32"), "noise", 1)


def test_a_share_of_the_images_is_corrupted_some_compressed_and_some_noisy():
    images = np.repeat(IMAGES, 10, axis=0)  # (200, 32, 32, 3), ten times each
    assert (corrupt_some(images, 0.0, np.random.default_rng(0)) == images).all()
    changed = corrupt_some(images, 0.5, np.random.default_rng(0))
    assert changed.dtype == np.uint8 and changed.shape == images.shape
    apart = np.abs(changed.astype(int) - images).mean(axis=(1, 2, 3))
    assert 0.4 < (apart > 0).mean() < 0.6
    assert apart.max() < 25
    np.testing.assert_array_equal(changed, corrupt_some(images, 0.5, np.random.default_rng(0)))
    np.testing.assert_array_equal(images, np.repeat(IMAGES, 10, axis=0))
    everything = corrupt_some(images, 1.0, np.random.default_rng(1))
    assert (everything != images).any(axis=(1, 2, 3)).mean() > 0.95
