"""Flickr30k: 31,783 photos of people doing things, five captions each.

Young et al., "From Image Descriptions to Visual Denotations" (2014); the split is that of Karpathy
and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015).
"""

import logging
from pathlib import Path

from common.choices import DOWNLOADS
from common.data.caption_files import CaptionReport, Lists, read_table, read_tokens
from common.data.caption_splits import Read, find_images, read_splits, report_split, what_is_there
from common.data.captions import CaptionData
from common.data.download import download, downloading, extract
from common.data.kaggle import HOW_TO_AUTHENTICATE, kaggle_auth
from common.data.karpathy import KARPATHY, read_karpathy
from common.data.listing import first_file
from common.errors import DataError

logger = logging.getLogger(__name__)

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
    return report_split(split, lambda: read_flickr30k(folder))


def read_flickr30k(folder: str | Path | None = None) -> Read:
    """All three splits, and what was left out; see `load_flickr30k`."""
    wanted = f"{' or '.join(IMAGE_FOLDERS[:3])} with {CSV}, {TOKENS} or {JSON}, though the archive"
    return read_splits("flickr30k", folder, find_flickr30k, _download, _read, 30, f"{wanted} is")


def _read(text: Path, folder: Path, report: CaptionReport) -> tuple[Lists, Lists | None]:
    if text.name in TABLES:
        captions, lists = read_table(text, report)
    elif text.name == TOKENS:
        captions, lists = read_tokens(text, report), None
    else:
        captions, lists, _ = read_karpathy(text, report)
    names = (JSON, f"caption_datasets/{JSON}")
    path = first_file(place / name for place in (text.parent, folder) for name in names)
    return captions, read_karpathy(path, CaptionReport())[1] if path else lists


def find_flickr30k(folder: Path) -> tuple[Path | None, Path | None]:
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
    return images, first_file(texts)


def _download(folder: Path) -> None:
    archive = folder / "flickr-image-dataset.zip"
    with downloading(
        f"Flickr30k is not in {folder} ({what_is_there(folder)})",
        DOWNLOADS["flickr30k"],
        f"Kaggle gives it to those who have an account: {HOW_TO_AUTHENTICATE}. Or put the images "
        f"into {folder / IMAGE_FOLDERS[0]}, and {CSV} or {TOKENS} beside that folder.",
        archive,
    ):
        download([ARCHIVE], archive, None, auth=kaggle_auth())
    extract(archive, folder / archive.stem)
    karpathy = folder / KARPATHY.rsplit("/", 1)[-1]
    try:
        download([KARPATHY], karpathy, None)
        extract(karpathy, folder / karpathy.stem)
    except DataError as error:
        # The split by order does as well, but is another one.
        logger.warning("Flickr30k is without Karpathy's split.\n%s", error)
