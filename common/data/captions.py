"""What every reader of captioned images returns."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from common.data.vocabulary import normalise
from common.errors import DataError


@dataclass(frozen=True, eq=False)
class CaptionData:
    """Names of images with several captions each; checked when made.

    Args:
        names: One file name per image.
        captions: For each image its captions as people wrote them, one or more.
        name: Where the images come from, for tables and titles.
        split: "train", "dev" or "test".
        folder: Where the image files lie; `None` where images are not files.

    Raises:
        DataError: if there is no image, a name comes twice, or an image has no caption.
    """

    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    name: str
    split: str
    folder: Path | None = None

    _per_image = ("names", "captions")

    def __post_init__(self):
        if problem := self._problem():
            raise DataError(f"{self.name} ({self.split}): {problem}")

    def _problem(self) -> str | None:
        if not self.names:
            return "there is no image."
        if len(self.captions) != len(self.names):
            return f"{len(self.names)} images, but captions of {len(self.captions)}"
        if len(set(self.names)) != len(self.names):
            return f"the image {Counter(self.names).most_common(1)[0][0]} comes twice."
        for name, captions in zip(self.names, self.captions, strict=True):
            if not captions:
                return f"the image {name} has no caption."
        return None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def references(self) -> list[list[list[str]]]:
        """The words of every caption, by image: what models learn and metrics compare with."""
        return [[normalise(caption) for caption in captions] for captions in self.captions]

    def fingerprint_captions(self) -> str:
        """16 hexadecimal digits of the names, in their order, and of all their captions."""
        text = json.dumps([self.names, self.captions])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, i: int) -> Path:
        """The file of image `i`."""
        return self.folder / self.names[i]

    def read_image(self, i: int) -> np.ndarray:
        """The pixels of image `i`, uint8 (H, W, 3).

        Raises:
            DataError: if the file cannot be read.
        """
        from common.data.photos import read_photo

        return read_photo(self.path(i))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """The images at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        parts = {name: getattr(self, name) for name in self._per_image}
        for name, values in parts.items():
            array = isinstance(values, np.ndarray)
            parts[name] = values[indices] if array else tuple(values[i] for i in indices)
        return replace(self, **parts)
