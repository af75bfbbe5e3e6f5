"""What lies in folders of images, and how it is told: names in lists that are not too long."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.errors import DataError
from common.paths import display

# Names of files that are read. What a file is, is judged by its content.
SUFFIXES = tuple(".avif .bmp .gif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split())
IGNORED = ("thumbs.db", "desktop.ini")


class Scan(NamedTuple):
    """What lies in a folder, hidden files left out; not sorted."""

    images: list[os.DirEntry]  # by their suffix; links that lead nowhere too
    others: list[str]
    folders: list[str]

    def told(self) -> str:
        """What there is, in words."""
        names = [image.name for image in self.images] + self.others
        return counted(names, len(self.folders)) or "nothing in it"


def scan(folder: str | Path) -> Scan:
    """Looks into a folder.

    Raises:
        OSError: if it cannot be looked into.
    """
    found = Scan([], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            lower = entry.name.lower()
            if lower.startswith(".") or lower in IGNORED:
                continue
            if lower.endswith(SUFFIXES) and _is(entry, os.DirEntry.is_file):
                found.images.append(entry)
            elif _is(entry, os.DirEntry.is_dir):
                found.folders.append(entry.name)
            elif lower.endswith(SUFFIXES) and entry.is_symlink():
                found.images.append(entry)
            else:
                found.others.append(entry.name)
    return found


def look_into(folder: str | Path) -> Scan:
    """What lies in a folder that a user gave.

    Raises:
        DataError: if it cannot be looked into.
    """
    try:
        return scan(folder)
    except OSError as error:
        raise DataError(
            f"{display(folder)} cannot be looked into: {error.strerror or error}. Allow it, or "
            "move it away."
        ) from error


def _is(entry: os.DirEntry, what: Callable[[os.DirEntry], bool]) -> bool:
    try:
        return what(entry)
    except OSError:  # a link to itself
        return False


class FileState(NamedTuple):
    """What changes when a file does."""

    name: str
    bytes: int
    mtime_ns: int
    ctime_ns: int  # cannot be set back


def file_states(images: list[os.DirEntry], prefix: str, problems: list[str]) -> list[FileState]:
    """The states of files, sorted by name; of what cannot be looked at, a line in `problems`."""
    states = []
    for entry in images:
        try:
            status = entry.stat()
        except OSError as error:
            problems.append(f"{prefix}{entry.name}: {error.strerror or error}")
        else:
            times = status.st_mtime_ns, status.st_ctime_ns
            states.append(FileState(entry.name, status.st_size, *times))
    return sorted(states)


def walk(folder: str | Path) -> Iterator[tuple[str, Scan | OSError]]:
    """A folder and all below it, each once, in the order of their names; also through links."""
    seen, waiting = set(), [str(folder)]
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            found = scan(path)
        except OSError as error:
            yield path, error
            continue
        yield path, found
        waiting += [os.path.join(path, name) for name in sorted(found.folders, reverse=True)]


def first_file(paths: Iterable[Path]) -> Path | None:
    """The first of some paths that is a file."""
    return next((path for path in paths if path.is_file()), None)


def holds_images(folder: str | Path, most: int = 1000) -> bool:
    """Whether images lie in a folder or below it (of very many folders, the first `most`)."""
    below = zip(range(most), walk(folder), strict=False)
    return any(isinstance(found, Scan) and found.images for _, (_, found) in below)


_RAW = ".3fr .arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf .raw .rw2 .srw".split()
_CONVERT = {".heic": "HEIC", ".heif": "HEIC", ".jxl": "JPEG XL", ".jp2": "JPEG 2000"}
_CONVERT |= {".pdf": "PDF", ".psd": "Photoshop", ".svg": "SVG", **dict.fromkeys(_RAW, "camera raw")}


def counted(names: Iterable[str], folders: int = 0) -> str:
    """What files without an image suffix there are: "12 HEIC files (convert them to JPEG) and 1
    folder". Empty if there is nothing."""
    counts = Counter()
    for name in names:
        suffix = os.path.splitext(name)[1].lower()
        counts[_CONVERT.get(suffix) or _cut(suffix, 20)] += 1
    parts = []
    for kind, n in counts.most_common(5):
        text = f"{n} {kind} file" if kind else f"{n} file"
        text += ("" if n == 1 else "s") + ("" if kind else " without a suffix")
        if kind in _CONVERT.values():
            text += f" (convert {'it' if n == 1 else 'them'} to JPEG)"
        parts.append(text)
    if more := counts.total() - sum(n for _, n in counts.most_common(5)):
        parts.append(f"{more} other files")
    if folders:
        parts.append(f"{folders} folder" + ("s" if folders > 1 else ""))
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def in_lines(what: str, items: list[str]) -> str:
    """The first ten, one a line, and how many more; printable and not too long."""
    more = [f"... and {len(items) - 10} more"] if len(items) > 10 else []
    return "\n  ".join([what, *(_cut(item, 300) for item in items[:10]), *more])


def some(items: Iterable[object]) -> str:
    """The first five in one line, and how many more; printable and not too long."""
    items = sorted(items) if isinstance(items, set) else list(items)
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return ", ".join(_cut(str(item), 80) for item in items[:5]) + more


def _cut(text: str, length: int) -> str:
    """Its middle left out: names differ at their ends."""
    text = display(text)
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}...{text[3 - length // 2 :]}"
