"""Whether what was downloaded is what its name says, and still what it was before."""

import html
import logging
import re
from pathlib import Path

from common.data.archives import ARCHIVES, check_archive
from common.data.image_files import decode_rgb, read_image_file
from common.data.listing import SUFFIXES
from common.errors import CourseError, DataError
from common.files import file_hash, read_json, write_text
from common.paths import display

logger = logging.getLogger(__name__)


def check_content(path: Path, name: str) -> None:
    """Opens a file as what its name says.

    Raises:
        DataError: if it is something else, or a web page; tells what.
    """
    name = name.lower()
    page = web_page(path) if not name.endswith((".html", ".htm")) else None
    kind, check = "such file", None
    for suffixes, its_kind, its_check in _KINDS:
        if name.endswith(suffixes):
            kind, check = its_kind, its_check
    if page:
        raise DataError(f"is no {kind} but {page}")
    if not path.stat().st_size:
        raise DataError("is empty")
    try:
        if check is not None:
            check(path)
    except DataError as error:
        raise DataError(f"is no {kind}, or not a whole one: {error}") from error


def _check_json(path: Path) -> None:
    try:
        read_json(path)
    except DataError as error:
        raise DataError("it cannot be parsed") from error


_KINDS = (
    (ARCHIVES[:1], "zip archive", check_archive),
    (ARCHIVES[1:], "tar archive", check_archive),
    ((".json",), "JSON file", _check_json),
    (SUFFIXES, "image", lambda path: decode_rgb(read_image_file(path))),
)


def web_page(path: Path) -> str | None:
    """That a file is a web page, as of a log-in, and its title; `None` if it is none."""
    with open(path, "rb") as file:
        text = file.read(4096).decode("latin-1").lstrip("ï»¿ \t\r\n\0")
    # Other tags, comments and XML's declaration may stand before.
    if not text.startswith("<") or not re.search(_HTML, text[:1024], re.IGNORECASE):
        return None
    title = re.search(r"<title[^<>]*>([^<]*)", text, re.IGNORECASE)
    words = " ".join(html.unescape(title[1]).split()) if title else ""
    return f"a web page, {display(words)[:80]!r}" if words else "a web page"


_HTML = r"<(!doctype\s+html|html|head|body|title)\b"


def remember_hash(path: Path) -> None:
    """Keeps the hash of a file that nobody publishes; tells of a change, which may be right."""
    file = path.with_name(path.name + ".sha256")
    value = file_hash(path)
    try:
        match = re.match(rb"[0-9a-f]{64}\b", file.read_bytes()[:100])
        known = match[0].decode() if match else None
    except OSError:
        known = None
    if known == value:
        return
    if known:
        told = "%s is not the file that was there before: its sha256 is now %s, and was %s."
        logger.warning(told, path, value, known)
    else:
        logger.warning(
            "%s is unverified: no checksum of it is published. Its sha256 %s is kept in %s, so "
            "that a change is told.",
            *(path, value, file.name),
        )
    try:
        write_text(file, f"{value}  {path.name}\n")
    except CourseError as error:
        logger.warning("%s", error)
