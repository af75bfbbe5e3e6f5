"""Near-duplicates: pictures that are all but the same, within a set or across two."""

import cv2
import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from common.data.images import ImageData

_THUMBNAIL = 8


def near_duplicates(
    images: ImageData,
    other: ImageData | None = None,
    *,
    max_distance: float = 0.2,
    neighbours: int = 5,
) -> pd.DataFrame:
    """Pairs of images that look the same but for brightness, contrast and compression.

    1. Each image is shrunk to 8x8 colour pixels, their mean subtracted, their standard
       deviation made 1.
    2. The distance of two images is the root mean square difference of these: 0 if equal, about
       1.4 if unrelated.
    3. Candidates come from a k-d tree over the first 16 principal components. A projection
       never makes a distance longer, so it loses no pair.

    Args:
        images: the set to search.
        other: a second set; pairs are then made across the two only.
        max_distance: pairs farther apart are left out. On CIFAR-10 nearly all pairs up to 0.2
            are one picture; from 0.25 on, anything before a plain sky joins in.
        neighbours: how many candidates to look at for each image: a bound where hundreds are
            alike (blank pictures).

    Returns:
        A table with `index_a` (in `images`), `index_b` (in `other`, or in `images` with
        `index_a` < `index_b`), `distance`, `class_a`, `class_b`, `same_class`; nearest first.
    """
    a = _thumbnails(images)
    b = a if other is None else _thumbnails(other)
    components = np.linalg.eigh(a.T @ a)[1][:, -16:]
    scale = np.sqrt(a.shape[1])
    # An image is its own nearest neighbour within a set.
    k, bound = range(1, neighbours + 1 + (other is None)), max_distance * scale * (1 + 1e-4)
    candidates = KDTree(b @ components)
    _, found = candidates.query(a @ components, k, distance_upper_bound=bound, workers=-1)
    index_a, column = np.nonzero(found < len(b))
    index_b = found[index_a, column]
    if other is None:
        ordered = np.sort(np.stack([index_a, index_b], axis=1)[index_a != index_b], axis=1)
        index_a, index_b = np.unique(ordered, axis=0).T
    distance = np.sqrt(np.mean((a[index_a] - b[index_b]) ** 2, axis=1))
    second = images if other is None else other
    pairs = pd.DataFrame({"index_a": index_a, "index_b": index_b, "distance": distance})
    pairs["class_a"] = np.array(images.classes)[images.labels[index_a]]
    pairs["class_b"] = np.array(second.classes)[second.labels[index_b]]
    pairs["same_class"] = pairs["class_a"] == pairs["class_b"]
    pairs = pairs[pairs["distance"] <= max_distance]
    return pairs.sort_values(["distance", "index_a", "index_b"], ignore_index=True)


def _thumbnails(data: ImageData) -> np.ndarray:
    """Standardised thumbnails, float32 (N, 192)."""
    size = (_THUMBNAIL, _THUMBNAIL)
    small = np.stack([cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in data.images])
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    # At least four grey levels: what is left of a blank image is noise.
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 4)
