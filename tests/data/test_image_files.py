"""Image files by their bytes: formats, orientation, transparency, bounds, damage."""

import io
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from common.data import image_files
from common.data.image_files import decode_rgb, on_white, read_image_file
from common.data.image_headers import MAX_PIXELS
from common.data.listing import counted, in_lines, some
from common.errors import DataError


def corners(mode="RGB"):
    """Red, green, blue and black quarters."""
    image = np.zeros((48, 80, 3), np.uint8)
    image[:24, :40], image[:24, 40:], image[24:, :40] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(image).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.repeat(np.uint8([[255], [102]]), 24, 0).repeat(80, 1)))
    return image


def saved(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def needs(suffix):
    if not cv2.haveImageWriter(f"a.{suffix}"):
        pytest.skip(f"this OpenCV has no {suffix}")


# --- what a file says of itself ---


def oriented(image, suffix, orientation, order):
    if suffix == "tiff":
        big = {"big_tiff": True} if order == ">" else {}
        return saved(image, suffix, tiffinfo={0x112: orientation}, **big)
    exif = Image.Exif()
    exif.endian = order
    exif[0x112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {"quality": 100}
    return saved(image, suffix, exif=exif.tobytes(), **lossless)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff", "avif"])
def test_every_orientation(suffix, mode, order):
    if suffix == "jpeg" and mode == "RGBA":
        pytest.skip("JPEG has no transparency")
    needs(suffix)
    for orientation in range(1, 9):
        data = oriented(corners(mode), suffix, orientation, order)
        whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
        expected = Image.new("RGBA", whole.size, "white")
        expected.alpha_composite(whole)
        expected = np.asarray(expected.convert("RGB")).astype(int)
        found = decode_rgb(data)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 4, orientation


def test_tiff_of_the_other_byte_order():
    """As Photoshop on a Macintosh writes it."""
    pixels = corners().tobytes()
    tags = [(256, 4, 80), (257, 4, 48), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 200)]
    tags += [(274, 3, 6), (277, 3, 3), (278, 4, 48), (279, 4, len(pixels))]
    parts = [struct.pack(">2sHIH", b"MM", 42, 8, len(tags))]
    for tag, kind, value in tags:
        parts.append(struct.pack(">HHI", tag, kind, 1))
        parts.append(struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
    data = b"".join(parts).ljust(200, b"\0") + pixels
    expected = np.rot90(np.asarray(corners()), -1)
    np.testing.assert_array_equal(decode_rgb(data), expected)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_that_there_is_not(value):
    exif = Image.Exif()
    exif[0x112] = value
    data = saved(corners(), "png", exif=exif)
    np.testing.assert_array_equal(decode_rgb(data), np.asarray(corners()))


def test_exif_that_leads_nowhere():
    for exif in (
        b"II*\0\xff\xff\xff\xff",
        b"MM",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x04\0\0\0" * 3,
    ):
        decode_rgb(saved(corners(), "png", exif=exif))


# --- transparency ---


def test_blending_is_that_of_real_numbers():
    """Every alpha on every value."""
    alpha, value = np.mgrid[:256, :256].astype(np.uint8)
    colours = np.repeat(value[..., None], 3, axis=2)
    share = alpha[..., None].astype(np.float32) / 255
    expected = np.rint(share * colours + (1 - share) * 255).astype(np.uint8)
    np.testing.assert_array_equal(on_white(colours, alpha[..., None]), expected)


def test_transparent_bands_join(monkeypatch):
    rng = np.random.default_rng(0)
    for kind, most in ((np.uint8, 255), (np.uint16, 65535)):
        pixels = rng.integers(0, most, (50, 31, 4), endpoint=True).astype(kind)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        whole = decode_rgb(data)
        with monkeypatch.context() as patch:
            patch.setattr(image_files, "_BAND", 31 * 7)
            np.testing.assert_array_equal(decode_rgb(data), whole)


@pytest.mark.parametrize("suffix", ["tiff", "avif", "png", "webp"])
def test_transparency(suffix):
    needs(suffix)
    image = Image.new("RGBA", (16, 16), (200, 0, 100, 51))
    quality = {"lossless": True} if suffix == "webp" else {"quality": 100}
    found = decode_rgb(saved(image, suffix, **quality)).reshape(-1, 3)
    assert np.abs(found.astype(int) - (244, 204, 224)).max() <= 2


def test_fourth_channel_of_a_tiff_that_is_no_alpha():
    image = Image.new("RGBA", (16, 16), (200, 0, 100, 51))
    data = saved(image, "tiff").replace(
        struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 0)
    )
    assert (decode_rgb(data) == (200, 0, 100)).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_ten_bits_of_avif(channels):
    needs("avif")
    deep = np.full((16, 16, channels), 1023, np.uint16)
    deep[..., :3] = 400
    depth = (cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100)
    found = decode_rgb(cv2.imencode(".avif", deep, depth)[1].tobytes())
    assert np.abs(found.astype(int) - 100).max() <= 2


def test_tiff_of_fractions_is_told():
    data = saved(Image.fromarray(np.zeros((8, 8), np.float32)), "tiff")
    with pytest.raises(DataError, match="TIFF .*float32 numbers: convert it to JPEG or PNG"):
        decode_rgb(data)


# --- bounds ---


def png_chunk(kind, body):
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def huge(kind, side=30_000):
    """A small file of a huge image; whole by its own account."""
    if kind == "png":
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    if kind == "jpeg":
        data = bytearray(saved(corners(), "jpeg"))
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        return bytes(data)
    if kind == "bmp":
        data = bytearray(saved(corners(), "bmp"))
        data[18:26] = struct.pack("<ii", side, -side)
        return bytes(data)
    if kind == "gif":
        data = bytearray(saved(corners(), "gif"))
        data[6:10] = struct.pack("<HH", side, side)
        return bytes(data)
    if kind == "webp":
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    if kind == "tiff":
        data = saved(corners(), "tiff")
        for tag, value in ((256, 80), (257, 48)):
            kinds = (3, 4)
            for code in kinds:
                old, new = (struct.pack("<HHII", tag, code, 1, v) for v in (value, side))
                data = data.replace(old, new)
        return data
    data = saved(corners(), "avif")
    where = data.index(b"ispe") + 8
    return data[:where] + struct.pack(">II", side, side) + data[where + 8 :]


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "webp", "tiff", "avif"])
def test_too_many_pixels_are_refused_by_the_header(kind, monkeypatch):
    data = huge(kind)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="30000x30000 pixels, more than the 250 million"):
        decode_rgb(data)
    with pytest.raises(DataError, match="more than the 50x50"):
        decode_rgb(huge(kind, 51) if kind != "webp" else huge(kind), side=50)


def test_the_largest_cameras_are_read():
    assert 16_320 * 12_240 < MAX_PIXELS


def test_too_little_memory_is_the_images_own_error(monkeypatch):
    def none_left(*_):
        raise MemoryError

    data = saved(corners(), "png")
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "imdecode", none_left)
        with pytest.raises(DataError, match="80x48 pixels need more memory"):
            decode_rgb(data)
    monkeypatch.setattr(cv2, "cvtColor", none_left)
    with pytest.raises(DataError, match="80x48 pixels need more memory"):
        decode_rgb(data)


def test_a_file_larger_than_any_image(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(10**13)  # Takes no space.
    with pytest.raises(DataError, match="10000.0 GB"):
        read_image_file(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="pipe or device"):
        read_image_file(tmp_path / "a.png")


# --- time ---

_SIZE = 4_000_000


def repeated(start, what):
    return start + what * (_SIZE // len(what))


@pytest.mark.parametrize(
    "data",
    [
        repeated(b"\xff\xd8", b"\xff"),
        repeated(b"\xff\xd8\xff\xe0\0\x02", b"\xff\xd8"),
        repeated(b"\xff\xd8\xff\xda\0\x02", b"\xff\xff\0"),
        repeated(b"\xff\xd8", b"\xff\xe0\0\0"),
        repeated(b"\xff\xd8", b"\xff\xe0\0\x02"),
        repeated(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff"),
        repeated(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0"),
        repeated(b"RIFF\0\0\x10\0WEBP", b"\0"),
        repeated(b"RIFF\0\0\x10\0WEBP", b"EXIF\0\0\0\0"),
        repeated(b"GIF89a", b"\0"),
        repeated(b"GIF89a", b"\x3b\0"),
        repeated(b"II*\0\x08\0\0\0\xff\xff", b"\x11\1\4\0\xff\xff\0\0\x08\0\0\0"),
        repeated(b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0", b"\x11\1\4\0"),
        repeated(b"\0\0\0\x10ftypavif\0\0\0\0", b"\0\0\0\x08free"),
        repeated(b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\0meta\0\0\0\0\0\0\0\0iprp", b"\0\0\0\0ipco"),
        repeated(b"<?xml", b"<!-"),
        repeated(b"", b" "),
        repeated(b"", b"\0"),
    ],
)
def test_millions_of_odd_bytes_are_judged_at_once(data):
    """In a thread, for what is not linear would take hours."""
    found = []

    def judge():
        try:
            decode_rgb(data)
        except DataError as error:
            found.append(error)

    thread = threading.Thread(target=judge, daemon=True)
    thread.start()
    thread.join(60)
    assert found


def test_a_photo_half_erased():
    """Erased flash memory reads as FF."""
    data = saved(Image.effect_noise((640, 480), 50), "jpeg")
    with pytest.raises(DataError, match="truncated or damaged JPEG"):
        decode_rgb(data[: len(data) // 2] + b"\xff" * 300_000)


# --- damage ---

FORMATS = ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"]


@pytest.mark.parametrize("suffix", ["tiff", "avif"])
def test_truncated_anywhere(suffix):
    needs(suffix)
    data = saved(corners(), suffix)
    assert decode_rgb(data).shape == (48, 80, 3)
    assert decode_rgb(data + b"\0 trailing bytes").shape == (48, 80, 3)
    for cut in (len(data) * 9 // 10, len(data) // 2, 30):
        with pytest.raises(DataError, match="truncated"):
            decode_rgb(data[:cut])


@pytest.mark.parametrize("suffix", FORMATS)
def test_any_damage_is_an_error_or_an_image(suffix):
    rng = np.random.default_rng(0)
    whole = (
        oriented(corners(), suffix, 6, "<")
        if suffix not in ("bmp", "gif")
        else saved(corners(), suffix)
    )
    for i in range(150):
        data = bytearray(whole)
        for _ in range(1 + i % 3):
            place = rng.integers(0, min(len(data), 200 if i % 2 else len(data)))
            data[place] = rng.integers(0, 256)
        if i % 5 == 0:
            del data[rng.integers(0, len(data)) :]
        try:
            image = decode_rgb(bytes(data))
        except DataError as error:
            assert str(error)
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo: convert it to JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC photo"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns=''>", "an SVG drawing"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"%PDF-1.7", "a PDF file"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera raw file: convert it to JPEG"),
        (b"<!DOCTYPE html><html>Log in", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"PK\3\4....", "a zip archive"),
        (b"dear diary", "not a JPEG, PNG, BMP, WebP or GIF file"),
    ],
)
def test_what_is_no_image_is_told(data, message):
    with pytest.raises(DataError, match=message):
        decode_rgb(data)


def test_a_thumbnail_is_not_taken_for_a_raw_photo():
    """As in NEF and ARW: the first picture is a small copy."""
    data = saved(corners(), "tiff", tiffinfo={254: 1})
    with pytest.raises(DataError, match="camera raw"):
        decode_rgb(data)


# --- words ---


def test_counts_and_lists():
    names = ["a.HEIC", "b.heif", "c.txt", "d", "e.nef"]
    assert counted(names, 3) == (
        "2 HEIC files (convert them to JPEG), 1 .txt file, 1 file without a suffix, 1 camera raw "
        "file (convert it to JPEG) and 3 folders"
    )
    assert counted([f"a.{i}" for i in range(8)]).endswith(" and 3 other files")
    assert counted([]) == ""
    assert some(["a"] * 7) == "a, a, a, a, a and 2 more"
    listed = in_lines("bad:", ["a\nb\x1b[31m", "caf\udce9", "x" * 5000])
    assert listed.startswith("bad:\n  a\\nb\\x1b[31m\n  caf\\udce9\n  xxx") and len(listed) < 400
