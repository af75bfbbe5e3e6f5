"""What readers of captions share: files of captions, and checks of what they hold."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.data.captions import CaptionData
from common.data.photos import SUFFIXES
from common.errors import DataError

logger = logging.getLogger(__name__)

REFERENCES = 5  # captions of an image that are used, the first ones
_SHOWN = 5


@dataclass
class CaptionReport:
    """What the files hold beside images with captions, as counted while reading.

    Attributes:
        unknown_names: Names with captions of which there is no image file, such as the official
            `2258277193_586949ec62.jpg.1`; they are left out.
        images_without_captions: Image files that no caption names; they are left out.
        empty_captions: `file:line` of captions without a word; they are left out.
        few_captions: Images with fewer than five captions; they are kept.
    """

    unknown_names: list[str] = field(default_factory=list)
    images_without_captions: list[str] = field(default_factory=list)
    empty_captions: list[str] = field(default_factory=list)
    few_captions: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = (
            (self.unknown_names, "captioned names without an image file"),
            (self.images_without_captions, "image files without a caption"),
            (self.empty_captions, "empty captions"),
        )
        told = [f"{len(items):,} {what} ({some(items)})" for items, what in kinds if items]
        text = "Left out: " + "; ".join(told) + "." if told else "Nothing was left out."
        if self.few_captions:
            few = f"{len(self.few_captions):,} images have fewer than {REFERENCES} captions"
            text += f" {few} ({some(self.few_captions)}); they are kept."
        return text

    def log(self, name: str) -> None:
        """Warns of what there is, under the data set's name."""
        if any(vars(self).values()):
            logger.warning("%s: %s", name, self)


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; errors name the file and the line."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8. Restore the original file.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_tokens(path: Path, report: CaptionReport) -> dict[str, list[str]]:
    """`name#number<TAB>caption` lines: the captions of each name."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if not tab or not mark:
            raise DataError(
                f"{path}, line {number}: not `image#number<TAB>caption`: {line[:60]!r}. "
                "Correct the line or restore the original file."
            )
        add_caption(captions, name, caption, f"{path.name}:{number}", report)
    return captions


def add_caption(captions, name: str, caption: str, where: str, report: CaptionReport) -> None:
    """Adds a caption to those of its image; one without a word goes into the report."""
    found = captions.setdefault(name.strip(), [])
    # A full stop alone is no caption either.
    if any(character.isalnum() for character in caption):
        found.append(caption.strip())
    else:
        report.empty_captions.append(where)


def usable_captions(
    captions: dict[str, list[str]], images: Path, report: CaptionReport
) -> tuple[dict[str, list[str]], set[str]]:
    """Captions of the images that are on disk, the first five of each; and the files there are."""
    files = {file.name for file in images.iterdir() if file.suffix.lower() in SUFFIXES}
    report.unknown_names = sorted(captions.keys() - files)
    report.images_without_captions = sorted(files - captions.keys())
    usable = {name: found[:REFERENCES] for name, found in captions.items() if name in files}
    report.few_captions = sorted(n for n, found in usable.items() if 0 < len(found) < REFERENCES)
    return usable, files


def check_overlap(lists: dict[str, list[str]], sources: dict[str, str]) -> None:
    """Makes sure that no image is in two splits.

    Args:
        lists: Names of images by split.
        sources: Where each list comes from, for the error.

    Raises:
        DataError: if one is.
    """
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        common = sorted(set(lists[a]) & set(lists[b]))
        if common:
            raise DataError(
                f"{sources[a]} and {sources[b]} both name {len(common):,} images "
                f"({some(common)}): scores on images that were trained on mean nothing. Delete "
                "them from one list."
            )


def split_by_order(names: Iterable[str], every: int) -> dict[str, list[str]]:
    """Of so many names, in their order, the last but one goes to dev and the last to test."""
    names = sorted(names)
    return {
        "train": [name for i, name in enumerate(names) if i % every < every - 2],
        "dev": names[every - 2 :: every],
        "test": names[every - 1 :: every],
    }


def make_splits(
    name: str,
    lists: dict[str, list[str]],
    captions: dict[str, list[str]],
    images: Path,
    usable: dict[str, list[str]],
    files: set[str],
) -> dict[str, CaptionData]:
    """The data of each split.

    Args:
        name: Of the data set.
        lists: Names of images by split.
        captions: All that was read, by name.
        images: Folder of the images.
        usable: From `usable_captions`.
        files: From there, too.

    Raises:
        DataError: if images of a split are not on disk or have no captions.
    """
    splits = {}
    for split, names in lists.items():
        _check_names(split, names, captions, files, images)
        texts = tuple(tuple(usable[image]) for image in names)
        splits[split] = CaptionData(tuple(names), texts, name, split, images)
    return splits


def _check_names(split: str, names: list[str], captions, files: set[str], images: Path) -> None:
    """Makes sure that the images of a split are on disk and have captions."""
    absent = [name for name in names if name not in files]
    if absent:
        raise DataError(
            f"{len(absent):,} images of the {split} list are not in {images} ({some(absent)}). "
            "Unpack the images again, or delete the names from the list."
        )
    untold = [name for name in names if not captions.get(name)]
    if untold:
        raise DataError(
            f"{len(untold):,} images of the {split} list have no caption ({some(untold)}). "
            "Restore the file of captions, or delete the names from the list."
        )


def some(items: list[str]) -> str:
    """The first few of them, for an error."""
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
