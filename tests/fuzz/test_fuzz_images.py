"""Images: damaged bytes, folders of any kind, caches that were damaged."""

import io
import json
import os
import time

import cv2
import numpy as np
import pytest
from fuzzing import (
    changed_json,
    damages,
    file_names,
    folder,
    fuzz,
    overwritings,
    told,
    trees,
    write_tree,
)
from hypothesis import strategies as st
from PIL import Image
from small_slides import add, png, tissue

from common.data.histopathology import NESTED, list_patches, pad, read_patches
from common.data.image_files import decode_rgb
from common.data.image_folder import read_image_folder
from common.data.image_headers import examine
from common.data.photos import list_photos, read_photo


def _image(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(pixels, 2, 0), 2, 1)).convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    return image


def _saved(suffix, mode="RGB", **options):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 6
    if suffix in ("jpeg", "png", "webp", "tiff"):
        options["exif"] = exif.tobytes()
    _image(mode).save(file, suffix, **options)
    return file.getvalue()


def _deep(suffix):
    return cv2.imencode(suffix, np.asarray(_image()).astype(np.uint16) * 256)[1].tobytes()


FILES = {
    "jpeg": _saved("jpeg"),
    "progressive": _saved("jpeg", "L", progressive=True),
    "png": _saved("png"),
    "png with alpha": _saved("png", "RGBA"),
    "png of 16 bits": _deep(".png"),
    "png of a palette": _saved("png", "P"),
    "bmp": _saved("bmp"),
    "webp": _saved("webp"),
    "lossless webp": _saved("webp", "RGBA", lossless=True),
    "gif": _saved("gif"),
    "tiff": _saved("tiff"),
    "packed tiff": _saved("tiff", compression="tiff_lzw"),
    "tiff of 16 bits": _deep(".tiff"),
}
if cv2.haveImageWriter("a.avif"):
    FILES["avif"] = cv2.imencode(".avif", np.asarray(_image()))[1].tobytes()
SMALL = png(np.full((3, 4, 3), 7, np.uint8))


def _check_size(image, data):
    header = examine(data)[1]
    size = header.height, header.width
    assert image.dtype == np.uint8
    assert image.shape == (*(size if header.orientation < 5 else size[::-1]), 3)


@pytest.mark.parametrize("kind", FILES)
@fuzz(100, damage=damages)
def test_a_damaged_image_has_its_size_or_is_refused(kind, damage):
    content = damage(FILES[kind])
    image = told(decode_rgb, content)
    if image is not None:
        _check_size(image, content)


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind.startswith("png")])
@fuzz(60, damage=overwritings)
def test_what_has_checksums_has_its_pixels_or_is_refused(kind, damage):
    image = told(decode_rgb, damage(FILES[kind]))
    assert image is None or np.array_equal(image, decode_rgb(FILES[kind]))


heads = st.sampled_from([b"", b"\xff\xd8\xff", b"\0\0\0 ftypavif", b"<?xml"]) | st.builds(
    lambda content, n: content[:n], st.sampled_from([*FILES.values()]), st.integers(0, 200)
)


@fuzz(60, head=heads, part=st.binary(min_size=1, max_size=4), tail=st.binary(max_size=4))
def test_no_repetition_takes_long(head, part, tail):
    started = time.monotonic()
    told(decode_rgb, head + part * 100_000 + tail)
    assert time.monotonic() - started < 5


@fuzz(80, damage=damages, content=st.just(SMALL) | heads)
def test_patches_of_any_bytes(damage, content):
    patch = told(lambda data: pad(decode_rgb(data, side=50)), damage(content))
    assert patch is None or patch.shape == (50, 50, 3)


# --- folders ---

NAMES = file_names("train", "test", "cat", "dog", "a.png", "b.JPG", "c.tiff", "d.heic", ".x.png")
CONTENTS = st.sampled_from([SMALL, SMALL, FILES["jpeg"], SMALL[:-9], b"", b"<html>"])
CLASSES = st.dictionaries(NAMES, st.dictionaries(NAMES, CONTENTS, max_size=4), max_size=3)


def _photos_below(root):
    return sum(len(files) for _, _, files in os.walk(root))


@fuzz(50, tree=trees(NAMES, CONTENTS), recursive=st.booleans())
def test_photos_of_any_folder(tree, recursive):
    with folder() as root:
        write_tree(root, tree)
        photos = told(list_photos, [root, root], recursive)
        assert photos is None or 0 < len(set(photos)) == len(photos) <= _photos_below(root)
        for photo in photos or ():
            image = told(read_photo, photo)
            assert image is None or image.shape in ((3, 4, 3), (40, 24, 3))


@fuzz(40, tree=trees(NAMES, CONTENTS) | st.fixed_dictionaries({"train": CLASSES, "test": CLASSES}))
def test_image_folders_of_any_kind(tree):
    with folder() as root:
        write_tree(root, tree)
        data = told(read_image_folder, root, "train", size=4)
        if data is not None:
            assert len(data) == len(set(data.sources)) == len(data.images)
            assert all((root / "train" / source).is_file() for source in data.sources)
            assert np.array_equal(read_image_folder(root, "train", size=4).images, data.images)


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    write_tree(root, {"train": {name: {"a.png": FILES["png"], "b.png": SMALL} for name in "xy"}})
    read_image_folder(root, "train", size=4)
    return root


@fuzz(40, damage=damages, key=changed_json({"key": "", "crc32": 0}), which=st.integers(0, 2))
def test_a_damaged_cache_of_images(two_classes, damage, key, which):
    pixels, about = (two_classes / ".course-cache" / f"train-4.{end}" for end in ("npy", "json"))
    path = pixels if which == 0 else about
    path.write_bytes(json.dumps(key).encode() if which == 2 else damage(path.read_bytes()))
    wanted = read_image_folder(two_classes, "train", size=4, cache=False).images
    assert np.array_equal(read_image_folder(two_classes, "train", size=4).images, wanted)


# --- patches of slides ---

numbers = st.sampled_from(["0", "1", "50", "051", "-1", "", "99999999999", "\u0661"])
patch_names = st.builds(
    "{}_idx{}_x{}_y{}_class{}.{}".format,
    *(st.sampled_from(["p1", "p2", "p_idx5", ""]), st.just("5"), numbers, numbers),
    *(st.sampled_from("012"), st.sampled_from(["png", "PNG", "png.png", "jpg"])),
)
PATCHES = st.dictionaries(patch_names | NAMES, st.just(SMALL), max_size=3)
RIGHT = st.builds(
    lambda patient, label, places: {
        label: {f"{patient}_idx5_x{50 * p}_y0_class{label}.png": SMALL for p in places}
    },
    *(st.just("p1"), st.sampled_from("01"), st.sets(st.integers(0, 9), max_size=4)),
)
PATIENT = st.dictionaries(st.sampled_from("01") | NAMES, PATCHES, max_size=2)
SLIDES = st.fixed_dictionaries(
    {}, optional={"p1": RIGHT | PATIENT, "p2": PATIENT, NESTED: st.dictionaries(NAMES, PATIENT)}
)


@fuzz(50, tree=SLIDES | trees(NAMES | patch_names, CONTENTS))
def test_slides_of_any_kind(tree):
    with folder() as root:
        write_tree(root, tree)
        patches = told(list_patches, root)
        data = told(read_patches, root)
        assert patches is not None or data is None
        if data is not None:
            assert 0 < len(data) == len(patches) == len(set(data.sources)) <= _photos_below(root)
            assert all((root / source).is_file() for source in data.sources)
            assert np.array_equal(read_patches(root).images, data.images)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    root = tmp_path_factory.mktemp("slides")
    for place in range(3):
        add(root, "p1", 50 * place, 0, place % 2)
        add(root, "p2", 50 * place, 0, 0, png(tissue(50, 30)))
    return root


@fuzz(30, damage=damages, kinds=st.sets(st.sampled_from([".npz", ".raw", ".chunks"]), min_size=1))
def test_a_damaged_cache_of_slides(slides, damage, kinds):
    wanted = read_patches(slides).images.copy()
    for path in (slides / ".course-cache").glob("patches*"):
        if path.suffix in kinds:
            path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(read_patches(slides).images, wanted)
    assert np.array_equal(wanted, read_patches(slides, cache=False).images)
