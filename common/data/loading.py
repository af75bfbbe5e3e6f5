"""Loads a data set by its name, split by split."""

from pathlib import Path

import numpy as np

from common import choices
from common.data.caption_folder import load_caption_folder
from common.data.captions import CaptionData
from common.data.checks import check_count
from common.data.cifar10 import find_cifar10, load_cifar10
from common.data.coco import TRAIN_IMAGES, load_coco
from common.data.flickr8k import find_flickr8k, load_flickr8k
from common.data.flickr30k import find_flickr30k, load_flickr30k
from common.data.histopathology import find_histopathology, load_histopathology, read_patches
from common.data.image_folder import read_image_folder
from common.data.images import ImageData, split_validation
from common.data.synthetic import synthetic_images
from common.data.synthetic_scenes import synthetic_scenes
from common.data.synthetic_slides import PATIENTS, synthetic_slides
from common.errors import DataError
from common.paths import data_dir

# Set aside by a training in which nothing is chosen any more: enough to watch it and to calibrate.
MOST_VALIDATION = 2000


def load_images(
    dataset: str | Path, split: str, *, size: int = 32, limit: int | None = None, seed: int = 0
) -> ImageData:
    """Loads one split of a data set.

    Args:
        dataset: "synthetic", "cifar10", or a folder: "folder:PATH" or the path alone.
        split: "train" or "test".
        size: height and width of the images in pixels (CIFAR-10: 32 only).
        limit: take at most so many images, every class in its share.
        seed: draws the images taken under `limit`. The synthetic images are the same for all
            seeds: their first `limit` are taken.

    Raises:
        ConfigError: if the data set or split is unknown.
        DataError: if the data set's files are missing or cannot be used.
    """
    if dataset == "synthetic":
        return synthetic_images(split, limit, size=size)
    if dataset == "cifar10":
        data = load_cifar10(split, size=size)
    else:
        data = read_image_folder(choices.own_folder(dataset, choices.DATASETS), split, size=size)
    return data.at_most(limit, seed)


def load_splits(
    dataset: str | Path,
    seed: int,
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    validation: float | int | None = 0.1,
    size: int = 32,
) -> tuple[ImageData, ImageData | None, ImageData]:
    """Training, validation and test images; validation is a part of the train split.

    Args:
        dataset: as for `load_images`.
        seed: draws the images under `n_train` and the validation part, not the test images.
        n_train: use at most so many images of the train split, validation included.
        n_test: use at most so many images of the test split.
        validation: the fraction (float) or number (int) of training images set aside; 0 keeps
            them all for training, once everything has been chosen; `None` sets a tenth aside,
            `MOST_VALIDATION` at most.
        size: height and width of the images in pixels.

    Returns:
        `(train, validation, test)`; validation is `None` if it was 0.
    """
    found, problems = {}, []
    wanted = {"test": {"limit": n_test}, "train": {"limit": n_train, "seed": seed}}
    for split, options in wanted.items():
        try:
            found[split] = load_images(dataset, split, size=size, **options)
        except DataError as error:
            if not choices.is_own(dataset):
                raise
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    train, test = found["train"], found["test"]
    if train.classes != test.classes:
        raise DataError(
            f"{train.name}: the classes of train ({', '.join(train.classes)}) and test "
            f"({', '.join(test.classes)}) differ."
        )
    if validation == 0:
        return train, None, test
    if validation is None:
        validation = min(0.1, MOST_VALIDATION / len(train))
    return *split_validation(train, validation, seed), test


def load_patches(dataset: str | Path, *, patients: int | None = None, seed: int = 0) -> ImageData:
    """Loads the patches of slides, with the patient of each in `groups`.

    Args:
        dataset: "synthetic"; "histopathology", the IDC set; or a folder of patches in its layout,
            "folder:PATH" or the path alone.
        patients: take at most so many patients; by default all (40 that are drawn by code).
        seed: draws them; the synthetic patients are the first ones, whatever the seed.

    Raises:
        ConfigError: if the data set is unknown.
        DataError: if its files are missing or cannot be used.
    """
    if patients is not None:
        check_count("patients", patients)
    if dataset == "synthetic":
        return synthetic_slides(min(patients or PATIENTS, PATIENTS))
    if dataset == "histopathology":
        data = load_histopathology()
    else:
        data = read_patches(choices.own_folder(dataset, choices.PATCH_DATASETS))
    names = np.unique(data.groups)
    if patients is None or patients >= len(names):
        return data
    drawn = np.random.default_rng(seed).choice(names, patients, replace=False)
    return data.subset(np.flatnonzero(np.isin(data.groups, drawn)))


def load_captions(dataset: str | Path, split: str, limit: int | None = None) -> CaptionData:
    """Loads one split of a data set of captioned images.

    Args:
        dataset: One of `CAPTION_DATASETS`; a folder as "folder:PATH" or the path alone.
        split: "train", "dev" or "test".
        limit: Take at most so many images, the first ones.

    Raises:
        ConfigError: if the data set or split is unknown.
        DataError: if its files are missing or cannot be used.
    """
    dataset = str(dataset)
    if dataset == "synthetic":
        return synthetic_scenes(split, limit)
    readers = {"flickr8k": load_flickr8k, "flickr30k": load_flickr30k}
    name, _, count = dataset.partition(":")
    if name in ("coco", "coco-karpathy") and choices.takes("phase3_captioning", dataset):
        images = int(count) if count else TRAIN_IMAGES
        data = load_coco(split, images=images, karpathy=name != "coco", limit=limit)
    elif dataset in readers:
        data = readers[dataset](split)
    else:
        folder = choices.own_folder(dataset, choices.CAPTION_DATASETS)
        data = load_caption_folder(folder, split)
    return data if limit is None else data.subset(range(min(limit, len(data))))


def is_there(dataset: str | Path) -> bool:
    """Whether a data set can be read without a download, as far as is seen at once.

    Args:
        dataset: As for `load_images`, `load_patches` or `load_captions`. Of MSCOCO photos may
            always be missing.

    Raises:
        DataError: if images lie there that cannot be read.
    """
    if dataset == "cifar10":
        return find_cifar10() is not None
    if dataset == "histopathology":
        return find_histopathology() is not None
    if dataset == "flickr8k":
        return None not in find_flickr8k(data_dir() / dataset)
    if dataset == "flickr30k":
        return None not in find_flickr30k(data_dir() / dataset)
    return dataset == "synthetic" or choices.is_own(dataset)
