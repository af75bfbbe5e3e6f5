"""Many photos: block by block, read and computed ahead of their words."""

import json
import os
import threading
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_caption import Namer, call, namer, photos

from common.course import caption

__all__ = ["namer", "photos"]


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Four blocks of two photos: two that can be read, one, none, two."""
    monkeypatch.setattr(caption, "_BLOCK", 2)
    folder = tmp_path / "many"
    folder.mkdir()
    for i, colour in enumerate((2, 0, 1, None, None, None, 2, 1)):  # blue first
        if colour is None:
            (folder / f"{i}.jpg").write_text("dear diary")
            continue
        pixels = np.zeros((50, 40, 3), np.uint8)
        pixels[..., colour] = 250
        cv2.imwrite(str(folder / f"{i}.jpg"), pixels)
    return folder


def test_blocks_come_in_order_with_unreadable_photos_between(namer, many, tmp_path):
    result = call(many, "--output", tmp_path / "o.json")
    expected = ["0.jpg: a red", "1.jpg: a blue", "2.jpg: a green", "6.jpg: a red", "7.jpg: a green"]
    assert [line.split("/")[-1].split(" (")[0] for line in result.stdout.splitlines()] == expected
    captions = json.loads((tmp_path / "o.json").read_text())
    assert [f"{Path(c['image']).name}: {c['caption']}" for c in captions] == expected
    left = [line for line in result.stderr.splitlines() if "Left out" in line]
    assert [line.split(".jpg")[0][-1] for line in left] == ["3", "4", "5"]
    assert [asked[0] for asked in Namer.asked] == [2, 1, 2]


def test_the_next_block_is_computed_while_words_are_written(namer, photos, monkeypatch):
    monkeypatch.setattr(caption, "_BLOCK", 1)
    see, write = Namer.features, Namer.scored_captions
    computed, waited = [threading.Event() for _ in range(3)], []
    coming = iter(computed)

    def features(self, images):
        assert [image.shape for image in images] == [(8, 8, 3)]
        next(coming).set()
        return see(self, images)

    def scored_captions(self, *given, **options):
        waited.append(computed[min(len(waited) + 1, 2)].wait(20))
        return write(self, *given, **options)

    monkeypatch.setattr(Namer, "features", features)
    monkeypatch.setattr(Namer, "scored_captions", scored_captions)
    assert call(photos).exit_code == 0 and waited == [True] * 3


@pytest.mark.parametrize("figures, most", [(False, 1), (True, 5)])  # one is being read
def test_two_blocks_are_in_memory_at_most(namer, many, tmp_path, monkeypatch, figures, most):
    for i in (3, 4, 5):
        os.link(many / "0.jpg", tmp_path / "link")
        os.replace(tmp_path / "link", many / f"{i}.jpg")
    shrink, write, images, alive = caption._shrunk, Namer.scored_captions, [], []

    def shrunk(image, size):
        small = shrink(image, size)
        images.append(weakref.ref(small))
        return small

    def scored_captions(self, *given, **options):
        alive.append(sum(image() is not None for image in images))
        return write(self, *given, **options)

    monkeypatch.setattr("common.plots.attention_words", lambda *_, **__: None)
    monkeypatch.setattr("common.plots.save_figure", lambda *_, **__: None)
    monkeypatch.setattr(caption, "_READERS", 1)
    monkeypatch.setattr(caption, "_shrunk", shrunk)
    monkeypatch.setattr(Namer, "scored_captions", scored_captions)
    assert call(many, *(["--attention", tmp_path / "f"] if figures else [])).exit_code == 0
    assert len(alive) == 4 and max(alive) <= most
