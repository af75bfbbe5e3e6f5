"""Files in general: JSON, texts, archives, downloads, and what is kept beside them."""

import hashlib
import io
import json
import math
import os
import tarfile
import zipfile
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import urllib3
from fuzzing import (
    changed_json,
    damages,
    file_names,
    folder,
    fuzz,
    json_values,
    objects,
    overwritings,
    texts,
    told,
    write_tree,
)
from hypothesis import strategies as st
from requests import Response

from common.data import download as downloads
from common.data import kaggle
from common.data.archives import check_archive, extract, name_problem
from common.data.captions import CaptionData
from common.data.downloaded import check_content
from common.data.image_hashes import image_hashes
from common.files import (
    check_output,
    output_lock,
    read_json,
    write_json,
    write_text,
    zip_problem,
)
from common.paths import display, expand

# --- JSON and texts ---


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@fuzz(100, value=json_values)
def test_json_comes_back(value):
    with folder() as root:
        write_json(root / "a.json", value)
        assert read_json(root / "a.json") == json.loads(json.dumps(_finite(value)))


@fuzz(80, value=json_values, damage=damages, depth=st.sampled_from([0, 0, 0, 500, 100_000]))
def test_json_of_any_bytes(value, damage, depth):
    with folder() as root:
        path = root / "a.json"
        path.write_bytes(damage(b"[" * depth + json.dumps(value).encode() + b"]" * depth))
        found = told(read_json, path)
        for kind in (dict, list):
            assert isinstance(told(read_json, path, kind), kind) == isinstance(found, kind)
        if found is not None and depth < 1000:
            json.dumps(found, allow_nan=False)


@fuzz(100, text=texts)
def test_texts_are_written_and_shown(text):
    shown = display(text)
    assert shown == display(shown) and shown.isprintable() == display(shown).isprintable()
    assert not {"\n", "\x1b", "\u202e"} & {*shown}
    with folder() as root:
        write_text(root / "a.txt", text)
        written = (root / "a.txt").read_bytes().decode()
        assert written == text.encode(errors="backslashreplace").decode()


@fuzz(200, name=texts | texts.map("~{}".format) | st.text("~/.\0a", max_size=5))
def test_paths_of_any_text(name):
    told(expand, name)


@fuzz(80, name=texts | st.integers(1, 5000).map("a".__mul__) | st.text("/.\0a~", max_size=6))
def test_outputs_of_any_name(name):
    with folder() as root:
        path = root / name.lstrip("/")
        if ".." in name:
            return
        before = told(lambda: check_output(path) or "fine")
        if before is not None:
            write_text(path, "x")
            assert path.read_text() == "x" and output_lock(path)
        assert not [name for name in os.listdir(root) if name.startswith(".writing")]


# --- archives ---

FILES = {"a.txt": b"a dog " * 50, "f/b.bin": bytes(range(256)), "empty": b""}
ODD = file_names("../a", "/abs/a", "f/../../a", "C:\\a", "a\\..\\..\\b", "nul.txt", "f/", "./a.txt")
odd_names = ODD | st.builds("{}/{}".format, ODD, ODD) | st.sampled_from(["../../a", "f/..", "~/a"])


def _zip(files, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def _tar(files, packing="", kinds=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{packing}") as archive:
        for i, (name, content) in enumerate(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if i < len(kinds):
                info.type, info.linkname = kinds[i], "../outside"
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVES = {
    "deflated.zip": _zip(FILES),
    "stored.zip": _zip(FILES, zipfile.ZIP_STORED),
    "lzma.zip": _zip(FILES, zipfile.ZIP_LZMA),
    "plain.tar": _tar(FILES),
    "packed.tar.gz": _tar(FILES, "gz"),
    "packed.tar.xz": _tar(FILES, "xz"),
}


def _unpacked(content: bytes, name: str) -> dict[str, bytes] | None:
    """What an archive is unpacked to; makes sure that nothing else was written or left behind."""
    with folder() as root:
        write_tree(root, {"outside": b"kept", "work": {name: content}})
        told(check_archive, root / "work" / name)
        if name.endswith(".zip"):
            zip_problem(root / "work" / name)
        done = told(extract, root / "work" / name, root / "work" / "dest")
        assert {*os.listdir(root)} == {"outside", "work"}
        assert (root / "outside").read_bytes() == b"kept"
        # After an error the lock stays: others may be waiting for it.
        assert {*os.listdir(root / "work")} == {name, "dest" if done else ".dest.lock"}
        if done is None:
            return None
        paths = [path for path in done.rglob("*") if not path.is_dir() or path.is_symlink()]
        assert not any(path.is_symlink() for path in paths)
        return {path.relative_to(done).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ARCHIVES)
@fuzz(30, damage=damages)
def test_a_damaged_archive(name, damage):
    found = _unpacked(damage(ARCHIVES[name]), name)
    if found is not None and not name.endswith("tar"):  # a plain tar has no checksums
        assert {*found.values()} <= {*FILES.values()}


@fuzz(60, files=st.dictionaries(odd_names, st.binary(max_size=9), min_size=1, max_size=4))
def test_zips_with_names_of_any_kind(files):
    try:
        content = _zip(files)
    except ValueError:  # zipfile does not write all of them
        return
    found = _unpacked(content, "a.zip")
    assert found is None or {*found.values()} <= {*files.values()}


kinds = st.lists(st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"S"]), max_size=3)


@fuzz(50, files=st.dictionaries(odd_names, st.binary(max_size=9), max_size=4), kinds=kinds)
def test_tars_with_members_of_any_kind(files, kinds):
    try:
        content = _tar(files, kinds=kinds)
    except ValueError:
        return
    _unpacked(content, "a.tar")


@fuzz(150, name=odd_names | texts, everywhere=st.booleans())
def test_names_stay_in_their_folder(name, everywhere):
    if name_problem(name, everywhere) is None:
        with folder() as root:
            assert (root / name).resolve().is_relative_to(root) and "\\.." not in name


# --- downloads ---

CONTENT = json.dumps(list(range(200_000))).encode()
URL = "https://example.org/a.json"


class _Server(nullcontext):
    """In the place of `requests.Session`: has one file, with an ETag, and gives parts of it."""

    def __init__(self, tag):
        super().__init__(self)
        self.tag = tag

    def get(self, url, headers, **options):
        response = Response()
        response.url, response.status_code, response.reason = url, 200, "OK"
        start = int(headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if headers.get("If-Range", self.tag) != self.tag:
            start = 0
        if start >= len(CONTENT):
            response.status_code = 416
        elif start:
            response.status_code = 206
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            response.headers["Content-Range"] = span
        body = CONTENT[start:]
        response.headers.update({"ETag": self.tag, "Content-Length": str(len(body))})
        response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
        return response


notes = objects(
    url=st.just(URL),
    validator=st.sampled_from(['"tag"', '"other"']),
    total=st.sampled_from([len(CONTENT), 5]) | st.integers(),
)


@fuzz(20, notes=notes, part=st.integers(0, len(CONTENT) + 9), known=st.booleans(), damage=damages)
def test_what_an_earlier_download_left(notes, part, known, damage):
    sha256 = hashlib.sha256(CONTENT).hexdigest() if known else None
    there = (CONTENT + bytes(9))[:part]
    if known:
        there = damage(there)  # a checksum tells
    with folder() as root, patch.object(downloads, "new_session", lambda *_: _Server('"tag"')):
        path = root / "a.json"
        (root / "a.json.part").write_bytes(there)
        (root / "a.json.part.json").write_text(json.dumps(notes))
        done = told(downloads.download, URL, path, sha256, backoff=0, progress=False)
        if done is not None:
            assert path.read_bytes() == CONTENT
            left = {"a.json"} if known else {"a.json", "a.json.sha256"}
            assert {*os.listdir(root)} == left
        assert done is not None or len(there) > len(CONTENT)


LINE = f"{hashlib.sha256(CONTENT).hexdigest()}  a.json\n".encode()


@fuzz(30, damage=damages, content=st.sampled_from([b"[]", b"[", b"", b"<html><title>x"]))
def test_a_file_that_is_there(damage, content):
    with folder() as root:
        (root / "a.json").write_bytes(content)
        (root / "a.json.sha256").write_bytes(damage(LINE))
        done = told(downloads.download, [], root / "a.json", None, progress=False)
        assert (done is not None) == (content == b"[]")


names = st.sampled_from(["a.zip", "a.tar.gz", "a.json", "a.png", "a.html", "a"])
pages = st.sampled_from([b"<!DOCTYPE html><title>Log in", b"<title", b"<", b"\xef\xbb\xbf  <?xml"])


@fuzz(40, name=names, start=pages, damage=damages, times=st.sampled_from([1, 5000]))
def test_what_arrives_is_opened(name, start, damage, times):
    with folder() as root:
        (root / name).write_bytes(damage(start) * times)
        told(check_content, root / name, name)


@fuzz(50, value=objects(username=texts, key=texts), token=st.text(max_size=8), damage=damages)
def test_credentials_of_any_form(value, token, damage):
    with folder() as root, patch.object(kaggle, "home_dir", lambda: root):
        told(kaggle.kaggle_auth)
        write_tree(root, {".kaggle": {"kaggle.json": json.dumps(value).encode()}})
        auth = told(kaggle.kaggle_auth)
        if auth is not None:
            assert all("\n" not in part for part in (auth.username, auth.password))
        (root / ".kaggle" / "kaggle.json").write_bytes(damage(json.dumps(value).encode()))
        told(kaggle.kaggle_auth)
        (root / ".kaggle" / "access_token").write_bytes(damage(token.encode()))
        auth = told(kaggle.kaggle_auth)
        assert auth is None or "\n" not in getattr(auth, "token", "")


# --- hashes of images ---


@fuzz(30, value=json_values | changed_json({"a.png": [1, 2, 3, "x"]}), damage=overwritings)
def test_hashes_of_images_of_any_form(value, damage):
    with folder() as root:
        write_tree(root, {"a.png": b"1", "b.png": b"22"})
        names = ("a.png", "b.png", "gone.png", "nul\0.png")
        data = CaptionData(names, (("a dog",),) * 4, "photos", "train", root)
        wanted = image_hashes(data)
        assert wanted[2:] == ["none", "none"]
        path = root / ".course-cache" / "hashes.json"
        path.write_bytes(damage(path.read_bytes()) if value is None else json.dumps(value).encode())
        assert value is None or image_hashes(data) == wanted
        told(image_hashes, data)
