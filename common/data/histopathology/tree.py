"""The grammar of folders and names by which patches are listed, and the reading of their files.

`<patient>/<0|1>/<patient>_idx<number>_x<X>_y<Y>_class<0|1>.png`, and perhaps all of it once more
in the folder `NESTED`.
"""

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.data.folder_state import folder_digests, list_folder, listing_digest
from common.data.histopathology.slides import SIZE, pad
from common.data.image_files import decode_rgb, empty_images, read_each, unreadable
from common.data.listing import IGNORED, Scan, in_lines, scan
from common.errors import DataError
from common.paths import display, expand

logger = logging.getLogger(__name__)

# Kaggle's archive holds every patient twice: at its top and in this folder.
NESTED = "IDC_regular_ps50_idx5"

_PATTERN = "<patient>_idx<number>_x<X>_y<Y>_class<0|1>.png"
# No leading zeros: a name can be made anew from its numbers.
_NUMBER = r"(0|[1-9]\d{0,8})"
_NAME = re.compile(rf"(.+)_idx{_NUMBER}_x{_NUMBER}_y{_NUMBER}_class([01])\.png", re.DOTALL)

# More files than this are looked at by several processes.
_MANY_FILES = 20_000
# To be raised when the same files would be read into other arrays.
CACHE_VERSION = 2
# A patch of 50x50 pixels has less, whatever else is noted in its file.
_MOST_BYTES = 10_000_000

ROW = np.dtype(
    [(name, "<i4") for name in ("patient", "x", "y", "label", "idx")]
    + [(name, "?") for name in ("nested", "copied")]
    + [(name, "<i8") for name in ("bytes", "mtime_ns", "ctime_ns")]
)


def patch_name(patient: str, x: int, y: int, label: int, idx: int = 5) -> str:
    """The file name of a patch."""
    return f"{patient}_idx{idx}_x{x}_y{y}_class{label}.png"


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
        for number, x, y, label, idx, nested, *_ in self.rows[start:stop].tolist():
            patient = self.patients[number]
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
        block = read_block(self, start, stop)
        if block.problems:
            raise unreadable(self.root, block.problems, len(self), "patches")
        if padded is not None:
            padded += [start + i for i, *_ in block.small]
        return block.images


# --- the files ---


class Block(NamedTuple):
    """Patches that were read together, and what was wrong with which of their files."""

    images: np.ndarray
    small: list[tuple[int, int, int]]  # of those that were padded: place, height, width
    problems: list[str]


def read_block(patches: PatchList, start: int, stop: int) -> Block:
    """Patches `start` to `stop` from their files."""
    rows = patches.rows[start:stop]
    images, small = empty_images(len(rows), SIZE), []
    sizes, copied = rows["bytes"].tolist(), rows["copied"].tolist()

    def read(i: int, source: str) -> None:
        data = _read_file(patches.root, source, sizes[i])
        image = decode_rgb(data, side=SIZE)
        images[i] = pad(image)
        if image.shape != images[i].shape:
            small.append((i, *image.shape[:2]))
        if copied[i] and data != _read_file(patches.root, f"{NESTED}/{source}", sizes[i]):
            raise DataError(f"differs from its second copy {NESTED}/{source}")

    return Block(images, small, read_each(patches.sources(start, stop), read))


def _read_file(root: Path, source: str, size: int) -> bytes:
    """A file that had so many bytes when it was listed; one more if it has grown."""
    if size > _MOST_BYTES:
        raise DataError(f"{size / 1e6:.0f} MB, more than a patch can have")
    with open(f"{root}/{source}", "rb", buffering=0) as file:
        return file.read(size + 1)


def tell_padded(root: Path, padded: int, total: int) -> None:
    """Warns of patches that were smaller, if there are any."""
    if padded:
        logger.warning(
            "%s: %d of %d patches are smaller than %dx%d and were padded with their mirror image.",
            *(display(root), padded, total, SIZE, SIZE),
        )


# --- the tree ---


class ClassFolder(NamedTuple):
    """A folder `<patient>/<0|1>`."""

    patient: str
    label: int
    path: str
    nested: bool
    copies: str | None  # where second copies are


def class_folders(root: Path) -> list[ClassFolder]:
    """All `<patient>/<0|1>`, sorted.

    Raises:
        DataError: if there is none, or a file or folder lies where none belongs.
    """
    if not os.path.isdir(root):
        raise DataError(
            f"{display(root)} is not a folder. Expected: {display(root)}/<patient>/<0|1>/{_PATTERN}"
        )
    misplaced = []
    try:
        top = _find_class_folders(root, "", misplaced)
        inner = root / NESTED
        nested = _find_class_folders(inner, f"{NESTED}/", misplaced) if inner.is_dir() else {}
    except OSError as error:
        raise _unlistable(error) from error
    if misplaced:
        what = f"{display(root)}: not the layout <patient>/<0|1>/{_PATTERN}. Out of place:"
        raise DataError(in_lines(what, sorted(misplaced)) + "\nMove or delete them.")
    if not (top or nested):
        raise _no_patch(root)
    return [
        ClassFolder(*key, path, key not in top, nested.get(key) if key in top else None)
        for key, path in sorted((nested | top).items())
    ]


def _find_class_folders(folder: Path, prefix: str, misplaced: list[str]) -> dict[tuple, str]:
    """Paths by patient and class; appends to `misplaced` what would be missed in silence."""
    found, top = {}, scan(folder)
    misplaced += [f"{prefix}{name}" for name in _pngs(top)]
    for patient in top.folders:
        if patient == NESTED and not prefix:
            continue
        inside = scan(folder / patient)
        for name in inside.folders + _pngs(inside):
            if name in ("0", "1"):
                found[patient, int(name)] = os.path.join(folder, patient, name)
            else:
                misplaced.append(f"{prefix}{patient}/{name}")
    return found


def _pngs(found: Scan) -> list[str]:
    return [image.name for image in found.images if image.name.lower().endswith(".png")]


def _no_patch(root: Path) -> DataError:
    return DataError(
        f"{display(root)} has no patch. Expected: {display(root)}/<patient>/<0|1>/{_PATTERN}. It "
        f"has {scan(root).told()}."
    )


def _unlistable(error: OSError) -> DataError:
    return DataError(
        f"{display(os.fsdecode(error.filename or 'A folder'))} cannot be looked at: "
        f"{error.strerror or error}. Allow it, or delete it if it is a link that leads nowhere."
    )


def list_patches(root: str | Path) -> PatchList:
    """What patches a folder holds, by their names; no file is opened.

    Raises:
        DataError: if the folder is missing or has no patch; a file's name does not parse, or
            names another patient or class than its folder; a file or folder lies where none
            belongs; two files show the same place of a patient. Names all of them, at most ten
            in full.
    """
    return list_with_state(expand(root))[0]


def list_with_state(root: Path) -> tuple[PatchList, str]:
    """The patches, and the state of the tree they were found in (see `state`).

    Args and errors: as `list_patches`.
    """
    folders = class_folders(root)
    names = list(dict.fromkeys(folder.patient for folder in folders))
    digests, problems, parts = [], [], []
    for folder in folders:
        try:
            listing = list_folder(folder.path)
            copies = list_folder(folder.copies) if folder.copies else None
        except OSError as error:
            raise _unlistable(error) from error
        digests.append(listing_digest(*listing))
        first = _parse(root, folder.path, folder, listing, problems)
        again = _parse(root, folder.copies, folder, copies, problems) if copies else {}
        number = names.index(folder.patient)
        found = first | {name: file for name, file in again.items() if name not in first}
        rows = [
            (number, *place, folder.nested or name not in first, name in first and name in again)
            + state
            for name, (place, state) in found.items()
        ]
        parts.append(np.array(rows, ROW))
    rows = np.concatenate(parts)
    rows = rows[np.lexsort((rows["x"], rows["y"], rows["patient"]))]
    used, rows["patient"] = np.unique(rows["patient"], return_inverse=True)
    if empty := [name for i, name in enumerate(names) if i not in used]:
        logger.warning("%s: %s", display(root), in_lines("patients without a patch:", empty))
    patches = PatchList(root, np.array([names[i] for i in used], dtype=str), rows)
    problems += _same_place(patches)
    if problems:
        what = f"{display(root)}: {len(problems)} of its files are no patches or of one place:"
        raise DataError(in_lines(what, problems) + "\nRename, move or delete them.")
    if not len(patches):
        raise _no_patch(root)
    return patches, _join_state(folders, digests)


def _parse(
    root: Path, path: str, folder: ClassFolder, listing: tuple, problems: list[str]
) -> dict[str, tuple[tuple, tuple]]:
    """By file name: (x, y, label, idx) and (bytes, mtime_ns, ctime_ns); appends to `problems`."""
    parsed = {}
    for name, *state in zip(map(os.fsdecode, listing[0]), *listing[1:], strict=True):
        if match := _NAME.fullmatch(name):
            patient, idx, x, y, label = match.groups()
            if patient == folder.patient and int(label) == folder.label:
                parsed[name] = (int(x), int(y), folder.label, int(idx)), tuple(state)
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


def state(folders: list[ClassFolder], n_files: int) -> str:
    """A digest of all names, sizes and times of change.

    Of second copies, only what their folders tell: files added, removed and renamed.
    """
    processes = min(os.cpu_count() or 1, 4) if n_files > _MANY_FILES else 0
    try:
        return _join_state(folders, folder_digests([f.path for f in folders], processes))
    except OSError as error:
        raise _unlistable(error) from error


def _join_state(folders: list[ClassFolder], digests: list[str]) -> str:
    whole = hashlib.blake2b(str(CACHE_VERSION).encode(), digest_size=16)
    for folder, digest in zip(folders, digests, strict=True):
        copies = os.stat(folder.copies).st_mtime_ns if folder.copies else None
        line = (folder.patient, folder.label, folder.nested, digest, copies)
        whole.update(repr(line).encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
