"""Photos that people have: any size and kind, read one by one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.image_folder import decode_rgb
from common.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def read_photo(path: str | Path) -> np.ndarray:
    """One image file as uint8 (H, W, 3), red first, in its own size.

    JPEG (also CMYK), PNG, BMP, WebP or GIF, whatever the name says. Greyscale becomes three equal
    channels, transparency is laid on white, 16 bits become 8, the orientation that a camera noted
    is applied, and of an animation the first frame is taken.

    Raises:
        DataError: if the file cannot be read or is not a whole image; names it.
    """
    try:
        return decode_rgb(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error


def list_photos(paths: Sequence[str | Path]) -> list[Path]:
    """The photos that a user named: files as they are, and the image files of folders, sorted.

    Folders within a folder and hidden files are left out.

    Raises:
        DataError: if a path does not exist, or a folder has no image file.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            )
            if not inside:
                raise DataError(f"The folder {path} has no image ({', '.join(SUFFIXES)}).")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"There is no file or folder {path}.")
    return found
