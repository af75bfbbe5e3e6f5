"""The IDC set: 50x50 patches of breast tissue, with or without invasive ductal carcinoma.

277,524 patches from whole slides scanned at 40x, labelled by pathologists.

Cruz-Roa et al., Automatic detection of invasive ductal carcinoma in whole slide images with
convolutional neural networks, SPIE Medical Imaging 2014. Janowczyk and Madabhushi, Deep learning
for digital pathology image analysis: a comprehensive tutorial with selected use cases, Journal of
Pathology Informatics 2016.
"""

import errno
import hashlib
import json
import logging
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from common.data.download import download, extract
from common.data.folder_state import folder_digests, list_folder, listing_digest
from common.data.image_files import IGNORED, counted, decode_rgb, in_lines, one_opencv_thread
from common.data.image_folder import cache_folder, empty_images, holding
from common.data.images import ImageData
from common.data.kaggle import HOW_TO_AUTHENTICATE, kaggle_auth
from common.errors import ConfigError, CourseError, DataError
from common.files import os_advice, require_space, write_atomically
from common.paths import data_dir, display, expand
from common.progress import progress_bar

logger = logging.getLogger(__name__)

CLASSES = ("benign", "malignant")
SIZE = 50

# Where the authors keep the archive: first the address on Janowczyk's own site, then the one that
# Kaggle's page gives as the origin. Neither publishes a checksum.
URLS = (
    "https://andrewjanowczyk.com/wp-static/IDC_regular_ps50_idx5.zip",
    "http://gleason.case.edu/webdata/jpi-dl-tutorial/IDC_regular_ps50_idx5.zip",
)
KAGGLE_URL = (
    "https://www.kaggle.com/api/v1/datasets/download/paultimothymooney/breast-histopathology-images"
)
KAGGLE_PAGE = "https://www.kaggle.com/datasets/paultimothymooney/breast-histopathology-images"

# Kaggle's archive holds every patient twice: at its top and in this folder.
NESTED = "IDC_regular_ps50_idx5"

_PLACES = ("histopathology", NESTED)
_ARCHIVE, _KAGGLE_ARCHIVE = "IDC_regular_ps50_idx5.zip", "breast-histopathology-images.zip"

_PATTERN = "<patient>_idx<number>_x<X>_y<Y>_class<0|1>.png"
# No leading zeros: a name can be made anew from its numbers.
_NUMBER = r"(0|[1-9]\d{0,8})"
_NAME = re.compile(rf"(.+)_idx{_NUMBER}_x{_NUMBER}_y{_NUMBER}_class([01])\.png", re.DOTALL)

_PATCH_BYTES = SIZE * SIZE * 3
# Patches decoded, kept and checked as one; never of two patients.
_CHUNK = 1024
# More would only wait for each other where the files are in the system's memory already.
_THREADS = min(6, (os.cpu_count() or 1) + 1)
# More files than this are looked at by several processes.
_MANY_FILES = 20_000
# To be raised when the same files would be read into other arrays.
_CACHE_VERSION = 2
# A patch of 50x50 pixels has less, whatever else is noted in its file.
_MOST_BYTES = 10_000_000


# --- the data set ---


def load_histopathology() -> ImageData:
    """The IDC set, found under `COURSE_DATA` or downloaded there (1.6 GB).

    Returns:
        As `read_patches`, named "histopathology".

    Raises:
        DataError: if it can neither be found nor downloaded (says what to do), or as
            `read_patches`.
    """
    return read_patches(histopathology_dir(), name="histopathology")


def histopathology_dir() -> Path:
    """The folder of the IDC set; downloads it if it is absent.

    Looks in this order:

    1. `COURSE_DATA/histopathology`, then `COURSE_DATA/IDC_regular_ps50_idx5`;
    2. the archives `COURSE_DATA/IDC_regular_ps50_idx5.zip` (the authors') and
       `COURSE_DATA/breast-histopathology-images.zip` (Kaggle's);
    3. the authors' address, then Kaggle, which gives public sets without credentials too, though
       not always.

    An archive is unpacked into `COURSE_DATA/histopathology`.

    Raises:
        DataError: if nothing could be downloaded: names every address, what was wrong with it,
            and the ways out.
    """
    root = data_dir()
    for place in _PLACES:
        if (root / place).is_dir():
            return root / place
    dest = root / _PLACES[0]
    archives = [root / _ARCHIVE, root / _KAGGLE_ARCHIVE]
    found = next((path for path in archives if path.is_file()), None)
    return extract(found or _download(*archives, dest), dest)


def _download(original: Path, kaggle: Path, dest: Path) -> Path:
    reasons = []
    for archive, urls, auth in ((original, URLS, lambda: None), (kaggle, KAGGLE_URL, kaggle_auth)):
        try:
            return download(urls, archive, None, auth=auth())
        except CourseError as error:  # credentials that cannot be read are one, too
            reasons.append(str(error))
    raise DataError(
        f"The IDC histopathology set is not in {dest} and could not be downloaded.\n"
        + "\n".join(reasons)
        + "\nDo one of these and run the same again:\n"
        f"  - for Kaggle, {HOW_TO_AUTHENTICATE};\n"
        f"  - download {KAGGLE_PAGE} in a browser and unpack it, so that there is "
        f"{dest}/<patient>/0/ and {dest}/<patient>/1/;\n"
        f"  - download {URLS[0]} and put it at {original}."
    )


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
    return PatchFacts(
        n_patches=len(patches),
        n_patients=len(patches.patients),
        n_copies=int(patches.rows["copied"].sum()),
        n_nested=int(patches.rows["nested"].sum()),
        padded=padded,
    )


# --- one patch ---


def patch_name(patient: str, x: int, y: int, label: int, idx: int = 5) -> str:
    """The file name of a patch."""
    return f"{patient}_idx{idx}_x{x}_y{y}_class{label}.png"


def pad(image: np.ndarray) -> np.ndarray:
    """A patch as (50, 50, 3), mirrored on at the right and below if it is smaller."""
    height, width = image.shape[:2]
    if height == width == SIZE:
        return image
    below, right = SIZE - height, SIZE - width
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT)


# --- the tree ---

_ROW = np.dtype(
    [
        ("patient", "<i4"),
        ("x", "<i4"),
        ("y", "<i4"),
        ("label", "<i4"),
        ("idx", "<i4"),
        ("nested", "?"),
        ("copied", "?"),
        ("bytes", "<i8"),
        ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"),
    ]
)


@dataclass(frozen=True, eq=False)
class PatchList:
    """The patches of a folder, sorted by patient, y and x; none of them read yet.

    Args:
        root: the folder.
        patients: the ids, str (P,), sorted as text.
        rows: a structured array (N,): `patient` (an index of `patients`), `x`, `y`, `label`,
            `idx`, `nested` (read from the nested folder), `copied` (a second copy lies there),
            `bytes`, `mtime_ns`, `ctime_ns`.
    """

    root: Path
    patients: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def sources(self, start: int, stop: int) -> list[str]:
        """The file names of patches `start` to `stop` below `root`."""
        names = []
        for row in self.rows[start:stop].tolist():
            patient, x, y, label, idx, nested, *_ = row
            patient = self.patients[patient]
            name = f"{patient}/{label}/{patch_name(patient, x, y, label, idx)}"
            names.append(f"{NESTED}/{name}" if nested else name)
        return names

    def read(self, start: int, stop: int, padded: list[int] | None = None) -> np.ndarray:
        """Patches `start` to `stop` from their files, past any cache: uint8 (n, 50, 50, 3).

        Numbers of patches that were smaller are added to `padded`.

        Raises:
            DataError: if files are no whole patches, or second copies differ (names all, at most
                ten in full).
        """
        block = _read_block(self, start, stop)
        if block.problems:
            raise _unreadable(self, block.problems)
        if padded is not None:
            padded += [start + i for i, *_ in block.small]
        return block.images


class _Sources(Sequence):
    """All file names, made when asked for: a quarter of a million would slow every opening."""

    def __init__(self, patches: PatchList):
        self.patches = patches
        self.shape = (len(patches),)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, i):
        if isinstance(i, slice):
            start, stop, step = i.indices(len(self))
            return [self[k] for k in range(start, stop, step)]
        i = range(len(self))[i]
        return self.patches.sources(i, i + 1)[0]


def list_patches(root: str | Path) -> PatchList:
    """What patches a folder holds, by their names; no file is opened.

    Raises:
        DataError: if the folder is missing or has no patch; a file's name does not parse, or
            names another patient or class than its folder; a file or folder lies where none
            belongs; two files show the same place of a patient. Names all of them, at most ten
            in full.
    """
    return _list_patches(expand(root))[0]


class _ClassFolder(NamedTuple):
    patient: str
    label: int
    path: str
    nested: bool
    copies: str | None  # where second copies are


def _class_folders(root: Path) -> list[_ClassFolder]:
    """All `<patient>/<0|1>`, sorted."""
    if not os.path.isdir(root):
        raise DataError(
            f"{display(root)} is not a folder. Expected: {display(root)}/<patient>/<0|1>/{_PATTERN}"
        )
    misplaced = []
    try:
        top = _find_class_folders(root, "", misplaced)
        nested = {}
        if (root / NESTED).is_dir():
            nested = _find_class_folders(root / NESTED, f"{NESTED}/", misplaced)
    except OSError as error:
        raise _unlistable(error) from error
    if misplaced:
        what = f"{display(root)}: not the layout <patient>/<0|1>/{_PATTERN}. Out of place:"
        raise DataError(in_lines(what, sorted(misplaced)) + "\nMove or delete them.")
    if not (top or nested):
        raise _no_patch(root)
    return [
        _ClassFolder(*key, top[key], False, nested.get(key))
        if key in top
        else _ClassFolder(*key, nested[key], True, None)
        for key in sorted(top.keys() | nested.keys())
    ]


def _find_class_folders(
    folder: Path, prefix: str, misplaced: list[str]
) -> dict[tuple[str, int], str]:
    """Paths by patient and class; appends to `misplaced` what would be missed in silence."""
    found = {}
    for patient in _entries(folder):
        if patient.is_dir():
            if patient.name == NESTED and not prefix:
                continue
            for entry in _entries(patient.path):
                if entry.name in ("0", "1") and entry.is_dir():
                    found[patient.name, int(entry.name)] = entry.path
                elif entry.is_dir() or entry.name.lower().endswith(".png"):
                    misplaced.append(f"{prefix}{patient.name}/{entry.name}")
        elif patient.name.lower().endswith(".png"):
            misplaced.append(f"{prefix}{patient.name}")
    return found


def _entries(folder: str | Path) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in IGNORED:
                yield entry


def _no_patch(root: Path) -> DataError:
    with os.scandir(root) as entries:
        names = [(entry.name, entry.is_dir()) for entry in entries if entry.name[0] != "."]
    files, folders = ([name for name, is_folder in names if is_folder == k] for k in (False, True))
    return DataError(
        f"{display(root)} has no patch. Expected: {display(root)}/<patient>/<0|1>/{_PATTERN}. It "
        f"has {counted(files, len(folders)) or 'nothing in it'}."
    )


def _unlistable(error: OSError) -> DataError:
    return DataError(
        f"{display(os.fsdecode(error.filename or 'A folder'))} cannot be looked at: "
        f"{error.strerror or error}. Allow it, or delete it if it is a link that leads nowhere."
    )


def _list_patches(root: Path) -> tuple[PatchList, str]:
    """The patches, and the state of the tree they were found in (see `_state`)."""
    folders = _class_folders(root)
    digests, problems, tables = [], [], {}
    for folder in folders:
        try:
            listing = list_folder(folder.path)
            copies = list_folder(folder.copies) if folder.copies else None
        except OSError as error:
            raise _unlistable(error) from error
        digests.append(listing_digest(*listing))
        rows = _rows(root, folder, listing, copies, problems)
        tables.setdefault(folder.patient, []).append(rows)
    tables = {patient: np.concatenate(parts) for patient, parts in tables.items()}
    if empty := [patient for patient, rows in tables.items() if not len(rows)]:
        logger.warning("%s: %s", display(root), in_lines("patients without a patch:", empty))
    patients = [patient for patient in tables if patient not in empty]
    for i, patient in enumerate(patients):
        rows = tables[patient]
        rows["patient"] = i
        tables[patient] = rows[np.lexsort((rows["x"], rows["y"]))]
    rows = np.concatenate([np.empty(0, _ROW), *(tables[patient] for patient in patients)])
    patches = PatchList(root, np.array(patients, dtype=str), rows)
    problems += _same_place(patches)
    if problems:
        what = f"{display(root)}: {len(problems)} of its files are no patches or of one place:"
        raise DataError(in_lines(what, problems) + "\nRename, move or delete them.")
    if not len(patches):
        raise _no_patch(root)
    return patches, _join_state(folders, digests)


def _rows(
    root: Path, folder: _ClassFolder, listing: tuple, copies: tuple | None, problems: list[str]
) -> np.ndarray:
    """A row for each patch of a class folder; appends to `problems`."""
    first = _parse(root, folder.path, folder, listing, problems)
    again = _parse(root, folder.copies, folder, copies, problems) if copies else {}
    rows = [
        (0, *numbers, folder.nested, name in again, *state)
        for name, (numbers, state) in first.items()
    ]
    rows += [
        (0, *numbers, True, False, *state)
        for name, (numbers, state) in again.items()
        if name not in first
    ]
    return np.array(rows, _ROW)


def _parse(
    root: Path, path: str, folder: _ClassFolder, listing: tuple, problems: list[str]
) -> dict[str, tuple[tuple, list]]:
    """By file name: (x, y, label, idx), (bytes, mtime_ns, ctime_ns)."""
    parsed = {}
    names = map(os.fsdecode, listing[0])
    for name, *state in zip(names, *listing[1:], strict=True):
        match = _NAME.fullmatch(name)
        if match:
            patient, idx, x, y, label = match.groups()
            if patient == folder.patient and int(label) == folder.label:
                parsed[name] = (int(x), int(y), folder.label, int(idx)), state
                continue
            why = f"of patient {patient} and class {label}, in another's folder"
        elif name.lower() in IGNORED:
            continue
        else:
            why = f"the name does not parse. Expected: {_PATTERN}"
        problems.append(f"{os.path.relpath(path, root)}/{name}: {why}")
    return parsed


def _same_place(patches: PatchList) -> list[str]:
    place = patches.rows[["patient", "y", "x"]]
    return [
        " and ".join(patches.sources(i, i + 2)) + ": the same place of the same patient"
        for i in np.flatnonzero(place[1:] == place[:-1])
    ]


# --- has anything changed? ---


def _state(folders: list[_ClassFolder], n_files: int) -> str:
    """A digest of all names, sizes and times of change.

    Of second copies, only what their folders tell: files added, removed and renamed.
    """
    processes = min(os.cpu_count() or 1, 4) if n_files > _MANY_FILES else 0
    try:
        return _join_state(folders, folder_digests([f.path for f in folders], processes))
    except OSError as error:
        raise _unlistable(error) from error


def _join_state(folders: list[_ClassFolder], digests: list[str]) -> str:
    whole = hashlib.blake2b(str(_CACHE_VERSION).encode(), digest_size=16)
    for folder, digest in zip(folders, digests, strict=True):
        copies = os.stat(folder.copies).st_mtime_ns if folder.copies else None
        line = (folder.patient, folder.label, folder.nested, digest, copies)
        whole.update(repr(line).encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


# --- the pixels ---

_SMALL = np.dtype([("index", "<i8"), ("height", "<i4"), ("width", "<i4")])


class _Opened(NamedTuple):
    patches: PatchList
    images: np.ndarray
    small: np.ndarray  # _SMALL: patches that were padded, and what they measured


class _Block(NamedTuple):
    images: np.ndarray
    small: list[tuple[int, int, int]]  # place in the block, height, width
    problems: list[str]


def _read_block(
    patches: PatchList, start: int, stop: int, images: np.ndarray | None = None
) -> _Block:
    """Patches `start` to `stop`, into the first of `images` if there are any."""
    if images is None:
        images = empty_images(stop - start, SIZE)
    images = images[: stop - start]
    small, problems = [], []
    rows = patches.rows[start:stop]
    sizes, copied = rows["bytes"].tolist(), rows["copied"].tolist()
    for i, source in enumerate(patches.sources(start, stop)):
        try:
            data = _read_file(patches.root, source, sizes[i])
            image = decode_rgb(data, side=SIZE)
            images[i] = pad(image)
            if image.shape[:2] != (SIZE, SIZE):
                small.append((i, *image.shape[:2]))
            if copied[i] and data != _read_file(patches.root, f"{NESTED}/{source}", sizes[i]):
                raise DataError(f"differs from its second copy {NESTED}/{source}")
        except (DataError, OSError) as error:
            problems.append(f"{source}: {getattr(error, 'strerror', None) or error}")
    return _Block(images, small, problems)


def _read_file(root: Path, source: str, size: int) -> bytes:
    """A file that had so many bytes when it was listed; one more if it has grown."""
    if size > _MOST_BYTES:
        raise DataError(f"{size / 1e6:.0f} MB, more than a patch can have")
    with open(f"{root}/{source}", "rb", buffering=0) as file:
        return file.read(size + 1)


def _unreadable(patches: PatchList, problems: list[str]) -> DataError:
    bad = f"{len(problems)} of {len(patches)} files cannot be read as patches"
    what = in_lines(f"{display(patches.root)}: {bad}:", problems)
    return DataError(f"{what}\nReplace or delete them and run the same again.")


def _open(root: Path, cache: bool) -> _Opened:
    class_folders = _class_folders(root)  # Before a cache is made where no patches are.
    folder = cache_folder(root) if cache else None
    if folder is None:
        if cache:
            _without_cache(root, "there is no folder to write to")
        return _read_into_memory(list_patches(root))
    with holding(folder / "patches.lock", root) as held:
        if held:
            opened = _load_cache(root, folder, class_folders) or _fill_cache(root, folder)
            if opened is not None:
                return opened
    return _read_into_memory(list_patches(root))


def _without_cache(root: Path, why: object) -> None:
    what = display(root), display(why)
    logger.warning("No cache of %s can be written (%s): its pixels go into memory.", *what)


def _read_into_memory(patches: PatchList) -> _Opened:
    images = empty_images(len(patches), SIZE)
    small = []

    def read(chunk: _Chunk) -> list[str]:
        block = _read_block(patches, chunk.start, chunk.stop, images[chunk.start :])
        small.extend((chunk.start + i, *size) for i, *size in block.small)
        return block.problems

    _in_parallel(patches, _chunks(patches), read)
    images.flags.writeable = False
    return _told(_Opened(patches, images, np.array(sorted(small), _SMALL)))


class _Chunk(NamedTuple):
    """Patches that are read and kept as one."""

    start: int
    stop: int
    digest: str  # of their names, sizes and times of change


def _chunks(patches: PatchList) -> list[_Chunk]:
    chunks = []
    ends = np.searchsorted(patches.rows["patient"], np.arange(len(patches.patients)), "right")
    what = [name for name in _ROW.names if name != "patient"]  # Its index may change.
    for patient, last in zip(patches.patients, ends, strict=True):
        first = chunks[-1].stop if chunks else 0
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, int(last))
            columns = [patches.rows[name][start:stop].tobytes() for name in what]
            digest = hashlib.blake2b(b"".join(columns), digest_size=16)
            digest.update(repr((_CACHE_VERSION, patient)).encode("utf-8", "surrogatepass"))
            chunks.append(_Chunk(start, stop, digest.hexdigest()))
    return chunks


def _in_parallel(
    patches: PatchList, chunks: list[_Chunk], read: Callable[[_Chunk], list[str]]
) -> None:
    """Calls `read` for each chunk; raises what problems it gave, when all is read."""
    problems = []
    with (
        one_opencv_thread(),
        ThreadPoolExecutor(_THREADS) as pool,
        progress_bar(
            None, f"reading {display(patches.root)}", total=len(patches), unit=" patches"
        ) as bar,
    ):
        for chunk, found in zip(chunks, pool.map(read, chunks), strict=True):
            problems += found
            bar.update(chunk.stop - chunk.start)
    if problems:
        raise _unreadable(patches, problems)


def _told(opened: _Opened) -> _Opened:
    patches = opened.patches
    if copies := int(patches.rows["copied"].sum()):
        logger.warning(
            "%s repeats %d patches in %s/: each is read once.",
            display(patches.root),
            copies,
            NESTED,
        )
    tell_padded(patches.root, len(opened.small), len(patches))
    return opened


def tell_padded(root: Path, padded: int, total: int) -> None:
    """Warns of patches that were smaller, if there are any."""
    if padded:
        logger.warning(
            "%s: %d of %d patches are smaller than %dx%d and were padded with their mirror image.",
            *(display(root), padded, total, SIZE, SIZE),
        )


# --- the cache ---
#
# patches.npz              the index: what patches there are, and the name of the pixels' file
# patches-<digest>.raw     the pixels; the digest is of all the chunks that belong into it
# patches-<digest>.chunks  a line for each chunk that is in it; what a killed process leaves
#
# The index and the lines carry checksums, the lines those of the pixels too. Opening does not read
# all pixels: that they were changed is told by the file's size and times.

_INDEX = "patches.npz"


def _load_cache(root: Path, folder: Path, folders: list[_ClassFolder]) -> _Opened | None:
    """What was kept; `None` if there is nothing, or something changed since, or it is damaged."""
    path = folder / _INDEX
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["version"] != _CACHE_VERSION:
                return None
            index = {name: file[name] for name in _KEPT}
            if file["crc32"] != _checksum(index):
                raise ValueError("checksum differs")
        patches = PatchList(root, index["patients"], index["rows"])
        data, kept = folder / str(index["data"]), tuple(index["kept"])
        if kept != _size_and_times(data) or kept[0] != len(patches) * _PATCH_BYTES:
            raise ValueError(f"{data.name} is not as it was written")
    except Exception as error:  # whatever NumPy and zipfile make of damaged bytes
        what = display(path), display(error)
        logger.warning("The cache %s is damaged (%s): repairing it.", *what)
        return None
    if _state(folders, len(patches)) != str(index["state"]):
        return None
    try:
        return _Opened(patches, _map(data, len(patches)), index["small"])
    except OSError:  # it can no longer be read
        return None


_KEPT = ("state", "patients", "rows", "small", "data", "kept")


def _checksum(index: dict[str, np.ndarray]) -> int:
    crc = 0
    for name in _KEPT:
        array = np.asarray(index[name])
        about = f"{name} {array.dtype.descr} {array.shape}".encode()
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(about, crc))
    return crc


def _size_and_times(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _map(path: Path, n: int) -> np.ndarray:
    return np.memmap(path, np.uint8, mode="r", shape=(n, SIZE, SIZE, 3))


class _Kept(NamedTuple):
    """A chunk in a file of pixels, perhaps a half-made one."""

    data: Path
    start: int
    n: int
    crc32: int
    small: list[list[int]]

    def load(self) -> np.ndarray | None:
        """Its images, or `None` if they are not what was written."""
        try:
            with open(self.data, "rb") as file:
                file.seek(self.start * _PATCH_BYTES)
                pixels = file.read(self.n * _PATCH_BYTES)
        except OSError:
            return None
        return np.frombuffer(pixels, np.uint8) if zlib.crc32(pixels) == self.crc32 else None


def _kept_chunks(data: Path) -> dict[str, _Kept]:
    """The chunks that are in a file of pixels, by their digests."""
    kept = {}
    if not data.exists():
        return kept
    with suppress(OSError), open(data.with_suffix(".chunks"), "rb") as file:
        for line in file:
            check, _, text = line.rstrip().partition(b" ")
            if check == b"%08x" % zlib.crc32(text):  # The last line may be half written.
                values = json.loads(text)
                digest = values.pop("digest")
                kept[digest] = _Kept(data, **values)
    return kept


def _line(digest: str, **values) -> bytes:
    text = json.dumps({"digest": digest} | values).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _fill_cache(root: Path, folder: Path) -> _Opened | None:
    """What is read now, and kept; `None` if nothing may be written there."""
    patches, state = _list_patches(root)
    chunks = _chunks(patches)
    whole = hashlib.blake2b("".join(chunk.digest for chunk in chunks).encode(), digest_size=8)
    data = folder / f"patches-{whole.hexdigest()}.raw"
    try:
        small = _fill(patches, chunks, folder, data)
        index = {
            "state": np.array(state),
            "patients": patches.patients,
            "rows": patches.rows,
            "small": small,
            "data": np.array(data.name),
            "kept": np.array(_size_and_times(data)),
        }
        with write_atomically(folder / _INDEX) as temporary:
            np.savez(temporary, version=_CACHE_VERSION, crc32=_checksum(index), **index)
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


def _fill(patches: PatchList, chunks: list[_Chunk], folder: Path, data: Path) -> np.ndarray:
    """Puts all chunks into the file of pixels: those in it stay, others are copied from an
    older file or read. Returns the small patches, `_SMALL`."""
    kept = {}
    for other in sorted(folder.glob("patches-*.raw")):
        if other != data:
            kept |= _kept_chunks(other)
    here = _kept_chunks(data)
    kept |= here
    missing = sum(chunk.stop - chunk.start for chunk in chunks if chunk.digest not in here)
    require_space(folder, missing * _PATCH_BYTES)
    lock, small = threading.Lock(), []
    own = threading.local()  # Memory that each thread uses again and again: getting it costs.
    with (
        open(data, "r+b" if data.exists() else "w+b") as pixels,
        open(data.with_suffix(".chunks"), "ab") as log,
    ):
        log.write(b"\n")  # Ends a line that was cut off.

        def read(chunk: _Chunk) -> list[str]:
            known = kept.get(chunk.digest)
            images = known.load() if known else None
            if images is None:
                if not hasattr(own, "images"):
                    own.images = np.empty((_CHUNK, SIZE, SIZE, 3), np.uint8)
                block = _read_block(patches, chunk.start, chunk.stop, own.images)
                if block.problems:
                    return block.problems
                images, sizes, in_place = block.images, block.small, False
            else:
                sizes, in_place = known.small, known.data == data
            line = _line(
                chunk.digest,
                start=chunk.start,
                n=chunk.stop - chunk.start,
                crc32=zlib.crc32(images),
                small=sizes,
            )
            with lock:
                small.extend((chunk.start + i, *size) for i, *size in sizes)
                if not in_place:
                    pixels.seek(chunk.start * _PATCH_BYTES)
                    pixels.write(images)
                    pixels.flush()
                    log.write(line)
                    log.flush()
            return []

        _in_parallel(patches, chunks, read)
        pixels.truncate(len(patches) * _PATCH_BYTES)
        pixels.flush()
        os.fsync(pixels.fileno())
    return np.array(sorted(small), _SMALL)


# --- slides ---


def slide_map(data: ImageData, patient: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values of a patient's patches where they lie on the slide.

    Args:
        data: patches with groups and positions.
        patient: whose slide.
        values: one number for each patch of `data`, (N,): labels or probabilities, say.

    Returns:
        float64 (rows, columns), a cell for each 50x50 pixels, the first at the leftmost column
        and topmost row that have a patch; NaN where there is no patch.

    Raises:
        ConfigError: if there is no such patient, or not a value for each patch.
        DataError: if two patches fall into one cell, or the data has no positions.
    """
    if np.shape(values) != (len(data),):
        raise ConfigError(
            f"{data.name} has {len(data)} patches. Received: values of shape {np.shape(values)}"
        )
    chosen, places = _on_slide(data, patient)
    columns, rows = (places // SIZE).T
    if len(np.unique(places // SIZE, axis=0)) < len(chosen):
        raise DataError(f"{data.name}: patches of patient {patient} overlap on their slide.")
    cells = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    cells[rows, columns] = np.asarray(values, dtype=float)[chosen]
    return cells


def slide_image(data: ImageData, patient: str, scale: float = 1.0) -> np.ndarray:
    """A patient's slide, put together from its patches.

    Args:
        data: patches with groups and positions.
        patient: whose slide.
        scale: how many pixels of the result a pixel of the slide takes; a patch takes a whole
            number of them, at least one.

    Returns:
        uint8 (H, W, 3), from the leftmost and topmost patch on, white where there is no patch.

    Raises:
        ConfigError: if there is no such patient, or the scale is not positive.
        DataError: if the data has no positions.
    """
    if not scale > 0:
        raise ConfigError(f"scale must be positive. Received: {scale}")
    chosen, places = _on_slide(data, patient)
    side = max(1, round(SIZE * scale))
    places = np.rint(places * (side / SIZE)).astype(int)
    width, height = places.max(axis=0) + side
    slide = np.full((height, width, 3), 255, np.uint8)
    method = cv2.INTER_AREA if side < SIZE else cv2.INTER_LINEAR
    for i, (x, y) in zip(chosen, places, strict=True):
        patch = cv2.resize(data.images[i], (side, side), interpolation=method)
        slide[y : y + side, x : x + side] = patch
    return slide


def _on_slide(data: ImageData, patient: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a patient's patches, and (n, 2) their x and y from the first column and row."""
    if data.groups is None or data.positions is None:
        raise DataError(f"{data.name} does not say where on which slide its images lie.")
    chosen = np.flatnonzero(np.asarray(data.groups) == patient)
    if not len(chosen):
        known = ", ".join(display(name) for name in np.unique(data.groups)[:10])
        raise ConfigError(f"{data.name} has no patient {patient!r}. Some that it has: {known}")
    places = data.positions[chosen]
    return chosen, places - places.min(axis=0)
