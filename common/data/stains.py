"""Every patient's patches as if one laboratory had stained them."""

import logging
from dataclasses import replace

import numpy as np

from common.data.images import ImageData
from common.layers.stain import Stains, find_stains, normalise_stains

logger = logging.getLogger(__name__)


def patient_stains(data: ImageData) -> dict[str, Stains]:
    """The stains of each patient's patches, by `find_stains`; patients without tissue are left out.

    Args:
        data: Patches with groups.
    """
    found = {}
    for patient in np.unique(data.groups):
        try:
            found[str(patient)] = find_stains(data.images[data.groups == patient])
        except ValueError:  # glass alone
            logger.warning("%s: no tissue of %s to find stains in.", data.name, patient)
    return found


def with_stains(
    data: ImageData, target: Stains, found: dict[str, Stains] | None = None
) -> ImageData:
    """The same patches in other stains, see `normalise_stains`.

    A patient's own stains are found on all of her patches that are there: one patch does not show
    them. Patches of patients without tissue stay as they are.

    Args:
        data: Patches with groups.
        target: As from `mean_stains` of the training patients.
        found: The patients' own stains, if they are known: `patient_stains(data)`.
    """
    images = data.images.copy()
    for patient, stains in (patient_stains(data) if found is None else found).items():
        own = data.groups == patient
        images[own] = normalise_stains(images[own], stains, target)
    return replace(data, images=images, name=f"{data.name}, stains normalised")
