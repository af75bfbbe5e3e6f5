import logging

import numpy as np

from common.data.images import ImageData
from common.data.stains import patient_stains, with_stains
from common.layers.stain import HED, mean_stains


def two_slides(glass=0):
    """Patches of two patients, the second one's stained twice as strongly, and some of glass."""
    rng = np.random.default_rng(0)
    amounts = rng.beta(1, 3, (20, 12, 12, 2)) * (1.5, 1.0)
    amounts[:4, ..., 0] = amounts[4:8, ..., 1] = 0
    patches = [np.exp(-strength * amounts @ HED[:2]) for strength in (1, 2)]
    patches += [np.ones((glass, 12, 12, 3))]
    counts = [20, 20, glass]
    return ImageData(
        images=np.rint(255 * np.concatenate(patches)).astype("uint8"),
        labels=np.zeros(sum(counts), "int32"),
        classes=("benign", "malignant"),
        name="toy",
        split="train",
        groups=np.repeat(["pale", "dark", "glass"], counts),
    )


def test_patients_become_alike():
    data = two_slides()
    pale, dark = (patient_stains(data)[name] for name in ("pale", "dark"))
    np.testing.assert_allclose(dark.strongest / pale.strongest, 2, rtol=0.05)
    made = with_stains(data, mean_stains([pale, dark]))
    assert made.name == "toy, stains normalised" and made.images.dtype == np.uint8
    means = [made.images[data.groups == name].mean(axis=(0, 1, 2)) for name in ("pale", "dark")]
    np.testing.assert_allclose(*means, atol=2)
    assert np.ptp([data.images[:20].mean(), data.images[20:].mean()]) > 20


def test_a_patient_without_tissue_stays_as_she_is(caplog):
    data = two_slides(glass=3)
    with caplog.at_level(logging.WARNING):
        made = with_stains(data, patient_stains(data)["pale"])
    assert "toy: no tissue of glass" in caplog.text
    np.testing.assert_array_equal(made.images[-3:], data.images[-3:])
