import numpy as np
import pytest

from common.data import load_patches
from common.data.histopathology import slide_map
from common.data.splits import patient_table
from common.data.synthetic_slides import CLASSES, PATCH, synthetic_slides
from common.errors import ConfigError


@pytest.fixture(scope="module")
def slides():
    return synthetic_slides(8)


def test_what_is_there(slides):
    assert slides.images.shape == (len(slides), 50, 50, 3) and slides.images.dtype == np.uint8
    assert slides.labels.dtype == np.int32 and slides.classes == CLASSES
    table = patient_table(slides)
    assert list(table.index) == [f"synthetic{i:03}" for i in range(1, 9)]
    assert table["patches"].between(400, 700).all()
    shares = table["positives"] / table["patches"]
    assert shares.min() < 0.15 < 0.4 < shares.max()  # patients differ


def test_the_first_patients_are_the_same_however_many_there_are(slides):
    fewer = synthetic_slides(2)
    own = slides.groups <= "synthetic002"
    np.testing.assert_array_equal(fewer.images, slides.images[own])
    np.testing.assert_array_equal(fewer.labels, slides.labels[own])
    np.testing.assert_array_equal(fewer.positions, slides.positions[own])
    other = synthetic_slides(2, seed=1)
    assert len(other) != len(fewer) or (other.images != fewer.images).mean() > 0.5


def test_patches_lie_side_by_side_on_the_slide(slides):
    own = slides.groups == "synthetic003"
    positions = slides.positions[own]
    assert len(np.unique(positions, axis=0)) == own.sum()
    assert ((positions - 1) % PATCH == 0).all()
    images = {tuple(p): image for p, image in zip(positions, slides.images[own], strict=True)}
    across, apart = [], []
    rng = np.random.default_rng(0)
    for (x, y), image in images.items():
        right = images.get((x + PATCH, y))
        if right is not None:
            other = images[tuple(positions[rng.integers(len(positions))])]
            across.append(np.abs(image[:, -1].astype(int) - right[:, 0]).mean())
            apart.append(np.abs(image[:, -1].astype(int) - other[:, 0]).mean())
    assert np.mean(across) < 0.6 * np.mean(apart)  # the drawing goes on over the cut


def test_tumours_are_regions(slides):
    """A patch's neighbours share its label far more often than chance would have it."""
    mixed = [p for p, row in patient_table(slides).iterrows() if row["positives"] > 50]
    for patient in mixed:
        grid = slide_map(slides, patient, slides.labels)
        left, right = grid[:, :-1], grid[:, 1:]
        both = np.isfinite(left) & np.isfinite(right)
        differ = (left != right)[both].mean()
        share = np.nanmean(grid)
        assert differ < 0.4 * 2 * share * (1 - share)


def test_there_are_as_many_patients_as_one_asks_for():
    assert len(patient_table(load_patches("synthetic", patients=3))) == 3
    with pytest.raises(ConfigError, match="patients must be at least 1"):
        synthetic_slides(0)
