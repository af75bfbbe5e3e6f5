"""Headers of image files: the format, whether the file is whole, its size, which way up it belongs.

Each format's function gives `None` for a file that is not whole: decoders fill what is missing
with grey and say nothing. All of them look at each byte a few times at most.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from common.errors import DataError

# The largest cameras make 200 million. Decoding takes up to eleven bytes a pixel.
MAX_PIXELS = 250_000_000


class Header(NamedTuple):
    """What the header of an image file tells that decoding has to know."""

    width: int
    height: int
    orientation: int = 1
    bits: int = 16  # that numbers of more than eight bits have
    premultiplied: bool = False  # colours by alpha
    opaque: bool = False  # what OpenCV might take for alpha is none
    unturned: bytes | None = None  # the file without its orientation


def examine(data: bytes) -> tuple[str, Header]:
    """The format of an image file, judged by content, and what its header tells.

    Raises:
        DataError: if it is no image, not a whole one, or of a format that is not read.
    """
    if not data:
        raise DataError("empty file")
    for kind, signature, read in _FORMATS:
        if signature.match(data):
            header = read(data)
            if header and header.width and header.height:
                return kind, header
            raise DataError(f"truncated or damaged {kind} file")
    for what, signature in _FOREIGN:
        if signature.match(data):
            raise DataError(what)
    raise DataError(
        "not a JPEG, PNG, BMP, WebP or GIF file, nor TIFF or AVIF, whatever its name says"
    )


def check_pixels(width: int, height: int) -> None:
    """Makes sure that an image is not too large to be decoded.

    Raises:
        DataError: if it is.
    """
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width}x{height} pixels, more than the {MAX_PIXELS // 10**6} million that are read: "
            "make it smaller"
        )


# No file has more segments, chunks or boxes.
_MOST_PARTS = 50_000
# In JPEG's compressed data, FF is followed by 00 or by a restart marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes) -> Header | None:
    """Goes from segment to segment to the end marker (a thumbnail in one of them has an end
    marker of its own)."""
    position, scanned = 2, False
    width = height = orientation = 0
    for _ in range(_MOST_PARTS):
        match = _JPEG_MARKER.search(data, position)
        if not match:
            return None
        marker, start = match[1][0], match.end()
        if marker == 0xD9:
            return Header(width, height, orientation or 1, opaque=True) if scanned else None
        position = start + int.from_bytes(data[start : start + 2], "big")
        if marker == 0xDA:
            scanned = True
        elif marker in _JPEG_FRAMES:
            height = max(height, int.from_bytes(data[start + 3 : start + 5], "big"))
            width = max(width, int.from_bytes(data[start + 5 : start + 7], "big"))
        elif marker == 0xE1 and not orientation and data[start + 2 : start + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[start + 8 : position])
    return None


_PNG_SIZE = struct.Struct(">II").unpack_from


def _png(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    view = memoryview(data)
    position, orientation = 8, 1
    for _ in range(_MOST_PARTS):
        body = position + 4
        end = body + 4 + int.from_bytes(data[position:body], "big")
        if end + 4 > len(data):
            return None
        if zlib.crc32(view[body:end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        kind = data[body : body + 4]
        if kind == b"IEND":
            return Header(*_PNG_SIZE(data, 16), orientation)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[body + 4 : end])
        position = end + 4
    return None


def _little(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "little")


def _bmp(data: bytes) -> Header | None:
    if not 26 <= _little(data, 2, 4) <= len(data):
        return None
    if _little(data, 14, 4) == 12:
        return Header(_little(data, 18, 2), _little(data, 20, 2), opaque=True)
    height = int.from_bytes(data[22:26], "little", signed=True)  # Below 0: from the top.
    return Header(_little(data, 18, 4), abs(height), opaque=True)


def _webp(data: bytes) -> Header | None:
    end = _little(data, 4, 4) + 8
    if end > len(data):
        return None
    position, orientation, sizes = 12, 1, [(0, 0)]
    for _ in range(_MOST_PARTS):
        if position + 8 > end:
            width, height = map(max, zip(*sizes, strict=True))
            return Header(width, height, orientation)
        kind, body = data[position : position + 4], position + 8
        size = _little(data, position + 4, 4)
        if kind == b"VP8X":
            sizes.append((_little(data, body + 4, 3) + 1, _little(data, body + 7, 3) + 1))
        elif kind == b"VP8 ":
            sizes.append((_little(data, body + 6, 2) & 0x3FFF, _little(data, body + 8, 2) & 0x3FFF))
        elif kind == b"VP8L":
            both = _little(data, body + 1, 4)
            sizes.append(((both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1))
        elif kind == b"EXIF":
            orientation = _exif_orientation(data[body : body + size])
        position = body + size + size % 2
    return None


def _gif(data: bytes) -> Header | None:
    if not data.rstrip(b"\0").endswith(b"\x3b"):
        return None
    return Header(_little(data, 6, 2), _little(data, 8, 2))


# Whole numbers in TIFF: 1, 2, 4 or 8 bytes.
_TIFF_TYPES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_ORIENTATION = 274
_TIFF_TAGS = {254, 256, 257, 258, 273, _ORIENTATION, 279, 322, 323, 324, 325, 338, 50706}


def _tags(data: bytes) -> dict[int, tuple[int, np.ndarray]]:
    """The tags of the first directory of a TIFF, which EXIF is too: where in `data` their values
    lie, and the values. Left out is what is no whole number or lies outside."""
    order = {b"II": "little", b"MM": "big"}.get(data[:2])
    if order is None:
        return {}

    def number(start: int, length: int) -> int:
        return int.from_bytes(data[start : start + length], order)

    # BigTIFF has wider numbers: of an address, of the count of tags; and where the first is.
    address, count, start = (8, 8, 8) if number(2, 2) == 43 else (4, 2, 4)
    first = number(start, address)
    size = 4 + 2 * address
    last = min(first + count + number(first, count) * size, len(data) - size + 1)
    tags = {}
    for position in range(first + count, last, size)[:_MOST_PARTS]:
        tag, code = number(position, 2), _TIFF_TYPES.get(number(position + 2, 2))
        if tag not in _TIFF_TAGS or code is None:
            continue
        kind = np.dtype(code).newbyteorder("<" if order == "little" else ">")
        n, values = number(position + 4, address), position + 4 + address
        if n * kind.itemsize > address:
            values = number(values, address)
        if n and values + n * kind.itemsize <= len(data):
            tags[tag] = values, np.frombuffer(data, kind, n, values)
    return tags


def _exif_orientation(exif: bytes) -> int:
    return _orientation(_tags(exif.removeprefix(b"Exif\0\0")))


def _orientation(tags: dict[int, tuple[int, np.ndarray]]) -> int:
    value = int(tags[_ORIENTATION][1][0]) if _ORIENTATION in tags else 1
    return value if 1 <= value <= 8 else 1


def _tiff(data: bytes) -> Header | None:
    tags = _tags(data)

    def value(tag: int, default: int) -> int:
        return int(tags[tag][1][0]) if tag in tags else default

    raw = data[8:10] == b"CR" or 50706 in tags  # Canon's, Adobe's
    if raw or value(254, 0) & 1:  # a small copy comes first
        raise DataError("a camera raw file: convert it to JPEG")
    for where, length in ((273, 279), (324, 325)):  # strips, tiles
        if where in tags:
            starts = tags[where][1].astype(float)
            lengths = tags[length][1].astype(float) if length in tags else np.zeros(1)
            if len(lengths) not in (1, len(starts)) or (starts + lengths > len(data)).any():
                return None
            break
    else:
        return None
    check_pixels(value(322, 0), value(323, 0))
    # OpenCV turns a TIFF as it says; it is not to see that.
    orientation, unturned = _orientation(tags), None
    if orientation != 1:
        position, values = tags[_ORIENTATION]
        one = np.ones(1, values.dtype).tobytes()
        unturned = data[:position] + one + data[position + len(one) :]
    # A fourth channel is alpha (1: colours are multiplied by it; 2: OpenCV does so where they have
    # eight bits) or anything (0).
    extra, deep = value(338, -1), value(258, 1) > 8
    alpha = {"premultiplied": extra == 1 or (extra == 2 and not deep), "opaque": extra == 0}
    return Header(value(256, 0), value(257, 0), orientation, unturned=unturned, **alpha)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind, start and end of what is in each box, as MP4 and AVIF are made of."""
    for _ in range(_MOST_PARTS):
        if position + 8 > end:
            return
        size, body = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        elif size == 0:
            size = end - position
        if size < body - position:
            return
        yield data[position + 4 : position + 8], body, position + size
        position += size


def _inside(data: bytes, boxes: Iterable[tuple], wanted: bytes, skip: int = 0) -> Iterator[tuple]:
    for kind, start, end in boxes:
        if kind == wanted:
            yield from _boxes(data, start + skip, end)


def _avif(data: bytes) -> Header | None:
    boxes = list(_boxes(data, 0, len(data)))
    known = [end for kind, _, end in boxes if kind in (b"ftyp", b"meta", b"mdat", b"moov")]
    if max(known) > len(data) or b"meta" not in [kind for kind, _, _ in boxes]:
        return None
    width = height = angle = 0
    axis, bits = None, 8
    properties = _inside(data, _inside(data, boxes, b"meta", 4), b"iprp")
    for kind, start, _ in _inside(data, properties, b"ipco"):
        if kind == b"ispe":
            width = max(width, int.from_bytes(data[start + 4 : start + 8], "big"))
            height = max(height, int.from_bytes(data[start + 8 : start + 12], "big"))
        elif kind == b"irot":
            angle = int.from_bytes(data[start : start + 1], "big") & 3
        elif kind == b"imir":
            axis = int.from_bytes(data[start : start + 1], "big") & 1
        elif kind == b"av1C":
            flags = int.from_bytes(data[start + 2 : start + 3], "big")
            bits = 8 + 2 * (flags >> 6 & 1) + 2 * (flags >> 5 & 1)
    # OpenCV does neither. (The orientation in EXIF does not count in AVIF.)
    return Header(width, height, _AVIF_TURNS[axis][angle], bits=bits)


# EXIF's number for a quarter, half, ... turned against the clock, then mirrored along an axis.
_AVIF_TURNS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


_FORMATS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    ("BMP", re.compile(rb"BM"), _bmp),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    ("AVIF", re.compile(rb".{4}ftyp(avi[fs]|mif1.{4,40}avi[fs])", re.DOTALL), _avif),
)
_FOREIGN = tuple(
    (what, re.compile(signature, re.DOTALL | re.IGNORECASE))
    for what, signature in (
        ("a HEIC photo: convert it to JPEG", rb".{4}ftyp(hei|hev|mif1|msf1)"),
        ("a camera raw file: convert it to JPEG", rb".{4}ftypcrx|FUJIFILM|IIR[OS]|IIU\0|MMOR"),
        ("a JPEG XL file: convert it to JPEG", rb"\xff\x0a|\0\0\0\x0cJXL "),
        ("a JPEG 2000 file: convert it to JPEG", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
        ("a Photoshop file: convert it to PNG", rb"8BPS"),
        ("a PDF file: convert it to PNG", rb"%PDF"),
        ("an SVG drawing: convert it to PNG", rb"(\xef\xbb\xbf)?\s{0,99}(<[?!].{0,999}?)?<svg"),
        ("a web page, no image: download it anew", rb"\s{0,99}<(!doctype html|html)"),
        ("a zip archive, no image: unpack it", rb"PK\x03\x04"),
        ("a pointer of Git LFS, no image: run `git lfs pull`", rb"version https://git-lfs"),
    )
)
