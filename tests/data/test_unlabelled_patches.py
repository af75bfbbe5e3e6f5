"""Patches that nobody has labelled; wrong folders stand in tests/course/test_predict.py."""

import os

import numpy as np
import pytest
from small_slides import add, png

from common.data.histopathology import PatchList
from common.data.unlabelled_patches import find_patches, slide_cells
from common.errors import DataError


def patch(path, value=0, shape=(50, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(np.full((*shape, 3), value, np.uint8)))


def test_patients_and_places(tmp_path, caplog):
    for name in ("b/P_x7_y3.png", "b/box7_y3.png", "a/2.jpeg", "a/1_idx5_x51_y1251_class1.png"):
        patch(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("")
    patches = find_patches(tmp_path)
    assert patches.patients.tolist() == ["a", "b"]
    assert patches.files == ["a/1_idx5_x51_y1251_class1.png", "a/2.jpeg"] + [
        "b/P_x7_y3.png",
        "b/box7_y3.png",
    ]
    assert patches.rows[["x", "y"]].tolist() == [(51, 1251), (-1, -1), (7, 3), (-1, -1)]
    assert "passed over 1 .txt file" in caplog.text


def test_pixels(tmp_path):
    patch(tmp_path / "a.png", 7)
    patch(tmp_path / "b.png", 9, (30, 50))
    patches = find_patches(tmp_path)
    assert patches.patients.tolist() == [tmp_path.name]
    images = patches.read(0, 2)
    assert images.shape == (2, 50, 50, 3) and images.mean(axis=(1, 2, 3)).tolist() == [7, 9]
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 files cannot be read(.|\n)*a.png: (.|\n)*b.png: empty"):
        patches.read(0, 2)


def test_labelled_patches_are_found_too(tmp_path):
    add(tmp_path, "9", 1, 1, 0)
    assert isinstance(find_patches(tmp_path), PatchList)


@pytest.mark.parametrize("what", ["nowhere", "file", "empty", "link"])
def test_no_patch(tmp_path, what):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    if hasattr(os, "symlink"):
        (tmp_path / "link").mkdir()
        (tmp_path / "link" / "a.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=what):
        find_patches(tmp_path / what)


NAN = np.nan


@pytest.mark.parametrize(
    "x, y, expected",
    [
        ([51, 101, 51], [1, 1, 101], [[0, 1], [NAN, NAN], [2, NAN]]),  # half a slide's step apart
        ([5], [9], [[0]]),
        ([0, 1], [0, 0], [[0, 1]]),  # counted in patches
        ([0, 0, 224], [0, 0, 224], [[0.5, NAN], [NAN, 2]]),  # two in one place
    ],
)
def test_cells_of_a_slide(x, y, expected):
    np.testing.assert_equal(slide_cells(x, y, np.arange(len(x))), expected)


def test_places_far_apart_take_no_more_memory():
    cells = slide_cells([0, 1, 10**9 - 1], [0, 0, 10**9 - 1], [1, 2, 3])
    assert max(cells.shape) <= 1001 and np.nanmax(cells) == 3
