"""Captions, vocabularies, word vectors and lists of splits: files of any content."""

import csv
import gzip
import io
import json
import time
from unittest.mock import patch

import numpy as np
import pytest
from fuzzing import (
    changed_json,
    damages,
    file_names,
    folder,
    fuzz,
    objects,
    plain_texts,
    texts,
    told,
    write_tree,
)
from hypothesis import example
from hypothesis import strategies as st

from common.data import caption_files, coco, flickr8k, flickr30k
from common.data.caption_files import CaptionReport, read_json_lines, read_table, read_tokens
from common.data.caption_splits import match_names
from common.data.images import ImageData
from common.data.karpathy import read_karpathy
from common.data.splits import PARTS, PUBLISHED_LISTS, split_by_lists
from common.data.vocabulary import SPECIAL, Vocabulary, normalise
from common.data.word_vectors import load_glove, word_vectors
from common.errors import DataError

# --- files of captions ---

# No line ends: what a caption on one line can have.
sentences = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0\ufeff"), max_size=40)
sentences |= st.text('a",|; .\u2028\x0c\x85', max_size=12) | st.just('a "dog", a cat')
image_names = st.builds("{}.jpg".format, st.text("abcé #1", max_size=4).map(str.strip))
rows = st.lists(st.tuples(image_names, sentences), min_size=1, max_size=6)
HEADERS = ["image,caption", "image_name|comment_number|comment", "raw,split,filename", "caption"]
LINES = [
    "a.jpg,a dog runs",
    'a.jpg,"a dog, a cat"',
    'b.jpg,"a',
    "a.jpg#0\ta dog",
    "a.jpg| 0| a dog",
    '{"file_name": "a.jpg", "text": "a dog"}',
    '{"file_name": "a.jpg", "text": "a dog", "split": "test"}',
]


def _read(reader, content: bytes | str):
    """What a reader of captions gives of a file's content, and the report."""
    report = CaptionReport()
    with folder() as root:
        path = root / "captions.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return told(reader, path, report), report


def _count(captions: dict) -> int:
    return sum(map(len, captions.values()))


@fuzz(100, rows=rows)
def test_there_are_as_many_captions_as_lines_of_tokens(rows):
    content = "\n".join(f"{name}#{i}\t{text}" for i, (name, text) in enumerate(rows))
    captions, report = _read(read_tokens, content)
    assert _count(captions) + len(report.empty_captions) == len(rows)
    assert {*captions} == {name.strip() for name, _ in rows}


@fuzz(150, rows=rows, numbered=st.booleans())
def test_there_are_as_many_captions_as_lines_of_a_table(rows, numbered):
    if numbered:
        lines = [f"{name}| {i}| {text}" for i, (name, text) in enumerate(rows)]
    else:
        lines = [f"{name},{text}" for name, text in rows]
    found, report = _read(read_table, "\n".join([HEADERS[numbered], *lines]))
    if found is not None:  # else the line is named
        assert _count(found[0]) + len(report.empty_captions) == len(rows)
        assert {*found[0]} == {name.strip() for name, _ in rows}


def _shown(caption: str) -> str:
    return caption_files._CONTROLS.sub(" ", caption).strip()


@fuzz(120, rows=rows, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_csv_wrote_is_read_as_it_was(rows, quoting):
    file = io.StringIO()
    csv.writer(file, quoting=quoting).writerows([HEADERS[0].split(","), *rows])
    (captions, _), report = _read(read_table, file.getvalue())
    kept = [row for row in rows if any(map(str.isalnum, row[1]))]
    assert len(report.empty_captions) == len(rows) - len(kept)
    for name in captions:
        assert captions[name] == [_shown(text) for own, text in kept if own.strip() == name]


lines = st.lists(st.sampled_from(HEADERS + LINES) | sentences, max_size=6)


@fuzz(100, lines=lines, damage=damages, end=st.sampled_from("\n\r"), split=st.booleans())
def test_captions_of_any_bytes(lines, damage, end, split):
    content = end.join(lines).encode()
    for reader in (read_tokens, read_table, read_json_lines):
        for data in (content, damage(content)):
            found, _ = _read(reader, data)
            captions = found[0] if isinstance(found, tuple) else found or {}
            assert all(name and isinstance(text, list) for name, text in captions.items())


sentence_values = st.lists(objects(raw=st.just("a dog")), max_size=3)
karpathy_values = objects(
    images=st.lists(
        objects(
            filename=st.sampled_from(["a.jpg", "b.jpg", "../c.jpg"]) | texts,
            split=st.sampled_from(["train", "restval", "val", "test"]),
            sentences=sentence_values,
            cocoid=st.integers(0, 3),
        ),
        max_size=4,
    )
)
KARPATHY = {
    "images": [
        {
            "filename": f"{i}.jpg",
            "split": split,
            "sentences": [{"raw": "a dog"}, {"raw": "a cat."}],
            "cocoid": i,
        }
        for i, split in enumerate(["train", "restval", "val", "test"])
    ]
}
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)],
    "annotations": [{"image_id": i // 2, "caption": f"dog {i}"} for i in range(8)],
}
coco_values = objects(
    images=st.lists(objects(id=st.integers(0, 3), file_name=image_names | texts), max_size=4),
    annotations=st.lists(objects(image_id=st.integers(0, 3), caption=plain_texts), max_size=4),
)


@fuzz(100, value=karpathy_values | changed_json(KARPATHY))
def test_karpathys_json_of_any_form(value):
    found, _ = _read(read_karpathy, json.dumps(value))
    if found is not None:
        captions, lists, numbers = found
        assert sorted(sum(lists.values(), [])) == sorted(captions)
        assert len(captions) == len(value["images"]) and {*numbers} <= {*captions}
        assert all("/" not in name and name not in ("", ".", "..") for name in captions)


@fuzz(100, value=coco_values | changed_json(COCO), split=st.sampled_from(coco.SPLITS))
def test_coco_json_of_any_form(value, split):
    with folder() as root, patch.object(coco, "_fetch"):
        write_tree(root, {"annotations": {}})
        for part, content in (("train2017", value), ("val2017", COCO)):
            (root / f"annotations/captions_{part}.json").write_text(json.dumps(content))
        data = told(coco.load_coco, split, root, images=3)
        if data is not None:
            assert all(
                0 < len(texts) <= 5 and all(map(str.strip, texts)) for texts in data.captions
            )
            assert all((root / name).resolve().is_relative_to(root) for name in data.names)


NAMES = ["a.jpg", "A.JPG", "a.jpeg", "x/a.jpg", "a", "caf\u00e9.jpg", "cafe\u0301.jpg", "b%20.jpg"]
names = st.lists(st.sampled_from(NAMES) | texts, max_size=6)


@fuzz(120, names=names, files=names.map(set))
def test_a_file_goes_to_one_name(names, files):
    found, doubtful = match_names(names, files)
    assert found.keys() <= {*names} and {*found.values()} <= files
    assert len({*found.values()}) == len(found)
    assert all(found[name] == name for name in {*names} & files)
    assert len(doubtful) <= len({*names} - found.keys())


# --- whole data sets ---

PHOTO_NAMES = [f"{i}.jpg" for i in range(8)]
TABLE = "image,caption\n" + "\n".join(f"{name},a dog runs" for name in PHOTO_NAMES)
TOKENS = "\n".join(f"{name}#0\ta dog runs" for name in PHOTO_NAMES)


def _lists(*parts):
    return {
        f"Flickr_8k.{split}Images.txt": "\n".join(part).encode()
        for split, part in zip(("train", "dev", "test"), parts, strict=False)
    }


photo_folders = st.dictionaries(file_names(*PHOTO_NAMES), st.just(b""), max_size=9)
photo_folders |= st.just(dict.fromkeys(PHOTO_NAMES, b""))
list_files = st.lists(st.lists(st.sampled_from(PHOTO_NAMES) | sentences, max_size=4), max_size=3)
split_files = list_files.map(lambda parts: _lists(*parts)) | st.just({})
split_files |= st.just(_lists(PHOTO_NAMES[:4], PHOTO_NAMES[4:6], PHOTO_NAMES[6:]))


@pytest.mark.parametrize("module", [flickr8k, flickr30k], ids=["flickr8k", "flickr30k"])
@fuzz(50, data=st.data())
def test_flickr_folders_of_any_kind(module, data):
    photos, lists = data.draw(photo_folders), data.draw(split_files)
    damage = data.draw(st.just(bytes) | damages)
    content = data.draw(st.sampled_from([TABLE.encode(), TOKENS.encode()]))
    karpathy = data.draw(st.none() | changed_json(KARPATHY))
    name = "captions.txt" if content == TABLE.encode() else module.TOKENS
    tree = {"Images": photos, name: damage(content), **lists}
    if karpathy is not None:
        tree["dataset_flickr30k.json"] = json.dumps(karpathy).encode()
    read = flickr8k.read_flickr8k if module is flickr8k else flickr30k.read_flickr30k
    with folder() as root, patch.object(module, "download", side_effect=DataError("no network")):
        write_tree(root, tree)
        found = told(read, root)
        if found is not None:
            splits, _ = found
            every = [name for split in splits.values() for name in split.names]
            assert len(set(every)) == len(every)
            assert all((root / "Images" / name).is_file() for name in every)
            assert all(1 <= len(texts) <= 5 for s in splits.values() for texts in s.captions)


# --- words ---


@fuzz(200, caption=texts | st.text("'\u2019aé\u0301\u200d_ Iİ\u0327\u0316", max_size=12))
@example("\u0130\u0307x'\u2019s")
def test_words_are_words_again(caption):
    words = normalise(caption)
    assert normalise(" ".join(words)) == words
    assert all(word and word == word.lower() and not word.isspace() for word in words)


parts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)


@fuzz(40, part=parts | st.text("a'\u0301\u0327\u200d\u2019", min_size=1, max_size=4), tail=parts)
def test_no_repetition_of_words_takes_long(part, tail):
    started = time.monotonic()
    normalise(part * 20_000 + tail)
    assert time.monotonic() - started < 5


VOCABULARY = Vocabulary(["dog", "a", "café"], 2).to_dict()


@fuzz(100, value=objects(words=st.lists(texts), min_count=st.integers()) | changed_json(VOCABULARY))
def test_vocabularies_of_any_form(value):
    with folder() as root:
        path = root / "vocabulary.json"
        path.write_text(json.dumps(value))
        vocabulary = told(Vocabulary.load, path)
        assert (vocabulary is None) == (told(Vocabulary.from_dict, value) is None)
        if vocabulary is not None:
            vocabulary.save(path)
            assert Vocabulary.load(path) == vocabulary and vocabulary.fingerprint()
            words = list(vocabulary.words[4:])
            ids = vocabulary.encode([words], len(words) + 2)
            assert vocabulary.decode(ids[0]) == words


@fuzz(80, captions=st.lists(st.lists(plain_texts), max_size=5), min_count=st.integers(1, 3))
def test_vocabularies_of_any_captions(captions, min_count):
    words = [normalise(" ".join(caption)) for caption in captions]
    vocabulary = told(Vocabulary.build, words, min_count)
    if vocabulary is not None:
        assert vocabulary == Vocabulary.build(words[::-1], min_count)
        assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary


# --- vectors ---

words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
values = st.floats(-100, 100, width=32)


def _vectors(content: bytes):
    with folder() as root:
        (root / "vectors.txt").write_bytes(content)
        return told(load_glove, root / "vectors.txt")


@fuzz(
    60,
    table=st.integers(2, 4).flatmap(
        lambda n: st.dictionaries(words, st.lists(values, min_size=n, max_size=n), min_size=1)
    ),
    header=st.booleans(),
    packed=st.booleans(),
)
def test_vectors_are_those_of_their_words(table, header, packed):
    lines = [" ".join([word, *map(repr, numbers)]) for word, numbers in table.items()]
    size = len(next(iter(table.values())))
    content = "\n".join([f"{len(table)} {size}"] * header + lines).encode()
    keyed = _vectors(gzip.compress(content) if packed else content)
    if keyed is None:  # words that are numbers may be taken for some
        assert any(_is_number(word) for word in table)
        return
    for word, numbers in table.items():
        if not any(_is_number(word) for word in table):
            np.testing.assert_array_equal(keyed[word], np.float32(numbers))
    known = [word for word in table if word not in SPECIAL][:3]
    found = told(word_vectors, Vocabulary(known), keyed, "own")
    assert found is None or np.isfinite(found.vectors).all()


def _is_number(word):
    try:
        return float(word) is not None
    except ValueError:
        return False


GLOVE = b"the 1 2 3\ndog -1 0 0.5\nat name.com 0 0 1\ndon't 2 2 2\n"


@fuzz(100, damage=damages, content=st.sampled_from([GLOVE, b"4 3\n" + GLOVE, gzip.compress(GLOVE)]))
def test_vectors_of_any_bytes(damage, content):
    keyed = _vectors(damage(content))
    assert keyed is None or (keyed.vectors.dtype == np.float32 and len(keyed.index_to_key))
    assert keyed is None or np.isfinite(keyed.vectors).all()


# --- lists of patients ---

PATIENTS = ["p1", "p2", "p3", "p4"]
SLIDES = ImageData(
    images=np.zeros((8, 2, 2, 3), np.uint8),
    labels=np.array([0, 1] * 4, np.int32),
    classes=("benign", "malignant"),
    name="slides",
    split="all",
    groups=np.repeat(PATIENTS, 2),
)
patient_lists = st.lists(st.sampled_from(PATIENTS) | sentences, max_size=4).map("\n".join)
patient_lists = patient_lists.map(str.encode) | st.sampled_from(PATIENTS).map(str.encode)


@fuzz(80, lists=st.tuples(*[patient_lists | st.binary(max_size=20)] * 3))
def test_lists_of_patients_of_any_bytes(lists):
    with folder() as root:
        for name, content in zip(PUBLISHED_LISTS.values(), lists, strict=True):
            (root / name).write_bytes(content)
        splits = told(split_by_lists, SLIDES, root)
        if splits is not None:
            used = [p for part in PARTS for p in np.unique(getattr(splits, part).groups)]
            assert sorted([*used, *splits.unlisted]) == PATIENTS
