import os
import sys

import pytest

from common.data.folder_state import folder_digests, list_folder, tree_digest


@pytest.fixture
def folders(tmp_path):
    paths = []
    for i in range(5):
        folder = tmp_path / f"кот {i}"
        folder.mkdir()
        for k in range(i):
            (folder / f"{k}.png").write_bytes(b"x" * k)
        paths.append(str(folder))
    return paths


def test_lists_names_sizes_and_times(folders):
    os.utime(f"{folders[2]}/1.png", ns=(5, 1_234_567_890_123_456_700))
    with open(f"{folders[2]}/.hidden", "wb"):
        pass
    listing = {name: rest for name, *rest in zip(*list_folder(folders[2]), strict=True)}
    assert listing.keys() == {b"0.png", b"1.png"}
    changed = os.stat(f"{folders[2]}/1.png").st_ctime_ns
    assert listing[b"1.png"] == [1, 1_234_567_890_123_456_700, changed]


@pytest.mark.parametrize("processes", [1, 2, 6])
def test_helpers_find_the_same(folders, processes):
    digests = folder_digests(folders)
    assert len(set(digests)) == 5
    assert folder_digests(folders, processes) == digests


@pytest.mark.parametrize("python", ["/nowhere/python", ""])
def test_no_helper_can_be_started(folders, monkeypatch, python):
    digests = folder_digests(folders)
    monkeypatch.setattr(sys, "executable", python)
    assert folder_digests(folders, 2) == digests


@pytest.mark.parametrize("processes", [0, 2])
def test_folder_that_is_gone(folders, processes):
    os.rmdir(folders[0])
    with pytest.raises(FileNotFoundError) as error:
        folder_digests(folders, processes)
    assert os.fsdecode(error.value.filename) == folders[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"12"),
        lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1000)),
        lambda path: path.rename(path.with_name("other.png")),
        lambda path: path.unlink(),
        lambda path: path.with_name("more.png").write_bytes(b""),
    ],
    ids="size time name gone more".split(),
)
def test_every_change_shows(folders, tmp_path, change):
    before = folder_digests(folders)
    change(tmp_path / "кот 2/1.png")
    after = folder_digests(folders)
    assert [i for i in range(5) if before[i] != after[i]] == [2]


def test_a_tree_is_its_names_and_sizes(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "deep").mkdir(parents=True)
        (tmp_path / place / "deep" / "x.png").write_bytes(b"123")
    first = tree_digest(str(tmp_path / "a"))
    (tmp_path / "b" / ".hidden").touch()
    assert tree_digest(str(tmp_path / "b")) == first  # a copy, at another time
    (tmp_path / "b" / "deep" / "x.png").write_bytes(b"1234")
    assert tree_digest(str(tmp_path / "b")) != first
    (tmp_path / "a" / "deep" / "x.png").rename(tmp_path / "a" / "x.png")
    assert tree_digest(str(tmp_path / "a")) != first
