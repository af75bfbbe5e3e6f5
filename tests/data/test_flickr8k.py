import csv
import io
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.data import Vocabulary, flickr8k, load_captions
from common.data.captions import CaptionData
from common.data.flickr8k import load_flickr8k, read_flickr8k
from common.errors import ConfigError, DataError

NAMES = [f"{i}_ab.jpg" for i in range(16)]
QUIRK = "2258277193_586949ec62.jpg.1"


def images(folder, names=NAMES):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((4, 4, 3), i, np.uint8))


def token_lines(names=NAMES):
    return [f"{name}#{k}\tA dog number {k} runs, fast ." for name in names for k in range(5)]


def official(root, lines=None, text=".", folder="Flicker8k_Dataset"):
    """The official layout on disk."""
    images(root / folder)
    (root / text).mkdir(exist_ok=True)
    (root / text / "Flickr8k.token.txt").write_text("\n".join(lines or token_lines()) + "\n")
    for split, names in (("train", NAMES[:12]), ("dev", NAMES[12:14]), ("test", NAMES[14:])):
        (root / text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.mark.parametrize("text", [".", "Flickr8k_text"])
@pytest.mark.parametrize("folder", ["Images", "Flicker8k_Dataset"])
def test_official_layout(tmp_path, text, folder):
    splits, report = read_flickr8k(official(tmp_path, text=text, folder=folder))
    assert {split: len(data) for split, data in splits.items()} == {
        "train": 12,
        "dev": 2,
        "test": 2,
    }
    dev = splits["dev"]
    assert dev.names == tuple(NAMES[12:14])
    assert dev.captions[0][1] == "A dog number 1 runs, fast ."
    assert dev.references[0][1] == ["a", "dog", "number", "1", "runs", "fast"]
    assert (dev.read_image(1) == 13).all()
    assert str(report) == "Nothing was left out."


def test_quirks_are_left_out_and_counted(tmp_path, caplog):
    lines = token_lines()
    lines += [f"{QUIRK}#{k}\tsome words" for k in range(5)]
    lines[3] = f"{NAMES[0]}#3\t ."
    official(tmp_path, lines)
    (tmp_path / "Flicker8k_Dataset" / "untold.jpg").write_bytes(b"")
    splits, report = read_flickr8k(tmp_path)
    assert report.unknown_names == [QUIRK]
    assert report.images_without_captions == ["untold.jpg"]
    assert report.empty_captions == ["Flickr8k.token.txt:4"]
    assert len(splits["train"].captions[0]) == 4
    load_flickr8k("dev", tmp_path)
    assert QUIRK in caplog.text
    assert "token.txt:4" in caplog.text


def kaggle(root, rows):
    images(root / "Images")
    with open(root / "captions.txt", "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])


def test_kaggle_layout_with_commas_and_quotes(tmp_path):
    rows = [(name, f'Dogs, "big" ones, {k}') for name in NAMES for k in range(5)]
    kaggle(tmp_path, rows)
    splits, _ = read_flickr8k(tmp_path)
    assert {split: len(data) for split, data in splits.items()} == {
        "train": 12,
        "dev": 2,
        "test": 2,
    }
    assert splits["train"].captions[0][2] == 'Dogs, "big" ones, 2'
    names = [name for data in splits.values() for name in data.names]
    assert sorted(names) == sorted(NAMES)


def test_kaggle_table_without_header(tmp_path):
    images(tmp_path / "Images")
    (tmp_path / "captions.txt").write_text("a.jpg,dogs\n")
    with pytest.raises(DataError, match="line 1.*image,caption"):
        read_flickr8k(tmp_path)


@pytest.mark.parametrize("line", ["no tab here", f"{NAMES[0]}#0 a dog", f"{NAMES[0]}\ta dog"])
def test_a_line_that_is_no_caption_is_named(tmp_path, line):
    lines = token_lines()
    lines.insert(7, line)
    with pytest.raises(DataError, match="token.txt, line 8"):
        read_flickr8k(official(tmp_path, lines))


def test_bytes_that_are_no_text(tmp_path):
    official(tmp_path)
    path = tmp_path / "Flickr8k.token.txt"
    path.write_bytes(path.read_bytes().replace(b"A dog number 2", b"A dog \xff 2", 1))
    with pytest.raises(DataError, match="token.txt, line 3"):
        read_flickr8k(tmp_path)


def test_an_image_that_is_not_on_disk(tmp_path):
    official(tmp_path)
    (tmp_path / "Flicker8k_Dataset" / NAMES[3]).unlink()
    with pytest.raises(DataError, match=f"1 images of the train list are not in .*{NAMES[3]}"):
        read_flickr8k(tmp_path)


def test_an_image_that_lost_its_captions(tmp_path):
    lines = [f"{NAMES[1]}#{k}\t" if line.startswith(f"{NAMES[1]}#") else line
             for k, line in enumerate(token_lines())]  # fmt: skip
    with pytest.raises(DataError, match=f"train list have no caption.*{NAMES[1]}"):
        read_flickr8k(official(tmp_path, lines))


def test_lists_that_overlap(tmp_path):
    official(tmp_path)
    with open(tmp_path / "Flickr_8k.testImages.txt", "a") as file:
        file.write(NAMES[2] + "\n")
    with pytest.raises(DataError, match=f"trainImages.*testImages.*{NAMES[2]}"):
        read_flickr8k(tmp_path)


def test_lists_that_repeat_or_lack(tmp_path):
    official(tmp_path)
    with open(tmp_path / "Flickr_8k.testImages.txt", "a") as file:
        file.write(NAMES[14] + "\n")
    with pytest.raises(DataError, match="testImages.txt names images twice"):
        read_flickr8k(tmp_path)
    (tmp_path / "Flickr_8k.testImages.txt").unlink()
    with pytest.raises(DataError, match="lacks Flickr_8k.testImages.txt"):
        read_flickr8k(tmp_path)


def test_unknown_split_and_data_set():
    with pytest.raises(ConfigError, match="split must be"):
        load_flickr8k("valid")
    with pytest.raises(ConfigError, match="flickr8k:"):
        load_captions("flickr9k", "train")


def test_downloaded_where_absent(tmp_path, monkeypatch):
    """The archives as they are published, from a mirror that answers."""
    source = official(tmp_path / "source", text="Flickr8k_text")
    archives = {}
    for name, inside in (("Flickr8k_text.zip", "Flickr8k_text"), ("Flickr8k_Dataset.zip", None)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            folder = source / (inside or "Flicker8k_Dataset")
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name if inside else f"{folder.name}/{file.name}")
        archives[name] = buffer.getvalue()

    def fetch(urls, path, sha256):
        assert [Path(url).name for url in urls] == [path.name] * len(flickr8k.MIRRORS)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archives[path.name])
        return path

    monkeypatch.setattr(flickr8k, "download", fetch)
    splits, _ = read_flickr8k(tmp_path / "flickr8k")
    assert len(splits["train"]) == 12


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    def fail(*arguments):
        raise DataError("no line")

    monkeypatch.setattr(flickr8k, "download", fail)
    with pytest.raises(DataError, match="Put the images into .*Images"):
        read_flickr8k(tmp_path / "flickr8k")


@pytest.mark.skipif(
    not (Path(os.environ.get("COURSE_DATA", "data")) / "flickr8k").is_dir(),
    reason="no flickr8k under COURSE_DATA",
)
def test_the_real_files():
    splits, _ = read_flickr8k()
    assert len(splits["train"]) == 6000
    for data in splits.values():
        assert {len(captions) for captions in data.captions} == {5}
        assert data.read_image(0).shape[-1] == 3
    train = splits["train"].references
    vocabulary = Vocabulary.build((caption for image in train for caption in image), 5)
    assert 2450 < len(vocabulary) < 2600


def test_caption_data_checks_itself():
    with pytest.raises(DataError, match="no image"):
        CaptionData((), (), "x", "train")
    with pytest.raises(DataError, match="a.jpg comes twice"):
        CaptionData(("a.jpg", "a.jpg"), (("b",), ("c",)), "x", "train")
    with pytest.raises(DataError, match="a.jpg has no caption"):
        CaptionData(("a.jpg",), ((),), "x", "train")
    with pytest.raises(DataError, match="captions of 1"):
        CaptionData(("a.jpg", "b.jpg"), (("b",),), "x", "train")


def test_subset_and_limit():
    data = load_captions("synthetic", "dev", limit=6)
    assert len(data) == 6
    part = data.subset([4, 1])
    assert part.names == (data.names[4], data.names[1])
    assert part.captions[0] == data.captions[4]
    assert (part.read_image(0) == data.read_image(4)).all()
