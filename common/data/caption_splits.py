"""Captions brought together with the images on the disk, and divided into train, dev and test."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from common.data.caption_files import IMAGE_SUFFIXES, REFERENCES, CaptionReport, Lists
from common.data.captions import CaptionData
from common.data.checks import check_split
from common.data.listing import SUFFIXES, scan, some
from common.errors import DataError
from common.paths import data_dir

SPLITS = ("train", "dev", "test")
# The data of each split, and what was left out.
Read = tuple[dict[str, CaptionData], CaptionReport]


def report_split(split: str, read: Callable[[], Read]) -> CaptionData:
    """One of the splits that `read` gives; what it left out is logged.

    Raises:
        ConfigError: for an unknown split.
    """
    check_split(split, SPLITS)
    splits, report = read()
    report.log(splits[split].name)
    return splits[split]


def read_splits(
    name: str,
    folder: str | Path | None,
    find: Callable[[Path], tuple[Path | None, Path | None]],
    download: Callable[[Path], None],
    read: Callable[[Path, Path, CaptionReport], tuple[Lists, Lists | None]],
    every: int,
    wanted: str,
) -> Read:
    """All three splits of a data set of image files and a file of captions, and what was left out.

    Args:
        name: Of the data set.
        folder: Where it lies, by default `COURSE_DATA/<name>`.
        find: The folder of the images and the file of the captions; `None` for what is not there.
        download: Downloads them into the folder.
        read: Reads the file of the captions, in this folder: captions by name, and names by split
            if there are lists of them.
        every: Where there are no lists, as `split_by_order`.
        wanted: What there should be, for the error where a download did not bring it.

    Raises:
        DataError: if files are missing or damaged.
    """
    folder = data_dir() / name if folder is None else Path(folder)
    if None in find(folder):
        download(folder)
        if None in find(folder):
            raise DataError(
                f"{folder} has no {wanted} unpacked. Delete the folder and run the same again."
            )
    images, text = find(folder)
    report = CaptionReport()
    captions, lists = read(text, folder, report)
    usable, files = usable_captions(captions, images, report, text)
    lists = lists or split_by_order(usable, every)
    return make_splits(name, lists, images, usable, files), report


def find_images(places: Iterable[Path]) -> Path | None:
    """The first of some folders that is there and has an image file in it.

    Raises:
        DataError: if none has, but one has images of kinds that are not read, or folders of images.
    """
    unread = []
    for place in filter(Path.is_dir, places):
        files, others = _entries(place)
        if files:
            return place
        unread += [
            place / name
            for name in others
            if name.lower().endswith(IMAGE_SUFFIXES)
            or ((place / name).is_dir() and _entries(place / name)[0])
        ]
    if not unread:
        return None
    raise DataError(
        f"{unread[0].parent} has no image file ({', '.join(SUFFIXES)}) in it, but {len(unread):,} "
        f"others, or folders of images: {some(path.name for path in unread)}. Move the images into "
        "it, in a format that is read."
    )


def what_is_there(folder: Path) -> str:
    """The first entries of a folder in which something was not found, for an error."""
    if not folder.is_dir():
        return "there is no such folder"
    files, others = _entries(folder)
    return f"there is {some([*others, *sorted(files)]) or 'nothing'}"


def usable_captions(
    captions: Lists, images: Path, report: CaptionReport, source: Path
) -> tuple[Lists, set[str]]:
    """Captions of the images that are on disk, the first five of each; and the files there are.

    Args:
        captions: By name.
        images: Folder of the images.
        report: Gets what fits no file, and the files without a caption.
        source: Where the captions come from, for errors.

    Raises:
        DataError: if not one image has a caption: says what the names are, and what is there.
    """
    files, others = _entries(images)
    found, doubtful = match_names(captions, files)
    usable = {found[name]: texts for name, texts in captions.items() if texts and name in found}
    report.unknown_names = sorted(captions.keys() - found)
    report.doubtful_names = doubtful
    report.passed_over = sorted(others) if report.unknown_names else []
    report.other_spellings = [f"{name} for {file}" for name, file in found.items() if name != file]
    report.images_without_captions = sorted(files - usable.keys())
    report.few_captions = sorted(n for n, texts in usable.items() if len(texts) < REFERENCES)
    if usable:
        return {name: texts[:REFERENCES] for name, texts in usable.items()}, files
    if not captions or found:
        raise DataError(f"{source} has no caption with a word. Restore the original file.")
    told = f" Some fit more than one file, or the same: {some(doubtful)}." if doubtful else ""
    if others:
        told += f" {len(others):,} entries of the folder are no image files ({some(others)})."
    raise DataError(
        f"0 of {len(captions):,} names in {source} are files in {images}. Names: "
        f"{some(report.unknown_names)}. Of {len(files):,} files: {some(files)}.{told} Make them "
        "agree: put the files there, or write their names into the table."
    )


def _entries(folder: Path) -> tuple[set[str], list[str]]:
    """The names of the image files in a folder, and of what else there is, hidden files apart."""
    try:
        found = scan(folder)
        files = {entry.name for entry in found.images if entry.is_file()}
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    broken = [entry.name for entry in found.images if entry.name not in files]
    return files, sorted([*broken, *found.others, *found.folders])


def match_names(names: Iterable[str], files: set[str]) -> tuple[dict[str, str], list[str]]:
    """The file of each name that has one beyond doubt.

    A name that is no file may have a folder before it, another case, another form of accents or
    `%20` for a blank; failing that, another suffix or none. A file is given to one name only.

    Returns:
        Files by name, and the names in doubt, with the files that they may be.
    """
    names = dict.fromkeys(names)
    found = {name: name for name in names if name in files}
    doubtful: dict[str, str] = {}
    for spelling in (_spelling, _stem):
        left, free = names.keys() - found.keys(), files - set(found.values())
        if not left:
            break
        of_names, of_files = _by(spelling, left), _by(spelling, free)
        for key in of_names.keys() & of_files.keys():
            if len(of_names[key]) == len(of_files[key]) == 1:
                found[of_names[key][0]] = of_files[key][0]
            else:
                doubtful |= {n: f"{n}: {' or '.join(of_files[key][:3])}" for n in of_names[key]}
    return found, sorted(told for name, told in doubtful.items() if name not in found)


def _by(spelling, names: Iterable[str]) -> Lists:
    groups = defaultdict(list)
    for name in sorted(names):
        groups[spelling(name)].append(name)
    return groups


def _spelling(name: str) -> str:
    file = unquote(name).replace("\\", "/").rsplit("/", 1)[-1].strip()
    return unicodedata.normalize("NFC", file.casefold())


def _stem(name: str) -> str:
    stem, dot, suffix = _spelling(name).rpartition(".")
    return stem if dot + suffix in IMAGE_SUFFIXES else _spelling(name)


def split_by_order(names: Iterable[str], every: int) -> Lists:
    """Of so many names, in their order, the last but one goes to dev and the last to test.

    Raises:
        DataError: if there are not so many.
    """
    names = sorted(names)
    if len(names) < every:
        raise DataError(
            f"{len(names)} images have captions, and of every {every} one is set aside for dev "
            "and one for test: add images, or lists of the splits."
        )
    return {
        "train": [name for i, name in enumerate(names) if i % every < every - 2],
        "dev": names[every - 2 :: every],
        "test": names[every - 1 :: every],
    }


def make_splits(
    name: str, lists: Lists, images: Path, usable: Lists, files: set[str]
) -> dict[str, CaptionData]:
    """The data of each split.

    Args:
        name: Of the data set.
        lists: Names of images by split.
        images: Folder of the images.
        usable: From `usable_captions`.
        files: From there, too.

    Raises:
        DataError: if a split is empty, or images of it are not on disk or have no captions.
    """
    if not all(lists.values()):
        counts = ", ".join(f"{split} {len(names):,}" for split, names in lists.items())
        raise DataError(f"{name}: a split has no image ({counts}). Name some in its list.")
    # All at once: names of two splits must not become the same file.
    found, _ = match_names((image for names in lists.values() for image in names), files)
    splits = {}
    for split, names in lists.items():
        _check_names(split, names, found, usable, images)
        names = tuple(found[image] for image in names)
        texts = tuple(tuple(usable[image]) for image in names)
        splits[split] = CaptionData(names, texts, name, split, images)
    return splits


def _check_names(split: str, names: list[str], found, usable, images: Path) -> None:
    """Makes sure that the images of a split are on disk and have captions."""
    absent = [name for name in names if name not in found]
    if absent:
        raise DataError(
            f"{len(absent):,} images of the {split} list are not in {images} ({some(absent)}); it "
            f"has {some(usable)}. Unpack the images again, or delete the names from the list."
        )
    untold = [name for name in names if found[name] not in usable]
    if untold:
        raise DataError(
            f"{len(untold):,} images of the {split} list have no caption ({some(untold)}). "
            "Restore the file of captions, or delete the names from the list."
        )
