import numpy as np
import pytest

from common.layers.stain import (
    HED,
    Stains,
    find_stains,
    hed_to_rgb,
    mean_stains,
    normalise_stains,
    rgb_to_hed,
)


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


VECTORS = HED[:2] / np.linalg.norm(HED[:2], axis=1, keepdims=True)
OTHERS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])  # Macenko's reference
OTHERS /= np.linalg.norm(OTHERS, axis=1, keepdims=True)


def slide(vectors, strongest, glass=0.3, n=40_000):
    """Pixels with random amounts of two stains, many of one alone, and glass between them."""
    rng = np.random.default_rng(1)
    amounts = rng.beta(1, 3, (n, 2)) * strongest
    amounts[: n // 5, 0] = amounts[n // 5 : 2 * n // 5, 1] = 0
    amounts[rng.random(n) < glass] = 0
    return np.rint(255 * np.exp(-amounts @ vectors)).astype("uint8").reshape(-1, 10, 10, 3)


@pytest.mark.parametrize("vectors", [VECTORS, OTHERS], ids=["ruifrok", "macenko"])
def test_stains_are_found(vectors):
    found = find_stains(slide(vectors, (3.0, 2.0)))
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1)
    np.testing.assert_allclose(found.vectors, vectors, atol=0.06)
    assert found.strongest[0] > found.strongest[1] > 1  # as they were drawn
    weak = find_stains(slide(vectors, (1.5, 1.0)))
    assert (weak.strongest < 0.7 * found.strongest).all()


def test_one_slide_stained_as_another():
    source, target = Stains(VECTORS, np.array([3.0, 2.0])), Stains(OTHERS, np.array([1.5, 1.5]))
    images = slide(VECTORS, (3.0, 2.0))
    ours = normalise_stains(images, source, target)
    # The same amounts, mixed with the target's stains; the first image is kept in grey levels.
    np.testing.assert_allclose(ours.astype(int), slide(OTHERS, (1.5, 1.5)).astype(int), atol=4)
    np.testing.assert_allclose(
        normalise_stains(images, source, source).astype(int), images.astype(int), atol=2
    )
    white = np.full((2, 2, 3), 255, "uint8")
    np.testing.assert_array_equal(normalise_stains(white, source, target), white)


def test_slides_become_alike():
    target = mean_stains([Stains(VECTORS, np.array([2.0, 1.0])), Stains(OTHERS, np.ones(2))])
    np.testing.assert_allclose(np.linalg.norm(target.vectors, axis=1), 1)
    np.testing.assert_allclose(target.strongest, [1.5, 1.0])
    slides = [slide(VECTORS, (3.0, 2.0)), slide(OTHERS, (1.5, 1.0))]
    alike = [normalise_stains(images, find_stains(images), target) for images in slides]
    before, after = (
        np.abs(np.subtract(*(images.mean(axis=(0, 1, 2)) for images in pair))).max()
        for pair in (slides, alike)
    )
    assert before > 30 and after < 4


def test_stains_need_tissue():
    white = np.full((4, 9, 9, 3), 250, "uint8")
    with pytest.raises(ValueError, match="Received: 0 pixels that are not glass"):
        find_stains(white)
    with pytest.raises(ValueError, match="find_stains needs uint8 images .* float64"):
        find_stains(np.ones((4, 3)))
    with pytest.raises(ValueError, match="normalise_stains needs uint8 images"):
        normalise_stains(np.ones((4, 3)), *[Stains(VECTORS, np.ones(2))] * 2)
