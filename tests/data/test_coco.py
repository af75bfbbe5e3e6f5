"""MSCOCO in its own files, a few images; a drawn part of it."""

import json

import cv2
import numpy as np
import pytest

from common.data import coco, load_captions
from common.data.coco import load_coco
from common.errors import ConfigError, DataError

COUNTS = {"train2017": 12, "val2017": 6}
FIRST = {"train2017": 0, "val2017": 500}


def annotations(part):
    numbers = [FIRST[part] + 7 * i for i in range(COUNTS[part])]
    return {
        "info": {},
        "images": [
            {"id": n, "file_name": f"{n:012d}.jpg", "coco_url": "http://"} for n in numbers[::-1]
        ],
        "annotations": [
            {"id": 10 * n + k, "image_id": n, "caption": f"A cat number {k} on {n}. "}
            for k in range(6)
            for n in numbers
        ],
    }


def write(root, changed=None, images=True):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part in COUNTS:
        content = annotations(part)
        if changed and part == "train2017":
            changed(content)
        path = root / "annotations" / f"captions_{part}.json"
        path.write_text(json.dumps(content))
        (root / part).mkdir(exist_ok=True)
        for image in annotations(part)["images"] if images else ():
            pixels = np.full((4, 4, 3), image["id"] % 250, np.uint8)
            cv2.imwrite(str(root / part / image["file_name"]), pixels)
    return root


def test_a_drawn_part(tmp_path, monkeypatch):
    write(tmp_path / "coco")
    train = load_coco("train", tmp_path / "coco", images=5)
    assert len(train) == 5 and list(train.names) == sorted(train.names)
    assert train.names == load_coco("train", tmp_path / "coco", images=5).names
    assert train.names != load_coco("train", tmp_path / "coco", images=5, seed=1).names
    number = int(train.names[2].removeprefix("train2017/").removesuffix(".jpg"))
    # The first five of six, in the file's order.
    assert train.captions[2] == tuple(f"A cat number {k} on {number}." for k in range(5))
    assert (train.read_image(2) == number).all()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert load_captions("coco:5", "train").names == train.names
    assert len(load_captions("coco", "train")) == 12


def test_dev_and_test_are_apart(tmp_path):
    write(tmp_path)
    dev, test = (load_coco(split, tmp_path) for split in ("dev", "test"))
    assert len(dev) == len(test) == 3 and not set(dev.names) & set(test.names)
    assert all(name.startswith("val2017/") for name in dev.names + test.names)


def karpathy(root):
    numbers = [0, 7, 14, 500, 507, 514]
    splits = ["train", "restval", "val", "train", "test", "val"]
    images = [
        {
            "filename": f"COCO_val2014_{n:012d}.jpg",
            "cocoid": n,
            "split": split,
            "sentences": [{"raw": "as it was"}],
        }
        for n, split in zip(numbers, splits, strict=True)
    ]
    (root / "dataset_coco.json").write_text(json.dumps({"images": images}))


def test_karpathys_split(tmp_path, monkeypatch):
    write(tmp_path / "coco")
    karpathy(tmp_path / "coco")
    train = load_coco("train", tmp_path / "coco", karpathy=True)
    assert train.names == tuple(
        f"{part}/{n:012d}.jpg" for part, n in (("train2017", 0), ("train2017", 7), ("val2017", 500))
    )
    assert train.captions[0][0] == "A cat number 0 on 0."
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert len(load_captions("coco-karpathy:1", "dev")) == 1
    with pytest.raises(ConfigError, match="No captioned data set is named 'coco-karpathy:x'"):
        load_captions("coco-karpathy:x", "dev")


def test_only_what_is_drawn_is_downloaded(tmp_path, monkeypatch):
    write(tmp_path, images=False)
    asked = []

    def arrive(urls, path, sha256, **_):
        asked.append(urls[0])
        path.write_bytes(b"")

    monkeypatch.setattr(coco, "download", arrive)
    train = load_coco("train", tmp_path, images=4, progress=False)
    assert sorted(asked) == [f"http://images.cocodataset.org/{name}" for name in train.names]
    asked.clear()
    load_coco("train", tmp_path, images=4, progress=False)
    assert not asked


def test_no_network(tmp_path, monkeypatch):
    def no_network(urls, path, sha256, **_):
        raise DataError("no network")

    monkeypatch.setattr(coco, "download", no_network)
    with pytest.raises(DataError, match="captions_train2017.json does not exist and could not be"):
        load_coco("train", tmp_path)
    write(tmp_path, images=False)
    with pytest.raises(DataError, match="(?s)4 of 4 images are not in .*what has arrived is kept"):
        load_coco("train", tmp_path, images=4, progress=False)
    with pytest.raises(DataError, match="dataset_coco.json is not in"):
        load_coco("train", tmp_path, karpathy=True)


def drop(key):
    return lambda content: content.pop(key)


def unknown(content):
    content["annotations"][3]["image_id"] = 99


def nameless(content):
    del content["images"][2]["file_name"]


def silent(content):
    del content["annotations"][1]["caption"]


@pytest.mark.parametrize(
    "changed, message",
    [
        (drop("annotations"), "captions_train2017.json has no list `annotations`"),
        (drop("images"), "captions_train2017.json has no list `images`"),
        (unknown, r"annotations\[3\] is of the image 99, which is not among `images`"),
        (nameless, r"images\[2\]: `id` or `file_name` is missing"),
        (silent, r"annotations\[1\]: `image_id` or `caption` is missing"),
    ],
)
def test_damaged_annotations(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        load_coco("train", write(tmp_path, changed))


def test_few_captions_are_told_and_kept(tmp_path, caplog):
    def few(content):
        content["annotations"] = [
            a for a in content["annotations"] if a["image_id"] or int(a["id"]) < 3
        ]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 14]

    train = load_coco("train", write(tmp_path, few))
    assert len(train) == 11 and len(train.captions[0]) == 3
    assert "1 images have fewer than 5 captions (train2017/000000000000.jpg)" in caplog.text
    assert "1 image files without a caption (000000000014.jpg)" in caplog.text


def test_bad_arguments(tmp_path):
    with pytest.raises(ConfigError, match="split must be one of"):
        load_coco("val", tmp_path)
    with pytest.raises(ConfigError, match="images must be at least 1"):
        load_coco("dev", tmp_path, images=0)
