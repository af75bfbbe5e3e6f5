"""The reader of the IDC set: the tree, the pixels, the cache, the download, slides."""

import http.server
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_slides import add, png, tissue

from common.data import folder_cache
from common.data.histopathology import cache as patch_cache
from common.data.histopathology import (
    histopathology_dir,
    list_patches,
    load_histopathology,
    pad,
    patch_facts,
    put_together,
    read_patches,
    slide_image,
    slide_map,
)
from common.data.histopathology import source as patch_source
from common.data.histopathology import tree as patch_tree
from common.data.image_files import decode_rgb
from common.data.images import ImageData
from common.data.loading import is_there
from common.errors import ConfigError, CourseError, DataError

REPOSITORY = Path(__file__).parents[2]

# Not in the order in which they should come; (x, y, class).
PLACES = {
    "8863": [(51, 1, 1), (1, 1, 0), (1, 101, 0)],
    "10253": [(1351, 1101, 0), (1301, 1101, 1), (1301, 1051, 0)],
    "9": [(1, 1, 1)],  # One class only.
}
IN_ORDER = [
    "10253/0/10253_idx5_x1301_y1051_class0.png",
    "10253/1/10253_idx5_x1301_y1101_class1.png",
    "10253/0/10253_idx5_x1351_y1101_class0.png",
    "8863/0/8863_idx5_x1_y1_class0.png",
    "8863/1/8863_idx5_x51_y1_class1.png",
    "8863/0/8863_idx5_x1_y101_class0.png",
    "9/1/9_idx5_x1_y1_class1.png",
]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "slides"
    for patient, places in PLACES.items():
        for place in places:
            add(root, patient, *place)
    return root


def nest(root, *patients):
    """Copies patients into the folder that Kaggle's archive repeats them in."""
    for patient in patients:
        shutil.copytree(root / patient, root / "IDC_regular_ps50_idx5" / patient)


# --- reading ---


@pytest.mark.parametrize("cache", [True, False])
def test_reads_a_tree(tree, cache):
    data = read_patches(tree, cache=cache)
    assert (data.name, data.split, data.classes) == ("slides", "all", ("benign", "malignant"))
    assert list(data.sources) == IN_ORDER
    assert data.groups.tolist() == ["10253"] * 3 + ["8863"] * 3 + ["9"]
    assert data.labels.tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert data.positions[:3].tolist() == [[1301, 1051], [1301, 1101], [1351, 1101]]
    assert data.positions.dtype == np.int32
    for image, source in zip(data.images, IN_ORDER, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tree / source)))
    assert isinstance(data.images, np.memmap) == cache == (tree / ".course-cache").exists()
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0


def test_sources_can_be_cut_and_chosen_from(tree):
    data = read_patches(tree)
    assert data.sources[-1] == IN_ORDER[-1]
    assert data.sources[1:3] == IN_ORDER[1:3]
    assert data.subset([3, 0]).sources == [IN_ORDER[3], IN_ORDER[0]]


def test_real_tissue():
    root = Path(os.environ.get("COURSE_DATA", "data")) / "histopathology"
    if not root.is_dir():
        pytest.skip(f"no real patches: {root} does not exist (set COURSE_DATA)")
    patches = list_patches(root)
    chosen = np.linspace(0, len(patches) - 1, 20).astype(int)
    for i in chosen:
        whole = np.asarray(Image.open(root / patches.sources(i, i + 1)[0]))
        (image,) = patches.read(i, i + 1)
        np.testing.assert_array_equal(image[: whole.shape[0], : whole.shape[1]], whole)
    assert set(patches.rows["x"] % 50) == {1} == set(patches.rows["y"] % 50)


def test_listing_opens_no_file(tree):
    for path in tree.rglob("*.png"):
        path.write_bytes(b"")
    patches = list_patches(tree)
    assert patches.sources(0, len(patches)) == IN_ORDER
    assert patches.patients.tolist() == ["10253", "8863", "9"]
    assert patches.rows["patient"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert patches.rows["label"].tolist() == [0, 1, 0, 0, 1, 0, 1]


def test_reading_in_parts_past_the_cache(tree):
    images, patches = read_patches(tree).images, list_patches(tree)
    np.testing.assert_array_equal(patches.read(2, 5), images[2:5])
    (tree / IN_ORDER[3]).write_bytes(b"dear diary")
    np.testing.assert_array_equal(patches.read(0, 3), images[:3])
    with pytest.raises(DataError, match=rf"1 of 7 files(.|\n)*{IN_ORDER[3]}: not a JPEG, PNG"):
        patches.read(2, 5)


def test_any_idx_and_any_patient(tmp_path):
    add(tmp_path, "a_x1_y2 ü", 0, 100, 1, idx=12)
    data = read_patches(tmp_path)
    assert data.sources[0] == "a_x1_y2 ü/1/a_x1_y2 ü_idx12_x0_y100_class1.png"
    assert data.groups.tolist() == ["a_x1_y2 ü"]


# --- sizes ---


def test_small_patches_are_continued_by_their_mirror_image(tree):
    column = np.arange(3, dtype=np.uint8) * 10
    narrow = np.repeat(np.tile(column[:, None], (50, 1, 1)), 3, axis=2)
    padded = pad(narrow)
    assert padded[7, :8, 1].tolist() == [0, 10, 20, 20, 10, 0, 0, 10]
    low = tissue(49, 20)
    padded = pad(low)
    np.testing.assert_array_equal(padded[:49, :20], low)
    np.testing.assert_array_equal(padded[49, :20], low[48])
    np.testing.assert_array_equal(padded[:49, 20:40], low[:, ::-1])


@pytest.mark.parametrize("cache", [True, False])
def test_small_patches_are_counted(tree, cache, caplog):
    add(tree, "8863", 101, 1, 1, png(tissue(50, 32)))
    add(tree, "9", 1, 51, 0, png(tissue(7, 50)))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            facts = patch_facts(tree, cache=cache)
    assert (facts.n_patches, facts.n_patients, facts.n_copies, facts.n_nested) == (9, 3, 0, 0)
    assert facts.padded.to_dict("list") == {
        "index": [5, 8],
        "source": ["8863/1/8863_idx5_x101_y1_class1.png", "9/0/9_idx5_x1_y51_class0.png"],
        "patient": ["8863", "9"],
        "x": [101, 1],
        "y": [1, 51],
        "label": [1, 0],
        "height": [50, 7],
        "width": [32, 50],
    }
    told = [m for m in caplog.messages if "2 of 9 patches are smaller than 50x50" in m]
    assert len(told) == (1 if cache else 2)  # A cache is told about when it is made.


def test_no_patch_is_small(tree):
    assert patch_facts(tree).padded.empty


@pytest.mark.parametrize("shape", [(51, 50), (50, 51)])
def test_larger_patches_are_refused(tree, shape):
    height, width = shape
    path = add(tree, "9", 51, 1, 1, png(tissue(*shape)))
    with pytest.raises(DataError, match=rf"{path.name}: {width}x{height} pixels, more than"):
        read_patches(tree)


# --- what is no patch ---


def test_all_unreadable_files_are_named(tree):
    whole = png(tissue())
    bad = {
        add(tree, "9", 51, 1, 1, whole[:-20]): "truncated or damaged PNG",
        add(tree, "9", 101, 1, 1, b""): "empty file",
        add(tree, "8863", 51, 51, 0, b"dear diary"): "not a JPEG, PNG",
    }
    for _ in range(2):  # Nothing that was read before the error is taken for the whole.
        with pytest.raises(DataError, match="3 of 10 files cannot be read") as error:
            read_patches(tree)
        for path, why in bad.items():
            assert f"{path.relative_to(tree).as_posix()}: {why}" in str(error.value)
        assert "Replace or delete them" in str(error.value)
    for path in bad:
        path.write_bytes(whole)
    data = read_patches(tree)
    np.testing.assert_array_equal(data.images, read_patches(tree, cache=False).images)
    for i in range(12):
        add(tree, "9", 1, 1001 + 50 * i, 0, b"")
    with pytest.raises(DataError, match=r"12 of 22 (.|\n)* and 2 more"):
        read_patches(tree)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("8863_idx5_x1_y1.png", "does not parse. Expected: <patient>_idx<number>_x<X>_y<Y>_class"),
        ("8863_idx5_x1_y1_class2.png", "does not parse"),
        ("8863_idx5_x-1_y1_class0.png", "does not parse"),
        ("8863_idx5_x01_y1_class0.png", "does not parse"),
        ("8863_idx5_x1_y1_class0.jpg", "does not parse"),
        ("notes.txt", "does not parse"),
        ("8864_idx5_x7_y1_class0.png", "of patient 8864 and class 0, in another's folder"),
        ("8863_idx5_x7_y1_class1.png", "of patient 8863 and class 1, in another's folder"),
    ],
)
def test_names_that_do_not_fit(tree, name, why):
    (tree / "8863/0" / name).write_bytes(png(tissue()))
    with pytest.raises(DataError) as error:
        read_patches(tree)
    assert f"8863/0/{name}: " in str(error.value)
    assert why in str(error.value)


@pytest.mark.parametrize(
    "other", ["8863_idx5_x1_y1_class1.png", "8863_idx4_x1_y1_class0.png"], ids=["class", "idx"]
)
def test_two_files_of_one_place(tree, other):
    label = other[-5]
    (tree / f"8863/{label}" / other).write_bytes((tree / IN_ORDER[3]).read_bytes())
    with pytest.raises(DataError, match="the same place of the same patient") as error:
        read_patches(tree)
    assert IN_ORDER[3] in str(error.value) and other in str(error.value)


@pytest.mark.parametrize("place", ["a.png", "8863/a.png", "8863/2/a.png", "8863/masks/a.txt"])
def test_out_of_place(tree, place):
    (tree / place).parent.mkdir(exist_ok=True)
    (tree / place).write_bytes(b"x")
    with pytest.raises(DataError, match="not the layout <patient>/<0|1>") as error:
        read_patches(tree)
    assert place.rpartition("/")[0] in str(error.value) and "Move or delete" in str(error.value)


def test_other_files_are_ignored(tree):
    (tree / ".git").mkdir()
    for name in ("README.txt", "8863/.DS_Store", "8863/0/.hidden.png", "8863/0/Thumbs.db"):
        (tree / name).write_bytes(b"x")
    assert list(read_patches(tree).sources) == IN_ORDER


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_link_that_leads_nowhere(tree):
    path = tree / "8863/0/8863_idx5_x7_y1_class0.png"
    path.symlink_to("nowhere.png")
    with pytest.raises(DataError, match=f"{path.name}.* a link that leads nowhere"):
        read_patches(tree)


def test_nothing_to_read(tree, caplog):
    missing, empty = tree / "missing", tree.parent / "empty"
    with pytest.raises(DataError, match=r"missing is not a folder. Expected: .*<patient>/<0\|1>"):
        read_patches(missing)
    for folders in ((), ("8863",), ("8863/0", "8863/1")):
        for folder in folders:
            (empty / folder).mkdir(parents=True)
        empty.mkdir(exist_ok=True)
        with pytest.raises(DataError, match=r"empty has no patch. Expected: .*<patient>/<0\|1>"):
            read_patches(empty)
    (tree / "7777/0").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        data = read_patches(tree)
    assert "patients without a patch:\n  7777" in caplog.text
    assert list(data.sources) == IN_ORDER


# --- Kaggle's second copies ---


@pytest.mark.parametrize("cache", [True, False])
def test_second_copies_are_read_once(tree, cache, caplog):
    nest(tree, "8863", "9")
    with caplog.at_level(logging.WARNING):
        data = read_patches(tree, cache=cache)
    assert list(data.sources) == IN_ORDER
    assert [m for m in caplog.messages if "repeats 4 patches in IDC_regular_ps50_idx5/" in m]
    assert patch_facts(tree, cache=cache).n_copies == 4


def test_second_copy_that_differs(tree):
    nest(tree, "8863")
    other = tree / "IDC_regular_ps50_idx5" / IN_ORDER[3]
    other.write_bytes(png(tissue()))
    with pytest.raises(DataError, match=f"{IN_ORDER[3]}: differs from its second copy IDC_.*8863"):
        read_patches(tree)
    other.write_bytes((tree / IN_ORDER[3]).read_bytes())
    assert len(read_patches(tree)) == 7


def test_patients_and_patches_that_are_only_nested(tree):
    before = read_patches(tree, cache=False)
    nest(tree, "10253", "8863", "9")
    shutil.rmtree(tree / "8863")
    (tree / IN_ORDER[0]).unlink()
    data = read_patches(tree)
    nested = (0, 3, 4, 5)
    expected = [f"IDC_regular_ps50_idx5/{s}" if i in nested else s for i, s in enumerate(IN_ORDER)]
    assert list(data.sources) == expected
    np.testing.assert_array_equal(data.images, before.images)
    facts = patch_facts(tree)
    assert (facts.n_copies, facts.n_nested) == (3, 4)
    add(tree / "IDC_regular_ps50_idx5", "9", 1, 1, 0)
    with pytest.raises(DataError, match=f"{IN_ORDER[-1]}.*the same place"):
        read_patches(tree)


def test_whole_set_in_the_nested_folder(tree):
    tree.rename(tree.parent / "IDC_regular_ps50_idx5")
    root = tree.parent
    assert read_patches(root).sources[0] == f"IDC_regular_ps50_idx5/{IN_ORDER[0]}"
    assert list(read_patches(root / "IDC_regular_ps50_idx5").sources) == IN_ORDER


# --- the cache ---


@pytest.fixture
def reads(monkeypatch):
    """The file names of the patches decoded since the list was last cleared."""
    names = []
    original = patch_tree.read_block

    def read_block(patches, start, stop, *rest):
        names.extend(patches.sources(start, stop))
        return original(patches, start, stop, *rest)

    monkeypatch.setattr(patch_tree, "read_block", read_block)
    return names


def overwrite(tree):
    """In place, and as many bytes."""
    path = tree / IN_ORDER[3]
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(png(np.zeros((50, 50, 3), np.uint8)).ljust(size, b"\0"))
    assert path.stat().st_size == size


def rename(tree):
    source = tree / IN_ORDER[3]
    source.rename(source.with_name(source.name.replace("_x1_", "_x501_")))


@pytest.mark.parametrize("helpers", [False, True], ids=["alone", "helpers"])
@pytest.mark.parametrize(
    "change",
    [
        overwrite,
        rename,
        lambda tree: (tree / IN_ORDER[3]).unlink(),
        lambda tree: add(tree, "8863", 501, 1, 0),
    ],
    ids="overwritten renamed removed added".split(),
)
def test_changes_are_read_and_nothing_else(tree, reads, change, helpers, monkeypatch):
    if helpers:
        monkeypatch.setattr(patch_tree, "_MANY_FILES", 0)
    first = read_patches(tree)
    assert sorted(reads) == sorted(IN_ORDER)
    reads.clear()
    assert read_patches(tree).fingerprint() == first.fingerprint()
    assert not reads
    change(tree)
    again = read_patches(tree)
    assert {name.split("/")[0] for name in reads} == {"8863"}
    fresh = read_patches(tree, cache=False)
    assert again.fingerprint() == fresh.fingerprint()
    assert list(again.sources) == list(fresh.sources)
    assert len(list((tree / ".course-cache").glob("*.raw"))) == 1
    reads.clear()
    read_patches(tree)
    assert not reads


def test_second_copies_are_watched_too(tree, reads):
    nest(tree, "8863")
    read_patches(tree)
    reads.clear()
    shutil.rmtree(tree / "IDC_regular_ps50_idx5")
    data = read_patches(tree)
    assert {name.split("/")[0] for name in reads} == {"8863"}
    assert list(data.sources) == IN_ORDER


def test_small_patches_of_a_kept_chunk_are_still_known(tree):
    add(tree, "8863", 101, 1, 1, png(tissue(50, 32)))
    assert patch_facts(tree).padded["index"].tolist() == [5]
    add(tree, "10253", 1, 1, 1)
    assert patch_facts(tree).padded["index"].tolist() == [6]


def test_patients_of_several_chunks(tree, reads, monkeypatch):
    monkeypatch.setattr(patch_cache, "_CHUNK", 2)
    assert read_patches(tree).fingerprint() == read_patches(tree, cache=False).fingerprint()
    reads.clear()
    add(tree, "8863", 1, 151, 1)  # The last of its patient: into the second chunk.
    read_patches(tree)
    assert sorted(reads) == [
        "8863/0/8863_idx5_x1_y101_class0.png",
        "8863/1/8863_idx5_x1_y151_class1.png",
    ]


def test_patients_keep_their_pixels_when_another_comes(tree, reads):
    """Even two that an unpacker gave the same times, with patches of one place and size."""
    for patient, value in (("a", 0), ("b", 255)):
        data = png(np.full((50, 50, 3), value, np.uint8)).ljust(500, b"\0")
        os.utime(add(tree, patient, 1, 1, 0, data), (0, 0))
    read_patches(tree)
    reads.clear()
    first = add(tree, "0", 1, 1, 0)
    data = read_patches(tree)
    assert reads == [first.relative_to(tree).as_posix()]
    assert data.fingerprint() == read_patches(tree, cache=False).fingerprint()


def the(tree, pattern):
    (path,) = (tree / ".course-cache").glob(pattern)
    return path


def edit(path, change):
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))


def flipped(data):
    data[3 * 7500 + 10] ^= 255  # In the second patient.
    return data


EVERYTHING = {"10253", "8863", "9"}


@pytest.mark.parametrize(
    ("damage", "read_anew"),
    [
        (lambda tree: edit(the(tree, "*.raw"), lambda d: d[:-500]), {"9"}),
        (lambda tree: edit(the(tree, "*.raw"), lambda d: d + b"more"), set()),
        (lambda tree: edit(the(tree, "*.raw"), lambda d: b""), EVERYTHING),
        (lambda tree: edit(the(tree, "*.raw"), flipped), {"8863"}),
        (lambda tree: the(tree, "*.raw").unlink(), EVERYTHING),
        (lambda tree: edit(the(tree, "*.npz"), lambda d: d[:-500]), set()),
        (lambda tree: edit(the(tree, "*.npz"), lambda d: b""), set()),
        (lambda tree: edit(the(tree, "*.npz"), lambda d: b"garbage" * 99), set()),
        (lambda tree: np.savez(the(tree, "*.npz"), version=patch_tree.CACHE_VERSION), set()),
        (
            lambda tree: (
                edit(the(tree, "*.npz"), lambda d: b""),
                edit(the(tree, "*.chunks"), lambda d: b"{}\n[1]\nnull\n" + d[:-30]),
            ),
            {"9"},
        ),
    ],
    ids=(
        "pixels-cut pixels-longer pixels-empty pixel-flipped pixels-gone "
        "index-cut index-empty index-garbage index-lacks log-cut"
    ).split(),
)
def test_damaged_cache_is_repaired(tree, reads, damage, read_anew, caplog, monkeypatch):
    monkeypatch.setattr(patch_cache, "_THREADS", 1)  # Which chunk is last in the log.
    fingerprint = read_patches(tree).fingerprint()
    reads.clear()
    damage(tree)
    with caplog.at_level(logging.WARNING):
        assert read_patches(tree).fingerprint() == fingerprint
        assert {name.split("/")[0] for name in reads} == read_anew
        reads.clear()
        assert read_patches(tree).fingerprint() == fingerprint
    assert len([m for m in caplog.messages if "is damaged" in m]) == 1
    the(tree, "*.npz").unlink()  # The log of what is there was repaired as well.
    assert read_patches(tree).fingerprint() == fingerprint
    assert not reads


@pytest.mark.parametrize("pattern", ["*.npz", "*.chunks"])
def test_every_bit_of_the_index_counts(tree, pattern):
    add(tree, "8863", 101, 1, 1, png(tissue(50, 32)))
    fingerprint = read_patches(tree).fingerprint()
    padded = patch_facts(tree).padded.to_csv()
    rng = np.random.default_rng(0)
    for _ in range(60):
        index = the(tree, "*.npz")
        edit(the(tree, pattern), lambda d: damaged(d, rng))
        if pattern == "*.chunks":
            index.unlink()
        assert read_patches(tree).fingerprint() == fingerprint
        assert patch_facts(tree).padded.to_csv() == padded


def damaged(data, rng):
    data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
    return data


def test_pixel_flipped_and_time_set_back(tree):
    fingerprint = read_patches(tree).fingerprint()
    pixels = the(tree, "*.raw")
    before = pixels.stat().st_mtime_ns
    edit(pixels, flipped)
    os.utime(pixels, ns=(before, before))
    assert read_patches(tree).fingerprint() == fingerprint


@pytest.mark.skipif(os.name == "nt", reason="needs a time that cannot be set back")
def test_patch_replaced_and_time_set_back(tree):
    read_patches(tree)
    path = tree / IN_ORDER[3]
    before = path.stat().st_mtime_ns
    overwrite(tree)
    os.utime(path, ns=(before, before))
    assert (read_patches(tree).images[3] == 0).all()


def test_no_lock_no_cache(tree, monkeypatch, caplog):
    def refused(path, what):
        raise CourseError("Could not write patches.lock: No space left on device.")

    monkeypatch.setattr(folder_cache, "hold", refused)
    with caplog.at_level(logging.WARNING):
        data = read_patches(tree)
    assert len(data) == 7 and not isinstance(data.images, np.memmap)
    assert len([m for m in caplog.messages if "No space left" in m]) == 1


def test_cache_of_somebody_else(tree, monkeypatch, caplog):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(patch_cache, "_fill", refused)
    with caplog.at_level(logging.WARNING):
        assert len(read_patches(tree)) == 7
    assert "its pixels go into memory" in caplog.text


def test_too_large_to_be_a_patch(tree, monkeypatch):
    import cv2

    path = add(tree, "9", 51, 1, 1, png(tissue(51, 50)))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="50x51 pixels, more than"):
        decode_rgb(path.read_bytes(), side=50)
    with open(path, "ab") as file:
        file.truncate(10**10)  # Takes no space.
    with pytest.raises(DataError, match="10000 MB, more than a patch can have"):
        list_patches(tree).read(7, 8)


def test_cache_beside_unwritable_data(tree, reads, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    # Permissions do not stop an administrator; a file in the folder's place does.
    (tree / ".course-cache").write_text("in the way")
    for _ in range(2):
        read_patches(tree)
    assert len(reads) == 7
    assert len(list((tmp_path / "user").rglob("patches.npz"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tree / ".course-cache"))
    with caplog.at_level(logging.WARNING):
        assert len(read_patches(tree)) == 7
    assert "its pixels go into memory" in caplog.text


def test_too_little_space_is_noticed_before(tree, monkeypatch):
    usage = shutil.disk_usage(tree)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7 * 7500 - 1))
        with pytest.raises(CourseError, match=r"MB left and .* are to be written"):
            read_patches(tree)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7 * 7500))
        assert len(read_patches(tree)) == 7


def test_two_readers_at_once(tree, reads):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(read_patches(tree).fingerprint()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results[0] == results[1]
    assert len(reads) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_goes_on_after_a_kill(tree, reads):
    for i in range(20):
        add(tree, f"2{i:02}", 1, 1, i % 2)
    undisturbed = read_patches(tree, cache=False)
    reads.clear()
    script = [
        "import sys, time",
        "from common.data.histopathology import cache as h",
        "h._THREADS = 1",
        "read = h.tree.read_block",
        "left = [0.0] * 6 + [600.0]",  # Stuck in the middle until it is killed.
        "h.tree.read_block = lambda *a: time.sleep(left.pop(0)) or read(*a)",
        "h.read_patches(sys.argv[1])",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(script), str(tree)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    deadline = time.monotonic() + 120
    done = 0
    while done < 6 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
        for log in (tree / ".course-cache").glob("*.chunks"):
            done = log.read_bytes().count(b"digest")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tree / ".course-cache/patches.npz").exists()

    data = read_patches(tree)
    assert len(reads) == len(undisturbed) - 8  # Of three patches the first patient, one the next.
    assert data.fingerprint() == undisturbed.fingerprint()
    assert list(data.sources) == list(undisturbed.sources)
    reads.clear()
    assert read_patches(tree).fingerprint() == undisturbed.fingerprint()
    assert not reads


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_disk_that_fills_up_in_the_middle(tree, reads, monkeypatch):
    import resource

    monkeypatch.setattr(patch_cache, "_THREADS", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # All but the last patient's.
    try:
        with pytest.raises(CourseError, match=r"Could not write .*raw: .*goes on where it stopped"):
            read_patches(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tree / ".course-cache/patches.npz").exists()
    reads.clear()
    data = read_patches(tree)
    assert reads == IN_ORDER[-1:]
    assert data.fingerprint() == read_patches(tree, cache=False).fingerprint()


# --- finding and downloading ---


def archive(tree, prefix=""):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for path in sorted(tree.rglob("*.png")):
            zipped.write(path, prefix + path.relative_to(tree).as_posix())
    return file.getvalue()


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        status, body = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The two sources on one server; empty `COURSE_DATA` and no credentials."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    patient = partial(patch_source.download, backoff=0, retries=1, progress=False)
    monkeypatch.setattr(patch_source, "download", patient)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        httpd.seen, httpd.answers = [], {}
        url = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(patch_source, "URLS", (f"{url}/first", f"{url}/second"))
        monkeypatch.setattr(patch_source, "KAGGLE_URL", f"{url}/kaggle")
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield httpd
        httpd.shutdown()


@pytest.mark.parametrize("name", ["histopathology", "IDC_regular_ps50_idx5"])
def test_found_under_course_data(server, tree, tmp_path, name):
    shutil.copytree(tree, tmp_path / "data" / name)
    data = load_histopathology()
    assert (data.name, len(data)) == ("histopathology", 7)
    assert histopathology_dir() == tmp_path / "data" / name
    assert not server.seen


@pytest.mark.parametrize("name", ["IDC_regular_ps50_idx5.zip", "breast-histopathology-images.zip"])
def test_archive_that_is_there_is_unpacked(server, tree, tmp_path, name):
    (tmp_path / "data" / name).write_bytes(archive(tree))
    assert list(load_histopathology().sources) == IN_ORDER
    assert not server.seen


def test_downloaded_from_the_authors(server, tree, tmp_path, caplog, capsys):
    server.answers["/second"] = 200, archive(tree)
    assert not is_there("histopathology")
    assert list(load_histopathology().sources) == IN_ORDER and is_there("histopathology")
    told = (
        f"The IDC histopathology set is not in {tmp_path}/data/histopathology: downloading 1.6 GB"
    )
    assert capsys.readouterr().err.startswith(told)
    assert histopathology_dir() == tmp_path / "data/histopathology"
    assert [path for path, _ in server.seen] == ["/first", "/second"]
    assert "unverified" in caplog.text


def test_downloaded_from_kaggle(server, tree, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    server.answers["/kaggle"] = 200, archive(tree, "IDC_regular_ps50_idx5/")
    assert load_histopathology().sources[0] == f"IDC_regular_ps50_idx5/{IN_ORDER[0]}"
    # The authors' servers have no business with the token.
    assert server.seen == [("/first", None), ("/second", None), ("/kaggle", "Bearer KGAT_secret")]


@pytest.mark.parametrize("answer", [(401, b""), (200, b"<html>Sign in</html>")])
def test_neither_gives_it(server, tmp_path, answer):
    server.answers["/kaggle"] = answer
    for _ in range(2):
        with pytest.raises(DataError) as error:
            load_histopathology()
        message = str(error.value)
        for part in ("/first: 404", "/second: 404", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME"):
            assert part in message
        assert ("401" in message) or ("is no zip archive" in message)
        assert f"unpack it, so that there is {tmp_path}/data/histopathology/<patient>/0" in message
        assert f"put it at {tmp_path}/data/IDC_regular_ps50_idx5.zip" in message
        assert 'dataset="synthetic"' in message
    left = {path.name for path in (tmp_path / "data").iterdir()}
    assert not [name for name in left if not name.endswith((".lock", ".part"))]


# --- slides ---


def slides():
    """Patient "a" on a grid that begins at (-49, 101), with holes; "b" of one patch."""
    positions = np.array([(1, 101), (51, 101), (-49, 151), (101, 201), (7, 7)], np.int32)
    images = np.stack([np.full((50, 50, 3), 10 * i, np.uint8) for i in range(5)])
    return ImageData(
        images=images,
        labels=np.array([0, 1, 0, 1, 1], np.int32),
        classes=("benign", "malignant"),
        name="slides",
        split="all",
        groups=np.array(["a", "a", "a", "a", "b"]),
        positions=positions,
    )


def test_slide_map():
    nan = np.nan
    expected = [[nan, 0.1, 0.2, nan], [0.3, nan, nan, nan], [nan, nan, nan, 0.4]]
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    np.testing.assert_array_equal(slide_map(slides(), "a", values), expected)
    np.testing.assert_array_equal(slide_map(slides(), "b", values), [[0.5]])


def test_a_picture_of_patches_far_apart_stays_small():
    patches = [np.full((50, 50, 3), value, np.uint8) for value in (10, 20)]
    places = np.array([[500, 7], [10**9 + 500, 7]])
    picture = put_together(patches, places, 480 / 1e9)
    assert picture.shape == (1, 481, 3)
    assert picture[0, 0, 0] == 10 and picture[0, -1, 0] == 20 and (picture[0, 1:-1] == 255).all()


@pytest.mark.parametrize("scale", [1, 0.2, 2])
def test_slide_image(scale):
    side = int(50 * scale)
    slide = slide_image(slides(), "a", scale)
    assert slide.shape == (3 * side, 4 * side, 3)
    expected = slide_map(slides(), "a", [0, 10, 20, 30, 40])
    expected = np.where(np.isnan(expected), 255, expected).astype(np.uint8)
    expected = np.repeat(np.repeat(expected, side, axis=0), side, axis=1)
    np.testing.assert_array_equal(slide, np.repeat(expected[..., None], 3, axis=2))


def test_slide_image_keeps_every_pixel(tree):
    data = read_patches(tree)
    slide = slide_image(data, "8863")
    np.testing.assert_array_equal(slide[:50, :50], data.images[3])
    np.testing.assert_array_equal(slide[:50, 50:], data.images[4])
    assert slide.shape == (150, 100, 3) and (slide[50:100] == 255).all()


def test_slides_that_cannot_be_made(tree):
    data = slides()
    with pytest.raises(ConfigError, match="no patient 'c'. Some that it has: a, b"):
        slide_image(data, "c")
    with pytest.raises(ConfigError, match="scale must be positive. Received: 0"):
        slide_image(data, "a", 0)
    with pytest.raises(ConfigError, match=r"has 5 patches. Received: values of shape \(4,\)"):
        slide_map(data, "a", [1, 2, 3, 4])
    data.positions[1] = data.positions[0] + 7
    with pytest.raises(DataError, match="patches of patient a overlap"):
        slide_map(data, "a", data.labels)
    object.__setattr__(data, "positions", None)
    with pytest.raises(DataError, match="does not say where"):
        slide_image(data, "a")
