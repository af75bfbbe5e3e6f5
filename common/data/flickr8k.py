"""Flickr8k: 8,000 photos of people and animals doing things, five captions each.

Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking Task" (2013).
"""

from collections import Counter
from pathlib import Path

from common.choices import DOWNLOADS
from common.data import caption_files, caption_splits
from common.data.caption_files import CaptionReport, Lists, read_table, read_tokens
from common.data.caption_splits import SPLITS, find_images, read_splits, report_split, what_is_there
from common.data.captions import CaptionData
from common.data.download import download, downloading, extract
from common.data.listing import first_file, some
from common.errors import DataError

# The official name is misspelt; the longest is where the archive is unpacked.
IMAGE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset")
IMAGE_FOLDERS += ("Flickr8k_Dataset/Flicker8k_Dataset", "images")
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
ARCHIVES = ("Flickr8k_text.zip", "Flickr8k_Dataset.zip")


def load_flickr8k(split: str, folder: str | Path | None = None) -> CaptionData:
    """One split of Flickr8k; downloads it if it is absent (1.1 GB).

    Official layout: `Images/` or `Flicker8k_Dataset/`, `Flickr8k.token.txt` and
    `Flickr_8k.{train,dev,test}Images.txt`, the texts also in `Flickr8k_text/`. Kaggle's: `Images/`
    and `captions.txt`; without the official lists beside it, of every eight images (in the order
    of their names) the seventh goes to dev and the eighth to test. Names need not be written as
    the files are, see `common.data.caption_splits.match_names`.

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
    return report_split(split, lambda: read_flickr8k(folder))


def read_flickr8k(folder: str | Path | None = None) -> caption_splits.Read:
    """All three splits, and what was left out; see `load_flickr8k`."""
    wanted = f"{' or '.join(IMAGE_FOLDERS[:2])} beside {TOKENS} or {KAGGLE}, though the archives"
    return read_splits("flickr8k", folder, find_flickr8k, _download, _read, 8, f"{wanted} are")


def _read(text: Path, folder: Path, report: CaptionReport) -> tuple[Lists, Lists | None]:
    captions = read_table(text, report)[0] if text.name == KAGGLE else read_tokens(text, report)
    return captions, _read_lists(text.parent)


def find_flickr8k(folder: Path) -> tuple[Path | None, Path | None]:
    """The folder of the images and the file of the captions, as far as they are there."""
    images = find_images(folder / name for name in IMAGE_FOLDERS)
    texts = [folder / place / name for name in (TOKENS, KAGGLE) for place in TEXT_FOLDERS]
    return images, first_file(texts)


def _download(folder: Path) -> None:
    archives = [folder / name for name in ARCHIVES]
    with downloading(
        f"Flickr8k is not in {folder} ({what_is_there(folder)})",
        DOWNLOADS["flickr8k"],
        f"Put the images into {folder / IMAGE_FOLDERS[0]}, and {TOKENS} with the lists "
        f"Flickr_8k.*Images.txt (or Kaggle's {KAGGLE}) beside that folder.",
        *archives,
    ):
        for archive in archives:
            download([f"{mirror}/{archive.name}" for mirror in MIRRORS], archive, None)
    for archive in archives:
        extract(archive, folder / archive.stem)


def _read_lists(folder: Path) -> Lists | None:
    """The official split lists; `None` if there is not one of them."""
    paths = {split: folder / f"Flickr_8k.{split}Images.txt" for split in SPLITS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}. Put all three lists there, or none.")
    lists = {}
    for split, path in paths.items():
        names = [line.strip() for line in caption_files.text_lines(path) if line.strip()]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{path} names images twice ({some(twice)}). Delete one of each.")
        lists[split] = names
    caption_files.check_overlap(lists, {split: str(path) for split, path in paths.items()})
    return lists
