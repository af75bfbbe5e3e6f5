import csv
import io
import os
import unicodedata
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from common.data import Vocabulary, flickr8k, load_captions
from common.data.caption_files import CaptionReport, add_caption, read_table, text_lines
from common.data.caption_splits import match_names
from common.data.captions import CaptionData
from common.data.flickr8k import load_flickr8k, read_flickr8k
from common.data.loading import is_there
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
    with open(root / "captions.txt", "w", encoding="utf-8", newline="") as file:
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


# Lines ------------------------------------------------------------------------------------------


def test_a_line_ends_with_a_line_feed_or_a_carriage_return_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    odd = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
    path.write_bytes(f"\ufeffa{odd}b\r\nc\rd\n\ufeffe".encode())
    assert text_lines(path) == [f"a{odd}b", "c", "d", "e"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_captions_of_any_editor(tmp_path, end, mark):
    official(tmp_path)
    lines = [line.replace("dog number", "dog\u2028number\x85") for line in token_lines()]
    (tmp_path / "Flickr8k.token.txt").write_bytes((mark + end.join(lines)).encode())
    for path in tmp_path.glob("Flickr_8k.*"):
        path.write_bytes((mark + path.read_text().replace("\n", end)).encode())
    splits, report = read_flickr8k(tmp_path)
    assert str(report) == "Nothing was left out."
    # What would break a line or a terminal is a blank in the caption.
    assert splits["train"].captions[0][1] == "A dog number  1 runs, fast ."


@pytest.mark.parametrize(
    "content, message",
    [
        ("a#0\tdog\n".encode("utf-16"), "saved as UTF-16"),
        ("a#0\tdog\n".encode("utf-32"), "saved as UTF-16 or UTF-32"),
        ("a#0\tdog\n".encode("utf-16-le"), "line 1: a null byte"),
        (b"a#0\tdog\r\na#1\tdo\0g\n", "line 2: a null byte"),
        ("a#0\tdog\ra#1\tcafé\n".encode("latin-1"), "line 2: not UTF-8. Save the file as UTF-8"),
    ],
)
def test_files_that_are_no_utf_8(tmp_path, content, message):
    official(tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"token.txt.*{message}"):
        read_flickr8k(tmp_path)


@pytest.mark.parametrize("text", [None, 3, ["a dog"], {"raw": "a"}, "dog " * 10_000])
def test_captions_and_names_that_are_none(text):
    with pytest.raises(DataError, match="x.json:entry 3: "):
        add_caption({}, "a.jpg", text, "x.json:entry 3", CaptionReport())
    with pytest.raises(DataError, match="x.json:entry 3: "):
        add_caption({}, text, "a dog", "x.json:entry 3", CaptionReport())
    with pytest.raises(DataError, match="name of the image is missing"):
        add_caption({}, " ", "a dog", "x.json:entry 3", CaptionReport())


# Tables -----------------------------------------------------------------------------------------


def table(folder, text):
    path = folder / "captions.txt"
    path.write_bytes(text.encode())
    return read_table(path, CaptionReport())[0]


@pytest.mark.parametrize(
    "field, caption",
    [
        ("a dog, a cat, and more", "a dog, a cat, and more"),
        ('"a dog, a cat"', "a dog, a cat"),
        ('"a ""big"" dog"', 'a "big" dog'),
        ('"a dog\nruns, of course"', "a dog runs, of course"),
        ('"a dog\r\n\r\nruns"', "a dog runs"),
        ('a man is 6 feet 2" tall', 'a man is 6 feet 2" tall'),
        ('"a man reads', '"a man reads'),
        ('"big" dogs', '"big" dogs'),
        ('"a dog", and "a cat"', '"a dog", and "a cat"'),
        ('he says "no"', 'he says "no"'),
        ("nan", "nan"),
        ("None", "None"),
        ("x" + "y" * 5_000, "x" + "y" * 5_000),
    ],
)
def test_as_many_captions_as_rows(tmp_path, field, caption):
    rows = [f"a.jpg,{field}", 'b.jpg,"no, end', "b.jpg,a cat", f"c.jpg,{field}", "c.jpg,end"]
    read = table(tmp_path, "image,caption\n" + "\n".join(rows) + "\n")
    assert read == {"a.jpg": [caption], "b.jpg": ['"no, end', "a cat"], "c.jpg": [caption, "end"]}


@pytest.mark.parametrize(
    "header",
    ["image,caption", "\ufeffImage, Caption ", '"image","caption"', "IMAGE;CAPTION",
     "image\tcaption", "image_name|comment_number|comment", "image_name,comment_number,comment",
     ",image,caption", "File Name,Caption"],
)  # fmt: skip
def test_the_header_decides(tmp_path, header):
    mark = next(mark for mark in "|;\t," if mark in header)
    names = [["a.jpg"], ["a.jpg"], ['"b, c.jpg"']]
    extra = {3: 0 if header.startswith(",") else 1}.get(len(header.split(mark)))
    rows = [[*name, f"dogs{mark} {i}"] for i, name in enumerate(names)]
    for i, row in enumerate(rows):
        if extra is not None:
            row.insert(extra, str(i))
    text = "\n".join([header, *(mark.join(row) for row in rows)])
    assert table(tmp_path, text) == {
        "a.jpg": [f"dogs{mark} 0".replace("\t", " "), f"dogs{mark} 1".replace("\t", " ")],
        "b, c.jpg": [f"dogs{mark} 2".replace("\t", " ")],
    }


@pytest.mark.parametrize(
    "text, line",
    [
        ("image,caption\na.jpg,dog\nno comma\n", 3),
        ("image,caption\n,a dog\n", "captions.txt:2"),
        ("image,caption\np00,a dog\np00,\"a man\np01,a dog\np01,a cat\"\n", 3),
        ("image_name,comment_number,comment\na.jpg,a dog, a cat\n", 2),
        ("caption,image\na dog, a cat,a.jpg\n", 2),
        ('caption,image\n"a dog,a.jpg\na cat",b.jpg\n', 2),
        ('filename,split,raw\na.jpg,train,"[1]"\n', "captions.txt:2"),
        ('filename,split,raw\na.jpg,train,"[1"\n', "captions.txt:2"),
        ("filename,split,raw\na.jpg,maybe,a dog\n", 2),
        ("", 1),
        ("a.jpg,a dog\n", 1),
    ],
)  # fmt: skip
def test_rows_that_are_none_are_named(tmp_path, text, line):
    place = line if isinstance(line, str) else f"captions.txt, line {line}:"
    with pytest.raises(DataError, match=place):
        table(tmp_path, text)


def test_a_well_formed_table_is_read_as_pandas_reads_it(tmp_path):
    rng = np.random.default_rng(0)
    parts = ["a dog", ",", '"', '""', " ", "\n", "'s", "café", "2", ";", "|"]
    rows = [(f"{i // 5}.jpg", "x" + "".join(rng.choice(parts, 6))) for i in range(500)]
    pd.DataFrame(rows, columns=["image", "caption"]).to_csv(tmp_path / "captions.txt", index=False)
    expected = pd.read_csv(tmp_path / "captions.txt", dtype=str, keep_default_na=False)
    read = read_table(tmp_path / "captions.txt", CaptionReport())[0]
    captions = [caption for found in read.values() for caption in found]
    told = [caption.replace("\n", " ") for caption in expected["caption"]]
    assert list(map(str.split, captions)) == list(map(str.split, told))


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "on_disk, in_table",
    [
        ("P {i}.JPG", "P {i}.jpg"),
        ("p{i}.jpg", "p{i}"),
        ("p{i}.jpg", "p{i}.png"),
        ("p{i}.jpg", "Images/p{i}.jpg"),
        ("p{i}.jpg", "C:\\photos\\p{i}.jpg"),
        ("my photo {i}.jpg", "my%20photo%20{i}.jpg"),
        (unicodedata.normalize("NFD", "é{i}.jpg"), "é{i}.jpg"),
        ("é{i}.jpg", unicodedata.normalize("NFD", "É{i}")),
    ],
)
def test_names_that_are_written_otherwise(tmp_path, on_disk, in_table, caplog):
    names = [on_disk.format(i=i) for i in range(16)]
    images(tmp_path / "Images", names)
    rows = [f"{in_table.format(i=i)},a dog {i}" for i in range(16)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    train = load_flickr8k("train", tmp_path)
    assert len(train) == 12 and set(train.names) <= set(os.listdir(tmp_path / "Images"))
    assert "16 names are written otherwise than their files" in caplog.text


def test_captions_stay_with_their_images(tmp_path):
    images(tmp_path / "Images", [f"p{i:02}.JPG" for i in range(16)])
    rows = [f"p{i:02},number {i}" for i in range(16)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    for data in read_flickr8k(tmp_path)[0].values():
        for i in range(len(data)):
            assert (data.read_image(i) == int(data.captions[i][0].split()[1])).all()


def test_official_lists_may_be_written_otherwise_too(tmp_path):
    official(tmp_path)
    for path in tmp_path.glob("Flickr_8k.*"):
        path.write_text(path.read_text().replace(".jpg", ""))
    assert read_flickr8k(tmp_path)[0]["dev"].names == tuple(NAMES[12:14])
    # Two spellings of a file do not put it into two splits.
    (tmp_path / "Flickr_8k.testImages.txt").write_text(NAMES[0].upper())
    with pytest.raises(DataError, match="1 images of the train list are not in .*0_ab"):
        read_flickr8k(tmp_path)


def test_a_file_in_doubt_is_nobodys():
    assert match_names(["p"], {"p.jpg", "p.png"}) == ({}, ["p: p.jpg or p.png"])
    found, doubtful = match_names(["a/p.jpg", "b/p.jpg", "q"], {"p.jpg", "q.jpg"})
    assert found == {"q": "q.jpg"} and doubtful == ["a/p.jpg: p.jpg", "b/p.jpg: p.jpg"]
    assert match_names(["p.jpg", "P.JPG"], {"p.jpg"})[0] == {"p.jpg": "p.jpg"}
    assert match_names([QUIRK], {QUIRK[:-2]})[0] == {}


def test_nothing_fits_is_told_with_both_sides(tmp_path):
    images(tmp_path / "Images", ["x.jpg"])
    (tmp_path / "Images" / "p00.heic").write_bytes(b"")
    (tmp_path / "Images" / "train").mkdir()
    rows = [f"p{i:02},a dog" for i in range(16)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    with pytest.raises(DataError) as error:
        read_flickr8k(tmp_path)
    for part in ("0 of 16 names", "captions.txt", "p00, p01", "x.jpg", "2 entries", "p00.heic"):
        assert part in str(error.value)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("place", ["p.heic", "train/p.jpg"])
def test_images_that_are_not_read_are_told_before_a_download(tmp_path, monkeypatch, place):
    monkeypatch.setattr(flickr8k, "download", lambda *_: pytest.fail("downloads"))
    (tmp_path / "Images" / "train").mkdir(parents=True)
    (tmp_path / "Images" / place).write_bytes(b"")
    (tmp_path / "captions.txt").write_text("image,caption\np.heic,a dog\n")
    with pytest.raises(DataError, match=f"Images has no image file.*1 others.*{place[:5]}"):
        read_flickr8k(tmp_path)


def test_too_few_images_are_counted(tmp_path):
    kaggle(tmp_path, [(name, "a dog") for name in NAMES[:7]])
    with pytest.raises(DataError, match="7 images have captions, and of every 8"):
        read_flickr8k(tmp_path)
    official(tmp_path / "lists")
    (tmp_path / "lists" / "Flickr_8k.devImages.txt").write_text("\n")
    with pytest.raises(DataError, match="split has no image .train 12, dev 0, test 2"):
        read_flickr8k(tmp_path / "lists")


def test_a_table_without_a_word(tmp_path):
    kaggle(tmp_path, [(name, " . ") for name in NAMES])
    with pytest.raises(DataError, match="captions.txt has no caption with a word"):
        read_flickr8k(tmp_path)


# ------------------------------------------------------------------------------------------------


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
    with open(tmp_path / "Flickr_8k.testImages.txt", "a", encoding="utf-8") as file:
        file.write(NAMES[2] + "\n")
    with pytest.raises(DataError, match=f"trainImages.*testImages.*{NAMES[2]}"):
        read_flickr8k(tmp_path)


def test_lists_that_repeat_or_lack(tmp_path):
    official(tmp_path)
    with open(tmp_path / "Flickr_8k.testImages.txt", "a", encoding="utf-8") as file:
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


def test_downloaded_where_absent(tmp_path, monkeypatch, capsys):
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
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert not is_there("flickr8k")
    splits, _ = read_flickr8k(tmp_path / "flickr8k")
    assert len(splits["train"]) == 12 and is_there("flickr8k")
    told = capsys.readouterr().err
    assert told.startswith(
        f"Flickr8k is not in {tmp_path}/flickr8k (there is no such folder): down"
    )
    assert told.count("downloading 1.1 GB") == 1
    read_flickr8k(tmp_path / "flickr8k")
    assert capsys.readouterr().err == ""


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    def fail(*arguments):
        raise DataError("no line")

    monkeypatch.setattr(flickr8k, "download", fail)
    wanted = "no such folder.*\n.*\nPut the images into .*Images.*\nOr choose dataset=.synthetic"
    with pytest.raises(DataError, match=wanted):
        read_flickr8k(tmp_path / "flickr8k")
    (tmp_path / "caption.txt").write_text("a dog")
    with pytest.raises(DataError, match="there is caption.txt"):
        read_flickr8k(tmp_path)


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


def test_a_name_that_comes_twice_is_found_at_once():
    names = tuple(map(str, range(50_000)))
    with pytest.raises(DataError, match="49999 comes twice"):
        CaptionData((*names, names[-1]), (("b",),) * 50_001, "x", "train")


def test_fingerprint_of_captions():
    def of(names=("a", "b"), captions=(("x", "y"), ("z",)), split="train"):
        return CaptionData(names, captions, "n", split).fingerprint_captions()

    assert of() == of(split="dev") and len(of()) == 16 and int(of(), 16) >= 0
    others = [
        of(names=("b", "a")),
        of(captions=(("x",), ("y", "z"))),
        of(captions=(("xy",), ("z",))),
    ]
    others += [of(captions=(("y", "x"), ("z",))), of(captions=(("x", "y"), ("\udce9",)))]
    assert len({of(), *others}) == 6


def test_subset_and_limit():
    data = load_captions("synthetic", "dev", limit=6)
    assert len(data) == 6
    part = data.subset([4, 1])
    assert part.names == (data.names[4], data.names[1])
    assert part.captions[0] == data.captions[4]
    assert (part.read_image(0) == data.read_image(4)).all()
