"""Images of one's own: any tree `train/<class>/*` and `test/<class>/*`."""

import hashlib
import logging
import os
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from common.data import image_files, listing
from common.data.checks import check_split
from common.data.folder_cache import cache_folder, holding
from common.data.image_files import decode_rgb, read_image_file
from common.data.images import ImageData
from common.data.listing import SUFFIXES, counted, in_lines, some
from common.errors import ConfigError, CourseError, DataError
from common.files import read_json, write_atomically, write_json
from common.paths import display, expand

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")

_CHUNK = 256
# To be raised when the same file would be read into other pixels.
_CACHE_VERSION = 2


def read_image_folder(
    root: str | Path,
    split: str,
    *,
    size: int = 32,
    classes: tuple[str, ...] | None = None,
    name: str | None = None,
    cache: bool = True,
) -> ImageData:
    """Reads `root/<split>/<class>/*` (JPEG, PNG, BMP, WebP, GIF, TIFF, AVIF), every image as size x
    size pixels.

    The centre square of an image is cut out and resized (averaging areas where it shrinks).
    Greyscale becomes three equal channels, transparency is laid on white, 16 bits become 8, and
    the orientation that a camera noted is applied. Hidden files are ignored; what else is not read
    is told.

    The pixels are kept in `root/.course-cache` (or in the user's cache folder if that cannot be
    written to) until a file is added, removed or changed.

    Args:
        root: the folder that holds `train` and `test`; the other split may be absent.
        split: "train" or "test".
        size: height and width of the result in pixels.
        classes: the class names in the order of their labels; by default the folders' names in
            alphabetical order.
        name: how to call the data; by default the folder's name.
        cache: whether to read and write the cache.

    Raises:
        DataError: if the tree is not as above, or files are no whole images (names them all,
            at most ten in full).
        CourseError: if so many pixels do not fit into memory.
    """
    root = expand(root)
    check_split(split, SPLITS)
    if size < 1:
        raise ConfigError(f"size must be at least 1 pixel. Received: {size}")
    classes = _class_names(root, split, classes)
    files = _list_files(root / split, classes)
    read = _read_cached if cache else _read_all
    return ImageData(
        images=read(root / split, files, size),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), [len(files[c]) for c in classes]),
        classes=classes,
        name=name or root.resolve().name,
        split=split,
        sources=[f"{c}/{file.name}" for c in classes for file in files[c]],
    )


# --- the tree ---

# What people call a split besides; what is to be tested on may be called validation, too.
_OTHER_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation", "dev"),
}


def _class_names(root: Path, split: str, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    folder = root / split
    if not os.path.isdir(folder):
        raise DataError(
            f"{display(folder)} is not a folder. Images are expected in {display(root)}/train/"
            f"<class>/ and {display(root)}/test/<class>/.{_likely_mistake(root, split)}"
        )
    found = _subfolders(folder)
    if not found:
        there = counted([image.name for image in listing.scan(folder).images])
        raise DataError(
            f"{display(folder)} has no folders{f', but {there}' if there else ''}. It needs one "
            "per class, with images in it."
        )
    for other in SPLITS:
        if other != split and os.path.isdir(root / other):
            _check_equal(folder, found, str(root / other), _subfolders(root / other))
    if wanted is not None:
        _check_equal(folder, found, "the wanted classes", wanted)
    elif len(found) < 2:
        raise DataError(
            f"{display(folder)} has one class only ({display(found[0])}): there is nothing to tell "
            "apart."
        )
    return tuple(wanted or found)


def _likely_mistake(root: Path, split: str) -> str:
    """Where the images of a split may be instead: a sentence, or nothing."""
    if os.path.isfile(root):
        what = "an archive: unpack it" if zipfile.is_zipfile(root) else "a file"
        return f" {display(root.name)} is {what}, and give the folder that has them."
    if not os.path.isdir(root):
        return ""
    folders = _subfolders(root)
    parent = root.resolve().parent
    if root.resolve().name.lower() in SPLITS:
        return f" Give the folder above it: {display(parent)}."
    for name in folders:
        if name not in SPLITS and name.lower() in _OTHER_NAMES[split]:
            return (
                f" It has the folder {display(name)}: rename it to {split}, if these are the "
                "images."
            )
    if other := next((name for name in folders if name in SPLITS), None):
        return (
            f" It has the folder {other} alone: move a part of each class, a tenth to a fifth for "
            f"test, into {display(root / split)}/<class>/."
        )
    for name in folders:
        if any(os.path.isdir(root / name / split) for split in SPLITS):
            return f" Did you mean {display(root / name)}?"
    classes = [name for name in folders if listing.holds_images(root / name)]
    if classes:
        return (
            f" It has images in {some(classes)}: if these are the classes, move them into "
            f"{display(root)}/train/, and a part of each into {display(root)}/test/."
        )
    return f" It has {listing.scan(root).told()}."


def _check_equal(folder: Path, found: tuple, other: str, expected: tuple) -> None:
    parts = []
    if missing := sorted(set(expected) - set(found)):
        parts.append(f"lacks {some(missing)}")
    if extra := sorted(set(found) - set(expected)):
        parts.append(f"has {some(extra)} besides")
    if parts:
        raise DataError(
            f"Classes differ: compared with {display(other)}, {display(folder)} "
            f"{' and '.join(parts)}. Rename, add or remove folders so that both have the same."
        )


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(listing.look_into(folder).folders))


def _list_files(folder: Path, classes: tuple[str, ...]) -> dict[str, list[listing.FileState]]:
    above = listing.scan(folder)
    skipped = above.others + [image.name for image in above.images]
    files, empty = {}, []
    for c in classes:
        found = listing.look_into(folder / c)
        files[c] = listing.file_states(found.images, f"{c}/", skipped)
        skipped += [f"{c}/{name}" for name in found.others]
        deeper = [name for name in found.folders if listing.holds_images(folder / c / name)]
        skipped += [f"{c}/{name}/: a folder with images within a class" for name in deeper]
        if not files[c]:
            what = counted(found.others, len(found.folders)) or "nothing in it"
            empty.append(f"{folder / c}: it has {what}" + (", with images" if deeper else ""))
    if empty:
        what = in_lines(f"No image in {len(empty)} of {len(classes)} folders:", empty) + "\n"
        if len(empty) == 1:
            what = f"No image in {display(empty[0])}. "
        raise DataError(
            f"{what}Put {', '.join(SUFFIXES)} files right into a class's folder, or remove the "
            "folder."
        )
    if skipped:
        what = f"{len(skipped)} passed over, as they are no image files in a class's folder:"
        logger.warning("%s: %s", display(folder), in_lines(what, sorted(skipped)))
    return files


# --- the pixels ---


def _read_all(folder: Path, files: dict[str, list[listing.FileState]], size: int) -> np.ndarray:
    names = [os.path.join(folder.name, c, file.name) for c in files for file in files[c]]
    images = image_files.empty_images(len(names), size)

    def read(i: int, name: str) -> None:
        images[i] = decode_image(read_image_file(os.path.join(folder.parent, name)), size)

    def read_part(part: range) -> list[str]:
        return image_files.read_each(names[part.start : part.stop], read, part.start)

    image_files.read_parts(folder, image_files.cut(range(len(names)), _CHUNK), read_part, "images")
    return images


def decode_image(data: bytes, size: int) -> np.ndarray:
    """The bytes of an image file as uint8 (size, size, 3), red first: its centre square.

    Raises:
        DataError: if it is no image, or not a whole one.
    """
    image = decode_rgb(data)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
        return image
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


# --- the cache ---


def _read_cached(folder: Path, files: dict[str, list[listing.FileState]], size: int) -> np.ndarray:
    root, split = folder.parent, folder.name
    place = cache_folder(root)
    if place is None:
        return _read_all(folder, files, size)
    path, key = place / f"{split}-{size}.npy", _listing_hash(files)
    shape = (sum(map(len, files.values())), size, size, 3)
    with holding(place / f"{path.name}.lock", root) as held:
        images = _load_cache(path, key, shape) if held else None
        if images is None:
            images = _read_all(folder, files, size)
            if held:
                _save_cache(path, key, images)
        return images


def _listing_hash(files: dict[str, list[listing.FileState]]) -> str:
    listed = repr((_CACHE_VERSION, [(c, [tuple(file) for file in files[c]]) for c in files]))
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()


def _load_cache(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached images; `None` if there are none, or others, or they are damaged."""
    meta = path.with_suffix(".json")
    if not (path.exists() and meta.exists()):
        return None
    try:
        known = read_json(meta, dict)
        if known["key"] != key:
            return None
        images = np.load(path, allow_pickle=False)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"holds {images.dtype} {images.shape} instead of uint8 {shape}")
        if zlib.crc32(images) != known["crc32"]:
            raise ValueError("checksum differs")
        return images
    except Exception as error:  # whatever NumPy makes of damaged bytes
        what = display(path), display(error)
        logger.warning("The cache %s is damaged (%s): reading the images anew.", *what)
        return None


def _save_cache(path: Path, key: str, images: np.ndarray) -> None:
    try:
        with write_atomically(path) as temporary:
            np.save(temporary, images)
        write_json(path.with_suffix(".json"), {"key": key, "crc32": zlib.crc32(images)})
    except CourseError as error:
        logger.warning("The images are not cached: %s", error)
