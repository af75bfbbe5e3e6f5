"""MSCOCO in its own files, a few images; a drawn part of it."""

import http.server
import io
import json
import threading
import zipfile

import cv2
import numpy as np
import pytest

from common.data import coco, load_captions
from common.data.caption_files import CaptionReport
from common.data.coco import load_coco
from common.data.karpathy import read_karpathy
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
    with pytest.raises(ConfigError, match="No data set and no folder is named 'coco-karpathy:x'"):
        load_captions("coco-karpathy:x", "dev")


def test_only_what_is_drawn_is_downloaded(tmp_path, monkeypatch, capsys):
    write(tmp_path, images=False)
    asked = []

    def arrive(urls, path, sha256, **_):
        asked.append(urls[0])
        path.write_bytes(b"\xff\xd8")

    monkeypatch.setattr(coco, "download", arrive)
    train = load_coco("train", tmp_path, images=4, progress=False)
    assert sorted(asked) == [f"{coco.HOSTS[0]}/{name}" for name in train.names]
    assert coco.HOSTS[0].startswith("https://")
    told = capsys.readouterr().err
    assert told.startswith(f"4 of 4 photos of COCO are not in {tmp_path} (")
    assert "): downloading some 1 MB (dataset=" in told
    asked.clear()
    few = load_coco("dev", tmp_path, limit=1, progress=False)
    assert asked == [f"{coco.HOSTS[0]}/{name}" for name in few.names] and len(few) == 1
    capsys.readouterr()
    asked.clear()
    load_coco("train", tmp_path, images=4, progress=False)
    assert not asked and not capsys.readouterr().err
    # As earlier versions kept what a log-in page sent.
    wrong = tmp_path / train.names[1]
    for content in (b"<html>Sign in</html>", b""):
        wrong.write_bytes(content)
        load_coco("train", tmp_path, images=4, progress=False)
        assert asked == [f"{coco.HOSTS[0]}/{train.names[1]}"]
        asked.clear()


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.server.answers.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture
def server(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        httpd.answers = {}
        url = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(coco, "HOSTS", (f"{url}/closed", url))
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield httpd
        httpd.shutdown()


def test_photos_come_without_a_file_beside_each(server, tmp_path):
    names = load_coco("train", write(tmp_path), images=12).names
    write(tmp_path / "source")
    server.answers = {f"/{n}": (tmp_path / "source" / n).read_bytes() for n in names}
    for name in names:
        (tmp_path / name).unlink()
    load_coco("train", tmp_path, progress=False)
    assert sorted(p.name for p in (tmp_path / "train2017").iterdir()) == [n[10:] for n in names]
    # A page instead of one: never kept.
    (tmp_path / names[3]).unlink()
    server.answers[f"/{names[3]}"] = b"<html><title>Sign in</title></html>"
    with pytest.raises(DataError, match="(?s)1 of 12 photos.*a web page, 'Sign in'"):
        load_coco("train", tmp_path, progress=False)
    assert not (tmp_path / names[3]).exists()


def test_annotations_are_downloaded_once(server, tmp_path):
    write(tmp_path / "source")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for path in (tmp_path / "source" / "annotations").iterdir():
            zipped.write(path, f"annotations/{path.name}")
    folder = write(tmp_path / "coco")
    own = folder / "annotations" / "captions_val2017.json"
    text = own.read_text() + "\n"
    own.write_text(text)
    (folder / "annotations" / "captions_train2017.json").unlink()
    server.answers[f"/{coco.ANNOTATIONS}"] = file.getvalue()
    for _ in range(2):
        assert len(load_coco("train", folder)) == 12
        server.answers.clear()
    assert own.read_text() == text
    # What is gone from what was unpacked: as told.
    unpacked = folder / "annotations_trainval2017"
    (unpacked / "annotations" / "captions_train2017.json").unlink()
    with pytest.raises(DataError, match=f"Delete {unpacked} and {unpacked}.zip, and run"):
        load_coco("train", folder)


def test_no_network(tmp_path, monkeypatch, capsys):
    def no_network(urls, path, sha256, **_):
        raise DataError("no network")

    monkeypatch.setattr(coco, "download", no_network)
    with pytest.raises(DataError, match='(?s)captions_train2017.json of COCO.*dataset="synthetic"'):
        load_coco("train", tmp_path)
    told = f"captions_train2017.json of COCO is not in {tmp_path}/annotations: downloading 250 MB"
    assert capsys.readouterr().err.startswith(told)
    write(tmp_path, images=False)
    with pytest.raises(DataError, match="(?s)4 of 4 photos of COCO .*what has arrived is kept"):
        load_coco("train", tmp_path, images=4, progress=False)
    with pytest.raises(DataError, match="dataset_coco.json of COCO is not in"):
        load_coco("train", tmp_path, karpathy=True)


def drop(key):
    return lambda content: content.pop(key)


def unknown(content):
    content["annotations"][3]["image_id"] = 99


def nameless(content):
    del content["images"][2]["file_name"]


def silent(content):
    del content["annotations"][1]["caption"]


def put(part, i, key, value):
    return lambda content: content[part][i].update({key: value})


def replace(part, value):
    return lambda content: content.update({part: value})


ESCAPES = (
    *(
        "../../../x.sh",
        "/x.jpg",
        "a/../../../b.jpg",
        "C:\\x.jpg",
        "..\\x.jpg",
        "x\0.jpg",
        "NUL.jpg",
    ),
    *("", "..", "x" * 300 + ".jpg", "\\\\host\\share\\x.jpg", "a:b.jpg"),
)


@pytest.mark.parametrize("name", ESCAPES)
def test_names_never_leave_the_folder(tmp_path, monkeypatch, name):
    monkeypatch.setattr(coco, "download", lambda *_, **__: pytest.fail("asked"))
    write(tmp_path, put("images", 2, "file_name", name), images=False)
    with pytest.raises(DataError, match=r"captions_train2017\.json, images\[2\]: `file_name`"):
        load_coco("train", tmp_path)
    karpathy(tmp_path)
    path = tmp_path / "dataset_coco.json"
    content = json.loads(path.read_text())
    content["images"][1]["filename"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"dataset_coco\.json, images\[1\]: `filename`"):
        read_karpathy(path, CaptionReport())


@pytest.mark.parametrize("value", [None, [], {}, 1, 1.5, True, "x", [1], 10**30, -1, "y" * 1000])
@pytest.mark.parametrize(
    "part, key", [("images", "id"), ("images", "file_name"), ("annotations", "image_id")]
)
def test_values_of_other_types(tmp_path, part, key, value):
    """One error that names the entry, or a right answer (a name may be "x")."""
    folder = write(tmp_path, put(part, 2, key, value))
    try:
        load_coco("train", folder, images=1)
    except DataError as error:
        assert "captions_train2017.json" in str(error) and len(str(error)) < 1500
        assert f"{part}[2]" in str(error) or "not among `images`" in str(error) or key != "image_id"


@pytest.mark.parametrize("value", [None, [], {}, 1, ["a cat"]])
def test_captions_that_are_no_text(tmp_path, value):
    with pytest.raises(DataError, match=r"captions_train2017\.json:annotations\[2\]: the caption"):
        load_coco("train", write(tmp_path, put("annotations", 2, "caption", value)))


@pytest.mark.parametrize("value", [None, {}, 1, "text", [None], [1], [[]]])
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_lists_of_other_types(tmp_path, part, value):
    with pytest.raises(DataError, match=rf"captions_train2017\.json.*{part}"):
        load_coco("train", write(tmp_path, replace(part, value)))


def test_numbers_and_names_given_twice(tmp_path):
    with pytest.raises(DataError, match=r"images\[2\]: 77 is the `id` of \"000000000077.jpg\" al"):
        load_coco("train", write(tmp_path, put("images", 2, "id", 77)))
    with pytest.raises(DataError, match="of several images is the `file_name` 000000000077.jpg"):
        load_coco("train", write(tmp_path, put("images", 2, "file_name", "000000000077.jpg")))


@pytest.mark.parametrize(
    "entry",
    [
        *(None, [], "x", {}),
        {"filename": None},
        {"filename": ["a"]},
        {"split": None},
        {"split": ["train"]},
        {"split": "x"},
        {"sentences": None},
        {"sentences": ["a cat"]},
        {"sentences": [{"raw": None}]},
        {"sentences": [{"raw": ["a"]}]},
        {"cocoid": "7"},
        {"cocoid": [7]},
        {"cocoid": 1.5},
        {"cocoid": 10**30},
    ],
)
def test_karpathy_of_other_types(tmp_path, entry):
    good = {"filename": "b.jpg", "split": "train", "sentences": [{"raw": "a cat"}], "cocoid": 7}
    bad = {**good, **entry} if isinstance(entry, dict) and entry else entry
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"images": [{**good, "filename": "a.jpg"}, bad]}))
    with pytest.raises(DataError, match=r"dataset\.json, images\[1\]: "):
        read_karpathy(path, CaptionReport())


def test_number_of_two_images(tmp_path):
    karpathy(tmp_path)
    path = tmp_path / "dataset_coco.json"
    content = json.loads(path.read_text())
    content["images"][3]["cocoid"] = content["images"][1]["cocoid"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images\[3\]: the `cocoid` 7 comes twice"):
        read_karpathy(path, CaptionReport())


@pytest.mark.parametrize("text", ["[]", "null", '{"images": {}}', "[" * 100_000, "1" * 5000, "{"])
def test_json_of_other_forms(tmp_path, text):
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        read_karpathy(path, CaptionReport())
    write(tmp_path)
    (tmp_path / "annotations" / "captions_val2017.json").write_text(text)
    with pytest.raises(DataError, match=r"captions_val2017\.json"):
        load_coco("train", tmp_path)


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
