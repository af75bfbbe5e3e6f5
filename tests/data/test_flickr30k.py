"""Flickr30k in its three forms, a few images each."""

import csv
import json

import cv2
import numpy as np
import pytest

from common.data import flickr30k, load_captions
from common.data.flickr30k import load_flickr30k, read_flickr30k
from common.errors import ConfigError, DataError

NAMES = [f"{i:03}.jpg" for i in range(60)]
HEADER = "image_name| comment_number| comment"


def images(folder, names=NAMES):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((4, 4, 3), i, np.uint8))


def table(names=NAMES):
    return [HEADER] + [f"{n}| {k}|  A man number {k} | sits ." for n in names for k in range(5)]


def as_csv(root, lines=None, folder="flickr30k_images"):
    images(root / folder)
    (root / "results.csv").write_text("\n".join(lines or table()) + "\n")
    return root


def karpathy(names=NAMES):
    def split(i):
        return ("train", "val", "test")[i % 3]

    return {
        "dataset": "flickr30k",
        "images": [
            {
                "filename": name,
                "split": split(i),
                "imgid": i,
                "sentences": [{"raw": f"Girl {k} jumps .", "tokens": []} for k in range(5)],
            }
            for i, name in enumerate(names)
        ],
    }


def test_table_and_split_by_order(tmp_path, monkeypatch):
    splits, report = read_flickr30k(as_csv(tmp_path / "flickr30k"))
    assert {split: len(data) for split, data in splits.items()} == {
        "train": 56,
        "dev": 2,
        "test": 2,
    }
    assert splits["test"].names == ("029.jpg", "059.jpg")
    assert splits["dev"].captions[0][1] == "A man number 1 | sits ."
    assert (splits["train"].read_image(3) == 3).all()
    assert str(report) == "Nothing was left out."
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert load_captions("flickr30k", "train", 3).names == tuple(NAMES[:3])


def test_the_published_line_without_its_second_bar(tmp_path):
    lines = table()
    lines[5] = f"{NAMES[0]}| 4   A dog runs across the grass ."
    splits, _ = read_flickr30k(as_csv(tmp_path, lines))
    assert splits["train"].captions[0][4] == "A dog runs across the grass ."


def test_folder_in_folder_of_kaggle(tmp_path):
    outer = tmp_path / "flickr-image-dataset" / "flickr30k_images"
    images(outer / "flickr30k_images")
    (outer / "results.csv").write_text("\n".join(table()) + "\n")
    assert len(load_flickr30k("train", tmp_path)) == 56


@pytest.mark.parametrize(
    "folder, header, row",
    [
        ("Images", "image,caption", "{name},{text}"),
        ("Images", "image_name,comment_number,comment", '{name},{k},"{text}"'),
        ("flickr30k_images", "image_name,comment_number,comment", "{name},{k}, {text}"),
        ("flickr30k_images", ",image_name,comment_number,comment", "0,{name},{k},{text}"),
    ],
)
def test_tables_of_the_other_copies_at_kaggle(tmp_path, folder, header, row):
    images(tmp_path / folder)
    text = "Two men, a dog ."
    rows = [row.format(name=name, k=k, text=text) for name in NAMES for k in range(5)]
    (tmp_path / "captions.txt").write_text("\n".join([header, *rows]))
    splits, report = read_flickr30k(tmp_path)
    assert len(splits["train"]) == 56 and splits["train"].captions[0] == (text,) * 5
    assert str(report) == "Nothing was left out."


def test_hugging_faces_table_and_its_split(tmp_path):
    images(tmp_path / "flickr30k-images")
    with open(tmp_path / "flickr_annotations_30k.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for i, name in enumerate(NAMES):
            raw = json.dumps([f'A "man", {k} .' for k in range(5)])
            writer.writerow([raw, "[0, 1]", ("train", "val", "test")[i % 3], name, i])
    dev = load_flickr30k("dev", tmp_path)
    assert dev.names == tuple(NAMES[1::3]) and dev.captions[0][2] == 'A "man", 2 .'


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".jpeg"])
def test_images_of_other_suffixes(tmp_path, suffix):
    as_csv(tmp_path, folder="ignored")
    images(tmp_path / "flickr30k_images", [name.replace(".jpg", suffix) for name in NAMES])
    splits, report = read_flickr30k(tmp_path)
    assert splits["test"].names == (f"029{suffix}", f"059{suffix}")
    assert len(report.other_spellings) == 60


def test_tokens_and_karpathys_split(tmp_path):
    images(tmp_path / "flickr30k-images")
    lines = [f"{n}#{k}\tTwo women {k} ." for n in NAMES for k in range(5)]
    (tmp_path / "results_20130124.token").write_text("\n".join(lines) + "\n")
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps(karpathy()))
    dev = load_flickr30k("dev", tmp_path)
    assert dev.names == tuple(NAMES[1::3]) and dev.captions[0][0] == "Two women 0 ."


def test_karpathys_file_alone(tmp_path):
    images(tmp_path / "Images")
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps(karpathy()))
    test = load_flickr30k("test", tmp_path)
    assert test.names == tuple(NAMES[2::3]) and test.references[0][3] == ["girl", "3", "jumps"]


def test_few_captions_are_told_and_kept(tmp_path, caplog):
    lines = table()
    del lines[3]
    lines[8] = f"{NAMES[1]}| 3| ."
    data = load_flickr30k("train", as_csv(tmp_path, lines))
    assert [len(captions) for captions in data.captions[:3]] == [4, 4, 5]
    assert "2 images have fewer than 5 captions (000.jpg, 001.jpg); they are kept" in caplog.text
    assert "results.csv:9" in caplog.text


@pytest.mark.parametrize("line", ["nothing of the kind", "001.jpg| one| a man", "001.jpg"])
def test_a_bad_row_is_named(tmp_path, line):
    lines = table()
    lines.insert(7, line)
    with pytest.raises(DataError, match="results.csv, line 8: "):
        read_flickr30k(as_csv(tmp_path, lines))


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match="line 1: the header must be .*image_name"):
        read_flickr30k(as_csv(tmp_path / "header", table()[1:]))
    folder = as_csv(tmp_path / "json")
    path = folder / "dataset_flickr30k.json"
    path.write_text("[]")
    with pytest.raises(DataError, match="dataset_flickr30k.json"):
        read_flickr30k(folder)
    content = karpathy()
    del content["images"][4]["split"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images\[4\]: .split. is missing"):
        read_flickr30k(folder)
    content = karpathy([*NAMES, NAMES[7]])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images\[60\]: 007.jpg comes twice"):
        read_flickr30k(folder)
    (folder / "flickr30k_images" / NAMES[5]).unlink()
    path.write_text(json.dumps(karpathy()))
    with pytest.raises(DataError, match="1 images of the test list are not in .*005.jpg"):
        read_flickr30k(folder)
    with pytest.raises(ConfigError, match="split must be one of"):
        load_flickr30k("val", folder)


def test_absent_and_no_network(tmp_path, monkeypatch, capsys):
    def no_network(urls, path, sha256, **_):
        raise DataError("no network")

    monkeypatch.setattr(flickr30k, "download", no_network)
    wanted = "could not be downloaded.\n.*\nKaggle gives it.*\n.*dataset=.synthetic"
    with pytest.raises(DataError, match=wanted):
        load_flickr30k("train", tmp_path)
    told = f"Flickr30k is not in {tmp_path} (there is nothing): downloading 4.4 GB"
    assert capsys.readouterr().err.startswith(told)
