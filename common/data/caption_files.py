"""Files of captions, in the forms that are about, and a report of what is odd in them."""

import codecs
import csv
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.data.listing import SUFFIXES, some
from common.errors import DataError

logger = logging.getLogger(__name__)

REFERENCES = 5  # captions of an image that are used, the first ones
LONGEST = 10_000  # characters of a caption; what is longer is a whole file in one
_LONGEST_NAME = 1_000

# Columns of the tables that are about.
_NAMES = ("file_name", "image", "image_name", "filename")
_CAPTIONS = ("text", "caption", "comment", "raw")
# What splits are called, in tables and as folders.
SPLIT_NAMES = {"train": "train", "val": "dev", "validation": "dev", "dev": "dev", "test": "test"}
_NO_SPLIT = f"split is none of {', '.join(SPLIT_NAMES)}"
_QUOTED = re.compile('"([^"]*(?:""[^"]*)*)"')
_MOST_LINES = 100  # of a caption in quotation marks
# Characters that end lines, move cursors or are half a character.
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
Lists = dict[str, list[str]]  # captions by image, or images by split
IMAGE_SUFFIXES = (*SUFFIXES, ".heic", ".heif")


@dataclass
class CaptionReport:
    """What the files hold beside images with captions, as counted while reading.

    Attributes:
        unknown_names: Names with captions of which there is no image file, such as the official
            `2258277193_586949ec62.jpg.1`; they are left out.
        doubtful_names: Those of them that may be one of several files, or share a file.
        passed_over: What the folder of the images holds beside images, if names are unknown.
        images_without_captions: Image files without a caption; they are left out.
        empty_captions: `file:line` of captions without a word; they are left out.
        few_captions: Images with fewer than five captions; they are kept.
        other_spellings: Names that differ from those of their files in folder, suffix, case, or
            the form of accents.
        unspaced: Captions in scripts that put no blank between words.
    """

    unknown_names: list[str] = field(default_factory=list)
    doubtful_names: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    images_without_captions: list[str] = field(default_factory=list)
    empty_captions: list[str] = field(default_factory=list)
    few_captions: list[str] = field(default_factory=list)
    other_spellings: list[str] = field(default_factory=list)
    unspaced: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = (
            (self.unknown_names, "captioned names without an image file"),
            (self.doubtful_names, "of these may be one of several files or share one"),
            (self.passed_over, "entries of the folder that are no image files"),
            (self.images_without_captions, "image files without a caption"),
            (self.empty_captions, "empty captions"),
        )
        told = [f"{len(items):,} {what} ({some(items)})" for items, what in kinds if items]
        text = "Left out: " + "; ".join(told) + "." if told else "Nothing was left out."
        few = f"images have fewer than {REFERENCES} captions"
        other = "names are written otherwise than their files"
        run_on = "captions have no blanks between their words, so that a sentence counts as a word"
        kinds = (
            (self.few_captions, few),
            (self.other_spellings, other),
            (self.unspaced, run_on),
        )
        for items, what in kinds:
            if items:
                text += f" {len(items):,} {what} ({some(items)}); they are kept."
        return text

    def log(self, name: str) -> None:
        """Warns of what there is, under the data set's name."""
        if any(vars(self).values()):
            logger.warning("%s: %s", name, self)


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark.

    A line ends with a line feed, a carriage return or both, and with nothing else: U+2028, U+0085
    or a form feed that came along with a caption stays in it.

    Raises:
        DataError: if the file cannot be read, or is no text in UTF-8; names it and the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is saved as UTF-16 or UTF-32. Save it as UTF-8.")
    try:
        text = content.decode()
        end, problem = text.find("\0"), "a null byte"
    except UnicodeDecodeError as error:
        text = content[: error.start].decode()
        end, problem = len(text), "not UTF-8"
    if end >= 0:
        raise DataError(
            f"{path}, line {len(_lines(text[:end]))}: {problem}. Save the file as UTF-8, or "
            "restore the original."
        )
    return _lines(text)


def _lines(text: str) -> list[str]:
    # Files that were joined have byte order marks inside, too.
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_tokens(path: Path, report: CaptionReport) -> Lists:
    """`name#number<TAB>caption` lines: the captions of each name."""
    captions: Lists = {}
    file = path.name
    for number, line in enumerate(text_lines(path), 1):
        if not line or line.isspace():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if not tab or not mark:
            raise DataError(
                f"{path}, line {number}: not `image#number<TAB>caption`: {line[:60]!r}. "
                "Correct the line or restore the original file."
            )
        add_caption(captions, name, caption, f"{file}:{number}", report)
    return captions


def read_table(path: Path, report: CaptionReport) -> tuple[Lists, Lists | None]:
    """A table of captions: its header decides what stands where.

    - `image,caption`, or `image_name|comment_number|comment`, between commas, bars, semicolons or
      tabs: the caption is the rest of the line, with all its commas. It may be quoted as in CSV,
      over several lines, too; a quotation mark that nothing closes is a character like others.
    - `raw,sentids,split,filename,img_id`, where `raw` is a list in JSON of all captions; or
      anything else where the caption is not last. Each line must be strict CSV.

    Returns:
        The captions of each name; the names of each split, if the table has that column.

    Raises:
        DataError: for another header, or a line that is no such row; names file and line.
    """
    lines = text_lines(path)
    separator = max(",|;\t", key=lines[0].count)
    header = [c.strip(' "').lower().replace(" ", "_") for c in lines[0].split(separator)]
    name = next((column for column in _NAMES if column in header), None)
    caption = next((column for column in _CAPTIONS if column in header), None)
    if name is None or caption is None:
        raise DataError(
            f"{path}, line 1: the header must be image,caption or file_name,text or "
            f"image_name|comment_number|comment. Received: {lines[0][:60]!r}"
        )
    captions: Lists = {}
    lists = {split: {} for split in SPLIT_NAMES.values()}
    if header[-1] == caption:
        rows = _rows(lines, separator, len(header), header.index(name), captions)
    else:
        rows = _strict_rows(lines, separator)
    for number, cells in rows:
        if problem := _row_problem(cells, header):
            raise DataError(
                f"{path}, line {number}: {problem}: {lines[number - 1][:60]!r}. Wanted: "
                f"{separator.join(header)}. Correct the line or restore the original file."
            )
        row = dict(zip(header, cells, strict=True))
        where = f"{path.name}:{number}"
        for text in _list_of(row["raw"], where) if caption == "raw" else [row[caption]]:
            add_caption(captions, row[name], text, where, report)
        if "split" in row:
            lists[_split(row["split"])][row[name].strip()] = None
    return captions, _told_splits(lists, path)


def read_json_lines(path: Path, report: CaptionReport) -> tuple[Lists, Lists | None]:
    """Lines of JSON, an object each with `file_name`, `text` and maybe `split`: as `read_table`.

    Raises:
        DataError: for a line that is no such object; names file and line.
    """
    captions: Lists = {}
    lists = {split: {} for split in SPLIT_NAMES.values()}
    for number, line in enumerate(text_lines(path), 1):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        row = row if isinstance(row, dict) else {}
        name = next((key for key in _NAMES if key in row), None)
        caption = next((key for key in _CAPTIONS if key in row), None)
        if name is None or caption is None:
            raise DataError(
                f"{path}, line {number}: no JSON object with `file_name` and `text`: "
                f"{line[:60]!r}. Correct the line."
            )
        add_caption(captions, row[name], row[caption], f"{path.name}:{number}", report)
        if "split" in row:
            split = _split(row["split"])
            if split is None:
                raise DataError(f"{path}, line {number}: {_NO_SPLIT}. Correct the line.")
            lists[split][row[name].strip()] = None
    return captions, _told_splits(lists, path)


def _split(told: object) -> str | None:
    return SPLIT_NAMES.get(told.strip().lower()) if isinstance(told, str) else None


def _told_splits(lists: dict[str, dict[str, None]], path: Path) -> Lists | None:
    if not any(lists.values()):
        return None
    check_overlap(lists, {split: f"the {split} part of {path}" for split in lists})
    return {split: list(names) for split, names in lists.items()}


def _row_problem(cells: list[str] | None, header: list[str]) -> str | None:
    if cells is None:
        return "a quotation mark that is not closed, or closes a row after it"
    if len(cells) != len(header):
        return f"{len(cells)} columns instead of the {len(header)} of its first line"
    row = dict(zip(header, cells, strict=True))
    if not row.get("comment_number", "0").strip().isdigit():
        return "comment_number is no number"
    if _split(row.get("split", "train")) is None:
        return _NO_SPLIT
    return None


def _rows(
    lines: list[str], separator: str, size: int, name: int, captions: Lists
) -> Iterator[tuple[int, list[str] | None]]:
    """The number of the first line and the cells of each row; `None` for cells in doubt."""

    own = ""

    def is_row(line: str) -> bool | None:
        cells = _cells(line, separator, size)
        if len(cells) < size or not (first := cells[name].strip()):
            return False
        if first.lower().endswith(IMAGE_SUFFIXES) or first in captions or first == own:
            return True
        # Where names have suffixes this is a part of a sentence, and so it is with a blank in it.
        return False if own.lower().endswith(IMAGE_SUFFIXES) or " " in first else None

    i = 1
    while i < len(lines):
        number, cells = i + 1, _cells(lines[i], separator, size)
        i += 1
        if len(cells) == size and cells[-1].startswith('"'):
            own = cells[name].strip()
            length, caption = _quotation(cells[-1], lines[i : i + _MOST_LINES], is_row)
            i += length
            cells = None if caption is None else [*cells[:-1], caption]
        if cells != [""]:
            yield number, cells


def _quotation(text: str, following: list[str], is_row) -> tuple[int, str | None]:
    """A caption that begins with a quotation mark: further lines it takes, and what it says.

    A mark that is closed only behind something that is a row itself was not meant to open. `None`
    where that cannot be told.
    """
    text = text.rstrip()
    if whole := _QUOTED.fullmatch(text):
        return 0, whole[1].replace('""', '"')
    doubt = False
    longer = text
    for length, line in enumerate(following if text.count('"') % 2 else [], 1):
        row = is_row(line)
        if row:
            break
        doubt = doubt or row is None
        longer += "\n" + line.rstrip()
        if line.count('"') % 2 and (whole := _QUOTED.fullmatch(longer)):
            return length, None if doubt else whole[1].replace('""', '"')
    return 0, text


def _strict_rows(lines: list[str], separator: str) -> Iterator[tuple[int, list[str] | None]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            if line.strip():
                yield number, next(csv.reader([line], delimiter=separator, strict=True))
        except csv.Error:
            yield number, None


def _cells(line: str, separator: str, size: int) -> list[str]:
    """So many cells at most, the last with all that follows."""
    cells = []
    while len(cells) < size - 1:
        quoted = _QUOTED.match(line) if line.startswith('"') else None
        if quoted and line.startswith(separator, quoted.end()):
            cell, rest = quoted[1].replace('""', '"'), line[quoted.end() + 1 :]
        elif separator in line:
            cell, _, rest = line.partition(separator)
        elif separator == "|" and len(cells) == 1 == size - 2:
            # One published line lacks the second bar: `2199200615.jpg| 4   A dog runs`.
            return [*cells, *line.split(maxsplit=1)]
        else:
            break
        cells.append(cell)
        line = rest
    return [*cells, line if line.strip() or cells else ""]


def _list_of(text: str, where: str) -> list:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no list of captions in JSON: {text[:60]!r}.") from error


def add_caption(
    captions: Lists, name: object, caption: object, where: str, report: CaptionReport
) -> None:
    """Adds a caption to those of its image; one without a word goes into the report.

    Raises:
        DataError: if name or caption is no text, or longer than any can be; the name also if it is
            empty.
    """
    _check_text("name", name, _LONGEST_NAME, where)
    _check_text("caption", caption, LONGEST, where)
    name = name.strip()
    if not name:
        raise DataError(f"{where}: the name of the image is missing. Correct the entry.")
    found = captions.setdefault(name, [])
    # As `normalise`: a word begins with a letter or a digit, and a full stop alone is no caption.
    if caption[:1].isalnum() or any(character.isalnum() for character in caption):
        found.append((caption if caption.isprintable() else _CONTROLS.sub(" ", caption)).strip())
    else:
        report.empty_captions.append(where)


def _check_text(what: str, text: object, longest: int, where: str) -> None:
    if not isinstance(text, str):
        kind = "null" if text is None else f"a {type(text).__name__}"
        raise DataError(f"{where}: the {what} must be a text, not {kind}. Correct the entry.")
    if len(text) > longest:
        raise DataError(
            f"{where}: a {what} of {len(text):,} characters ({text[:40]!r}...); at most "
            f"{longest:,} are read. Correct the entry."
        )


def check_overlap(lists: dict[str, Iterable[str]], sources: dict[str, str]) -> None:
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
