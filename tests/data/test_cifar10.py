"""CIFAR-10 from a tiny archive in the format of the original: pickled by Python 2."""

import importlib.util
import io
import pickle
import re
import shutil
import struct
import tarfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.data import cifar10, download
from common.data.cifar10 import CLASSES, load_cifar10
from common.data.loading import is_there
from common.errors import ConfigError, DataError

PER_BATCH = 20


class Python2Pickler(pickle._Pickler):
    """Writes str and bytes as Python 2 wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value.encode() if isinstance(value, str) else value
        if len(data) < 256:
            self.write(b"U" + bytes([len(data)]) + data)
        else:
            self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def batch_bytes(name, seed):
    rng = np.random.default_rng(seed)
    batch = {
        "batch_label": f"{name} of all",
        "labels": [int(label) for label in rng.permutation(np.arange(PER_BATCH) % 10)],
        "data": rng.integers(0, 256, (PER_BATCH, 3072), np.uint8),
        "filenames": [f"picture_s_{i:06}.png" for i in range(PER_BATCH)],
    }
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(batch)
    return batch, buffer.getvalue().replace(b"numpy._core.", b"numpy.core.")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Writes the archive; its checksums become the published ones."""
    names = [name for split in cifar10.BATCH_MD5.values() for name in split]
    batches, md5 = {}, {}
    path = tmp_path / "made" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for seed, name in enumerate(names):
            batches[name], data = batch_bytes(name, seed)
            (path.parent / name).write_bytes(data)
            md5[name] = download.file_hash(path.parent / name, "md5")
            tar.add(path.parent / name, f"cifar-10-batches-py/{name}")
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", download.file_hash(path))
    published = {s: {n: md5[n] for n in names} for s, names in cifar10.BATCH_MD5.items()}
    monkeypatch.setattr(cifar10, "BATCH_MD5", published)
    return path, batches


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Empty `COURSE_DATA` and Keras folders, and no way to the network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(cifar10, "URLS", ())
    return tmp_path


def unpack(archive, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder)


def check(data, batches, names):
    rows = np.concatenate([batches[name]["data"] for name in names])
    assert data.images.shape == (len(rows), 32, 32, 3)
    # Row by row, the red plane first.
    assert data.images[7, 3, 5].tolist() == [rows[7, p * 1024 + 3 * 32 + 5] for p in range(3)]
    assert data.labels.tolist() == sum((batches[name]["labels"] for name in names), [])
    assert (data.name, data.classes) == ("cifar10", CLASSES)
    assert data.sources[1] == "picture_s_000001.png"


TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def test_archive_is_checked_unpacked_and_read(home, archive):
    path, batches = archive
    path.rename(home / "data" / path.name)
    check(load_cifar10("train"), batches, TRAIN)
    check(load_cifar10("test"), batches, ["test_batch"])
    # As Keras lays it out.
    assert (home / "data/cifar-10-batches-py-target/cifar-10-batches-py/test_batch").is_file()


@pytest.mark.parametrize(
    "folder",
    ["data", "data/cifar-10-batches-py-target", "keras/datasets/cifar-10-batches-py-target"],
)
def test_unpacked_folder(home, archive, folder):
    path, batches = archive
    unpack(path, home / folder)
    check(load_cifar10("train"), batches, TRAIN)


def test_downloaded_after_its_size_is_told(home, archive, monkeypatch, capsys):
    def fetch(urls, path, sha256):
        if not path.is_file():
            assert "CIFAR-10" in capsys.readouterr().err
            archive[0].rename(path)
        return path

    assert not is_there("cifar10")
    monkeypatch.setattr(cifar10, "download", fetch)
    check(load_cifar10("test"), archive[1], ["test_batch"])
    assert is_there("cifar10")
    load_cifar10("test")
    shutil.rmtree(home / "data/cifar-10-batches-py-target")
    load_cifar10("test")
    assert capsys.readouterr().err == ""


def test_no_network_says_what_to_do(home, monkeypatch, capsys):
    monkeypatch.setattr(cifar10, "URLS", ("http://127.0.0.1:9/x",))
    monkeypatch.setattr(cifar10, "download", partial(download.download, backoff=0))
    with pytest.raises(DataError, match='(?s)CIFAR-10 is not in .*put it at .*dataset="synthetic"'):
        load_cifar10("train")
    told = f"CIFAR-10 is not in {home / 'data'}: downloading 170 MB (dataset="
    assert capsys.readouterr().err.startswith(told)


def test_archive_with_another_checksum_is_not_unpacked(home):
    (home / "data/cifar-10-python.tar.gz").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="No address"):
        load_cifar10("train")
    assert not (home / "data/cifar-10-batches-py-target").exists()


def test_changed_batch_is_not_unpickled(home, archive, monkeypatch):
    unpack(archive[0], home / "data")
    batch = home / "data/cifar-10-batches-py/data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(cifar10._ArrayUnpickler, "load", lambda self: pytest.fail("unpickled"))
    monkeypatch.setitem(cifar10.BATCH_MD5["train"], "data_batch_1", "")
    with pytest.raises(DataError, match=r"data_batch_1 is not the published file \(md5\)"):
        load_cifar10("train")
    monkeypatch.setattr(
        cifar10,
        "BATCH_MD5",
        {"train": {"data_batch_3": cifar10.BATCH_MD5["train"]["data_batch_3"]}},
    )
    with pytest.raises(DataError, match=r"data_batch_3 is not the published file \(md5\)"):
        load_cifar10("train")


def test_missing_batch(home, archive):
    unpack(archive[0], home / "data")
    (home / "data/cifar-10-batches-py/test_batch").unlink()
    with pytest.raises(DataError, match="test_batch is missing"):
        load_cifar10("test")


@pytest.mark.parametrize("place", [".", "cifar-10-batches-py-target"])
def test_advice_for_a_missing_batch_works(home, archive, place):
    """Unpacked by half, as by a tar that was stopped."""
    path, batches = archive
    unpack(path, home / "data" / place)
    path.rename(home / "data" / path.name)
    (home / "data" / place / "cifar-10-batches-py/test_batch").unlink()
    with pytest.raises(DataError, match="test_batch is missing. Delete .* to have it") as error:
        load_cifar10("test")
    told = Path(re.search("Delete (.*) to have it", str(error.value))[1])
    assert home / "data" in told.parents
    shutil.rmtree(told)
    check(load_cifar10("test"), batches, ["test_batch"])


GOOD = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 9], "filenames": ["a", "b"]}


@pytest.mark.parametrize(
    "batch",
    [
        *([], None, {}, {"data": GOOD["data"]}),
        {**GOOD, "data": [1, 2]},
        {**GOOD, "data": np.zeros((2, 100), np.uint8)},
        {**GOOD, "data": np.zeros((2, 3072), np.float32)},
        {**GOOD, "labels": [0]},
        {**GOOD, "labels": [0, 10]},
        {**GOOD, "labels": ["a", "b"]},
        {**GOOD, "labels": None},
        {**GOOD, "filenames": [1, 2]},
        {**GOOD, "filenames": ["a"]},
        *(b"", b"\x80\x02", b"not a pickle", b"\x80\x02" + b"(" * 1000, b"(lp0\n" * 5000 + b"."),
    ],
)
def test_damage_behind_the_right_checksum(home, monkeypatch, batch):
    if not isinstance(batch, bytes):
        buffer = io.BytesIO()
        Python2Pickler(buffer, protocol=2).dump(batch)
        batch = buffer.getvalue().replace(b"numpy._core.", b"numpy.core.")
    path = home / "data/cifar-10-batches-py/test_batch"
    path.parent.mkdir()
    path.write_bytes(batch)
    md5 = {"test": {"test_batch": download.file_hash(path, "md5")}}
    monkeypatch.setattr(cifar10, "BATCH_MD5", md5)
    with pytest.raises(DataError, match="test_batch is no batch of CIFAR-10"):
        load_cifar10("test")


def test_kerass_own_folder(home, archive, monkeypatch):
    path, batches = archive
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("KERAS_HOME", "~/keras")
    unpack(path, home / "keras/datasets")
    check(load_cifar10("train"), batches, TRAIN)
    monkeypatch.setenv("KERAS_HOME", "~nosuchuser/keras")
    with pytest.raises(ConfigError, match="KERAS_HOME '~nosuchuser/keras'"):
        load_cifar10("train")


def test_without_a_home_folder(home, archive, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("KERAS_HOME")
    path, batches = archive
    with pytest.raises(ConfigError, match="No address"):
        load_cifar10("train")
    path.rename(home / "data" / path.name)
    check(load_cifar10("train"), batches, TRAIN)


def test_unknown_split(home):
    with pytest.raises(ConfigError, match="split must be one of train, test. Received: 'dev'"):
        load_cifar10("dev")


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_unpickler_admits_arrays_only(capsys):
    with pytest.raises(DataError, match="__builtin__.print|builtins.print"):
        cifar10._ArrayUnpickler(io.BytesIO(pickle.dumps(Evil())), encoding="bytes").load()
    assert "executed" not in capsys.readouterr().out


def test_folder_tree_says_so(home):
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            folder = home / "data/cifar10" / split / name
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "0001.png"), np.full((32, 32, 3), label, np.uint8))
    data = load_cifar10("test")
    assert data.name == "cifar10 (folder)"
    assert data.classes == CLASSES
    assert data.images[:, 0, 0, 0].tolist() == data.labels.tolist() == list(range(10))
    assert load_cifar10("test", size=8).images.shape == (10, 8, 8, 3)


def test_original_has_one_size(home, archive):
    unpack(archive[0], home / "data")
    with pytest.raises(ConfigError, match="32x32.*size=64"):
        load_cifar10("test", size=64)


def test_checksum_is_the_one_keras_publishes():
    keras = Path(importlib.util.find_spec("keras").origin).parent
    assert cifar10.ARCHIVE_SHA256 in (keras / "src/datasets/cifar10.py").read_text()
