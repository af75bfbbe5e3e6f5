"""What image files hold, in a few digits each; a file is read again only when it has changed."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from common.data.captions import CaptionData
from common.data.folder_cache import cache_folder
from common.errors import CourseError, DataError
from common.files import read_json, write_json


def image_hashes(data: CaptionData) -> list[str]:
    """Sixteen digits of each image's content; of one that cannot be read, "none".

    Of files they are kept beside, in the folder's cache, with size and times of each file.
    """
    if data.folder is None:
        pixels = (np.ascontiguousarray(data.read_image(i)) for i in range(len(data)))
        return [_hash(image).hexdigest() for image in pixels]
    folder = cache_folder(data.folder)
    path = None if folder is None else folder / "hashes.json"
    kept = _read(path)
    found, todo = [], []
    for i, name in enumerate(data.names):
        try:
            status = os.stat(data.path(i))
        except (OSError, ValueError):
            found.append("none")
            continue
        # The time of the last change of any kind cannot be set back by a user.
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = kept.get(name)
        if isinstance(known, list) and len(known) == 4 and known[:3] == state:
            found.append(str(known[3]))
        else:
            found.append("")
            todo.append((i, state))
    if not todo:
        return found
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda item: _file_digest(data.path(item[0])), todo))
    for (i, state), digest in zip(todo, digests, strict=True):
        found[i] = digest
        if digest != "none":
            kept[data.names[i]] = [*state, digest]
    if path is not None:
        with suppress(CourseError):  # a cache: it is made again
            write_json(path, kept)
    return found


def _read(path) -> dict:
    if path is not None and path.exists():
        with suppress(DataError):
            return read_json(path, dict)
    return {}


def _file_digest(path) -> str:
    try:
        with open(path, "rb") as file:  # never whole in memory: it may be of any size
            return hashlib.file_digest(file, _hash).hexdigest()
    except OSError:
        return "none"


def _hash(content=b""):
    return hashlib.blake2b(content, digest_size=8)
