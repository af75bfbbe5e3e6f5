import numpy as np

from common.evaluation.attention import looked_regions


def test_looked_regions():
    looks = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0.5, 0.25, 0.25, 0]]
    np.testing.assert_allclose(looked_regions(looks), [1, 2, 4, 2**1.5])
    assert looked_regions(np.full((3, 2, 1, 49), 1 / 49, "float32")).shape == (3, 2, 1)
