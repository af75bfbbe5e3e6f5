import contextlib
import logging
import os
import shutil
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data import folder_cache, image_folder
from common.data.image_folder import decode_image, read_image_folder
from common.errors import ConfigError, CourseError, DataError

RNG = np.random.default_rng(0)


def picture(height=32, width=32):
    """Smooth, so that JPEG changes little."""
    small = RNG.integers(0, 256, (4, 4, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(image, suffix=".png", *options):
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


@pytest.fixture
def tree(tmp_path):
    """Two classes of three images, in both splits."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").write_bytes(encode(picture()))
    return tmp_path / "pets"


def decode_pil(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_reads_a_tree(tree):
    data = read_image_folder(tree, "train")
    assert (data.name, data.split, data.classes) == ("pets", "train", ("cat", "dog"))
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.sources == [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    for image, source in zip(data.images, data.sources, strict=True):
        np.testing.assert_array_equal(image, decode_pil(tree / "train" / source))


def test_test_split_alone_with_the_models_classes(tree):
    (tree / "train").rename(tree / "elsewhere")
    data = read_image_folder(tree, "test", classes=("dog", "cat"))
    assert data.classes == ("dog", "cat")
    assert data.sources[0] == "dog/0.png"
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="lacks bird"):
        read_image_folder(tree, "test", classes=("cat", "dog", "bird"))


# --- pixels ---


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".PNG", ".bmp", ".webp"])
def test_formats_and_unicode_names(tree, suffix):
    image = picture()
    options = {
        ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 100),
        ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 100),
        ".webp": (cv2.IMWRITE_WEBP_QUALITY, 101),
    }.get(suffix, ())
    (tree / "train/cat" / f"кот 猫{suffix}").write_bytes(encode(image, suffix.lower(), *options))
    data = read_image_folder(tree, "train")
    read = data.images[data.sources.index(f"cat/кот 猫{suffix}")]
    assert np.abs(read.astype(int) - image).mean() < 3


def test_greyscale():
    grey = picture()[..., 0]
    read = decode_image(cv2.imencode(".png", grey)[1].tobytes(), 32)
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparency_is_laid_on_white(suffix):
    image = np.zeros((32, 32, 4), np.uint8)
    image[..., 2] = 200  # Red, as OpenCV orders it.
    image[:16, :, 3], image[16:, :, 3] = 255, 51
    options = (cv2.IMWRITE_WEBP_QUALITY, 101) if suffix == ".webp" else ()
    read = decode_image(cv2.imencode(suffix, image, options)[1].tobytes(), 32)
    assert read[0, 0].tolist() == [200, 0, 0]
    assert read[31, 0].tolist() == [244, 204, 204]  # A fifth of red on four fifths of white.


def test_grey_with_alpha_and_palette(tmp_path):
    Image.new("LA", (32, 32), (100, 255)).save(tmp_path / "la.png")
    Image.new("RGB", (32, 32), (9, 80, 200)).quantize(4).save(tmp_path / "p.png")
    la, palette = (decode_image((tmp_path / n).read_bytes(), 32) for n in ("la.png", "p.png"))
    assert la[5, 5].tolist() == [100, 100, 100]
    assert palette[5, 5].tolist() == [9, 80, 200]


def test_sixteen_bits():
    image = np.full((32, 32, 3), 0xABCD, np.uint16)
    assert (decode_image(cv2.imencode(".png", image)[1].tobytes(), 32) == 0xAB).all()


def test_camera_orientation_is_applied(tmp_path):
    image = Image.fromarray(
        np.concatenate([np.zeros((32, 16, 3)), np.full((32, 16, 3), 255)], 1).astype(np.uint8)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned a quarter clockwise: left comes to the top.
    image.save(tmp_path / "a.jpg", exif=exif)
    read = decode_image((tmp_path / "a.jpg").read_bytes(), 32)
    assert read[2].max() < 30 and read[29].min() > 225


def test_centre_square_is_resized_by_area():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 100
    image[::2, 32:96] = 50
    read = decode_image(encode(image), 32)
    assert read.shape == (32, 32, 3)
    assert (read == 75).all()
    assert decode_image(encode(picture(5, 9)), 32).shape == (32, 32, 3)


# --- bad input ---


def jpeg_with_thumbnail():
    """An end marker inside the first segment, as a camera's thumbnail has it."""
    thumbnail = encode(picture(8, 8), ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = encode(picture(64, 64), ".jpg")
    return whole[:2] + segment + whole[2:]


WHOLE = {
    "jpeg": encode(picture(64, 64), ".jpg"),
    "progressive": encode(picture(64, 64), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "thumbnail": jpeg_with_thumbnail(),
    "png": encode(picture(64, 64)),
    "bmp": encode(picture(64, 64), ".bmp"),
    "webp": encode(picture(64, 64), ".webp"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_anywhere(kind):
    data = WHOLE[kind]
    assert decode_image(data, 32).shape == (32, 32, 3)
    assert decode_image(data + b"\0 trailing bytes", 32).shape == (32, 32, 3)
    for cut in (len(data) - 1, len(data) * 9 // 10, len(data) // 2, 30):
        with pytest.raises(DataError, match="truncated"):
            decode_image(data[:cut], 32)


def test_damaged_png():
    data = bytearray(WHOLE["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(DataError, match="truncated or damaged PNG"):
        decode_image(bytes(data), 32)


def _png(**header: int) -> bytes:
    """Whole by its own account, with other values in its header than it had."""
    data = bytearray(WHOLE["png"])
    for name, value in header.items():
        start, end = {"width": (16, 20), "height": (20, 24), "interlace": (28, 29)}[name]
        data[start:end] = value.to_bytes(end - start, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_undecodable_png():
    assert decode_image(_png(interlace=0), 32).shape == (32, 32, 3)
    with pytest.raises(DataError, match="a PNG file that OpenCV cannot decode: convert it"):
        decode_image(_png(interlace=3), 32)


def test_an_image_without_pixels():
    with pytest.raises(DataError, match="truncated or damaged PNG"):
        decode_image(_png(width=0, height=0), 32)


def test_all_bad_files_are_named(tree):
    whole = WHOLE["jpeg"]
    bad = {
        "train/cat/cut.jpg": (whole[: len(whole) // 2], "truncated or damaged JPEG"),
        "train/cat/zero.png": (b"", "empty file"),
        "train/dog/text.png": (b"dear diary", "not a JPEG, PNG, BMP, WebP or GIF"),
    }
    for name, (data, _) in bad.items():
        (tree / name).write_bytes(data)
    with pytest.raises(DataError, match="3 of 9 files cannot be read") as error:
        read_image_folder(tree, "train")
    for name, (_, why) in bad.items():
        assert f"{name}: {why}" in str(error.value).replace(os.sep, "/")
    assert "Replace or delete them" in str(error.value)
    for i in range(12):
        (tree / f"train/dog/more{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"15 of 21 (.|\n)* and 5 more"):
        read_image_folder(tree, "train")


def test_other_files_are_ignored(tree, caplog):
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "notes.txt"):
        (tree / "train/cat" / name).write_bytes(b"x")
    (tree / "train/.ipynb_checkpoints").mkdir()
    (tree / "train/README.md").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert len(read_image_folder(tree, "train")) == 6
    assert "cat/notes.txt" in caplog.text and "Thumbs.db" not in caplog.text


def test_empty_class(tree):
    (tree / "test/bird").mkdir()
    (tree / "train/bird").mkdir()
    with pytest.raises(DataError, match=r"No image in .*bird.*remove"):
        read_image_folder(tree, "train")


def test_one_class(tree):
    for split in ("train", "test"):
        (tree / split / "dog").rename(tree / f"{split}-dog")
    with pytest.raises(DataError, match=r"one class only \(cat\)"):
        read_image_folder(tree, "train")


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_differ(tree, split):
    (tree / "test/dog").rename(tree / "test/wolf")
    with pytest.raises(DataError, match=r"Classes differ.*dog.*") as error:
        read_image_folder(tree, split)
    assert "wolf" in str(error.value)


def test_missing_folders(tree, tmp_path):
    with pytest.raises(DataError, match="nowhere.train is not a folder.*<class>"):
        read_image_folder(tmp_path / "nowhere", "train")
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(DataError, match="has no folders"):
        read_image_folder(tmp_path / "empty", "train")
    with pytest.raises(ConfigError, match="split must be"):
        read_image_folder(tree, "validation")


# --- the cache ---


@pytest.fixture
def reads(monkeypatch):
    """How often the images were decoded."""
    calls = []
    original = image_folder._read_all
    monkeypatch.setattr(image_folder, "_read_all", lambda *a: calls.append(a) or original(*a))
    return calls


def test_cache_is_used_until_something_changes(tree, reads):
    first = read_image_folder(tree, "train")
    again = read_image_folder(tree, "train")
    assert len(reads) == 1
    assert again.fingerprint() == first.fingerprint()
    read_image_folder(tree, "train", size=16)
    read_image_folder(tree, "test")
    assert len(reads) == 3
    read_image_folder(tree, "train", classes=("dog", "cat"))  # Another order of images.
    assert len(reads) == 4
    (tree / "train/cat/0.png").write_bytes(encode(np.zeros((32, 32, 3), np.uint8)))
    assert (read_image_folder(tree, "train").images[0] == 0).all()
    (tree / "train/cat/0.png").unlink()
    assert len(read_image_folder(tree, "train")) == 5
    assert len(reads) == 6


def damage_middle(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"garbage" * 100),
        lambda path: np.save(path, np.zeros((6, 16, 16, 3), np.uint8)),
        lambda path: np.save(path, np.zeros((6, 32, 32, 3))),
        lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        damage_middle,
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text("[]"),
    ],
    ids="truncated empty garbage shape dtype pickle flipped meta-cut meta-list".split(),
)
def test_corrupt_cache_is_rebuilt(tree, reads, damage, caplog):
    first = read_image_folder(tree, "train")
    damage(tree / ".course-cache/train-32.npy")
    with caplog.at_level(logging.WARNING):
        again = read_image_folder(tree, "train")
    assert [r.message for r in caplog.records if "damaged" in r.message] == [caplog.messages[0]]
    assert again.fingerprint() == first.fingerprint()
    assert read_image_folder(tree, "train").fingerprint() == first.fingerprint()
    assert len(reads) == 2


def test_cache_beside_unwritable_data(tree, reads, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    # Permissions do not stop an administrator; a file in the folder's place does.
    (tree / ".course-cache").write_text("in the way")
    for _ in range(2):
        read_image_folder(tree, "train")
    assert len(reads) == 1
    assert len(list((tmp_path / "user").rglob("train-32.npy"))) == 1
    # Nor there: read without one.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tree / ".course-cache"))
    assert len(read_image_folder(tree, "train")) == 6
    assert len(reads) == 2


def test_full_disk_only_costs_the_cache(tree, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with caplog.at_level(logging.WARNING):
        assert len(read_image_folder(tree, "train")) == 6
    assert "not cached" in caplog.text and "No space left" in caplog.text
    assert [p.name for p in (tree / ".course-cache").iterdir()] == ["train-32.npy.lock"]


def test_replaced_by_a_file_of_the_same_size_and_time(tree, reads):
    """As the files of an archive often are."""
    path = tree / "train/cat/0.bmp"
    path.write_bytes(encode(np.zeros((32, 32, 3), np.uint8), ".bmp"))
    os.utime(path, ns=(10**18, 10**18))
    before = read_image_folder(tree, "train")
    path.write_bytes(encode(np.full((32, 32, 3), 255, np.uint8), ".bmp"))
    os.utime(path, ns=(10**18, 10**18))
    after = read_image_folder(tree, "train")
    i = after.sources.index("cat/0.bmp")
    assert (before.images[i] == 0).all() and (after.images[i] == 255).all()


def test_no_lock_only_costs_the_cache(tree, monkeypatch, caplog):
    @contextlib.contextmanager
    def refused(path, what):
        raise CourseError("Could not write it: No space left on device.")
        yield

    monkeypatch.setattr(folder_cache, "hold", refused)
    with caplog.at_level(logging.WARNING):
        assert len(read_image_folder(tree, "train")) == 6
    assert len(caplog.messages) == 1 and "No space left" in caplog.text


def test_no_home(tree, monkeypatch):
    monkeypatch.setattr(folder_cache, "home_dir", lambda: None)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert len(read_image_folder(tree, "train")) == 6
    assert (tree / ".course-cache/train-32.npy").exists()
    (tree / "b").mkdir()
    (tree / "b/.course-cache").write_text("in the way")
    assert folder_cache.cache_folder(tree / "b") is None


def test_every_byte_of_the_cache_counts(tree, reads):
    first = read_image_folder(tree, "train").fingerprint()
    rng = np.random.default_rng(0)
    for name in ("train-32.npy", "train-32.json"):
        path = tree / ".course-cache" / name
        whole = path.read_bytes()
        for place in [*range(128), *rng.integers(0, len(whole), 20)]:
            data = bytearray(whole)
            data[place % len(whole)] ^= 1 << rng.integers(0, 8)
            path.write_bytes(data)
            assert read_image_folder(tree, "train").fingerprint() == first


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("pets/train", r"Give the folder above it: .*pets\."),
        (".", r"Did you mean .*pets\?"),
        ("classes", r"images in cat, dog: if these are the classes, move them into .*train"),
        ("pets.zip", "pets.zip is an archive: unpack it"),
        ("upper", "has the folder Train: rename it to train"),
        ("validated", "has the folder valid: rename it to test"),
        ("trained", "has the folder train alone: move a part of each class.*into .*test/<class>"),
        ("other", r"It has 1 \.txt file\."),
    ],
)
def test_likely_mistakes(tree, tmp_path, given, advice):
    shutil.copytree(tree / "train", tmp_path / "apart/classes")
    shutil.copytree(tree, tmp_path / "apart/upper")
    (tmp_path / "apart/upper/train").rename(tmp_path / "apart/upper/Train")
    (tmp_path / "apart/upper/test").rename(tmp_path / "apart/upper/Test")
    shutil.copytree(tree / "train", tmp_path / "apart/validated/train")
    shutil.copytree(tree / "train", tmp_path / "apart/validated/valid")
    shutil.copytree(tree / "train", tmp_path / "apart/trained/train")
    shutil.make_archive(str(tmp_path / "apart/pets"), "zip", tree)
    (tmp_path / "apart/other").mkdir()
    (tmp_path / "apart/other/a.txt").write_text("x")
    folder = tmp_path if (given == "." or "/" in given) else tmp_path / "apart"
    with pytest.raises(DataError, match=f"is not a folder(.|\n)*{advice}"):
        read_image_folder(folder / given, "test" if given.endswith("ed") else "train")


def test_images_in_deeper_folders_are_told(tree, caplog):
    (tree / "train/cat/more").mkdir()
    (tree / "train/cat/more/a.png").write_bytes(encode(picture()))
    (tree / "train/loose.jpg").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert len(read_image_folder(tree, "train")) == 6
    assert "cat/more/: a folder with images within a class" in caplog.text
    assert "loose.jpg" in caplog.text
    for file in (tree / "train/cat").glob("*.png"):
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"3 HEIC files \(convert them.* 1 folder, with images"):
        read_image_folder(tree, "train")


@pytest.mark.skipif(os.name == "nt", reason="needs names that are bytes")
def test_names_that_are_no_text(tree, caplog):
    bad = os.fsencode(tree / "train/cat") + b"/caf\xe9\n\x1b[31m.png"
    try:
        with open(bad, "wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    (tree / "train/cat/self.png").symlink_to("self.png")
    with pytest.raises(DataError, match="1 of 7") as error:
        read_image_folder(tree, "train")
    assert r"caf\udce9\n\x1b[31m.png" in str(error.value)
    str(error.value).encode()
    assert "self.png: " in caplog.text


def test_more_pixels_than_memory(tree):
    with pytest.raises(CourseError, match="GB, more memory than there is"):
        read_image_folder(tree, "train", size=10**8, cache=False)
