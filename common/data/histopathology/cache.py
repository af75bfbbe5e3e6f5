"""All patches of a folder as one array, kept on the disk in chunks and mapped from there.

patches.npz              the index: what patches there are, and the name of the pixels' file
patches-<digest>.raw     the pixels; the digest is of all the chunks that belong into it
patches-<digest>.chunks  a line for each chunk that is in it; what a killed process leaves

A chunk is known by a digest of the names, sizes and times of change of its files, so it is read
again only when one of them changes, and the others are taken as they are, from an older file of
pixels, too. The lines carry checksums of themselves and of the pixels, the index those of a zip
file. Opening does not read all pixels: that they were changed is told by the file's size and times.
"""

import errno
import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data.folder_cache import cache_folder, holding
from common.data.histopathology import tree
from common.data.histopathology.slides import CLASSES, SIZE
from common.data.histopathology.tree import PatchList
from common.data.image_files import cut, empty_images, read_parts
from common.data.images import ImageData
from common.errors import CourseError
from common.files import flush_to_disk, os_advice, require_space, write_atomically
from common.paths import display, expand

logger = logging.getLogger(__name__)

_PATCH_BYTES = SIZE * SIZE * 3
# Patches decoded, kept and checked as one; never of two patients.
_CHUNK = 1024
# More would only wait for each other where the files are in the system's memory already.
_THREADS = min(6, (os.cpu_count() or 1) + 1)
_SMALL = np.dtype([("index", "<i8"), ("height", "<i4"), ("width", "<i4")])
_INDEX = "patches.npz"


def read_patches(root: str | Path, *, name: str | None = None, cache: bool = True) -> ImageData:
    """Reads patches `root/<patient>/<0|1>/<patient>_idx<n>_x<X>_y<Y>_class<0|1>.png`.

    A patch smaller than 50x50, cut off by the right or lower border of its slide, is continued
    there by its own mirror image: the tissue keeps its place and its colours, and no edge shows
    that a network could take for a sign. Which ones these are tells `patch_facts`.

    A second copy of a patch in `root/IDC_regular_ps50_idx5/` (Kaggle's archive has one of each)
    must have the same bytes and is left out; patients found only there are read from there.

    The pixels are kept in `root/.course-cache` (or in the user's cache folder if that cannot be
    written to) as one file, from which the returned array is mapped: it takes no memory of its
    own. A read that was cut off, by a kill too, goes on where it stopped. When opened again,
    names, sizes and times of change of all files are compared; patches that are new or changed
    are read, of about a thousand at a time, and the others are kept. Not noticed is only a file
    overwritten in place among the second copies.

    Args:
        root: the folder of the patients.
        name: how to call the data; by default the folder's name.
        cache: whether to read and write the cache; without it all pixels are held in memory,
            7.5 kB a patch.

    Returns:
        `ImageData` sorted by patient, y and x: images uint8 (N, 50, 50, 3), read-only; labels 0
        (benign) and 1 (malignant); groups the patients' ids (str); positions int32 (N, 2), x and
        y of a patch's upper left corner; sources the file names below `root`; split "all".

    Raises:
        DataError: if the tree is not as above, two files show the same place of a patient, second
            copies differ, or files are no whole images or larger than 50x50. Names all of them,
            at most ten in full.
        CourseError: if the disk is full.
    """
    opened = _open(expand(root), cache)
    patches, rows = opened.patches, opened.patches.rows
    return ImageData(
        images=opened.images,
        labels=rows["label"].astype(np.int32),
        classes=CLASSES,
        name=name or patches.root.resolve().name,
        split="all",
        groups=patches.patients[rows["patient"]],
        sources=_Sources(patches),
        positions=np.stack([rows["x"], rows["y"]], axis=1),
    )


@dataclass(frozen=True, eq=False)
class PatchFacts:
    """What a folder of patches holds, beside the pixels.

    Args:
        n_patches: number of patches read.
        n_patients: number of patients.
        n_copies: second copies in the nested folder, which were left out.
        n_nested: patches that are in the nested folder only, and read from there.
        padded: the patches that were smaller than 50x50, in the order of the images: `index`
            (which image), `source`, `patient`, `x`, `y`, `label`, `height`, `width`.
    """

    n_patches: int
    n_patients: int
    n_copies: int
    n_nested: int
    padded: pd.DataFrame


def patch_facts(root: str | Path, *, cache: bool = True) -> PatchFacts:
    """The facts of a folder of patches, which is read first if it has not been.

    Args and errors: as `read_patches`.
    """
    opened = _open(expand(root), cache)
    patches, small = opened.patches, opened.small
    rows = patches.rows[small["index"]]
    padded = pd.DataFrame(
        {
            "index": small["index"],
            "source": [patches.sources(i, i + 1)[0] for i in small["index"]],
            "patient": patches.patients[rows["patient"]],
            **{what: rows[what] for what in ("x", "y", "label")},
            **{what: small[what] for what in ("height", "width")},
        }
    )
    copies, nested = (int(patches.rows[name].sum()) for name in ("copied", "nested"))
    return PatchFacts(len(patches), len(patches.patients), copies, nested, padded)


class _Sources(Sequence):
    """All file names, made when asked for: a quarter of a million would slow every opening."""

    def __init__(self, patches: PatchList):
        self.patches = patches
        self.shape = (len(patches),)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        return self.patches.sources(i, i + 1)[0]


# --- reading ---


class _Opened(NamedTuple):
    patches: PatchList
    images: np.ndarray
    small: np.ndarray  # _SMALL: patches that were padded, and what they measured


def _open(root: Path, cache: bool) -> _Opened:
    folders = tree.class_folders(root)  # Before a cache is made where no patches are.
    folder = cache_folder(root) if cache else None
    if folder is not None:
        with holding(folder / "patches.lock", root) as held:
            if held:
                opened = _load_cache(root, folder, folders) or _fill_cache(root, folder)
                if opened is not None:
                    return opened
    elif cache:
        _without_cache(root, "there is no folder to write to")
    patches = tree.list_patches(root)
    images = empty_images(len(patches), SIZE)

    def put(chunk: range, pixels: np.ndarray, *_) -> None:
        images[chunk.start : chunk.stop] = pixels

    small = _read_all(patches, _chunks(patches), {}, put)
    images.flags.writeable = False
    return _told(_Opened(patches, images, small))


def _without_cache(root: Path, why: object) -> None:
    what = display(root), display(why)
    logger.warning("No cache of %s can be written (%s): its pixels go into memory.", *what)


def _chunks(patches: PatchList) -> dict[range, str]:
    """The numbers of the patches of each chunk, and its digest."""
    chunks = {}
    bounds = np.searchsorted(patches.rows["patient"], np.arange(len(patches.patients) + 1))
    what = [name for name in tree.ROW.names if name != "patient"]  # Its index may change.
    for patient, first, last in zip(patches.patients, bounds, bounds[1:], strict=False):
        for chunk in cut(range(int(first), int(last)), _CHUNK):
            rows = patches.rows[chunk.start : chunk.stop]
            digest = hashlib.blake2b(digest_size=16)
            for name in what:
                digest.update(rows[name].tobytes())
            digest.update(repr((tree.CACHE_VERSION, patient)).encode("utf-8", "surrogatepass"))
            chunks[chunk] = digest.hexdigest()
    return chunks


def _read_all(
    patches: PatchList, chunks: dict[range, str], kept: dict[str, dict], put: Callable
) -> np.ndarray:
    """Hands every chunk to `put(chunk, pixels, small, path)`, with the path of the file in which
    it was kept, if it was; else it is read. Returns the small patches, `_SMALL`."""
    small = []

    def read(chunk: range) -> list[str]:
        note = kept.get(chunks[chunk])
        pixels = note and _kept_pixels(note)
        if pixels is not None:
            sizes, path = note["small"], note["data"]
        else:
            pixels, sizes, problems = tree.read_block(patches, chunk.start, chunk.stop)
            if problems:
                return problems
            path = None
        put(chunk, pixels, sizes, path)
        small.extend([(chunk.start + i, *size) for i, *size in sizes])
        return []

    read_parts(patches.root, list(chunks), read, "patches", _THREADS)
    return np.array(sorted(small), _SMALL)


def _told(opened: _Opened) -> _Opened:
    patches = opened.patches
    if copies := int(patches.rows["copied"].sum()):
        what = display(patches.root), copies, tree.NESTED
        logger.warning("%s repeats %d patches in %s/: each is read once.", *what)
    tree.tell_padded(patches.root, len(opened.small), len(patches))
    return opened


# --- the index ---


def _load_cache(root: Path, folder: Path, folders: list[tree.ClassFolder]) -> _Opened | None:
    """What was kept; `None` if there is nothing, or something changed since, or it is damaged."""
    path = folder / _INDEX
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["version"] != tree.CACHE_VERSION:
                return None
            patches = PatchList(root, file["patients"], file["rows"])
            data, kept = folder / str(file["data"]), tuple(file["kept"])
            state, small = str(file["state"]), file["small"]
        if kept != _size_and_times(data) or kept[0] != len(patches) * _PATCH_BYTES:
            raise ValueError(f"{data.name} is not as it was written")
    except Exception as error:  # whatever NumPy and zipfile make of damaged bytes
        what = display(path), display(error)
        logger.warning("The cache %s is damaged (%s): repairing it.", *what)
        return None
    if tree.state(folders, len(patches)) != state:
        return None
    try:
        return _Opened(patches, _map(data, len(patches)), small)
    except OSError:  # it can no longer be read
        return None


def _size_and_times(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _map(path: Path, n: int) -> np.ndarray:
    return np.memmap(path, np.uint8, mode="r", shape=(n, SIZE, SIZE, 3))


def _fill_cache(root: Path, folder: Path) -> _Opened | None:
    """What is read now, and kept; `None` if nothing may be written there."""
    patches, state = tree.list_with_state(root)
    chunks = _chunks(patches)
    whole = hashlib.blake2b("".join(chunks.values()).encode(), digest_size=8)
    data = folder / f"patches-{whole.hexdigest()}.raw"
    try:
        small = _fill(patches, chunks, data)
        index = {"state": state, "patients": patches.patients, "rows": patches.rows}
        index |= {"small": small, "data": data.name, "kept": _size_and_times(data)}
        with write_atomically(folder / _INDEX) as temporary:
            np.savez(temporary, version=tree.CACHE_VERSION, **index)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):  # somebody else's, say
            _without_cache(root, error)
            return None
        raise CourseError(
            f"Could not write {display(data)}: {error.strerror or error}. {os_advice(error)} It "
            "goes on where it stopped."
        ) from error
    for path in folder.glob("patches-*"):
        if path.stem != data.stem:
            with suppress(OSError):  # On Windows, while another process has it open.
                path.unlink()
    return _told(_Opened(patches, _map(data, len(patches)), small))


# --- the pixels ---


def _kept_chunks(data: Path) -> dict[str, dict]:
    """The notes of the chunks in a file of pixels, perhaps a half-made one, by their digests."""
    kept = {}
    with suppress(OSError), open(data.with_suffix(".chunks"), "rb") as file:
        for line in file:
            check, _, text = line.rstrip().partition(b" ")
            if check == b"%08x" % zlib.crc32(text):  # The last line may be half written.
                note = json.loads(text)
                kept[note["digest"]] = note | {"data": data}
    return kept


def _kept_pixels(note: dict) -> np.ndarray | None:
    """The images of a chunk, or `None` if they are not what was written."""
    try:
        with open(note["data"], "rb") as file:
            file.seek(note["start"] * _PATCH_BYTES)
            pixels = file.read(note["n"] * _PATCH_BYTES)
    except OSError:
        return None
    return np.frombuffer(pixels, np.uint8) if zlib.crc32(pixels) == note["crc32"] else None


def _fill(patches: PatchList, chunks: dict[range, str], data: Path) -> np.ndarray:
    """Puts all chunks into the file of pixels: those in it stay, others are copied from an
    older file or read. Returns the small patches, `_SMALL`."""
    here, kept = _kept_chunks(data) if data.exists() else {}, {}
    for path in data.parent.glob("patches-*.raw"):
        kept |= _kept_chunks(path)
    kept |= here
    missing = sum(len(chunk) for chunk, digest in chunks.items() if digest not in here)
    require_space(data.parent, missing * _PATCH_BYTES)
    lock = threading.Lock()
    with (
        open(data, "r+b" if data.exists() else "w+b") as file,
        open(data.with_suffix(".chunks"), "ab") as log,
    ):
        log.write(b"\n")  # Ends a line that was cut off.

        def put(chunk: range, pixels: np.ndarray, small: list, path: Path | None) -> None:
            if path == data:
                return
            line = {"digest": chunks[chunk], "start": chunk.start, "n": len(chunk)}
            line |= {"crc32": zlib.crc32(pixels), "small": small}
            text = json.dumps(line).encode()
            with lock:
                file.seek(chunk.start * _PATCH_BYTES)
                file.write(pixels)
                file.flush()
                log.write(b"%08x %s\n" % (zlib.crc32(text), text))
                log.flush()

        small = _read_all(patches, chunks, kept, put)
        file.truncate(len(patches) * _PATCH_BYTES)
        flush_to_disk(file)
    return small
