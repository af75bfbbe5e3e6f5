"""Image files as pixels: read from the disk, alone or many at once, and decoded, whatever they are.

What can be told from the header is told before anything is decoded.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np

from common.data.image_headers import MAX_PIXELS, Header, check_pixels, examine
from common.data.listing import in_lines
from common.errors import CourseError, DataError
from common.paths import display
from common.progress import progress_bar

_MAX_BYTES = 8 * MAX_PIXELS
# Images larger than this are decoded one at a time.
_LARGE = 25_000_000
_one_large, _as_many = threading.Lock(), nullcontext()
# How many pixels are blended at once.
_BAND = 1 << 18

if "OPENCV_LOG_LEVEL" not in os.environ:
    # Each unknown tag of a TIFF would be a line on stderr. 1: what is fatal; where the function is,
    # differs from OpenCV 4 to 5.
    getattr(cv2.utils, "logging", cv2).setLogLevel(1)


# --- one file ---


def read_image_file(path: str | Path) -> bytes:
    """The bytes of a file, if an image can be that large.

    Raises:
        DataError: if it is larger, is no file, or does not fit into memory.
        OSError: if it cannot be read.
    """
    handle = os.open(path, _FLAGS)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("a folder, pipe or device, no file")
        if status.st_size > _MAX_BYTES:
            raise DataError(f"{status.st_size / 1e9:.1f} GB, more than an image may have")
        data = os.read(handle, status.st_size)
        while len(data) < status.st_size and (more := os.read(handle, status.st_size - len(data))):
            data += more
        return data
    except MemoryError as error:
        raise DataError("it needs more memory than there is") from error
    finally:
        os.close(handle)


# A pipe without a writer is not waited for.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def cause(error: Exception) -> object:
    """Why something went wrong, in the system's words without a number and a path, if it told."""
    return getattr(error, "strerror", None) or error


# --- many files ---


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Files are read in parallel already; OpenCV's threads would only get in each other's way."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def cut(numbers: range, size: int) -> list[range]:
    """Parts of so many numbers, the last with what is left."""
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def read_parts(
    folder: Path,
    parts: Sequence[range],
    read: Callable[[range], list[str]],
    kind: str,
    threads: int | None = None,
) -> None:
    """Reads very many files, part by part, several parts at a time.

    Args:
        folder: Where they are, for the progress bar and the error.
        parts: The numbers of the files that are read together.
        read: Reads such a part, and gives a line for each file that cannot be read.
        kind: What the files are, "images" or "patches".
        threads: How many parts at a time.

    Raises:
        DataError: if files cannot be read, once all others are; see `unreadable`.
    """
    total, problems = sum(map(len, parts)), []
    with (
        one_opencv_thread(),
        ThreadPoolExecutor(threads) as pool,
        progress_bar(None, f"reading {display(folder)}", total=total, unit=f" {kind}") as bar,
    ):
        for part, found in zip(parts, pool.map(read, parts), strict=True):
            problems += found
            bar.update(len(part))
    if problems:
        raise unreadable(folder, problems, total, kind)


def read_each(names: Sequence[str], read: Callable[[int, str], None], start: int = 0) -> list[str]:
    """Calls `read` with the number, counted from `start`, and the name of each of some files; gives
    a line for each that cannot be read."""
    problems = []
    for i, name in enumerate(names, start):
        try:
            read(i, name)
        except (DataError, OSError) as error:
            problems.append(f"{name}: {cause(error)}")
    return problems


def unreadable(folder: Path, problems: list[str], total: int, kind: str) -> DataError:
    """The error that names files of a folder, at most ten in full, and what is wrong with each."""
    what = f"{display(folder)}: {len(problems)} of {total} files cannot be read as {kind}:"
    return DataError(in_lines(what, problems) + "\nReplace or delete them and run the same again.")


def empty_images(n: int, size: int) -> np.ndarray:
    """Room for n images.

    Raises:
        CourseError: if there is too little memory.
    """
    try:
        return np.empty((n, size, size, 3), np.uint8)
    except (MemoryError, ValueError) as error:
        raise CourseError(
            f"{n} images of {size}x{size} pixels take {n * size * size * 3 / 1e9:.1f} GB, more "
            "memory than there is. Use fewer or smaller ones."
        ) from error


# --- pixels ---


def decode_rgb(data: bytes, *, side: int | None = None) -> np.ndarray:
    """The bytes of an image file as uint8 (H, W, 3), red first, in its own size.

    Greyscale becomes three equal channels, transparency is laid on white, 16 bits become 8, the
    orientation that a camera noted is applied, and of an animation the first frame is taken.

    Args:
        data: JPEG, PNG, BMP, WebP, GIF, TIFF or AVIF.
        side: what height and width may be at most.

    Raises:
        DataError: if it is no image, not a whole one, too large, or of a kind that OpenCV cannot
            decode.
    """
    kind, header = examine(data)
    width, height = header.width, header.height
    if side is not None and max(width, height) > side:
        raise DataError(f"{width}x{height} pixels, more than the {side}x{side} allowed")
    check_pixels(width, height)
    why = ""
    try:
        with _one_large if width * height > _LARGE else _as_many:
            image = _decode(data if header.unturned is None else header.unturned, header)
            if image is not None and image.dtype.char in "BH":  # of 8 and 16 bits
                image = _rgb(image, header)
                return _TURNS[header.orientation](image) if header.orientation > 1 else image
        if image is not None:
            why = f", of {image.dtype} numbers"
    except cv2.error as error:
        why = f" ({display(error.err)})"
        if error.code == cv2.Error.StsNoMem:
            raise _no_memory(width, height) from error
    except MemoryError as error:
        raise _no_memory(width, height) from error
    article = "an" if kind == "AVIF" else "a"
    raise DataError(
        f"{article} {kind} file that OpenCV cannot decode{why}: convert it to JPEG or PNG, or get "
        f"a newer OpenCV than {cv2.__version__}"
    )


def _no_memory(width: int, height: int) -> DataError:
    return DataError(f"{width}x{height} pixels need more memory than there is")


_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def _decode(data: bytes, header: Header) -> np.ndarray | None:
    # Only "unchanged" keeps alpha. Neither way does OpenCV turn the image, which its versions do
    # for different formats.
    flags = _COLOUR if header.opaque else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _rgb(image: np.ndarray, header: Header) -> np.ndarray:
    """What OpenCV decoded as uint8 (H, W, 3), red first."""
    if image.itemsize == 1 and image.ndim == 3 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    # By bands, so that not a second whole image of wider numbers is held.
    rows = max(1, _BAND // image.shape[1])
    if len(image) <= rows:
        return _band_to_rgb(image, header)
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    for i in range(0, len(image), rows):
        rgb[i : i + rows] = _band_to_rgb(image[i : i + rows], header)
    return rgb


def _band_to_rgb(image: np.ndarray, header: Header) -> np.ndarray:
    if image.itemsize == 2:
        image = (image >> (header.bits - 8)).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[-1] == 4:
        image = on_white(image[..., :3], image[..., 3:], header.premultiplied)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def on_white(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Lays transparent pixels on white, rounded to the nearest whole number.

    Args:
        colours: uint8 (H, W, 3).
        alpha: uint8 (H, W, 1), 255 where nothing shines through.
        premultiplied: whether the colours were multiplied by it already.
    """
    white = 255 - alpha
    if premultiplied:
        return np.minimum(colours, alpha) + white
    # All stays below 2**16; the last two lines divide by 255.
    total = colours * alpha.astype(np.uint16)
    total += white * np.uint16(255) + np.uint16(127)
    total += (total >> 8) + np.uint16(1)
    return (total >> 8).astype(np.uint8)


# By EXIF's number: what has to be done to an image that was stored like that.
_TURNS = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: lambda image: cv2.transpose(image),
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
