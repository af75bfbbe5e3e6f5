"""Flickr8k: 8,000 photos of people and animals doing things, five captions each.

Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking Task" (2013).
"""

from collections import Counter
from pathlib import Path

from common.data.caption_files import (
    CaptionReport,
    check_overlap,
    find_images,
    make_splits,
    read_table,
    read_tokens,
    split_by_order,
    text_lines,
    usable_captions,
    what_is_there,
)
from common.data.captions import CaptionData
from common.data.download import download, extract
from common.data.listing import some
from common.errors import ConfigError, DataError
from common.paths import data_dir

SPLITS = ("train", "dev", "test")
# The official name is misspelt; the longest is where the archive is unpacked.
IMAGE_FOLDERS = (
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "images",
)
TEXT_FOLDERS = (".", "Flickr8k_text")
TOKENS = "Flickr8k.token.txt"
KAGGLE = "captions.txt"

# The authors' form at nlp.cs.illinois.edu is closed; these are the releases that tutorials link to
# (github.com/jbrownlee/Datasets) and a copy of them. Nobody publishes a sha256: that of the first
# download is kept, and told to be unverified.
MIRRORS = (
    "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k",
    "https://github.com/Avaneesh40585/Flickr8k-Dataset/releases/download/v1.0",
)
ARCHIVES = {"Flickr8k_text.zip": None, "Flickr8k_Dataset.zip": None}


def load_flickr8k(split: str, folder: str | Path | None = None) -> CaptionData:
    """One split of Flickr8k; downloads it if it is absent (1.1 GB).

    Official layout: `Images/` or `Flicker8k_Dataset/`, `Flickr8k.token.txt` and
    `Flickr_8k.{train,dev,test}Images.txt`, the texts also in `Flickr8k_text/`. Kaggle's: `Images/`
    and `captions.txt`; without the official lists beside it, of every eight images (in the order
    of their names) the seventh goes to dev and the eighth to test. Names need not be written as
    the files are, see `common.data.caption_files.match_names`.

    Args:
        split: "train", "dev" or "test".
        folder: Where it lies, by default `COURSE_DATA/flickr8k`.

    Returns:
        The images in the order of the split's list; what was left out is logged, see
        `read_flickr8k`.

    Raises:
        ConfigError: for an unknown split.
        DataError: if files are missing or damaged (says which, and the line), or the lists
            overlap, or name images that are not there.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    splits, report = read_flickr8k(folder)
    report.log("flickr8k")
    return splits[split]


def read_flickr8k(
    folder: str | Path | None = None,
) -> tuple[dict[str, CaptionData], CaptionReport]:
    """All three splits, and what was left out; see `load_flickr8k`."""
    folder = data_dir() / "flickr8k" if folder is None else Path(folder)
    images, text = _find(folder)
    if images is None or text is None:
        _download(folder)
        images, text = _find(folder)
        if images is None or text is None:
            raise DataError(
                f"{folder} has no {' or '.join(IMAGE_FOLDERS[:2])} beside {TOKENS} or {KAGGLE}, "
                "though the archives are unpacked. Delete the folder and run the same again."
            )
    report = CaptionReport()
    captions = read_table(text, report)[0] if text.name == KAGGLE else read_tokens(text, report)
    usable, files = usable_captions(captions, images, report, text)
    lists = _read_lists(text.parent) or split_by_order(usable, every=8)
    return make_splits("flickr8k", lists, images, usable, files), report


def _find(folder: Path) -> tuple[Path | None, Path | None]:
    """The folder of the images and the file of the captions, as far as they are there."""
    images = find_images(folder / name for name in IMAGE_FOLDERS)
    texts = [folder / place / name for name in (TOKENS, KAGGLE) for place in TEXT_FOLDERS]
    return images, next((path for path in texts if path.is_file()), None)


def _download(folder: Path) -> None:
    for name, sha256 in ARCHIVES.items():
        archive = folder / name
        try:
            download([f"{mirror}/{name}" for mirror in MIRRORS], archive, sha256)
        except DataError as error:
            raise DataError(
                f"Flickr8k is not in {folder} ({what_is_there(folder)}) and could not be "
                f"downloaded.\n{error}\n"
                f"Put the images into {folder / IMAGE_FOLDERS[0]}, and {TOKENS} with the lists "
                f"Flickr_8k.*Images.txt (or Kaggle's {KAGGLE}) beside that folder."
            ) from error
        extract(archive, folder / archive.stem)


def _read_lists(folder: Path) -> dict[str, list[str]] | None:
    """The official split lists; `None` if there is not one of them."""
    paths = {split: folder / f"Flickr_8k.{split}Images.txt" for split in SPLITS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}. Put all three lists there, or none.")
    lists = {}
    for split, path in paths.items():
        names = [line.strip() for line in text_lines(path) if line.strip()]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{path} names images twice ({some(twice)}). Delete one of each.")
        lists[split] = names
    check_overlap(lists, {split: str(path) for split, path in paths.items()})
    return lists
