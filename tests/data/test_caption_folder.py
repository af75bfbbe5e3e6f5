"""Photos and captions of one's own: files of captions, splits, what is wrong with them."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.data import load_captions
from common.data.caption_folder import find_captions, read_caption_folder
from common.errors import ConfigError, DataError

NAMES = [f"p{i:02}.jpg" for i in range(20)]
# One caption each, in two languages.
ROWS = [
    (name, f'Ein "großer" Hund, Nr. {i}, läuft.' if i % 2 else f"A dog, number {i}, runs .")
    for i, name in enumerate(NAMES)
]


def photos(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3), 10 * i, np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def table(folder, rows=ROWS, name="captions.txt", header=("image", "caption")):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        lines = [json.dumps({"file_name": n, "text": t}, ensure_ascii=False) for n, t in rows]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
        return
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def found(folder):
    """Captions by image, and names by split."""
    splits, _ = read_caption_folder(folder)
    captions = {
        image: texts
        for data in splits.values()
        for image, texts in zip(data.names, data.captions, strict=True)
    }
    return captions, {split: data.names for split, data in splits.items()}


FORMS = {
    "captions.txt": ("image", "caption"),
    "metadata.csv": ("file_name", "text"),
    "metadata.jsonl": None,
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("place", [".", "Images", "a/b"])
def test_each_form_is_read_wherever_the_photos_lie(tmp_path, name, place):
    photos(tmp_path / place)
    table(tmp_path, ROWS, name, FORMS[name])
    captions, splits = found(tmp_path)
    image = (Path(place) / NAMES[1]).as_posix()
    assert captions[image] == ('Ein "großer" Hund, Nr. 1, läuft.',)
    assert {split: len(names) for split, names in splits.items()} == {
        "train": 16,
        "dev": 2,
        "test": 2,
    }
    train = read_caption_folder(tmp_path)[0]["train"]
    words = {word for image in train.references for words in image for word in words}
    assert {"großer", "läuft", "dog"} <= words
    assert train.read_image(0).shape == (4, 4, 3)


def test_columns_in_any_order_and_others_beside_them(tmp_path):
    photos(tmp_path)
    rows = [(text, "x", name) for name, text in ROWS]
    table(tmp_path, rows, "metadata.csv", ("text", "place", "file_name"))
    assert found(tmp_path)[0][NAMES[0]] == ("A dog, number 0, runs .",)


@pytest.mark.parametrize("name", FORMS)
def test_all_rows_of_an_image_are_its_captions(tmp_path, name):
    photos(tmp_path, NAMES[:3])
    rows = [(NAMES[0], f"caption {k}") for k in range(7)] + ROWS[1:3]
    table(tmp_path, rows, name, FORMS[name])
    captions, _ = found(tmp_path)
    assert captions[NAMES[0]] == tuple(f"caption {k}" for k in range(7))
    assert len(captions[NAMES[1]]) == 1


# Splits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dev", ["dev", "val", "validation"])
@pytest.mark.parametrize("above", [False, True])
def test_folders_name_the_splits(tmp_path, dev, above):
    """With a file of captions each, or with one above them."""
    of = {"train": NAMES[:10], dev: NAMES[10:13], "test": NAMES[13:14]}
    photos(tmp_path, [f"{folder}/{name}" for folder, names in of.items() for name in names])
    told = dict(ROWS)
    if above:
        table(tmp_path, [(f"{f}/{n}", told[n]) for f, names in of.items() for n in names])
    else:
        for folder, names in of.items():
            table(tmp_path / folder, [(n, told[n]) for n in names], "metadata.jsonl")
    captions, splits = found(tmp_path)
    assert splits["dev"] == tuple(f"{dev}/{name}" for name in NAMES[10:13])
    assert {split: len(names) for split, names in splits.items()} == {
        "train": 10,
        "dev": 3,
        "test": 1,
    }
    assert captions[f"test/{NAMES[13]}"] == (told[NAMES[13]],)


def test_folders_of_splits_within_a_folder_of_images(tmp_path):
    places = [f"images/validation/{n}" for n in NAMES[:3]] + [f"images/{n}" for n in NAMES[3:]]
    photos(tmp_path, places)
    table(tmp_path, [(place, "x") for place in places])
    assert found(tmp_path)[1]["dev"] == tuple(places[:3])


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_column_names_the_splits(tmp_path, name):
    photos(tmp_path)
    told = ["test", "validation", *["train"] * 18]
    rows = [{"file_name": n, "split": s, "text": "x"} for n, s in zip(NAMES, told, strict=True)]
    if name == "metadata.csv":
        table(tmp_path, [r.values() for r in rows], name, rows[0])
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    splits = found(tmp_path)[1]
    assert (splits["test"], splits["dev"]) == ((NAMES[0],), (NAMES[1],))


def test_what_no_folder_names_is_taken_from_train(tmp_path):
    for folder, names in (("train", NAMES[:16]), ("test", NAMES[16:])):
        photos(tmp_path / folder, names)
        table(tmp_path / folder, [(name, "a dog") for name in names])
    splits = found(tmp_path)[1]
    assert splits["test"] == tuple(f"test/{name}" for name in NAMES[16:])
    assert len(splits["dev"]) == 2 and len(splits["train"]) == 14
    assert {*splits["train"], *splits["dev"]} == {f"train/{name}" for name in NAMES[:16]}


def test_the_same_photos_are_divided_alike(tmp_path):
    """By their contents: whatever they are called, wherever they lie, in whatever order."""
    photos(tmp_path / "a")
    table(tmp_path / "a")
    other = {name: f"x{19 - i}.jpg" for i, name in enumerate(NAMES)}
    (tmp_path / "b" / "in").mkdir(parents=True)
    for name, new in other.items():
        shutil.copy(tmp_path / "a" / name, tmp_path / "b" / "in" / new)
    table(tmp_path / "b", [(other[name], text) for name, text in ROWS[::-1]])
    (_, a), (_, b) = found(tmp_path / "a"), found(tmp_path / "b")
    for split in a:
        assert {f"in/{other[name]}" for name in a[split]} == {*b[split]}
    assert len({name for names in a.values() for name in names}) == 20
    assert a["train"] != tuple(NAMES[:16])  # drawn, not cut


def test_copies_of_a_photo_stay_together(tmp_path):
    for copy in ("a", "b", "c"):
        photos(tmp_path / copy, NAMES[:3])
    table(tmp_path, [(f"{copy}/{name}", "a dog") for copy in "abc" for name in NAMES[:3]])
    for names in found(tmp_path)[1].values():
        assert len(names) == 3 and len({name[2:] for name in names}) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_to_divide(tmp_path, count):
    photos(tmp_path, NAMES[:count])
    table(tmp_path, ROWS[:count])
    with pytest.raises(DataError, match=f"captions of {count} images to train on, and one for dev"):
        find_captions(tmp_path)


def test_too_few_different_images_to_divide(tmp_path):
    for copy in ("a", "b"):
        photos(tmp_path / copy, NAMES[:2])
    table(tmp_path, [(f"{copy}/{name}", "a dog") for copy in "ab" for name in NAMES[:2]])
    with pytest.raises(DataError, match="captions of 2 images .* copies of a photo count once"):
        read_caption_folder(tmp_path)


def test_three_images_are_enough(tmp_path):
    photos(tmp_path, NAMES[:3])
    table(tmp_path, ROWS[:3])
    assert [len(names) for names in found(tmp_path)[1].values()] == [1, 1, 1]


# Names of the data set --------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path, "folder:{}".format])
def test_in_three_forms(tmp_path, form):
    photos(tmp_path / "my photos")
    table(tmp_path / "my photos")
    data = load_captions(form(tmp_path / "my photos"), "train")
    assert len(data) == 16 and data.name == "my photos"
    assert len(load_captions(form(tmp_path / "my photos"), "train", limit=5)) == 5
    with pytest.raises(ConfigError, match="train, dev, test. Received: 'valid'"):
        load_captions(form(tmp_path / "my photos"), "valid")


# What is wrong ----------------------------------------------------------------------------------


def no_file(folder):
    (folder / "captions.txt").rename(folder / "labels.txt")


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("image,caption")


def two_files(folder):
    table(folder, ROWS, "metadata.jsonl")


def two_layouts(folder):
    photos(folder / "train", NAMES[:1])
    table(folder / "train", ROWS[:1])


def split_without(folder):
    for split, names in (("train", NAMES), ("test", ["x.jpg"])):
        photos(folder / split, names)
    (folder / "captions.txt").rename(folder / "train" / "captions.txt")


def other_columns(folder):
    table(folder, ROWS, header=("photo", "words"))


def jsonl(line):
    def change(folder):
        (folder / "captions.txt").unlink()
        first = json.dumps({"file_name": NAMES[0], "text": "a dog"})
        (folder / "metadata.jsonl").write_text(f"{first}\n\n{line}\n")

    return change


def unknown_name(folder):
    table(folder, [*ROWS, ("nosuch.jpg", "a dog")])


def in_doubt(folder):
    for place in ("a", "b"):
        photos(folder / place, ["x.jpg"])
    table(folder, [*ROWS, ("x.jpg", "a dog")])


def too_long(folder):
    table(folder, [*ROWS, (NAMES[0], "dog " * 10_000)])


WRONG = {
    no_file: "own has no captions: no metadata.jsonl, metadata.csv, captions.txt .* 20 .jpg files",
    a_file: "own is a file. Give the folder that it lies in.",
    two_files: "several files of captions .*: metadata.jsonl, captions.txt. Keep one",
    two_layouts: "several files of captions .*: captions.txt, train/captions.txt. Keep one",
    split_without: "images in test, and no file of captions, as in train",
    other_columns: "captions.txt, line 1: the header must be image,caption or file_name,text",
    jsonl("{"): "metadata.jsonl, line 3: no JSON object with `file_name` and `text`: '{'",
    jsonl('{"file_name": "p01.jpg"}'): "metadata.jsonl, line 3: no JSON object with `file_name`",
    jsonl('{"file_name": "p01.jpg", "text": null}'): "metadata.jsonl:3: the caption must be a tex",
    jsonl('{"file_name": "p01.jpg", "text": "a", "split": "x"}'): "line 3: split is none of train",
    unknown_name: r"captions.txt: 1 of 21 names are no image files .*\(line 22: nosuch.jpg\)",
    in_doubt: r"1 of 21 names .*Some may be several files: x.jpg: a/x.jpg or b/x.jpg",
    too_long: "captions.txt:22: a caption of 40,000 characters",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_told(tmp_path, change):
    folder = tmp_path / "own"
    photos(folder)
    table(folder)
    change(folder)
    with pytest.raises(DataError, match=WRONG[change]) as error:
        find_captions(folder)
    assert len(str(error.value)) < 1000


def test_what_is_left_out_is_told(tmp_path, caplog):
    photos(tmp_path)
    table(tmp_path, [*ROWS[:17], (NAMES[17], "..."), ("P18.PNG", "猫が赤い敷物の上で眠っています")])
    data = {split: load_captions(tmp_path, split) for split in ("train", "dev", "test")}
    assert sum(map(len, data.values())) == 18
    for told in (
        f"2 image files without a caption ({NAMES[17]}, {NAMES[19]})",
        "1 empty captions (captions.txt:19)",
        f"1 names are written otherwise than their files (P18.PNG for {NAMES[18]})",
        "1 captions have no blanks between their words",
    ):
        assert told in caplog.text
    assert "fewer than 5 captions" not in caplog.text
    assert " photos to learn from. That shows that all works; captions that make" in caplog.text
