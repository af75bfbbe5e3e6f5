"""What every reader of images returns, and how a part of it is set aside for validation."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from common.data.listing import some
from common.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with labels and names; checked when made.

    Args:
        images: uint8 (N, H, W, 3), red first.
        labels: int32 (N,), each the index of a name in `classes`.
        classes: the names of the classes.
        name: where the images come from, for tables and titles.
        split: "train", "validation" or "test".
        groups: one value per image, (N,); images of one group (a patient, a scene) must not
            stand on both sides of a split.
        sources: one file name per image.
        positions: where in its group's slide an image lies, int32 (N, 2): x to the right and y
            down, in pixels of the slide.

    Raises:
        DataError: if shapes, types, labels or lengths do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    split: str
    groups: np.ndarray | None = None
    sources: Sequence[str] | None = None
    positions: np.ndarray | None = None

    def __post_init__(self):
        if problem := self._problem():
            raise DataError(f"{self.name} ({self.split}): {problem}")

    def _problem(self) -> str | None:
        images, labels = self.images, self.labels
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            kind = getattr(images, "dtype", type(images).__name__)
            return f"images must be a NumPy array of uint8. Received: {kind}"
        if images.ndim != 4 or images.shape[-1] != 3:
            return f"images must have shape (N, H, W, 3). Received: {images.shape}"
        if not len(images):
            return "there is no image."
        if not isinstance(labels, np.ndarray) or labels.dtype != np.int32:
            kind = getattr(labels, "dtype", type(labels).__name__)
            return f"labels must be a NumPy array of int32. Received: {kind}"
        if not isinstance(self.classes, tuple) or len(set(self.classes)) != len(self.classes):
            return (
                f"classes must be a tuple of distinct names. Received: {repr(self.classes)[:200]}"
            )
        n = len(images)
        shapes = {"labels": (n,), "groups": (n,), "sources": (n,), "positions": (n, 2)}
        for what, shape in shapes.items():
            value = getattr(self, what)
            if value is not None and np.shape(value) != shape:
                return f"{n} images, but {what} of shape {np.shape(value)}"
        if labels.min() < 0 or labels.max() >= len(self.classes):
            return (
                f"labels must lie in 0..{len(self.classes) - 1}, one number per class. "
                f"Received: {labels.min()}..{labels.max()}"
            )
        return None

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageData":
        """The images at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.intp)
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            groups=None if self.groups is None else np.asarray(self.groups)[indices],
            sources=None if self.sources is None else [self.sources[i] for i in indices],
            positions=None if self.positions is None else self.positions[indices],
        )

    def sample(self, n: int, seed: int) -> "ImageData":
        """`n` images drawn at random, every class in its share, of each one at least if they can.

        A smaller sample with the same seed is part of a larger one.

        Raises:
            ConfigError: if there are fewer than `n` images.
        """
        if not 1 <= n <= len(self):
            raise ConfigError(f"{self.name} ({self.split}) has {len(self)} images. Wanted: {n}")
        order = np.random.default_rng(seed).permutation(len(self))
        depth = _depths(self.labels[order])
        return self.subset(np.sort(order[np.argsort(depth, kind="stable")[:n]]))

    def at_most(self, n: int | None, seed: int) -> "ImageData":
        """A `sample` of `n` images, or all where there are no more than that (`None`: all)."""
        return self if n is None or n >= len(self) else self.sample(n, seed)

    def class_counts(self) -> pd.Series:
        """Number of images per class, in the order of `classes`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return pd.Series(counts, index=pd.Index(self.classes, name="class"), name="images")

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any pixel, label or class name."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.labels))
        for start in range(0, len(self), 4096):
            digest.update(np.ascontiguousarray(self.images[start : start + 4096]))
        return digest.hexdigest()[:16]


def split_validation(
    data: ImageData, fraction_or_count: float | int, seed: int
) -> tuple[ImageData, ImageData]:
    """Sets a part of the training images aside, every class in its share.

    Where the data has groups, a group goes to one side as a whole; shares are then as close as
    the groups allow (the best of 50 random divisions).

    Where classes have few images, each that has two gives one to validation, so that the part
    grows beyond its fraction; the only image of a class trains, which is told.

    Args:
        data: the training images.
        fraction_or_count: the part (a float in 0..1) or the number (an int) set aside.
        seed: draws the division.

    Returns:
        `(train, validation)`, both in the order of `data`.

    Raises:
        ConfigError: if the part is not a part.
        DataError: if a class would be missing on one side.
    """
    counts = data.class_counts()
    if none := [name for name, n in counts.items() if n == 0]:
        raise DataError(
            f"{data.name}: there is no image of {some(none)} to train on. Use more images."
        )
    count, pairs = fraction_or_count, int((counts > 1).sum())
    if isinstance(fraction_or_count, float):
        # Neither infinity nor what is no number can be rounded.
        fraction = fraction_or_count if 0 < fraction_or_count < 1 else 0
        count = round(fraction * len(data))
        if fraction and data.groups is None:
            count = min(max(count, pairs), len(data) - len(counts))
            if not pairs:
                raise DataError(
                    f"{data.name}: no class has two images, one to train and one to validate. "
                    "Add images, or set none aside (validation=0)."
                )
    if not 0 < count < len(data):
        raise ConfigError(
            f"The validation part must lie between 0 and all {len(data)} images of {data.name}. "
            f"Received: {fraction_or_count}"
        )
    if count < pairs or len(data) - count < len(counts):
        raise DataError(
            f"{data.name}: {len(data) - count} images to train and {count} to validate cannot "
            f"both hold all {len(counts)} classes. Use more images or another validation part."
        )
    if data.groups is None:
        chosen, held = stratified(data.labels, count, seed)
    else:
        chosen, held = _split_groups(data, count / len(data), seed)
    train, validation = data.subset(np.sort(chosen)), data.subset(np.sort(held))
    for part, side in ((train, "training"), (validation, "validation")):
        missing = [name for name, n in part.class_counts().items() if n == 0]
        if missing and (data.groups is not None or side == "training"):
            raise DataError(
                f"{data.name}: no image of {some(missing)} falls into the {side} part. "
                "Use more images of these classes or another validation part."
            )
        if missing:
            told = "%s: one training image only of %s: it trains, and none is left to validate."
            logger.warning(told, data.name, some(missing))
    return train, replace(validation, split="validation")


def stratified(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices `(others, drawn)`: `count` are drawn at random, every class in its share.

    Where that would leave a class out, of each with two images one at least is drawn and one is
    not; the only image of a class is never drawn.
    """
    sizes = np.bincount(labels)
    sizes = sizes[sizes > 0]
    if sizes.min() > 1 and min(count, len(labels) - count) >= len(sizes):
        from sklearn.model_selection import train_test_split  # a second, and rarely wanted

        parts = train_test_split(
            np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed
        )
        if all(len(np.unique(labels[part])) == len(sizes) for part in parts):
            return parts
    order = np.random.default_rng(seed).permutation(len(labels))
    depth = _depths(labels[order])
    last = ~pd.Series(labels[order]).duplicated(keep="last").to_numpy()
    order = order[np.argsort(np.where(last, np.inf, depth), kind="stable")]
    return order[count:], order[:count]


def _depths(labels: np.ndarray) -> np.ndarray:
    """How far into its class an image stands, 0..1: cut anywhere, the shares stay.

    Less than 0 for the first of each class: it comes before all others.
    """
    by_class = pd.Series(labels).groupby(labels)
    rank = by_class.cumcount()
    depth = (rank + 0.5) / by_class.transform("size")
    return np.where(rank == 0, depth - 1, depth)


def _split_groups(data: ImageData, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    groups = np.asarray(data.groups)
    if len(np.unique(groups)) < 2:
        raise DataError(f"{data.name}: all images belong to one group, which cannot be divided.")
    counts = data.class_counts().to_numpy()

    def misfit(division: tuple[np.ndarray, np.ndarray]) -> tuple[int, float]:
        held = np.bincount(data.labels[division[1]], minlength=len(counts))
        missing = ((held == 0) | (held == counts)).sum()
        return int(missing), float(np.abs(held / counts - fraction).max())

    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=50, test_size=fraction, random_state=seed)
    return min(splitter.split(data.labels, groups=groups), key=misfit)
