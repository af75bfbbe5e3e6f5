import logging
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.photos import list_photos, read_photo
from common.errors import DataError


def picture(height=20, width=30):
    rows = np.linspace(0, 255, height, dtype="uint8")[:, None]
    image = np.zeros((height, width, 3), "uint8")
    image[..., 0], image[..., 2] = rows, 255 - rows
    return image


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif"])
def test_every_format_in_its_own_size_red_first(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}")
    found = read_photo(tmp_path / f"a.{suffix}")
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture()).mean() < 12


def test_cmyk_has_the_right_colours(tmp_path):
    Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg")
    assert np.abs(read_photo(tmp_path / "a.jpg").mean((0, 1)) - (200, 30, 60)).max() < 8


def test_grey_transparent_and_16_bits(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 200 * 256, np.uint16))
    for name, value in (("grey", 77), ("clear", 255), ("deep", 200)):
        assert (read_photo(tmp_path / f"{name}.png") == value).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    found = read_photo(path)
    assert found.shape == (10, 12, 3)
    assert np.abs(found.mean((0, 1)) - (255, 0, 0)).max() < 6


def test_one_pixel_and_a_huge_photo(tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "one.png")
    assert read_photo(tmp_path / "one.png").tolist() == [[[9, 8, 7]]]
    cv2.imwrite(str(tmp_path / "huge.jpg"), np.zeros((9000, 12000, 3), np.uint8))
    assert read_photo(tmp_path / "huge.jpg").shape == (9000, 12000, 3)


def test_what_cannot_be_read_is_named(tmp_path):
    Image.fromarray(picture(200, 200)).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"dear diary")
    for name, problem in (
        ("cut", "truncated"),
        ("empty", "empty"),
        ("text", "not a JPEG"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(DataError, match=f"{name}.jpg.*{problem}"):
            read_photo(tmp_path / f"{name}.jpg")


def test_files_and_folders(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert [path.name for path in list_photos([tmp_path])] == ["a.png", "b.JPG"]
    assert list_photos([tmp_path / "b.JPG"]) == [tmp_path / "b.JPG"]
    with pytest.raises(DataError, match="no image"):
        list_photos([tmp_path / "empty"])
    with pytest.raises(DataError, match="no file or folder"):
        list_photos([tmp_path / "nowhere"])


def test_what_is_passed_over_is_told(tmp_path, caplog):
    for name in ("a.jpg", "b.HEIC", "c.heic", "d.txt", "Thumbs.db", ".x.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/e.tiff").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        assert list_photos([tmp_path]) == [tmp_path / "a.jpg"]
    (told,) = caplog.messages
    assert "2 HEIC files (convert them to JPEG), 1 .txt file and 1 folder with images" in told
    assert "--recursive" in told
    caplog.clear()
    assert list_photos([tmp_path], recursive=True) == [tmp_path / "a.jpg", tmp_path / "more/e.tiff"]
    assert "--recursive" not in caplog.text


def test_a_folder_of_other_photos_says_so(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"has no image: it has 1 HEIC file \(convert it to JPEG\)"):
        list_photos([tmp_path])


@pytest.mark.parametrize("suffix", "avif jfif jpe tif tiff gif".split())
def test_suffixes(tmp_path, suffix):
    (tmp_path / f"a.{suffix.upper()}").write_bytes(b"x")
    assert len(list_photos([tmp_path])) == 1


def test_a_photo_named_twice_is_listed_once(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    named = [tmp_path / "a.jpg", "a.jpg", ".", tmp_path / "b/../a.jpg", tmp_path / "b/a.jpg"]
    assert list_photos(named) == [tmp_path / "a.jpg", tmp_path / "b/a.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_links_in_circles_and_pipes(tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = [path.name for path in list_photos([tmp_path], recursive=True)]
    assert names == ["a.jpg", "gone.png", "self.png"]
    assert "1 .png file" in caplog.text
    for name in ("gone.png", "self.png"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read_photo(tmp_path / name)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        list_photos([tmp_path / "pipe.png"])


@pytest.mark.parametrize("name", ["x" * 5000, "a\nb\x1b[31m.png", "caf\udce9.jpg", "nul\0.png"])
def test_names_that_cannot_be(tmp_path, name):
    for read in (read_photo, lambda path: list_photos([path])):
        with pytest.raises(DataError) as error:
            read(tmp_path / name)
        str(error.value).encode()
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
