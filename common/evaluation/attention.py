"""How a captioner's attention is spread over the regions of an image."""

import numpy as np


def looked_regions(attention: np.ndarray) -> np.ndarray:
    """Over how many regions a look is spread: 1 for a single one, `N` for all of them alike.

    The exponential of the entropy, `exp(-sum a_n log a_n)`.

    Args:
        attention: `(..., N)`, each with sum 1.

    Returns:
        `(...)`.
    """
    attention = np.asarray(attention, "float64")
    return np.exp(-(attention * np.log(np.maximum(attention, 1e-12))).sum(axis=-1))
