"""Flickr30k: 31,783 photos of people doing things, five captions each.

Young et al., "From Image Descriptions to Visual Denotations" (2014); the split is that of Karpathy
and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015).
"""

import csv
from pathlib import Path

from common.data.caption_files import (
    CaptionReport,
    add_caption,
    check_overlap,
    make_splits,
    read_tokens,
    split_by_order,
    text_lines,
    usable_captions,
)
from common.data.captions import CaptionData
from common.data.download import download, extract
from common.data.kaggle import HOW_TO_AUTHENTICATE, kaggle_auth
from common.data.karpathy import KARPATHY, read_karpathy
from common.errors import ConfigError, DataError
from common.paths import data_dir

SPLITS = ("train", "dev", "test")
IMAGE_FOLDERS = ("flickr30k_images", "flickr30k-images", "Images")
CSV = "results.csv"
TOKENS = "results_20130124.token"
JSON = "dataset_flickr30k.json"

# The authors send their archive on request only; this is the copy that most people use.
ARCHIVE = "https://www.kaggle.com/api/v1/datasets/download/hsankesara/flickr-image-dataset"


def load_flickr30k(split: str, folder: str | Path | None = None) -> CaptionData:
    """One split of Flickr30k; downloads it from Kaggle if it is absent (4.4 GB).

    Captions from `results.csv` (`image_name| comment_number| comment`), else
    `results_20130124.token` (`name#number<TAB>caption`), else Karpathy's `dataset_flickr30k.json`.
    Where the latter is there, its split is taken (29,000 / 1,014 / 1,000 images), else of every
    thirty images, in the order of their names, the last but one goes to dev, the last to test.

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
                f"{folder} has no {' or '.join(IMAGE_FOLDERS)} with {CSV}, {TOKENS} or {JSON}, "
                "though the archive is unpacked. Delete the folder and run the same again."
            )
    report = CaptionReport()
    readers = {CSV: _read_csv, TOKENS: read_tokens, JSON: _captions_of_json}
    captions = readers[text.name](text, report)
    usable, files = usable_captions(captions, images, report)
    described = (name for name, found in usable.items() if found)
    lists = _lists(text.parent, folder) or split_by_order(described, every=30)
    return make_splits("flickr30k", lists, captions, images, usable, files), report


def _find(folder: Path) -> tuple[Path | None, Path | None]:
    """The folder of the images and the file of the captions, as far as they are there."""
    # Kaggle's archive has a folder in a folder of the same name, and the table in the outer one.
    places = [
        folder / outer / name
        for outer in (".", *IMAGE_FOLDERS, "flickr-image-dataset/flickr30k_images")
        for name in IMAGE_FOLDERS
    ]
    images = next((p for p in places if p.is_dir() and any(p.glob("*.jpg"))), None)
    parents = [folder] if images is None else [folder, images.parent, images]
    texts = [place / name for name in (CSV, TOKENS, JSON) for place in parents]
    return images, next((path for path in texts if path.is_file()), None)


def _download(folder: Path) -> None:
    archive = folder / "flickr-image-dataset.zip"
    try:
        download([ARCHIVE], archive, None, auth=kaggle_auth())
    except DataError as error:
        raise DataError(
            f"Flickr30k is not in {folder} and could not be downloaded.\n{error}\n"
            f"Kaggle gives it to those who have an account: {HOW_TO_AUTHENTICATE}. Or put the "
            f"images into {folder / IMAGE_FOLDERS[0]}, and {CSV} or {TOKENS} beside that folder."
        ) from error
    extract(archive, folder / archive.stem)
    karpathy = folder / KARPATHY.rsplit("/", 1)[-1]
    try:
        download([KARPATHY], karpathy, None)
    except DataError:
        return  # the split by order does as well
    extract(karpathy, folder / karpathy.stem)


def _read_csv(path: Path, report: CaptionReport) -> dict[str, list[str]]:
    """`image_name| comment_number| comment` rows: the captions of each name."""
    lines = text_lines(path)
    rows = csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE)
    header = [name.strip() for name in next(rows, [])]
    if header != ["image_name", "comment_number", "comment"]:
        raise DataError(
            f"{path}, line 1: the header must be image_name| comment_number| comment. Received: "
            f"{'|'.join(header)}"
        )
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        # Of the published file, one line lacks the second bar: `2199200615.jpg| 4   A dog runs`.
        if len(row) == 2:
            row = [row[0], *row[1].split(maxsplit=1)]
        if len(row) < 3 or not row[1].strip().isdigit():
            raise DataError(
                f"{path}, line {number}: not `image| number| caption`: {'|'.join(row)[:60]!r}. "
                "Correct the line or restore the original file."
            )
        caption = "|".join(row[2:])
        add_caption(captions, row[0], caption, f"{path.name}:{number}", report)
    return captions


def _captions_of_json(path: Path, report: CaptionReport) -> dict[str, list[str]]:
    return read_karpathy(path, report)[0]


def _lists(*folders: Path) -> dict[str, list[str]] | None:
    places = [f / name for f in folders for name in (JSON, f"caption_datasets/{JSON}")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    lists = read_karpathy(path, CaptionReport())[1]
    check_overlap(lists, {split: f"the {split} part of {path}" for split in lists})
    return lists
