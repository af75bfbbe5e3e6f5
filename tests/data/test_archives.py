"""Archives that are damaged, of odd kinds, or try to break out."""

import io
import multiprocessing
import os
import random
import shutil
import stat
import struct
import tarfile
import zipfile

import pytest

from common.data import archives
from common.data.archives import check_archive, extract, name_problem
from common.errors import DataError
from common.files import own_prefix


def make_tar(path, *members):
    """Members: (name, content) or a TarInfo."""
    with tarfile.open(path, "w:gz") as file:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(("make", "name"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_extract(tmp_path, make, name):
    archive = make(tmp_path / name, ("top/a.txt", b"alpha"), ("top/deep/b.txt", b"beta"))
    dest = extract(archive, tmp_path / "out")
    assert (dest / "top/a.txt").read_bytes() == b"alpha"
    assert (dest / "top/deep/b.txt").read_bytes() == b"beta"
    (dest / "top/a.txt").write_bytes(b"mine")
    extract(archive, dest)
    assert (dest / "top/a.txt").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "out"]


def zip_link():
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "archive",
    [
        (make_tar, ("../evil.txt", b"x")),
        (make_tar, ("/tmp/evil.txt", b"x")),
        (make_tar, ("C:\\evil.txt", b"x")),
        (make_tar, special("link", tarfile.SYMTYPE, "../../etc")),
        (make_tar, special("link", tarfile.LNKTYPE, "/etc/passwd")),
        (make_tar, special("pipe", tarfile.FIFOTYPE)),
        (make_tar, special("device", tarfile.CHRTYPE)),
        (make_zip, ("../evil.txt", b"x")),
        (make_zip, ("/evil.txt", b"x")),
        (make_zip, ("a\\..\\..\\evil.txt", b"x")),
        (make_zip, (zip_link(), b"/etc")),
    ],
    ids=(
        "tar-parent tar-absolute tar-drive tar-symlink tar-hardlink tar-pipe tar-device "
        "zip-parent zip-absolute zip-backslashes zip-symlink"
    ).split(),
)
def test_extract_refuses(tmp_path, archive):
    make, member = archive
    path = make(tmp_path / "a.archive", ("fine.txt", b"fine"), member)
    with pytest.raises(DataError, match="is not unpacked: its member"):
        extract(path, tmp_path / "folder" / "out")
    assert not [p.name for p in (tmp_path / "folder").iterdir() if p.name != ".out.lock"]
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(("make", "name"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_extract_damaged(tmp_path, make, name):
    archive = make(tmp_path / name, ("a.txt", bytes(range(256)) * 100))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extract_too_big(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", ("a.txt", b"x" * 2000))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"unpacks to 2,000 bytes.*1,000 free"):
        extract(archive, tmp_path / "out")


def patched(path, *changes):
    """Bytes of a file replaced, as (old, new) of equal lengths."""
    data = path.read_bytes()
    for old, new in changes:
        assert old in data and len(old) == len(new)
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def odd_method(path):
    """A zip whose member says that it is packed by Deflate64."""
    make_zip(path, ("a.txt", b"alpha"))
    with zipfile.ZipFile(path) as file:
        info = file.infolist()[0]
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 9)
    at = data.index(b"PK\1\2")
    data[at + 10 : at + 12] = struct.pack("<H", 9)
    assert info.compress_type == 0
    path.write_bytes(data)
    return path


def encrypted(path):
    make_zip(path, ("a.txt", b"alpha"))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    return path


def later_version(path):
    make_zip(path, ("a.txt", b"alpha"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 6] = 99
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [odd_method, encrypted, later_version])
def test_kinds_that_python_cannot_read(tmp_path, make):
    path = make(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"(?s)cannot be unpacked from Python.*by hand.*out,"):
        extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir() if p.name != ".out.lock"] == ["a.zip"]
    # As told.
    (tmp_path / "out").mkdir()
    assert extract(path, tmp_path / "out") == tmp_path / "out"


def lying_zip(path):
    """Its directory says ten bytes, there are a million."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", bytes(10**6))
    return patched(path, (struct.pack("<L", 10**6), struct.pack("<L", 10)))


def wrong_crc(path):
    return patched(make_zip(path, ("a.txt", b"alpha")), (b"alpha", b"alphA"))


def lzma_damaged(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.txt", bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    data[45:60] = b"\xff" * 15
    path.write_bytes(data)
    return path


def empty(path):
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("make", [lying_zip, wrong_crc, lzma_damaged, empty])
def test_damage_is_one_error(tmp_path, make):
    path = make(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"a\.zip is damaged \(.*Delete it and run again"):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_mutated_archives(tmp_path, make):
    content = [(f"top/{i}.txt", bytes([i]) * 50) for i in range(5)]
    whole = make(tmp_path / "whole", *content).read_bytes()
    rng = random.Random(0)
    for i in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "a.archive"
        path.write_bytes(data)
        for use in (check_archive, lambda path, i=i: extract(path, tmp_path / f"out{i}")):
            try:
                use(path)
            except DataError:
                pass
    assert not list(tmp_path.glob(".extracting-*"))


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_in_each_others_place(tmp_path, make):
    fine = make(tmp_path / "fine", ("a.txt", b"alpha"), ("a.txt", b"alpha"))
    assert (extract(fine, tmp_path / "out") / "a.txt").read_bytes() == b"alpha"
    for name in ("a.txt", "a.txt/b.txt"):
        path = make(tmp_path / "bad", ("a.txt", b"alpha"), (name, b"other"))
        with pytest.raises(DataError, match="'a.txt.*' comes twice"):
            extract(path, tmp_path / "bad-out")
    path = make(tmp_path / "bad", ("a/b.txt", b"alpha"), ("a", b"other"))
    with pytest.raises(DataError, match="'a' comes twice"):
        extract(path, tmp_path / "bad-out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_no_file_can_have(tmp_path, make):
    with pytest.raises(DataError, match="lies more than 64 folders deep"):
        extract(make(tmp_path / "deep", ("d/" * 3000 + "a", b"")), tmp_path / "out")
    with pytest.raises(DataError, match="name too long.*by hand"):
        extract(make(tmp_path / "long", ("n" * 300, b"")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_with_the_slashes_of_windows(tmp_path):
    path = make_zip(tmp_path / "a.zip", ("top\\a.txt", b"alpha"))
    assert (extract(path, tmp_path / "out") / "top" / "a.txt").read_bytes() == b"alpha"


def test_bomb(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", bytes(10**6))
    patched(path, (struct.pack("<L", 10**6), struct.pack("<L", 2 * 10**9)))
    with pytest.raises(DataError, match="which no data set does"):
        extract(path, tmp_path / "out")


def test_folder_of_a_killed_process_is_removed(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        prefix = pool.apply(own_prefix, ("extracting",))
    orphan = tmp_path / f"{prefix}x"
    living = tmp_path / f"{own_prefix('extracting')}x"
    for folder in (orphan, living):
        (folder / "in").mkdir(parents=True)
    extract(make_zip(tmp_path / "a.zip", ("a.txt", b"alpha")), tmp_path / "out")
    assert not orphan.exists() and living.exists()


def test_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="A file stands where a folder has to be"):
        extract(make_zip(tmp_path / "a.zip", ("a.txt", b"alpha")), tmp_path / "out")


def test_tar_that_ends_with_a_zip(tmp_path):
    inner = make_zip(tmp_path / "in.zip", ("a.txt", b"alpha"))
    with tarfile.open(tmp_path / "PK.tar", "w") as file:
        file.add(inner, "PK/in.zip")
    assert (extract(tmp_path / "PK.tar", tmp_path / "out") / "PK/in.zip").is_file()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_check(tmp_path, make):
    path = make(tmp_path / "a", ("a.txt", os.urandom(5000)))
    check_archive(path)
    data = path.read_bytes()
    for part in (data[:-40], data[:100], b"", b"<html>"):
        path.write_bytes(part)
        with pytest.raises(DataError):
            check_archive(path)


def test_check_of_a_zip_without_its_middle(tmp_path):
    path = make_zip(tmp_path / "a.zip", ("a.txt", bytes(5000)), ("b.txt", bytes(5000)))
    data = path.read_bytes()
    path.write_bytes(data[:3000] + data[4000:])
    with pytest.raises(DataError):
        check_archive(path)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../a.jpg",
            "/a.jpg",
            "a/../../b.jpg",
            "C:\\a.jpg",
            "C:a.jpg",
            "\\\\host\\a",
            "..",
            "",
            ".",
        ),
        *("a\\b.jpg", "a\0.jpg", "a\n.jpg", "NUL", "con.jpg", "sub/aux.jpg", "COM1.jpg", "a.jpg."),
        *(
            "a.jpg ",
            "a:b.jpg",
            "a?.jpg",
            "n" * 256,
            "é" * 130,
            "d/" * 100 + "a",
            "\ud800.jpg",
            ".. /a",
        ),
    ],
)
def test_names_that_leave_the_folder(name):
    assert name_problem(name)


@pytest.mark.parametrize(
    "name", ["000000000009.jpg", "sub/a b (1).jpg", "été.jpg", "a..b.jpg", ".hidden", "conan.jpg"]
)
def test_names_that_stay(name):
    assert name_problem(name) is None


def test_windows_refuses_more_archives(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", ("top/aux.txt", b""))
    extract(path, tmp_path / "out")
    monkeypatch.setattr(archives, "_WINDOWS", True)
    with pytest.raises(DataError, match="Windows does not allow"):
        extract(path, tmp_path / "other")
