"""Images of one's own: any tree `train/<class>/*` and `test/<class>/*`."""

import hashlib
import logging
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from common.data.images import ImageData
from common.errors import ConfigError, CourseError, DataError
from common.files import read_json, write_atomically, write_json

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

IGNORED = ("thumbs.db", "desktop.ini")
_CHUNK = 256
# To be raised when the same file would be read into other pixels.
_CACHE_VERSION = 1


def read_image_folder(
    root: str | Path,
    split: str,
    *,
    size: int = 32,
    classes: tuple[str, ...] | None = None,
    name: str | None = None,
    cache: bool = True,
) -> ImageData:
    """Reads `root/<split>/<class>/*` (JPEG, PNG, BMP, WebP), every image as size x size pixels.

    The centre square of an image is cut out and resized (averaging areas where it shrinks).
    Greyscale becomes three equal channels, transparency is laid on white, 16 bits become 8, and
    the orientation that a camera noted in a JPEG is applied. Hidden files are ignored.

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
    """
    root = Path(root).expanduser()
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    if size < 1:
        raise ConfigError(f"size must be at least 1 pixel. Received: {size}")
    classes = _class_names(root, split, classes)
    files = _list_files(root / split, classes)
    if cache:
        images = _read_cached(root, split, size, files)
    else:
        images = _read_all(root / split, files, size)
    return ImageData(
        images=images,
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), [len(files[c]) for c in classes]),
        classes=classes,
        name=name or root.resolve().name,
        split=split,
        sources=[f"{c}/{file.name}" for c in classes for file in files[c]],
    )


# --- the tree ---


class _File(NamedTuple):
    name: str
    bytes: int
    mtime_ns: int


def _class_names(root: Path, split: str, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder. Images are expected in {root}/train/<class>/ and "
            f"{root}/test/<class>/."
        )
    found = _subfolders(folder)
    if not found:
        raise DataError(f"{folder} has no folders. It needs one per class, with images in it.")
    for other in SPLITS:
        if other != split and (root / other).is_dir():
            _check_equal(folder, found, str(root / other), _subfolders(root / other))
    if wanted is not None:
        _check_equal(folder, found, "the wanted classes", wanted)
    elif len(found) < 2:
        raise DataError(
            f"{folder} has one class only ({found[0]}): there is nothing to tell apart."
        )
    return tuple(wanted or found)


def _check_equal(folder: Path, found: tuple, other: str, expected: tuple) -> None:
    parts = []
    if missing := sorted(set(expected) - set(found)):
        parts.append(f"lacks {', '.join(missing)}")
    if extra := sorted(set(found) - set(expected)):
        parts.append(f"has {', '.join(extra)} besides")
    if parts:
        raise DataError(
            f"Classes differ: compared with {other}, {folder} {' and '.join(parts)}. "
            "Rename, add or remove folders so that both have the same."
        )


def _subfolders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))


def _list_files(folder: Path, classes: tuple[str, ...]) -> dict[str, list[_File]]:
    files, skipped, empty = {}, [], []
    for c in classes:
        files[c] = []
        with os.scandir(folder / c) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in IGNORED:
                    continue
                if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
                    skipped.append(f"{c}/{entry.name}")
                    continue
                status = entry.stat()
                files[c].append(_File(entry.name, status.st_size, status.st_mtime_ns))
        files[c].sort()
        if not files[c]:
            empty.append(str(folder / c))
    if empty:
        raise DataError(
            f"No image in {', '.join(empty)}. Put {', '.join(SUFFIXES)} files there or remove "
            "the folder."
        )
    if skipped:
        logger.warning("%s: %s", folder, in_lines("ignored, no image suffix:", sorted(skipped)))
    return files


def in_lines(what: str, items: list[str]) -> str:
    """The first ten, one a line, and how many more."""
    more = [f"... and {len(items) - 10} more"] if len(items) > 10 else []
    return "\n  ".join([what, *items[:10], *more])


# --- the pixels ---


def _read_all(folder: Path, files: dict[str, list[_File]], size: int) -> np.ndarray:
    paths = [f"{folder}{os.sep}{c}{os.sep}{file.name}" for c in files for file in files[c]]
    images = np.empty((len(paths), size, size, 3), np.uint8)
    bad = []

    def read(start: int) -> list[str]:
        problems = []
        for i in range(start, min(start + _CHUNK, len(paths))):
            try:
                with open(paths[i], "rb") as file:
                    images[i] = decode_image(file.read(), size)
            except (DataError, OSError) as error:
                why = getattr(error, "strerror", None) or error
                problems.append(f"{os.path.relpath(paths[i], folder.parent)}: {why}")
        return problems

    with (
        one_opencv_thread(),
        ThreadPoolExecutor() as pool,
        tqdm(desc=f"reading {folder}", total=len(paths), unit=" images") as bar,
    ):
        for problems in pool.map(read, range(0, len(paths), _CHUNK)):
            bad += problems
            bar.update(min(_CHUNK, len(paths) - bar.n))
    if bad:
        what = f"{folder}: {len(bad)} of {len(paths)} files cannot be read as images:"
        raise DataError(in_lines(what, bad) + "\nReplace or delete them and run the same again.")
    return images


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Files are read in parallel already; OpenCV's threads would only get in each other's way."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def decode_image(data: bytes, size: int) -> np.ndarray:
    """The bytes of an image file as uint8 (size, size, 3), red first.

    Raises:
        DataError: if it is no image, or not a whole one.
    """
    return _square(decode_rgb(data), size)


def decode_rgb(data: bytes) -> np.ndarray:
    """The bytes of an image file as uint8 (H, W, 3), red first, in its own size.

    Raises:
        DataError: if it is no image, or not a whole one.
    """
    kind = _check_whole(data)
    # Only reading in colour turns a photo as its camera noted; only "unchanged" keeps alpha.
    with_alpha = kind in ("PNG", "WebP", "GIF")
    flags = cv2.IMREAD_UNCHANGED if with_alpha else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"a {kind} file that OpenCV cannot decode ({error.err})") from error
    if image is None:
        raise DataError(f"a {kind} file that OpenCV cannot decode")
    return _to_rgb(image)


def _to_rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[-1] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.rint(alpha * image[..., :3] + (1 - alpha) * 255).astype(np.uint8)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
        return image
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def _check_whole(data: bytes) -> str:
    """The format, judged by content. Decoders fill what is missing with grey and say nothing."""
    if not data:
        raise DataError("empty file")
    for kind, signature, is_whole in _FORMATS:
        if signature.match(data):
            if not is_whole(data):
                raise DataError(f"truncated or damaged {kind} file")
            return kind
    raise DataError("not a JPEG, PNG, BMP, WebP or GIF file, whatever its name says")


# In JPEG's compressed data, FF is followed by 00 or by a restart marker.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end marker is reached, going from segment to segment (a thumbnail in one of
    them has an end marker of its own)."""
    position, scanned = 2, False
    while match := _JPEG_MARKER.search(data, position):
        marker = match[1][0]
        if marker == 0xD9:
            return scanned
        scanned |= marker == 0xDA
        start = match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
    return False


def _png_is_whole(data: bytes) -> bool:
    position = 8
    while position + 12 <= len(data):
        body = position + 4
        end = body + 4 + int.from_bytes(data[position:body], "big")
        if zlib.crc32(data[body:end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[body : body + 4] == b"IEND":
            return True
        position = end + 4
    return False


def _bmp_is_whole(data: bytes) -> bool:
    return 26 <= int.from_bytes(data[2:6], "little") <= len(data)


def _webp_is_whole(data: bytes) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)


def _gif_is_whole(data: bytes) -> bool:
    return data.rstrip(b"\0").endswith(b"\x3b")


_FORMATS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg_is_whole),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_is_whole),
    ("BMP", re.compile(rb"BM"), _bmp_is_whole),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp_is_whole),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif_is_whole),
)


# --- the cache ---


def _read_cached(root: Path, split: str, size: int, files: dict[str, list[_File]]) -> np.ndarray:
    folder = cache_folder(root)
    if folder is None:
        return _read_all(root / split, files, size)
    path = folder / f"{split}-{size}.npy"
    key = _listing_hash(files)
    shape = (sum(map(len, files.values())), size, size, 3)
    try:
        with FileLock(f"{path}.lock"):
            images = _load_cache(path, key, shape)
            if images is None:
                images = _read_all(root / split, files, size)
                _save_cache(path, key, images)
            return images
    except OSError as error:
        logger.warning("No cache in %s (%s).", folder, error.strerror or error)
        return _read_all(root / split, files, size)


def cache_folder(root: Path) -> Path | None:
    """The first of two folders that can be written to."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras-course"
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    for folder in (root / ".course-cache", user / digest):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


def _listing_hash(files: dict[str, list[_File]]) -> str:
    listing = repr((_CACHE_VERSION, [(c, [tuple(file) for file in files[c]]) for c in files]))
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def _load_cache(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached images; `None` if there are none, or others, or they are damaged."""
    meta = path.with_suffix(".json")
    if not (path.exists() and meta.exists()):
        return None
    try:
        known = read_json(meta)
        if known["key"] != key:
            return None
        images = np.load(path, allow_pickle=False)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"holds {images.dtype} {images.shape} instead of uint8 {shape}")
        if zlib.crc32(images) != known["crc32"]:
            raise ValueError("checksum differs")
        return images
    except (DataError, ValueError, EOFError, KeyError, TypeError) as error:
        logger.warning("The cache %s is damaged (%s): reading the images anew.", path, error)
        return None


def _save_cache(path: Path, key: str, images: np.ndarray) -> None:
    try:
        with write_atomically(path) as temporary:
            np.save(temporary, images)
        write_json(path.with_suffix(".json"), {"key": key, "crc32": zlib.crc32(images)})
    except CourseError as error:
        logger.warning("The images are not cached: %s", error)
