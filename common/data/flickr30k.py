"""Flickr30k: 31,783 photos of people doing things, five captions each.

Young et al., "From Image Descriptions to Visual Denotations" (2014); the split is that of Karpathy
and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015).
"""

import logging
from pathlib import Path

from common.data.caption_files import (
    CaptionReport,
    check_overlap,
    find_images,
    make_splits,
    read_table,
    read_tokens,
    split_by_order,
    usable_captions,
    what_is_there,
)
from common.data.captions import CaptionData
from common.data.download import download, extract
from common.data.kaggle import HOW_TO_AUTHENTICATE, kaggle_auth
from common.data.karpathy import KARPATHY, read_karpathy
from common.errors import ConfigError, DataError
from common.paths import data_dir

logger = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
IMAGE_FOLDERS = ("flickr30k_images", "flickr30k-images", "Images", "images")
# Tables with a header: of Kaggle's three copies, and of Hugging Face's.
CSV = "results.csv"
TABLES = (CSV, "captions.txt", "flickr_annotations_30k.csv")
TOKENS = "results_20130124.token"
JSON = "dataset_flickr30k.json"

# The authors send their archive on request only; this is the copy that most people use.
ARCHIVE = "https://www.kaggle.com/api/v1/datasets/download/hsankesara/flickr-image-dataset"


def load_flickr30k(split: str, folder: str | Path | None = None) -> CaptionData:
    """One split of Flickr30k; downloads it from Kaggle if it is absent (4.4 GB).

    Captions from `results.csv` (`image_name| comment_number| comment`), else `captions.txt` or
    `flickr_annotations_30k.csv` (see `common.data.caption_files.read_table`), else
    `results_20130124.token` (`name#number<TAB>caption`), else Karpathy's `dataset_flickr30k.json`.
    Where the latter is there, its split is taken (29,000 / 1,014 / 1,000 images), else that of the
    table's column `split`, else of every thirty images, in the order of their names, the last but
    one goes to dev, the last to test.

    Args:
        split: "train", "dev" or "test".
        folder: Where it lies, by default `COURSE_DATA/flickr30k`.

    Raises:
        ConfigError: for an unknown split.
        DataError: if files are missing or damaged (says which, and the line or entry).
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    splits, report = read_flickr30k(folder)
    report.log("flickr30k")
    return splits[split]


def read_flickr30k(
    folder: str | Path | None = None,
) -> tuple[dict[str, CaptionData], CaptionReport]:
    """All three splits, and what was left out; see `load_flickr30k`."""
    folder = data_dir() / "flickr30k" if folder is None else Path(folder)
    images, text = _find(folder)
    if images is None or text is None:
        _download(folder)
        images, text = _find(folder)
        if images is None or text is None:
            raise DataError(
                f"{folder} has no {' or '.join(IMAGE_FOLDERS[:3])} with {CSV}, {TOKENS} or {JSON}, "
                "though the archive is unpacked. Delete the folder and run the same again."
            )
    report = CaptionReport()
    lists = None
    if text.name in TABLES:
        captions, lists = read_table(text, report)
    elif text.name == TOKENS:
        captions = read_tokens(text, report)
    else:
        captions = read_karpathy(text, report)[0]
    usable, files = usable_captions(captions, images, report, text)
    lists = _lists(text.parent, folder) or lists or split_by_order(usable, every=30)
    return make_splits("flickr30k", lists, images, usable, files), report


def _find(folder: Path) -> tuple[Path | None, Path | None]:
    """The folder of the images and the file of the captions, as far as they are there."""
    # Kaggle's archive has a folder in a folder of the same name, and the table in the outer one.
    places = [
        folder / outer / name
        for outer in (".", *IMAGE_FOLDERS, "flickr-image-dataset/flickr30k_images")
        for name in IMAGE_FOLDERS
    ]
    images = find_images(places)
    parents = [folder] if images is None else [folder, images.parent, images]
    texts = [place / name for name in (*TABLES, TOKENS, JSON) for place in parents]
    return images, next((path for path in texts if path.is_file()), None)


def _download(folder: Path) -> None:
    archive = folder / "flickr-image-dataset.zip"
    try:
        download([ARCHIVE], archive, None, auth=kaggle_auth())
    except DataError as error:
        raise DataError(
            f"Flickr30k is not in {folder} ({what_is_there(folder)}) and could not be "
            f"downloaded.\n{error}\n"
            f"Kaggle gives it to those who have an account: {HOW_TO_AUTHENTICATE}. Or put the "
            f"images into {folder / IMAGE_FOLDERS[0]}, and {CSV} or {TOKENS} beside that folder."
        ) from error
    extract(archive, folder / archive.stem)
    karpathy = folder / KARPATHY.rsplit("/", 1)[-1]
    try:
        download([KARPATHY], karpathy, None)
        extract(karpathy, folder / karpathy.stem)
    except DataError as error:
        # The split by order does as well, but is another one.
        logger.warning("Flickr30k is without Karpathy's split.\n%s", error)


def _lists(*folders: Path) -> dict[str, list[str]] | None:
    places = [f / name for f in folders for name in (JSON, f"caption_datasets/{JSON}")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    lists = read_karpathy(path, CaptionReport())[1]
    check_overlap(lists, {split: f"the {split} part of {path}" for split in lists})
    return lists
