"""Photos that people have: any size and kind, read one by one."""

import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from common.data.image_files import cause, decode_rgb, read_image_file
from common.data.listing import SUFFIXES, counted, holds_images, walk
from common.errors import DataError
from common.paths import display

logger = logging.getLogger(__name__)


def read_photo(path: str | Path) -> np.ndarray:
    """One image file as uint8 (H, W, 3), red first, in its own size.

    JPEG (also CMYK), PNG, BMP, WebP, GIF, TIFF or AVIF, whatever the name says. Greyscale becomes
    three equal channels, transparency is laid on white, 16 bits become 8, the orientation that a
    camera noted is applied, and of an animation the first frame is taken.

    Raises:
        DataError: if the file cannot be read, is too large or is not a whole image; names it.
    """
    try:
        return decode_rgb(read_image_file(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{display(path)} cannot be read: {cause(error)}.") from error
    except DataError as error:
        raise DataError(f"{display(path)}: {error}.") from error


def list_photos(paths: Sequence[str | Path], recursive: bool = False) -> list[Path]:
    """The photos that a user named: files as they are, and the image files of folders, sorted.

    A photo that is named twice is listed once. Hidden files are left out; a warning tells what
    else of a folder is.

    Args:
        paths: Files and folders.
        recursive: Whether to go into folders within a folder.

    Raises:
        DataError: if a path does not exist, or a folder has no image file (says what it has).
    """
    # The file itself may be a link: then it is another photo.
    whole_folder = cache(os.path.realpath)
    found = {}
    for path in map(Path, paths):
        if os.path.isdir(path):
            photos = _photos_in(path, recursive)
        elif os.path.isfile(path):
            photos = [path]
        elif os.path.exists(path):
            raise DataError(f"{display(path)} is neither a file nor a folder.")
        else:
            raise DataError(f"There is no file or folder {display(path)}.")
        for photo in photos:
            found.setdefault((whole_folder(photo.parent), os.path.normcase(photo.name)), photo)
    return list(found.values())


def _photos_in(folder: Path, recursive: bool) -> list[Path]:
    photos, others, deeper = [], [], []
    for place, scanned in walk(folder):
        if isinstance(scanned, OSError):
            why = f"{display(place)} cannot be looked into: {scanned.strerror or scanned}."
            if not photos and place == str(folder):
                raise DataError(why) from scanned
            logger.warning(why)
            continue
        photos += [Path(place, entry.name) for entry in scanned.images]
        others += scanned.others
        if not recursive:
            deeper = [name for name in scanned.folders if holds_images(Path(place, name))]
            break
    left = counted(others, len(deeper))
    if deeper:
        left += " with images in them (--recursive reads those too)"
    if not photos:
        raise DataError(
            f"The folder {display(folder)} has no image: it has {left or 'nothing'}. Wanted are "
            f"{', '.join(SUFFIXES)} files."
        )
    if left:
        logger.warning("%s: passed over %s.", display(folder), left)
    return sorted(photos)
