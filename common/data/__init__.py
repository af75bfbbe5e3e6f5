"""Data sets: one reader each, giving `ImageData`, or `CaptionData` for captioned images.

What reads them is imported when it is asked for, since that takes seconds and a command that only
wants their names has to answer at once.
"""

import importlib
from pathlib import Path
from typing import Any

from common.choices import CAPTION_DATASETS, DATASETS, PATCH_DATASETS, is_own
from common.data.folder_state import tree_digest
from common.paths import data_dir, expand

_MODULES = {
    "CaptionData": "captions",
    "ImageData": "images",
    "Vocabulary": "vocabulary",
    "load_captions": "loading",
    "load_images": "loading",
    "load_patches": "loading",
    "load_splits": "loading",
    "near_duplicates": "duplicates",
    "read_image_folder": "image_folder",
    "read_patches": "histopathology",
    "split_validation": "images",
    "synthetic_images": "synthetic",
}

__all__ = [
    "CAPTION_DATASETS",
    "DATASETS",
    "PATCH_DATASETS",
    "data_state",
    "dataset_name",
    "is_own",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def dataset_name(dataset: str | Path) -> str:
    """How a data set is called: by its own name, one's own folder by that of the folder.

    Args:
        dataset: As for `load_images`, `load_patches` or `load_captions`.
    """
    return _own(dataset).resolve().name or "own" if is_own(dataset) else str(dataset)


def data_state(dataset: str | Path) -> str | None:
    """Digits that change when files of a data set are added, removed, renamed or resized.

    Args:
        dataset: As for `load_images`, `load_patches` or `load_captions`.

    Returns:
        `None` for what is drawn by code, or is not on the disk yet.
    """
    name = str(dataset)
    if name == "synthetic":
        return None
    folder = _own(name) if is_own(name) else data_dir() / name.partition(":")[0]
    try:
        return tree_digest(str(folder)) if folder.is_dir() else None
    except OSError:  # told by the reader, with the name
        return None


def _own(dataset: str | Path) -> Path:
    return expand(str(dataset).removeprefix("folder:"))
