"""Patches that nobody has labelled yet: a folder of images for each patient, or for one."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data import listing
from common.data.histopathology import NESTED, SIZE, PatchList, list_patches, pad
from common.data.image_files import decode_rgb, empty_images, read_each
from common.data.listing import SUFFIXES, counted, in_lines, some
from common.errors import DataError
from common.paths import display, expand

logger = logging.getLogger(__name__)

_PLACE = re.compile(r"(?:^|_)x(\d{1,9})_y(\d{1,9})(?!\d)")
_NOWHERE = -1
_ROW = np.dtype(
    [(name, "<i4") for name in ("patient", "x", "y")]
    + [(name, "<i8") for name in ("bytes", "mtime_ns", "ctime_ns")]
)
_LABELS = {"0", "1"}
_MOST_CELLS = 1000  # of a slide's map, on a side


@dataclass(frozen=True, eq=False)
class UnlabelledPatches:
    """Patches of patients without labels, sorted by patient and file name; none is read yet.

    Args:
        root: The folder.
        patients: Their names, str (P,), sorted.
        rows: A structured array (N,): `patient` (an index of `patients`), `x` and `y` of the upper
            left corner on the slide (-1 where the file's name does not tell), `bytes`, `mtime_ns`,
            `ctime_ns`.
        files: The file names below `root`.
    """

    root: Path
    patients: np.ndarray
    rows: np.ndarray
    files: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    def sources(self, start: int, stop: int) -> list[str]:
        """The file names of patches `start` to `stop` below `root`."""
        return self.files[start:stop]

    def read(self, start: int, stop: int, padded: list[int] | None = None) -> np.ndarray:
        """Patches `start` to `stop`: uint8 (n, 50, 50, 3), mirrored on where they are smaller.

        Numbers of patches that were smaller are added to `padded`.

        Raises:
            DataError: if files are no whole patches (names all, at most ten in full).
        """
        images = empty_images(stop - start, SIZE)

        def read(i: int, source: str) -> None:
            image = decode_rgb((self.root / source).read_bytes(), side=SIZE)
            images[i] = pad(image)
            if padded is not None and image.shape != images[i].shape:
                padded.append(start + i)

        problems = read_each(self.files[start:stop], read)
        if problems:
            what = f"{display(self.root)}: {len(problems)} files cannot be read as patches:"
            raise DataError(
                in_lines(what, problems) + f"\nA patch has {SIZE}x{SIZE} pixels at most. Replace "
                "or delete them, or cut larger ones into patches, and run the same again."
            )
        return images


def find_patches(root: str | Path) -> PatchList | UnlabelledPatches:
    """What patches a folder holds, labelled or not; no file is opened.

    Labelled patches lie in `<patient>/<0|1>/` (see `list_patches`), others in `<patient>/`, or
    right in `root`: then they are one patient's, of the folder's name. Where a name tells
    `_x<X>_y<Y>`, that is the patch's place on the slide.

    Raises:
        DataError: as `list_patches`; or if there is no patch, or patches of several layouts; says
            where, and what to do.
    """
    root = expand(root)
    if not os.path.isdir(root):
        raise DataError(f"{display(root)} is not a folder. {_WANTED}")
    top = listing.look_into(root)
    below = {name: listing.look_into(root / name) for name in sorted(top.folders)}
    labelled = [name for name, found in below.items() if _LABELS & {*found.folders}]
    loose = [name for name, found in below.items() if found.images and name not in labelled]
    if labelled or NESTED in below:
        if loose or top.images:
            mixed = loose or [f"{len(top.images)} files right in it"]
            raise DataError(
                f"{display(root)} has labelled patches, as in {some(labelled[:1] or [NESTED])}/, "
                f"and others that are in no folder 0 or 1: {some(mixed)}. Move one kind into "
                "another folder, and predict each by a call of its own."
            )
        return list_patches(root)
    if set(loose) & _LABELS and set(loose) <= _LABELS:
        raise DataError(
            f"{display(root)} has patches in its folders {some(sorted(loose))}, as a patient has. "
            f"Give the folder above it, {display(root.resolve().parent)}, or move the patches "
            "right into it if they are not labelled."
        )
    if loose and top.images:
        raise DataError(
            f"{display(root)} has {len(top.images)} patches of no patient beside the patients "
            f"{some(loose)}. Move them into a folder of their own."
        )
    deeper = [
        f"{name}/{inner}/"
        for name in below
        for inner in below[name].folders
        if listing.holds_images(root / name / inner)
    ]
    if deeper:
        what = f"{display(root)}: images lie deeper than in <patient>/:"
        raise DataError(in_lines(what, deeper) + "\nMove them up, or move them away.")
    folders = {name: (f"{name}/", below[name]) for name in loose}
    if top.images:
        folders = {root.resolve().name or "patient": ("", top)}
    if not folders:
        raise DataError(f"{display(root)} has no patch; it has {top.told()}. {_WANTED}")
    others = top.others + [name for found in below.values() for name in found.others]
    if others:
        logger.warning("%s: passed over %s.", display(root), counted(others))
    return _listed(root, folders)


_WANTED = (
    "Wanted are <patient>/<0|1>/*.png, or without labels <patient>/*.png, or the patches of one "
    f"patient right in the folder ({', '.join(SUFFIXES)})."
)


def _listed(root: Path, folders: dict[str, tuple[str, listing.Scan]]) -> UnlabelledPatches:
    files, rows, problems = [], [], []
    for patient, (prefix, found) in enumerate(folders.values()):
        for name, *state in listing.file_states(found.images, prefix, problems):
            place = _PLACE.search(Path(name).stem)
            x, y = map(int, place.groups()) if place else (_NOWHERE, _NOWHERE)
            rows.append((patient, x, y, *state))
            files.append(f"{prefix}{name}")
    if problems:
        what = f"{display(root)}: {len(problems)} files cannot be looked at:"
        raise DataError(in_lines(what, problems) + "\nRepair or delete them.")
    return UnlabelledPatches(root, np.array([*folders], dtype=str), np.array(rows, _ROW), files)


def slide_cells(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of a slide's patches where they lie, whatever the distance between two of them.

    Args:
        x, y: Places of the patches, (N,).
        values: One number for each.

    Returns:
        float64 (rows, columns): a cell is as wide and high as the least step from one place to
        the next (of very many cells, wider); where several patches fall into one, their mean, and
        NaN where there is none.
    """
    places = np.stack([np.asarray(y, "int64"), np.asarray(x, "int64")], axis=1)
    places -= places.min(axis=0)
    steps = np.concatenate([np.diff(np.unique(column)) for column in places.T])
    step = max(steps.min() if len(steps) else 1, -(-int(places.max()) // _MOST_CELLS), 1)
    cells = places // step
    shape = tuple(cells.max(axis=0) + 1)
    index = np.ravel_multi_index(tuple(cells.T), shape)
    total = np.bincount(index, np.asarray(values, float), shape[0] * shape[1])
    count = np.bincount(index, minlength=shape[0] * shape[1])
    return (total / np.where(count, count, np.nan)).reshape(shape)
