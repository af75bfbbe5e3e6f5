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
