"""Photos of one's own with captions of one's own, in any language."""

import logging
import re
from pathlib import Path

from common.choices import CAPTION_FILES
from common.data.caption_files import (
    SPLIT_NAMES,
    CaptionReport,
    Lists,
    read_json_lines,
    read_table,
    text_lines,
)
from common.data.caption_splits import SPLITS, Read, match_names, report_split
from common.data.captions import CaptionData
from common.data.image_hashes import image_hashes
from common.data.listing import SUFFIXES, holds_images, look_into, some, walk
from common.errors import DataError
from common.paths import display

logger = logging.getLogger(__name__)

_FEW = 200  # photos to train on, below which that is said
# As in Flickr8k: an eighth of the images for dev, and one for test.
_SHARE = 8
# Ten characters in a row of Thai, Lao, Burmese, Khmer, Japanese or Chinese are no single word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]{10}")


def load_caption_folder(root: Path, split: str) -> CaptionData:
    """One split of a folder of photos with captions, as many of both as there are.

    The captions stand in one of `CAPTION_FILES`, beside the images or above their folders, or in
    one in each folder of a split: a row for each caption, with the name of its image as seen from
    there. Columns are `file_name` and `text`, or `image` and `caption`.

    An image in a folder `train`, `test`, `dev`, `val` or `validation` belongs to that split, unless
    a column `split` says so; any other to train. Where dev or test has no image, an eighth of those
    to train goes there, one at least: those whose contents have the least hashes. So the same
    photos are divided alike, whatever they are called and wherever they lie, and copies of a photo
    stay together.

    Args:
        root: The folder.
        split: "train", "dev" or "test".

    Returns:
        The images by name, seen from `root`; what was left out is logged.

    Raises:
        ConfigError: for an unknown split.
        DataError: as `find_captions`.
    """
    data = report_split(split, lambda: read_caption_folder(root))
    if split == "train" and len(data.names) < _FEW:
        logger.warning(
            "%s: %d photos to learn from. That shows that all works; captions that make sense need "
            "some hundred, and scores of so few test photos say little.",
            *(data.name, len(data.names)),
        )
    return data


def read_caption_folder(root: Path) -> Read:
    """All three splits, and what was left out; see `load_caption_folder`."""
    captions, lists, report = find_captions(root)

    def part(split: str) -> CaptionData:
        texts = tuple(tuple(captions[image]) for image in lists[split])
        return CaptionData(tuple(lists[split]), texts, root.resolve().name or "own", split, root)

    missing = [split for split in SPLITS if not lists[split]]
    if missing:
        pool = part("train")
        hashes = image_hashes(pool)
        order = sorted(set(hashes))
        _check_enough(root, len(order), missing)
        share = max(1, len(order) // _SHARE)
        taken = {
            content: split
            for i, split in enumerate(missing)
            for content in order[i * share : (i + 1) * share]
        }
        for split in ("train", *missing):
            pairs = zip(pool.names, hashes, strict=True)
            lists[split] = [image for image, h in pairs if taken.get(h, "train") == split]
    return {split: part(split) for split in SPLITS}, report


def find_captions(root: Path) -> tuple[Lists, Lists, CaptionReport]:
    """All that can be told without opening a photo.

    Args:
        root: The folder.

    Returns:
        Captions by image, seen from `root`; images by split, as they are named; what is left out.

    Raises:
        DataError: if there is no file of captions, or more than one for an image; for a line that
            cannot be read, or a name that is no image file (says which); or if there are too few
            images to train, choose and test.
    """
    report = CaptionReport()
    captions: Lists = {}
    lists: Lists = {split: [] for split in SPLITS}
    for path in _files_of_captions(root):
        read = read_json_lines if path.suffix == ".jsonl" else read_table
        of_names, named = read(path, report)
        split_of = {name: split for split, names in (named or {}).items() for name in names}
        files, above = _image_files(path.parent), path.parent.relative_to(root)
        found = _match(path, of_names, files, report)
        for name, file in found.items():
            image = (above / file).as_posix()
            if of_names[name]:
                above_it = (SPLIT_NAMES.get(part) for part in image.lower().split("/")[:-1])
                told = split_of.get(name) or next(filter(None, above_it), "train")
                lists[told].append(image)
                captions[image] = of_names[name]
        untold = ((above / file).as_posix() for file in files)
        report.images_without_captions += sorted(image for image in untold if image not in captions)
    _check_enough(root, len(lists["train"]), [s for s in SPLITS[1:] if not lists[s]])
    texts = (text for found in captions.values() for text in found)
    report.unspaced = [text for text in texts if _UNSPACED.search(text)]
    return captions, {split: sorted(images) for split, images in lists.items()}, report


def _check_enough(root: Path, images: int, missing: list[str]) -> None:
    """Makes sure that each split can have an image."""
    if images <= len(missing):
        splits = " and ".join(f"one for {split}" for split in missing)
        raise DataError(
            f"{display(root)} has captions of {images} images to train on"
            f"{f', and {splits} must be taken from them' if missing else ''}. Add photos with "
            "captions; copies of a photo count once."
        )


def _files_of_captions(root: Path) -> list[Path]:
    """The one in the folder, or those in its folders of splits."""
    if root.is_file():
        raise DataError(f"{display(root)} is a file. Give the folder that it lies in.")
    found = look_into(root)
    parts = [root / name for name in sorted(found.folders) if name.lower() in SPLIT_NAMES]
    files = {
        place: [place / name for name in CAPTION_FILES if (place / name).is_file()]
        for place in (root, *parts)
    }
    here, below = files[root], [path for place in parts for path in files[place]]
    if not (here or below):
        raise DataError(
            f"{display(root)} has no captions: no {', '.join(CAPTION_FILES)} lies in it, or in its "
            f"folders {', '.join(SPLIT_NAMES)}. It has {found.told()}. Write one with a line "
            "`image,caption` at the top, and a line for each caption."
        )
    if (here and below) or max(map(len, files.values())) > 1:
        names = some(path.relative_to(root).as_posix() for path in (*here, *below))
        raise DataError(
            f"{display(root)} has several files of captions for the same images: {names}. Keep one "
            "of them, or one in each folder of a split."
        )
    if below and (bare := [p.name for p in parts if not files[p] and holds_images(p)]):
        raise DataError(
            f"{display(root)}: there are images in {some(bare)}, and no file of captions, as in "
            f"{below[0].parent.name}. Write one, or move the folder away."
        )
    return here or below


def _image_files(folder: Path) -> set[str]:
    """All image files in a folder and below it, as seen from there."""
    files = set()
    for place, found in walk(folder):
        if isinstance(found, OSError):
            raise DataError(
                f"{display(place)} cannot be looked into: {found.strerror or found}. Allow it, or "
                "move it away."
            ) from found
        below = Path(place).relative_to(folder)
        files |= {(below / image.name).as_posix() for image in found.images}
    return files


def _match(path: Path, names: Lists, files: set[str], report: CaptionReport) -> dict[str, str]:
    """The image file of each name in a file of captions."""
    found, doubtful = match_names(names, files)
    if unknown := [name for name in names if name not in found]:
        lines = text_lines(path)

        def told(name: str) -> str:
            line = next((i for i, text in enumerate(lines, 1) if name in text), None)
            return f"line {line}: {name}" if line else name

        unsure = f" Some may be several files: {some(doubtful)}." if doubtful else ""
        raise DataError(
            f"{display(path)}: {len(unknown):,} of {len(names):,} names are no image files beside "
            f"or below it ({some([*map(told, unknown[:5]), *unknown[5:]])}).{unsure} There are "
            f"{len(files):,} ({', '.join(SUFFIXES)}): {some(files) or 'none'}. Correct the names, "
            "add the files, or delete the lines."
        )
    report.other_spellings += [
        f"{name} for {file}"
        for name, file in found.items()
        if name not in (file, file.rpartition("/")[2])  # the name alone is no other spelling
    ]
    return found
