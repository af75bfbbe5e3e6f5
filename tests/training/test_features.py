import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from PIL import Image
from small_photos import renamed, tiny_backbone, write_photos

from common.data.captions import CaptionData
from common.errors import CourseError, DataError
from common.files import read_json, write_json
from common.models.backbones import weights_hash
from common.training.features import Extractor, extract_features, require_backbone, to_input

HERE = Path(__file__).parent


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def tiny():
    return tiny_backbone()


def extract(data, backbone, root, **options):
    return extract_features(data, backbone, root=root, batch_size=4, progress=False, **options)


def expected(data, backbone, mirrored=False):
    images = np.stack([to_input(data.read_image(i), 8) for i in range(len(data))])
    images = images[:, :, ::-1] if mirrored else images
    found = keras.ops.convert_to_numpy(backbone(images))
    return found.reshape(len(data), 4, -1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_features_are_the_backbones(photos, tiny, tmp_path, mirrored):
    features = extract(photos, tiny, tmp_path / "f", mirrored=mirrored)
    assert features.array.dtype == np.float16 and features.array.shape == (10, 4, 6)
    assert isinstance(features.array, np.memmap) and not features.array.flags.writeable
    np.testing.assert_allclose(features.array, expected(photos, tiny, mirrored), 1e-3, 1e-3)
    assert features.key.weights == weights_hash(tiny)
    assert features.key.shape == (2, 2, 6) and features.key.mirrored == mirrored
    assert features.bad == {} and features.usable().tolist() == list(range(10))


class Counted(CaptionData):
    """Counts how often an image is read."""

    reads: list = []

    def read_image(self, i):
        self.reads.append(i)
        return super().read_image(i)


def counted(data):
    Counted.reads = []
    return Counted(data.names, data.captions, data.name, data.split, data.folder)


def test_nothing_is_done_twice(photos, tiny, tmp_path):
    data = counted(photos)
    first = extract(data, tiny, tmp_path / "f")
    assert sorted(data.reads) == list(range(10))
    second = extract(data, tiny, tmp_path / "f")
    assert len(data.reads) == 10 and first.folder == second.folder


def test_keyed_by_all_that_decides_them(photos, tiny, tmp_path):
    sets = [
        extract(photos, tiny, tmp_path / "f"),
        extract(photos, tiny, tmp_path / "f", mirrored=True),
        extract(photos, tiny_backbone(seed=1), tmp_path / "f"),
        extract(photos.subset(range(9)), tiny, tmp_path / "f"),
        extract(renamed(photos, "dev"), tiny, tmp_path / "f"),
        extract(photos, tiny, tmp_path / "f", name="another"),
    ]
    assert len({features.folder for features in sets}) == len(sets)


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}]
from small_photos import *
from common.training.features import extract_features

class Slow(CaptionData):
    def read_image(self, i):
        time.sleep(0.03)
        return super().read_image(i)

data = write_photos(Path({folder!r}), 200)
data = Slow(data.names, data.captions, data.name, data.split, data.folder)
extract_features(data, tiny_backbone(), root=Path({root!r}), batch_size=4, progress=False)
"""


def test_killed_extraction_goes_on(tiny, tmp_path):
    """Kill -9: the rest is done, nothing twice, and the bytes are those of a whole extraction."""
    script = KILLED.format(
        tests=str(HERE), folder=str(tmp_path / "photos"), root=str(tmp_path / "killed")
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=HERE.parents[1])
    states, done = [], 0
    deadline = time.monotonic() + 120
    while done < 8 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
        states = list((tmp_path / "killed").glob("*/state.json"))
        done = read_json(states[0])["done"] if states else 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = read_json(states[0])["done"]
    assert 8 <= done < 200
    data = counted(write_photos(tmp_path / "photos", 200))
    resumed = extract(data, tiny, tmp_path / "killed")
    assert sorted(data.reads) == list(range(done, 200))
    whole = extract(data, tiny, tmp_path / "whole")
    names = [path / "features.npy" for path in (resumed.folder, whole.folder)]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_goes_on_past_bad_images_and_lists_them(photos, tiny, tmp_path, caplog):
    good = photos.path(2).read_bytes()
    photos.path(2).write_bytes(good[: len(good) // 2])
    photos.path(7).write_bytes(b"")
    features = extract(photos, tiny, tmp_path / "f")
    assert set(features.bad) == {"002.jpg", "007.jpg"}
    assert features.bad["002.jpg"] == "truncated or damaged JPEG file"
    assert features.usable().tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert not features.array[[2, 7]].any()
    assert "2 of 10 images have no features" in caplog.text
    assert "002.jpg: truncated or damaged JPEG" in caplog.text and "007.jpg" in caplog.text
    others = features.usable()
    # Repaired: only the bad ones are read again.
    photos.path(2).write_bytes(good)
    data = counted(photos)
    again = extract(data, tiny, tmp_path / "f")
    assert sorted(data.reads) == [2, 7] and set(again.bad) == {"007.jpg"}
    assert (again.array[others] == features.array[others]).all()
    photos.path(7).unlink()
    gone = extract(photos, tiny, tmp_path / "f")
    assert "cannot be read" in gone.bad["007.jpg"]


def test_not_one_readable_image(tiny, tmp_path):
    data = write_photos(tmp_path / "photos", 3)
    for i in range(3):
        data.path(i).write_bytes(b"GIF")
    with pytest.raises(DataError, match="3 of 3 images have no features"):
        extract(data, tiny, tmp_path / "f")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size - 40)
        file.write(bytes(20))


DAMAGE = {
    "features deleted": ("features.npy", Path.unlink),
    "features cut": ("features.npy", cut),
    "features zeroed": ("features.npy", zeroed),
    "features of no array": ("features.npy", lambda path: path.write_bytes(b"short")),
    "features empty": ("features.npy", lambda path: path.write_bytes(b"")),
    "state deleted": ("state.json", Path.unlink),
    "state cut": ("state.json", cut),
    "state of another form": ("state.json", lambda path: write_json(path, {"done": 3})),
    "state a list": ("state.json", lambda path: write_json(path, [1])),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_noticed_and_made_good(what, photos, tiny, tmp_path, caplog):
    first = extract(photos, tiny, tmp_path / "f")
    whole = np.array(first.array)
    name, spoil = DAMAGE[what]
    spoil(first.folder / name)
    again = extract(photos, tiny, tmp_path / "f")
    np.testing.assert_array_equal(again.array, whole)
    assert "is damaged" in caplog.text or what == "state deleted"
    caplog.clear()
    data = counted(photos)
    extract(data, tiny, tmp_path / "f")
    assert data.reads == [] and caplog.text == ""


def test_only_damaged_blocks_are_extracted_anew(photos, tiny, tmp_path):
    zeroed(extract(photos, tiny, tmp_path / "f").folder / "features.npy")
    data = counted(photos)
    extract(data, tiny, tmp_path / "f")
    assert sorted(data.reads) == [8, 9]


def test_a_copy_of_the_outputs_is_as_good(photos, tiny, tmp_path):
    """On another machine the file has another time: its checksums tell that it is whole."""
    folder = extract(photos, tiny, tmp_path / "f").folder
    os.utime(folder / "features.npy", (1, 1))
    data = counted(photos)
    for _ in range(2):
        extract(data, tiny, tmp_path / "f")
    assert data.reads == []
    assert read_json(folder / "state.json")["kept"][1] == 10**9


def test_replaced_photos_are_noticed(photos, tiny, tmp_path):
    """Under the same name, of the same size, and with the time of the old one."""
    first = extract(photos, tiny, tmp_path / "f")
    old = photos.path(3)
    size, times = old.stat().st_size, (old.stat().st_atime_ns, old.stat().st_mtime_ns)
    pixels = np.full((12, 12, 3), 9, np.uint8)
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    assert len(content) <= size
    old.write_bytes(content + bytes(size - len(content)))
    os.utime(old, ns=times)
    data = counted(photos)
    second = extract(data, tiny, tmp_path / "f")
    assert data.reads == [3] and second.folder != first.folder
    np.testing.assert_allclose(second.array, expected(photos, tiny), 1e-3, 1e-3)
    assert not np.array_equal(second.array[3], first.array[3])


def test_photos_of_the_same_names_elsewhere(photos, tiny, tmp_path):
    other = write_photos(tmp_path / "elsewhere", size=16)
    features = [extract(data, tiny, tmp_path / "f") for data in (photos, other, photos)]
    assert features[0].folder == features[2].folder != features[1].folder
    np.testing.assert_allclose(features[1].array, expected(other, tiny), 1e-3, 1e-3)


def test_images_that_another_set_has_are_not_extracted_again(photos, tiny, tmp_path):
    extract(photos, tiny, tmp_path / "f")
    data = counted(photos.subset([7, 2, 5]))
    part = extract(data, tiny, tmp_path / "f")
    assert data.reads == []
    np.testing.assert_allclose(part.array, expected(data, tiny), 1e-3, 1e-3)


def test_what_could_not_be_read_is_no_content(photos, tiny, tmp_path, monkeypatch):
    """Two photos of which the file could not be opened once are not one and the same."""
    others = write_photos(tmp_path / "others")
    for number, data in ((2, photos), (5, others)):
        hashes = [f"{data.folder}{i}" for i in range(len(data))]
        hashes[number] = "none"
        monkeypatch.setattr("common.training.features.image_hashes", lambda _, h=hashes: h)
        found = extract(data, tiny, tmp_path / "f")
        np.testing.assert_allclose(found.array, expected(data, tiny), 1e-3, 1e-3)


def test_a_folder_of_any_name(photos, tiny, tmp_path):
    data = renamed(photos, "train")
    data = CaptionData(data.names, data.captions, "字" * 80, "train", data.folder)
    np.testing.assert_allclose(
        extract(data, tiny, tmp_path / "f").array, expected(data, tiny), 1e-3, 1e-3
    )


def test_contents_that_are_not_those_of_the_features_are_not_believed(photos, tiny, tmp_path):
    folder = extract(photos, tiny, tmp_path / "f").folder
    pairs = read_json(folder / "images.json")
    pairs[2][1], pairs[7][1] = pairs[7][1], pairs[2][1]
    write_json(folder / "images.json", pairs)
    part = extract(photos.subset([7, 2, 5]), tiny, tmp_path / "f")
    np.testing.assert_allclose(part.array, expected(photos.subset([7, 2, 5]), tiny), 1e-3, 1e-3)


def test_whole_features_are_read_where_nothing_can_be_written(photos, tiny, tmp_path, monkeypatch):
    extract(photos, tiny, tmp_path / "f")

    def refuse(*arguments):
        raise AssertionError("nothing is to be written or locked")

    monkeypatch.setattr("common.training.features.hold", refuse)
    monkeypatch.setattr("common.training.feature_files.write_json", refuse)
    assert len(extract(photos, tiny, tmp_path / "f").array) == 10


def test_a_disk_that_is_full_when_a_killed_call_is_gone_on_with(photos, tiny, tmp_path):
    """The file was sparse: its space had been asked for, and was then taken by others."""
    resource = pytest.importorskip("resource")
    folder = extract(photos, tiny, tmp_path / "f").folder
    state = read_json(folder / "state.json")
    write_json(folder / "state.json", state | {"done": 4, "blocks": state["blocks"][:1]})
    whole = (folder / "features.npy").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(CourseError, match="Could not write .*features.npy.*Free some space"):
            extract(photos, tiny, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    extract(photos, tiny, tmp_path / "f")
    assert (folder / "features.npy").read_bytes() == whole


def test_features_of_another_backbone_or_other_weights(photos, tiny, tmp_path):
    features = extract(photos, tiny, tmp_path / "f")
    features.require("tiny", weights_hash(tiny))
    with pytest.raises(DataError, match="of the backbone tiny, but those of resnet50 are wanted"):
        features.require("resnet50", weights_hash(tiny))
    with pytest.raises(DataError, match="tiny with other weights"):
        features.require("tiny", weights_hash(tiny_backbone(seed=1)))
    with pytest.raises(DataError, match=r"hash aa\) than those wanted \(bb\)"):
        require_backbone(("tiny", "aa"), ("tiny", "bb"))


def test_a_batch_that_is_not_full(tiny):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    extractor = Extractor(tiny, 4)
    np.testing.assert_array_equal(extractor(images[:1]), extractor(images)[:1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (9000, 12000), (8, 8), (5, 9)])
def test_photos_of_any_size(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    assert to_input(image, 8).shape == (8, 8, 3)
    assert (to_input(image, 8) == 77).all()


def test_shrinking_averages():
    """A pattern of single pixels becomes grey, not another pattern."""
    image = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = np.repeat(image[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(to_input(image, 8).astype(int) - 127).max() <= 1


def test_photos_of_odd_kinds(tiny, tmp_path):
    """CMYK, animated, grey, with alpha, one pixel, and 108 megapixels."""
    red = Image.new("RGB", (20, 30), (255, 0, 0))
    blue = Image.new("RGB", (20, 30), (0, 0, 255))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg")
    red.save(tmp_path / "animated.gif", save_all=True, append_images=[blue], duration=50)
    red.convert("L").save(tmp_path / "grey.png")
    red.convert("RGBA").save(tmp_path / "alpha.png")
    red.resize((1, 1)).save(tmp_path / "one.png")
    large = np.zeros((9000, 12000, 3), np.uint8)
    large[..., 2] = 255
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    names = ("cmyk.jpg", "animated.gif", "alpha.png", "one.png", "large.jpg", "grey.png")
    data = CaptionData(names, (("a red picture",),) * 6, "odd", "test", tmp_path)
    features = extract(data, tiny, tmp_path / "f")
    assert features.bad == {}
    first = features.array[:5].astype("float32")
    np.testing.assert_allclose(first, np.broadcast_to(first[2], first.shape), atol=0.1)
    assert np.abs(features.array[5] - features.array[2]).max() > 0.1
